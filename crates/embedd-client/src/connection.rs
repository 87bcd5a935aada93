//! Opens a connection, and signals when it accepts no more calls.
//!
//! tonic's channels reconnect by themselves during a call, which then waits for a server that may be gone. Here, a channel
//! has a single connection during its lifetime. Reconnecting is the job of the pool's connection tasks.

use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint, Uri};

use super::address::reason;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The remote end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The first address of a name that accepts the connection.
    Name(String, u16),
    Address(SocketAddr),
}

/// Opens a connection, including TLS. `ended` is cancelled when it accepts no more calls.
pub(crate) async fn open(endpoint: &Endpoint, target: &Target, ended: &CancellationToken) -> Result<Channel, String> {
    let connector = ConnectOnce { target: target.clone(), ended: ended.clone(), used: false };
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector)).await {
        Ok(opened) => opened.map_err(|error| reason(&error)),
        Err(_) => Err(format!("no answer within {CONNECT_TIMEOUT:?}")),
    }
}

/// Connects once. Further attempts fail.
struct ConnectOnce {
    target: Target,
    ended: CancellationToken,
    used: bool,
}

impl Service<Uri> for ConnectOnce {
    type Response = TokioIo<ConnectionStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        if std::mem::replace(&mut self.used, true) {
            // The channel reconnects because the server has ended the connection (GOAWAY) or the connection broke.
            self.ended.cancel();
            return Box::pin(ready(Err(io::Error::new(io::ErrorKind::NotConnected, "the connection has ended"))));
        }
        let target = self.target.clone();
        let ended = self.ended.clone().drop_guard();
        Box::pin(async move {
            let stream = match &target {
                Target::Name(host, port) => TcpStream::connect((host.as_str(), *port)).await?,
                Target::Address(address) => TcpStream::connect(address).await?,
            };
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(ConnectionStream { stream, _ended: ended }))
        })
    }
}

/// The byte stream of a connection. Cancels the token when it is dropped.
struct ConnectionStream {
    stream: TcpStream,
    _ended: DropGuard,
}

impl AsyncRead for ConnectionStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ConnectionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
