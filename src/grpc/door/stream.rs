//! The bytes of a connection, plain or encrypted; can be cut off, and tells when it has ended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::connection::Signs;

/// Of the bytes with which a client of HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: usize = 24;

pub(super) enum Wire {
    Plain(TcpStream),
    /// On the heap: it is large.
    Tls(Box<TlsStream<TcpStream>>),
}

pub(super) struct Stream {
    wire: Wire,
    info: TcpConnectInfo,
    /// Done when the connection is to be cut off; wakes whoever waits for bytes.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_token: CancellationToken,
    /// Bytes read until the client has spoken.
    read: usize,
    spoke: Arc<AtomicBool>,
    /// Tells that the stream is gone.
    _gone: DropGuard,
}

impl Stream {
    pub(super) fn new(wire: Wire, info: TcpConnectInfo, signs: &Signs) -> Self {
        Self {
            wire,
            info,
            cut: Box::pin(signs.cut.clone().cancelled_owned()),
            cut_token: signs.cut.clone(),
            read: 0,
            spoke: Arc::clone(&signs.spoke),
            _gone: signs.gone.clone().drop_guard(),
        }
    }

    /// An error once it is cut off; `cx` is woken when that happens.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut_token.is_cancelled() || self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off by the server"));
        }
        Ok(())
    }

    fn note_read(&mut self, bytes: usize) {
        if self.read < PREFACE {
            self.read += bytes;
            self.spoke.store(self.read >= PREFACE, Ordering::Relaxed);
        }
    }
}

impl Connected for Stream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buffer.filled().len();
        let polled = match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        self.note_read(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Wire::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
