//! The byte stream of a connection, plain or encrypted. The connection can close it, and learns when it is dropped.

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

use super::signals::ConnectionSignals;

/// The length of the preface that an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

pub(super) enum Transport {
    Plain(TcpStream),
    /// Boxed because it is large.
    Tls(Box<TlsStream<TcpStream>>),
}

pub(super) struct Stream {
    transport: Transport,
    info: TcpConnectInfo,
    /// Ready when the connection closes the stream; wakes pending reads and writes.
    close: Pin<Box<WaitForCancellationFutureOwned>>,
    close_token: CancellationToken,
    /// Bytes read, counted up to the end of the preface.
    read: usize,
    started: Arc<AtomicBool>,
    _closed: DropGuard,
}

impl Stream {
    pub(super) fn new(transport: Transport, info: TcpConnectInfo, signals: &ConnectionSignals) -> Self {
        Self {
            transport,
            info,
            close: Box::pin(signals.close.clone().cancelled_owned()),
            close_token: signals.close.clone(),
            read: 0,
            started: Arc::clone(&signals.started),
            _closed: signals.closed.clone().drop_guard(),
        }
    }

    /// Fails once the stream is closed; `cx` is woken when that happens.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.close_token.is_cancelled() || self.close.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the server"));
        }
        Ok(())
    }

    fn count_read(&mut self, bytes: usize) {
        if self.read < PREFACE_BYTES {
            self.read += bytes;
            self.started.store(self.read >= PREFACE_BYTES, Ordering::Relaxed);
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
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        self.count_read(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
