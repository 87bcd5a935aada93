//! Hand-written HTTP/2 frames, for clients that break the rules. No library allows that.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// Frame types (RFC 9113, section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

/// Flags of frames.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The error code of a server that protects itself (RFC 9113, section 7).
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The error code of a client that no longer needs an answer.
pub(crate) const CANCEL: u32 = 8;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose client sends whatever frames the test wants.
pub(crate) struct RawConnection(TcpStream);

/// A frame that the server sent.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl RawConnection {
    /// Connects, and sends the preface and a SETTINGS frame without settings.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut connection = Self(stream);
        connection.0.write_all(PREFACE).expect("sent");
        connection.send(&frame(SETTINGS, 0, 0, &[]));
        connection
    }

    /// Sends frames that [`frame`] made.
    pub(crate) fn send(&mut self, frames: &[u8]) {
        self.0.write_all(frames).expect("sent");
    }

    /// Like [`send`](Self::send); `false` if the server has closed the connection.
    pub(crate) fn try_send(&mut self, frames: &[u8]) -> bool {
        match self.0.write_all(frames) {
            Err(error) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()) => false,
            result => {
                result.expect("sent");
                true
            }
        }
    }

    /// The next frame; `None` when the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.0.read_exact(&mut head) {
            Err(error) if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) => {
                return None;
            }
            read => read.expect("a frame, or the end of the connection"),
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).expect("the payload of a frame");
        Some(Frame { kind: head[3], flags: head[4], payload })
    }
}

impl Frame {
    /// The error code of a GOAWAY frame.
    pub(crate) fn error_code(&self) -> u32 {
        assert_eq!(self.kind, GOAWAY);
        u32::from_be_bytes(self.payload[4..8].try_into().expect("four bytes"))
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The payload of a HEADERS frame that begins a gRPC call.
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    // Literals without indexing and without Huffman coding (RFC 7541, section 6.2.2) need no state.
    let literal = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
        [&[length], text.as_bytes()].concat()
    };
    headers.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect()
}
