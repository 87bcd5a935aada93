//! Serves one connection from its first byte to its last.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::call::Call;
use super::connection::Connection;
use super::limits::{CallKind, ConnectionLimits, ListenerConfig};
use super::protocols::Protocols;
use super::registry::{Entry, HANDSHAKE_TIMEOUT};
use super::reply::ReplyBody;
use super::stream::{Stream, shake_hands};
use embedd_common::jitter::jittered;

/// Maximum ages vary by this fraction, so that connections opened together are not closed together.
const AGE_JITTER: f64 = 0.1;
/// The maximum number of stream resets that a client may provoke on one connection by violating HTTP/2, before the
/// connection is closed. Every such frame costs memory while the client does not read the resets, and CPU time if it
/// does (RUSTSEC-2024-0003). Well-behaved clients provoke none.
const MAX_PROVOKED_RESETS: usize = 1024;
/// Bytes that a client may send on one call, and on one connection, before the server has read them: enough for the
/// texts of a large request within a few round trips, and little enough for every connection to use all of it.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 192 * 1024;
const MAX_FRAME_BYTES: u32 = 16 * 1024;
/// How long an HTTP/2 client of the HTTP port may take to send its first request. It chose HTTP/2 because it has one.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take to acknowledge the end of a connection without a call.
const FIRST_CALL_GRACE: Duration = Duration::from_millis(500);
/// How long the calls of a connection that is closed to make room, or whose client does not read, may go on.
const RETIRE_GRACE: Duration = Duration::from_secs(5);
/// The size of the read and write buffers of an HTTP/1 connection, or of its headers if they may be larger.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Header lines of an HTTP/1 request.
const HTTP1_MAX_HEADERS: usize = 100;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Driver {
    pub(super) config: Arc<ListenerConfig>,
    pub(super) shutdown: Shutdown,
}

/// The signals that shut all connections of a listener down.
#[derive(Debug, Clone)]
pub(super) struct Shutdown {
    pub(super) draining: Option<CancellationToken>,
    pub(super) closing: CancellationToken,
}

impl Shutdown {
    async fn requested(self) {
        match self.draining {
            Some(draining) if !draining.is_cancelled() => tokio::select! {
                () = draining.cancelled() => {}
                () = self.closing.cancelled() => {}
            },
            _ => self.closing.cancelled().await,
        }
    }
}

impl Driver {
    pub(super) async fn serve<S, B>(self, stream: TcpStream, entry: Entry, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let connection = Arc::clone(&entry.connection);
        let opened = tokio::select! {
            opened = self.open(stream, &connection) => opened,
            () = self.shutdown.clone().requested() => return,
            () = connection.retire.cancelled() => return,
            () = connection.abort.cancelled() => return,
        };
        let (stream, is_http2) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let peer = connection.peer.map(tracing::field::display);
                tracing::debug!(peer, "connection failed before its first request: {error}");
                return;
            }
        };
        let service = per_call(service, Arc::clone(&connection), self.config.kind);
        let io = TokioIo::new(stream);
        if is_http2 {
            self.drive(http2(&self.config.limits).serve_connection(io, service), &connection, is_http2).await;
        } else {
            self.drive(http1(&self.config.limits).serve_connection(io, service), &connection, is_http2).await;
        }
    }

    /// Encrypts the connection if TLS is configured, and detects its protocol.
    async fn open(&self, stream: TcpStream, connection: &Arc<Connection>) -> std::io::Result<(Stream, bool)> {
        let tls = self.config.tls.as_ref();
        let mut stream =
            shake_hands(stream, tls, self.config.protocols, Arc::clone(connection), HANDSHAKE_TIMEOUT).await?;
        if let Some(certificate) = stream.client_certificate() {
            connection.identify(Sha256::digest(certificate).into());
        }
        // The server of an HTTP/2 connection need not wait for the client (RFC 9113, section 3.4), so only the listener
        // of both protocols does.
        let is_http2 = match self.config.protocols {
            Protocols::Http2 => true,
            Protocols::Http1OrHttp2 => stream.detect_http2().await?,
        };
        Ok((stream, is_http2))
    }

    /// Runs the connection until it ends, and asks or forces it to end when its time is over.
    async fn drive<C: Graceful>(&self, connection: C, state: &Connection, is_http2: bool) {
        let limits = &self.config.limits;
        let begins_with_call = is_http2 && self.config.protocols == Protocols::Http1OrHttp2;
        let mut connection = pin!(connection);
        let grace = tokio::select! {
            ended = connection.as_mut() => return log(ended),
            () = state.abort.cancelled() => return,
            () = self.shutdown.clone().requested() => None,
            () = after(limits.max_age.map(|age| jittered(age, AGE_JITTER, fastrand::f64()))) => limits.grace,
            () = state.retire.cancelled() => Some(RETIRE_GRACE),
            () = first_call_missing(state), if begins_with_call => Some(FIRST_CALL_GRACE),
        };
        connection.as_mut().shut_down();
        tokio::select! {
            ended = connection => log(ended),
            () = state.abort.cancelled() => {}
            () = after(grace) => tracing::debug!("connection did not end in time; closing it"),
        }
    }
}

/// An HTTP connection that can be shut down after the calls in flight.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn shut_down(self: Pin<&mut Self>);
}

impl<I, S, B> Graceful for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E, B> Graceful for http2::Connection<I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn http1(limits: &ConnectionLimits) -> http1::Builder {
    let max_header_bytes = limits.max_header_bytes as usize;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The registry limits both the time of a head and the time without one.
        .header_read_timeout(None)
        .max_headers(HTTP1_MAX_HEADERS)
        .max_header_size(max_header_bytes)
        .max_buf_size(HTTP1_BUFFER_BYTES.max(max_header_bytes));
    builder
}

fn http2(limits: &ConnectionLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_bytes)
        .max_local_error_reset_streams(MAX_PROVOKED_RESETS)
        // A client or proxy whose calls share a deadline cancels all of them at once, some before the server has seen
        // them. With h2's default of 20, that would end the connection and all other calls on it.
        .max_pending_accept_reset_streams(limits.max_concurrent_streams as usize)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

/// Wraps the service of a connection: every request gets its [`Call`], and every reply is counted.
fn per_call<S, B>(
    service: S,
    connection: Arc<Connection>,
    kind: fn(&str) -> CallKind,
) -> impl HttpService<
    Incoming,
    ResBody = ReplyBody<B>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<ReplyBody<B>>, Infallible>> + Send,
>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    service_fn(move |mut request: Request<Incoming>| {
        let call = Call::begin(Arc::clone(&connection), kind(request.uri().path()));
        request.extensions_mut().insert(call.clone());
        // The services of both kinds are always ready.
        let reply = service.clone().call(request);
        async move { Ok(reply.await?.map(|body| ReplyBody::new(body, call))) }
    })
}

/// Returns if the client sends no call in time.
async fn first_call_missing(connection: &Connection) {
    sleep(FIRST_CALL_TIMEOUT).await;
    if connection.has_had_calls() {
        std::future::pending::<()>().await;
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("connection failed: {error}");
    }
}
