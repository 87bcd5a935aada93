//! The bytes of a connection, plain or encrypted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::protocols::Protocols;
use super::tls::Tls;

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum Transport {
    Plain(TcpStream),
    /// Boxed because it is large.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Reports to its connection what arrives.
pub(super) struct Stream {
    transport: Transport,
    connection: Arc<Connection>,
    /// Whether bytes that arrive between calls are the head of a request.
    is_http1: bool,
    /// Bytes read, counted up to the end of the preface.
    read: usize,
    /// Bytes that were read to detect the protocol and are to be read again.
    first: Vec<u8>,
}

/// Encrypts a connection, if TLS is configured.
pub(super) async fn shake_hands(
    stream: TcpStream,
    tls: Option<&Tls>,
    protocols: Protocols,
    connection: Arc<Connection>,
    time: Duration,
) -> io::Result<Stream> {
    let transport = match tls {
        None => Transport::Plain(stream),
        Some(tls) => {
            let handshake = timeout(time, tls.acceptor(protocols).accept(stream)).await;
            let too_slow = |_| io::Error::new(io::ErrorKind::TimedOut, "the client took too long");
            Transport::Tls(Box::new(handshake.map_err(too_slow)??))
        }
    };
    Ok(Stream { transport, connection, is_http1: false, read: 0, first: Vec::new() })
}

impl Stream {
    /// Whether the client begins with the preface of HTTP/2; otherwise it speaks HTTP/1.
    pub(super) async fn detect_http2(&mut self) -> io::Result<bool> {
        self.is_http1 = true;
        let mut first = Vec::with_capacity(PREFACE.len());
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            let mut byte = [0];
            if self.read(&mut byte).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            first.extend(byte);
        }
        self.is_http1 = first != PREFACE;
        if self.is_http1 {
            self.connection.starts();
        } else {
            self.connection.head_ends();
        }
        self.first = first;
        Ok(!self.is_http1)
    }

    fn count(&mut self, bytes: usize) {
        if bytes > 0 && self.is_http1 {
            self.connection.receives();
        }
        if self.read < PREFACE.len() {
            self.read += bytes;
            if self.read >= PREFACE.len() {
                self.connection.starts();
            }
        }
    }

    /// The certificate with which the client has identified itself.
    pub(super) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.transport {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..length]);
            self.first.drain(..length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        self.count(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
