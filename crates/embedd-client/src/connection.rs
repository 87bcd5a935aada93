//! One connection: opened once, and told of when it takes no more calls.
//!
//! tonic's channels connect anew by themselves, within a call, which then waits for a server that may be gone. Here a
//! channel has one connection in its life; what comes after it is the keeper's matter.

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

/// A server that has not taken the connection by then does not answer.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The first address of a name that takes it.
    Name(String, u16),
    Address(SocketAddr),
}

/// Opens a connection, TLS included. `ended` is cancelled when it takes no more calls.
pub(super) async fn open(endpoint: &Endpoint, target: &Target, ended: &CancellationToken) -> Result<Channel, String> {
    let connector = Once { target: target.clone(), ended: ended.clone(), used: false };
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector)).await {
        Ok(opened) => opened.map_err(|error| reason(&error)),
        Err(_) => Err(format!("no answer within {CONNECT_TIMEOUT:?}")),
    }
}

/// Makes one connection.
struct Once {
    target: Target,
    ended: CancellationToken,
    used: bool,
}

impl Service<Uri> for Once {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        if std::mem::replace(&mut self.used, true) {
            // The channel asks for another one: the server has ended the first (GOAWAY), or it broke.
            self.ended.cancel();
            return Box::pin(ready(Err(io::Error::new(io::ErrorKind::NotConnected, "the connection has ended"))));
        }
        let (target, ended) = (self.target.clone(), self.ended.clone().drop_guard());
        Box::pin(async move {
            let stream = match &target {
                Target::Name(host, port) => TcpStream::connect((host.as_str(), *port)).await?,
                Target::Address(address) => TcpStream::connect(address).await?,
            };
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(Line { stream, _ended: ended }))
        })
    }
}

/// The bytes of a connection; tells when it is gone.
struct Line {
    stream: TcpStream,
    _ended: DropGuard,
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
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
