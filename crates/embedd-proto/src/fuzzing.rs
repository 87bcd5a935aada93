//! Functions that must accept any bytes. `fuzz/` runs them under libFuzzer, and the tests below with mutations of valid
//! messages.

use std::fmt::Debug;

use prost::{Message, Name};

use crate::codec::{self, Undecodable};
use crate::open_inference::ModelInferRequest;
use crate::{BenchmarkRequest, CountTokensRequest, EmbedRequest, ValidateRequest, tei};

/// Reasons are sent to callers, and quote nothing of a message.
const MAX_REASON_BYTES: usize = 1024;

/// The bytes as a message of every type that callers send with repeated or nested fields.
pub fn protobuf(bytes: &[u8]) {
    check::<EmbedRequest>(bytes);
    check::<CountTokensRequest>(bytes);
    check::<ValidateRequest>(bytes);
    check::<BenchmarkRequest>(bytes);
    check::<tei::EmbedRequest>(bytes);
    check::<tei::EncodeRequest>(bytes);
    check::<tei::DecodeRequest>(bytes);
    check::<ModelInferRequest>(bytes);
}

/// The codec accepts only what prost accepts, and what it accepts is the same after it is encoded and decoded again.
fn check<M: Message + Name + Default + Debug>(bytes: &[u8]) {
    match codec::decode::<M>(bytes) {
        Ok(message) => {
            let encoded = message.encode_to_vec();
            let again = M::decode(encoded.as_slice()).expect("its own encoding");
            // Maps are encoded in any order.
            assert_eq!(again.encoded_len(), encoded.len(), "{message:?}");
        }
        Err(error @ Undecodable::Malformed { .. }) => assert!(error.to_string().len() < MAX_REASON_BYTES),
        Err(Undecodable::TooLarge { wire_bytes, .. }) => assert_eq!(wire_bytes, bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use embedd_common::mutation;

    const MESSAGES: [&[u8]; 2] = [
        include_bytes!("../../../fuzz/seeds/protobuf/typed.bin"),
        include_bytes!("../../../fuzz/seeds/protobuf/raw.bin"),
    ];

    #[test]
    fn any_bytes_are_decoded_or_rejected() {
        mutation::check(&MESSAGES, 20_000, super::protobuf);
    }
}
