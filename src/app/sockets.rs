//! Opens the sockets that the settings name.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::error::AppError;
use crate::config::Settings;

/// Connections that wait to be accepted, as for other listeners of tokio.
const BACKLOG: u32 = 1024;

/// The listening sockets. All are opened before any work that takes time.
pub(super) struct Sockets {
    pub(super) service: TcpListener,
    pub(super) admin: Option<TcpListener>,
    pub(super) http: Option<TcpListener>,
    pub(super) health: Option<TcpListener>,
}

impl Sockets {
    pub(super) async fn open(settings: &Settings) -> Result<Self, AppError> {
        let sockets = Self {
            service: listen(settings.listen, "--listen").await?,
            admin: listen_if(settings.admin_listen, "--admin-listen").await?,
            http: listen_if(settings.http_listen, "--http-listen").await?,
            health: listen_if(settings.health_listen, "--health-listen").await?,
        };
        log_address("gRPC", Some(&sockets.service));
        log_address("admin gRPC", sockets.admin.as_ref());
        log_address("HTTP", sockets.http.as_ref());
        log_address("health", sockets.health.as_ref());
        Ok(sockets)
    }
}

async fn listen(address: SocketAddr, setting: &'static str) -> Result<TcpListener, AppError> {
    let bound = match address {
        SocketAddr::V6(any) if any.ip().is_unspecified() => listen_everywhere(any.port()).await,
        _ => TcpListener::bind(address).await,
    };
    bound.map_err(|source| AppError::Listen { address, setting, source })
}

/// Listens on all addresses, those of IPv4 and, if the machine has it, of IPv6.
async fn listen_everywhere(port: u16) -> io::Result<TcpListener> {
    // The kernel may have no IPv6, or none of its addresses.
    let Ok(socket) = TcpSocket::new_v6() else { return TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await };
    // Whatever the system's default is.
    SockRef::from(&socket).set_only_v6(false)?;
    socket.set_reuseaddr(true)?;
    match socket.bind((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound.and_then(|()| socket.listen(BACKLOG)),
    }
}

async fn listen_if(address: Option<SocketAddr>, setting: &'static str) -> Result<Option<TcpListener>, AppError> {
    match address {
        Some(address) => listen(address, setting).await.map(Some),
        None => Ok(None),
    }
}

/// Logs the bound address: for port 0, that is the port that the system chose.
fn log_address(server: &str, listener: Option<&TcpListener>) {
    if let Some(address) = listener.and_then(|listener| listener.local_addr().ok()) {
        tracing::info!(%address, server, "listening");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_both_protocols() {
        let listener = listen("[::]:0".parse().expect("an address"), "--listen").await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let connect = async |address: &str| tokio::net::TcpStream::connect((address, port)).await.is_ok();
        assert!(connect("127.0.0.1").await);
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        assert_eq!(connect("::1").await, has_ipv6);
    }
}
