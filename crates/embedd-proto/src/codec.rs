//! The codec of all calls: prost's, but a message is measured on the wire before it is decoded.
//!
//! Some fields take far more memory than they take bytes on the wire: an empty tensor of the Open Inference Protocol is
//! two bytes on the wire and 312 in memory. A message whose fields would grow beyond [`max_decoded_bytes`] is rejected
//! before anything is allocated for it.

use std::fmt;
use std::marker::PhantomData;

use prost::bytes::Buf as _;
use prost::{Message, Name};
use tokio::runtime::{Handle, RuntimeFlavor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;
use tonic_types::{ErrorDetails, StatusExt as _};

mod measure;
mod shapes;
mod varint;

use measure::{Meter, Obstacle};
use shapes::{Direction, SHAPES, Shape};

/// Decoded bytes that a message may take whatever its size on the wire: 65,536 texts, the highest `--max-texts`, take
/// 3.7 MiB in addition to their characters.
const BASE_BYTES: usize = 4 << 20;
/// Decoded bytes for each byte on the wire, in addition to the base. Packed integers take one to five bytes each on the
/// wire, and four in memory.
const GROWTH: usize = 4;

/// Messages that take more memory are decoded on a thread where they do not block other calls. Up to this size, it takes a
/// fraction of a millisecond.
const INLINE_BYTES: usize = 256 << 10;

/// The memory that the fields of a message of this size may take. The lists of a decoded message have up to twice the
/// capacity that they need, so the message can take twice as much.
pub fn max_decoded_bytes(wire_bytes: usize) -> usize {
    BASE_BYTES.saturating_add(wire_bytes.saturating_mul(GROWTH))
}

/// Why a message cannot be decoded. Quotes nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecodable {
    /// The bytes are not a message of the expected type.
    Malformed {
        /// The full name of the type.
        message: String,
        /// What is wrong, after the path of the field if it is known.
        reason: String,
    },
    /// The message would take too much memory.
    TooLarge {
        /// The path of the field that exceeds the limit.
        field: String,
        /// The size of the encoded message.
        wire_bytes: usize,
    },
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { message, reason } => write!(f, "not a valid {message}: {reason}"),
            Self::TooLarge { field, wire_bytes } => write!(f, "{field} {}", growth(*wire_bytes)),
        }
    }
}

impl std::error::Error for Undecodable {}

fn growth(wire_bytes: usize) -> String {
    let max = max_decoded_bytes(wire_bytes);
    format!(
        "would take more than {max} bytes of memory in a message of {wire_bytes} bytes; send fewer elements in each \
         message"
    )
}

/// Decodes a message, unless it would take too much memory.
///
/// # Errors
/// [`Undecodable`].
pub fn decode<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, Undecodable> {
    decode_as(SHAPES.of::<M>(), bytes)
}

fn decode_as<M: Message + Name + Default>(shape: &Shape, bytes: &[u8]) -> Result<M, Undecodable> {
    let malformed = |reason| Undecodable::Malformed { message: M::full_name(), reason };
    match Meter::new(&SHAPES, max_decoded_bytes(bytes.len())).measure(shape, bytes) {
        Ok(estimate) => {
            let decoded = without_blocking_if(estimate > INLINE_BYTES, || M::decode(bytes));
            decoded.map_err(|error| malformed(error.to_string()))
        }
        Err(Obstacle::Malformed(reason)) => Err(malformed(reason)),
        Err(Obstacle::TooLarge(field)) => Err(Undecodable::TooLarge { field, wire_bytes: bytes.len() }),
    }
}

/// Runs `work`; if it takes long, another thread takes over this one's other tasks in the meantime. Only runtimes with
/// several threads can do that.
fn without_blocking_if<T>(takes_long: bool, work: impl FnOnce() -> T) -> T {
    let has_other_threads =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if takes_long && has_other_threads() { tokio::task::block_in_place(work) } else { work() }
}

/// The codec of a call; servers decode requests with it and clients responses.
#[derive(Debug)]
pub struct MeasuringCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MeasuringCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MeasuringCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MeasuringDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MeasuringDecoder { shape: SHAPES.of::<U>(), message: PhantomData }
    }
}

/// Decodes the messages of one call.
#[derive(Debug)]
pub struct MeasuringDecoder<U> {
    shape: &'static Shape,
    message: PhantomData<U>,
}

impl<U: Message + Name + Default> Decoder for MeasuringDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let length = buffer.remaining();
        let decoded = match buffer.chunk() {
            whole if whole.len() == length => {
                let decoded = decode_as(self.shape, whole);
                buffer.advance(length);
                decoded
            }
            // tonic hands over whole messages; this is for buffers in parts.
            _ => decode_as(self.shape, &buffer.copy_to_bytes(length)),
        };
        decoded.map(Some).map_err(|error| status(&error, self.shape.direction))
    }
}

/// An undecodable request is its caller's fault, and an undecodable response its server's.
fn status(error: &Undecodable, direction: Direction) -> Status {
    match (direction, error) {
        (Direction::Response, _) => Status::internal(format!("the response cannot be decoded: {error}")),
        (Direction::Request, Undecodable::TooLarge { field, wire_bytes }) => {
            let details = ErrorDetails::with_bad_request_violation(field, growth(*wire_bytes));
            Status::with_error_details(tonic::Code::InvalidArgument, error.to_string(), details)
        }
        (Direction::Request, Undecodable::Malformed { .. }) => Status::invalid_argument(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
