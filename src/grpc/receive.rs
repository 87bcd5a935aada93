//! Counts the bytes of messages while they are received, limits how long a message may take, and rejects requests whose
//! messages are incomplete.
//!
//! A message that does not fit into the memory for messages is rejected with RESOURCE_EXHAUSTED. A stream first waits
//! until its own earlier requests have been answered, because then there is room again.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::gzip::Gzip;
use super::{protocols, status};
use crate::net::{Call, Charge, Exhausted};

/// How long a client may take to send a message, from its first byte to its last.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// A byte for compression and four for the length.
const PREFIX_BYTES: usize = 5;

/// Wraps the body of every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiveLayer {
    /// The maximum size of a compressed message, before and after it is decompressed.
    pub(super) max_bytes: usize,
}

#[derive(Debug, Clone)]
pub(super) struct ReceiveService<S> {
    inner: S,
    max_bytes: usize,
}

impl<S> Layer<S> for ReceiveLayer {
    type Service = ReceiveService<S>;

    fn layer(&self, inner: S) -> ReceiveService<S> {
        ReceiveService { inner, max_bytes: self.max_bytes }
    }
}

impl<S, B> Service<Request<B>> for ReceiveService<S>
where
    S: Service<Request<ReceiveBody<B>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let call: Option<Call> = request.extensions().get().cloned();
        if call.as_ref().is_some_and(|call| !call.is_admitted()) {
            return Either::Right(ready(Ok(status::exhausted(Exhausted).into_http())));
        }
        let is_stream = protocols::is_client_stream(request.uri().path());
        let gzip = Gzip::of(request.headers_mut(), self.max_bytes);
        Either::Left(self.inner.call(request.map(|body| ReceiveBody::new(body, call, !is_stream, gzip))))
    }
}

/// The messages of a request as they arrive.
pub(super) struct ReceiveBody<B> {
    body: B,
    call: Option<Call>,
    messages: Messages,
    /// Set if messages are compressed.
    gzip: Option<Gzip>,
    /// The charge of the message that is arriving.
    charge: Charged,
    /// Whether the call cannot begin before its only message is complete.
    awaits_first: bool,
    /// When the message must be complete.
    timeout: Option<Pin<Box<Sleep>>>,
    waiting: Option<Waiting>,
}

/// `None` for a request without a connection, as in tests.
type Charged = Option<Charge>;

/// A frame that does not fit into memory yet.
struct Waiting {
    frame: Bytes,
    charge: Pin<Box<dyn Future<Output = Result<Charge, Exhausted>> + Send>>,
}

/// Where the boundaries of messages are (gRPC over HTTP/2, "Length-Prefixed-Message").
#[derive(Debug, Default, PartialEq, Eq)]
struct Messages {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that have arrived.
    prefix_length: usize,
    /// Bytes of the message that are still to come.
    rest: usize,
    /// Whether a message was marked as compressed.
    compressed: bool,
}

impl Messages {
    /// Follows the bytes of a frame; returns the number of messages that end in it.
    fn follow(&mut self, mut bytes: &[u8]) -> usize {
        let mut complete = 0;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let length = self.rest.min(bytes.len());
                self.rest -= length;
                bytes = &bytes[length..];
            } else {
                let length = bytes.len().min(PREFIX_BYTES - self.prefix_length);
                self.prefix[self.prefix_length..][..length].copy_from_slice(&bytes[..length]);
                self.prefix_length += length;
                bytes = &bytes[length..];
                if self.prefix_length < PREFIX_BYTES {
                    break;
                }
                let [compressed, length @ ..] = self.prefix;
                self.compressed |= compressed != 0;
                self.rest = u32::from_be_bytes(length) as usize;
            }
            if self.rest == 0 && self.prefix_length == PREFIX_BYTES {
                self.prefix_length = 0;
                complete += 1;
            }
        }
        complete
    }

    fn is_between_messages(&self) -> bool {
        self.prefix_length == 0
    }
}

impl<B> ReceiveBody<B> {
    fn new(body: B, call: Option<Call>, awaits_first: bool, gzip: Option<Gzip>) -> Self {
        let messages = Messages::default();
        Self { body, call, messages, gzip, charge: None, awaits_first, timeout: None, waiting: None }
    }

