//! Accepts the connections of a listener, and serves each one in its own task.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use prost::bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::driver::{Driver, Shutdown};
use super::limits::{ListenerConfig, MaxConnections};
use super::registry::{Entry, Registry};
use super::tls::Tls;

/// The delay after an error of the listener itself, such as running out of file descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until `stop`, and returns when the last connection has ended. `service` makes the service of a connection.
pub(crate) async fn serve<S, B>(
    config: ListenerConfig,
    service: impl Fn() -> S,
    socket: TcpListener,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tls = config.tls.clone();
    let listener = Listener::new(config, &socket);
    let accepting = listener.accept(socket, &stop, |stream, driver: Driver, entry| {
        let service = service();
        async move { driver.serve(stream, entry, service).await }
    });
    tokio::select! {
        () = accepting => {}
        never = follow(tls.as_ref()) => match never {},
    }
}

async fn follow(tls: Option<&Tls>) -> Infallible {
    match tls {
        Some(tls) => tls.follow().await,
        None => std::future::pending().await,
    }
}

struct Listener {
    config: Arc<ListenerConfig>,
    registry: Registry,
    closing: CancellationToken,
    connections: TaskTracker,
    log: Log,
}

impl Listener {
    fn new(config: ListenerConfig, socket: &TcpListener) -> Self {
        let config = Arc::new(config);
        Self {
            registry: Registry::new(Arc::clone(&config)),
            closing: CancellationToken::new(),
            connections: TaskTracker::new(),
            log: Log::new(config.max_connections, socket.local_addr().ok()),
            config,
        }
    }

    async fn accept<F>(
        mut self,
        socket: TcpListener,
        stop: &CancellationToken,
        serve: impl Fn(TcpStream, Driver, Entry) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut sweep = sweeps();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = socket.accept() => accepted,
                _ = sweep.tick() => {
                    self.registry.sweep();
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer)) => self.open(stream, peer, &serve),
                Err(error) => self.recover(&error).await,
            }
        }
        drop(socket);
        self.closing.cancel();
        self.connections.close();
        let ended = self.connections.wait();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => break,
                _ = sweep.tick() => self.registry.sweep(),
            }
        }
    }

    fn open<F>(&mut self, stream: TcpStream, peer: SocketAddr, serve: &impl Fn(TcpStream, Driver, Entry) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let entry = self.registry.add(Some(peer.ip().to_canonical()));
        self.log.limit_reached(entry.is_none());
        self.log.accept_failed(false);
        let Some(entry) = entry else { return };
        // Sends small replies without delay. If this fails, they are merely sent a little later.
        let _ = stream.set_nodelay(true);
        let shutdown = Shutdown { draining: self.config.draining.clone(), closing: self.closing.clone() };
        let driver = Driver { config: Arc::clone(&self.config), shutdown };
        self.connections.spawn(serve(stream, driver, entry));
    }

    /// Waits before the next attempt, unless the error concerns only a client that has disconnected already.
    async fn recover(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        if self.log.accept_failed(true) {
            tracing::warn!(%error, "cannot accept connections; closing idle ones and retrying");
        }
        // Usually the process has run out of file descriptors.
        self.registry.close_an_idle_one();
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

fn sweeps() -> Interval {
    let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweeps
}

/// Logs a condition once each time it begins.
struct Log {
    max_connections: MaxConnections,
    address: Option<SocketAddr>,
    is_full: bool,
    is_failing: bool,
}

impl Log {
    fn new(max_connections: MaxConnections, address: Option<SocketAddr>) -> Self {
        Self { max_connections, address, is_full: false, is_failing: false }
    }

    fn limit_reached(&mut self, refused: bool) {
        if refused && !self.is_full {
            let MaxConnections { count, setting } = self.max_connections;
            let address = self.address.map(tracing::field::display);
            tracing::warn!(address, limit = count, setting, "connection limit reached; closing new connections");
        }
        self.is_full = refused;
    }

    /// Whether the listener has begun to fail.
    fn accept_failed(&mut self, failed: bool) -> bool {
        let begins = failed && !self.is_failing;
        self.is_failing = failed;
        begins
    }
}
