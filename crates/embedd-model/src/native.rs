//! The native INT8 encoder: its plan, its packed weights, and the forward pass over them.

mod encoder;
pub mod plan;
mod weights;

pub use encoder::{Batch, Buffers, Encoder, EncoderError, ForwardError};
pub use weights::{NativeWeights, WeightsError};
