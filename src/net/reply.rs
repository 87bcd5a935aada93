//! The body of a reply on its way to the client. It is handed to the transport in small parts, which are counted until
//! they have been written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use prost::bytes::Bytes;

use super::budget::Charge;
use super::call::Call;
use super::connection::Connection;

/// The maximum size of a part: a client must read that much within the reply timeout.
const PART_BYTES: usize = 64 * 1024;

/// If it is dropped before its end, the client has cancelled the call.
pub(super) struct ReplyBody<B> {
    body: B,
    call: Call,
    rest: Option<Reply>,
}

/// Bytes of a reply, and the memory charged for them.
struct Reply {
    bytes: Bytes,
    charge: Option<Arc<Charge>>,
}

/// A part that the transport holds.
struct Part {
    bytes: Bytes,
    connection: Arc<Connection>,
    _charge: Option<Arc<Charge>>,
}

impl<B> ReplyBody<B> {
    pub(super) fn new(body: B, call: Call) -> Self
    where
        B: Body,
    {
        call.reply_begins();
        if body.is_end_stream() {
            call.answered();
        }
        Self { body, call, rest: None }
    }

    fn next_part(&mut self) -> Option<Bytes> {
        let reply = self.rest.as_mut()?;
        let bytes = reply.bytes.split_to(PART_BYTES.min(reply.bytes.len()));
        let connection = Arc::clone(self.call.connection());
        connection.reply_waits(bytes.len());
        let part = Part { bytes, connection, _charge: reply.charge.clone() };
        if reply.bytes.is_empty() {
            self.rest = None;
        }
        Some(Bytes::from_owner(part))
    }
}

impl<B> Body for ReplyBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(part) = self.next_part() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => {
                self.call.answered();
                return Poll::Ready(end);
            }
        };
        if frame.is_trailers() || self.body.is_end_stream() {
            self.call.answered();
        }
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(bytes) if bytes.is_empty() => Frame::data(bytes),
            Ok(bytes) => {
                let charge = self.call.take_replies().map(Arc::new);
                self.rest = Some(Reply { bytes, charge });
                Frame::data(self.next_part().unwrap_or_default())
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, |reply| reply.bytes.len() as u64);
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.connection.reply_leaves(self.bytes.len());
    }
}