    fn is_too_slow(&mut self, context: &mut Context<'_>) -> bool {
        if self.messages.is_between_messages() && !self.awaits_first {
            return false;
        }
        let timeout = self.timeout.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + MESSAGE_TIMEOUT)));
        timeout.as_mut().poll(context).is_ready()
    }

    /// Why the request must not end here, if so. tonic blames the server for such requests (INTERNAL).
    fn unfinished(&self) -> Option<Status> {
        if !self.messages.is_between_messages() {
            return Some(status::incomplete_message());
        }
        self.awaits_first.then(status::no_message)
    }

    /// Charges the bytes of a frame; `None` if it has to wait for memory.
    fn charge(&mut self, frame: &Bytes) -> Result<Option<Charged>, Status> {
        let Some(call) = &self.call else { return Ok(Some(None)) };
        match call.try_receive(frame.len()) {
            Ok(charge) => Ok(Some(Some(charge))),
            Err(_) if call.has_received() => {
                let call = call.clone();
                let bytes = frame.len();
                let charge = Box::pin(async move { call.receive(bytes).await });
                self.waiting = Some(Waiting { frame: frame.clone(), charge });
                Ok(None)
            }
            Err(exhausted) => Err(status::exhausted(exhausted)),
        }
    }

    fn hold(&mut self, charge: Charged) {
        match (&mut self.charge, charge) {
            (Some(held), Some(charge)) => held.merge(charge),
            (held @ None, charge) => *held = charge,
            (Some(_), None) => {}
        }
    }

    /// The bytes of a frame for the service; none if they belong to a compressed message that is not complete.
    fn accept(&mut self, frame: Bytes, charge: Charged) -> Result<Bytes, Status> {
        self.hold(charge);
        let complete = self.messages.follow(&frame);
        let bytes = match &mut self.gzip {
            Some(gzip) => {
                let messages = gzip.decompress(&frame)?;
                let charge = self.call.as_ref().map(|call| call.try_receive(messages.len())).transpose();
                self.hold(charge.map_err(status::exhausted)?);
                messages
            }
            None if self.messages.compressed => return Err(status::compressed_message()),
            None => frame,
        };
        if complete > 0 {
            self.awaits_first = false;
            self.timeout = None;
            if let Some(call) = &self.call {
                call.received(self.charge.take(), complete);
            }
        }
        Ok(bytes)
    }
}

impl<B> http_body::Body for ReceiveBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(waiting) = &mut this.waiting {
                let charge = task::ready!(waiting.charge.as_mut().poll(context)).map_err(status::exhausted);
                let (Some(Waiting { frame, .. }), Ok(charge)) = (this.waiting.take(), charge) else {
                    return Poll::Ready(Some(Err(status::exhausted(Exhausted))));
                };
                match this.accept(frame, Some(charge)) {
                    Ok(bytes) if bytes.is_empty() => continue,
                    accepted => return Poll::Ready(Some(accepted.map(Frame::data))),
                }
            }
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                // The caller has reset the stream or disconnected, and hyper drops the call next, which counts as
                // CANCELLED. An error would be answered before that, and look like a fault of the server.
                Poll::Ready(Some(Err(_))) => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(this.unfinished().map(Err)),
                Poll::Pending if this.is_too_slow(context) => {
                    return Poll::Ready(Some(Err(status::message_too_slow(MESSAGE_TIMEOUT))));
                }
                Poll::Pending => return Poll::Pending,
            };
            let Some(data) = frame.data_ref() else {
                return Poll::Ready(Some(this.unfinished().map_or(Ok(frame), Err)));
            };
            match this.charge(data) {
                Ok(Some(charge)) => match frame.into_data().map(|data| this.accept(data, charge)) {
                    Ok(Ok(bytes)) if bytes.is_empty() => {}
                    Ok(accepted) => return Poll::Ready(Some(accepted.map(Frame::data))),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream() && self.unfinished().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.gzip.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat()
    }

    #[test]
    fn messages_are_counted_wherever_their_frames_are_cut() {
        let lengths = [0, 1, 300, 0, 0, 7];
        let bytes = lengths.map(message).concat();
        for size in 1..=bytes.len() {
            let mut messages = Messages::default();
            let complete: usize = bytes.chunks(size).map(|frame| messages.follow(frame)).sum();
            assert_eq!((complete, messages.is_between_messages()), (lengths.len(), true), "frames of {size} bytes");
        }
    }

    #[test]
    fn an_incomplete_message_is_noticed_wherever_it_ends() {
        let bytes = message(10);
        for end in 1..bytes.len() {
            let mut messages = Messages::default();
            assert_eq!(messages.follow(&bytes[..end]), 0, "{end}");
            assert!(!messages.is_between_messages(), "{end}");
        }
    }
}
