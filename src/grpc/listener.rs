//! The connections of a listener: their number, TLS, and how long they stay open.
//!
//! tonic's own transport cannot reload certificates, closes all connections at the same age, and, with a grace period,
//! cuts them off without notifying their clients. Here, each connection has its own tonic server, which is shut down
//! gracefully when the connection reaches its maximum age.

use std::convert::Infallible;
use std::io;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;

use super::layers::Services;
use super::tls::Tls;
use crate::accept::{MaxConnections, accept};
use crate::tokens::Tokens;

mod connection;
mod signals;
mod stream;

pub(crate) use connection::ConnectionLimits;
use connection::{Connection, HANDSHAKE_TIMEOUT};
use signals::ConnectionSignals;
use stream::{Stream, Transport};

/// Who may connect to a listener, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct ListenerConfig {
    /// If set, connections are encrypted.
    pub tls: Option<Tls>,
    /// If set, every call except health checks needs one of them.
    pub tokens: Option<Tokens>,
    pub max_connections: MaxConnections,
    pub connection_limits: ConnectionLimits,
}

/// Serves until `stop`, then finishes the calls in flight.
pub(super) async fn serve(config: ListenerConfig, services: Services, socket: TcpListener, stop: CancellationToken) {
    let tls = config.tls.clone();
    let tokens = config.tokens.clone();
    let max_connections = config.max_connections;
    let serve = |stream, closing| serve_connection(stream, config.clone(), services.clone(), closing);
    tokio::select! {
        () = accept(socket, max_connections, stop, serve) => {}
        never = follow(tls.as_ref(), Tls::follow) => match never {},
        never = follow(tokens.as_ref(), Tokens::follow) => match never {},
    }
}

/// Reloads the value when its files change, if there is one.
async fn follow<T>(value: Option<&T>, follow: impl AsyncFn(&T) -> Infallible) -> Infallible {
    match value {
        Some(value) => follow(value).await,
        None => std::future::pending().await,
    }
}

/// Serves one connection from its first byte. It runs in its own task, so that a slow client does not block others.
async fn serve_connection(stream: TcpStream, config: ListenerConfig, services: Services, closing: CancellationToken) {
    let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: stream.peer_addr().ok() };
    let handshake = tokio::select! {
        handshake = shake_hands(stream, config.tls.as_ref()) => handshake,
        () = closing.cancelled() => return,
    };
    let transport = match handshake {
        Ok(transport) => transport,
        Err(error) => {
            let peer = info.remote_addr.map(tracing::field::display);
            tracing::debug!(peer, "TLS handshake failed: {error}");
            return;
        }
    };
    let signals = ConnectionSignals::default();
    let stream = Stream::new(transport, info, &signals);
    Connection { signals, limits: config.connection_limits, closing }.serve(services, stream).await;
}

async fn shake_hands(stream: TcpStream, tls: Option<&Tls>) -> io::Result<Transport> {
    let Some(tls) = tls else { return Ok(Transport::Plain(stream)) };
    let handshake = tls.acceptor().accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(stream) => stream.map(|stream| Transport::Tls(Box::new(stream))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long")),
    }
}
