//! Connections from the listener to the services: how many there may be, TLS, how long they stay.
//!
//! tonic's own transport cannot take up new certificates, ends all connections at one age, and with a grace cuts them off
//! instead of telling their clients. Here, each connection has a tonic server of its own, which is told to stop when the
//! connection has reached its age.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;

use super::Services;
use super::tls::Tls;
use crate::accept::{Room, accept};
use crate::tokens::Tokens;

mod connection;
mod stream;

use connection::{Connection, Signs};
use stream::{Stream, Wire};

/// A client has so long for the TLS handshake, and as long for the first bytes of HTTP/2.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who may come in at a listener, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Connections are encrypted where it is given.
    pub tls: Option<Tls>,
    /// Calls need one of them, but for health.
    pub tokens: Option<Tokens>,
    /// Connections at most.
    pub room: Room,
    /// How long a connection stays.
    pub stay: Stay,
}

/// How long a connection stays.
#[derive(Debug, Clone)]
pub(crate) struct Stay {
    /// After so long without a frame the client is asked whether it is there.
    pub keepalive_interval: Option<Duration>,
    /// For its answer.
    pub keepalive_timeout: Duration,
    /// Give or take a tenth; then the client is told to connect anew.
    pub max_age: Option<Duration>,
    /// For what is under way at that age.
    pub grace: Option<Duration>,
}

impl Door {
    /// Serves until `stop`, then finishes the requests under way.
    pub(super) async fn serve(self, services: Services, listener: TcpListener, stop: CancellationToken) {
        let (tls, tokens) = (self.tls.clone(), self.tokens.clone());
        let enter = |stream, closing| enter(stream, self.clone(), services.clone(), closing);
        tokio::select! {
            () = accept(listener, self.room, stop, enter) => {}
            never = follow(tls.as_ref(), Tls::follow) => match never {},
            never = follow(tokens.as_ref(), Tokens::follow) => match never {},
        }
    }
}

async fn follow<T>(what: Option<&T>, follow: impl AsyncFn(&T) -> Infallible) -> Infallible {
    match what {
        Some(what) => follow(what).await,
        None => std::future::pending().await,
    }
}

/// One connection from its first byte to its last, in a task of its own: a slow client holds up nobody.
async fn enter(stream: TcpStream, door: Door, services: Services, closing: CancellationToken) {
    let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: stream.peer_addr().ok() };
    let shaken = tokio::select! {
        shaken = shake_hands(stream, door.tls.as_ref()) => shaken,
        () = closing.cancelled() => return,
    };
    let wire = match shaken {
        Ok(wire) => wire,
        Err(error) => {
            let peer = info.remote_addr.map(tracing::field::display);
            tracing::debug!(peer, "no TLS handshake: {error}");
            return;
        }
    };
    let signs = Signs::default();
    let stream = Stream::new(wire, info, &signs);
    Connection { signs, stay: door.stay, closing }.serve(services, stream).await;
}

async fn shake_hands(stream: TcpStream, tls: Option<&Tls>) -> io::Result<Wire> {
    let Some(tls) = tls else { return Ok(Wire::Plain(stream)) };
    let handshake = tls.acceptor().accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(shaken) => shaken.map(|stream| Wire::Tls(Box::new(stream))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long")),
    }
}
