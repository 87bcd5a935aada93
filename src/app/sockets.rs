//! Opens the sockets that the settings name.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::error::AppError;
use crate::config::Settings;

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
    TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, setting, source })
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
