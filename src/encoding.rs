//! How replies represent vectors: as float32, or quantized as sentence-transformers' `quantize_embeddings` does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::f16;

/// The encoding of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// float32 values.
    Float,
    /// float16 values (IEEE 754 binary16), rounded to nearest.
    Float16,
    /// One bit per component, 1 if it is positive, the first in the highest bit; each byte minus 128, as a signed number.
    Binary,
    /// The same as unsigned numbers.
    Ubinary,
    /// float32 values in base64.
    Base64,
}

/// A vector in an encoding, for JSON.
#[derive(Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Encoded<'v> {
    Floats(&'v [f32]),
    Signed(Vec<i8>),
    Unsigned(Vec<u8>),
    /// Little-endian bytes in base64.
    Base64(String),
}

impl Encoding {
    /// Every encoding with its name.
    pub(crate) const NAMES: [(&str, Self); 5] = [
        ("float", Self::Float),
        ("base64", Self::Base64),
        ("float16", Self::Float16),
        ("binary", Self::Binary),
        ("ubinary", Self::Ubinary),
    ];

    /// The encodings of the Open Inference Protocol's tensors.
    pub(crate) const TENSORS: [(&str, Self); 4] =
        [("float", Self::Float), ("float16", Self::Float16), ("binary", Self::Binary), ("ubinary", Self::Ubinary)];

    /// The datatype of a component, or of eight, in the Open Inference Protocol, and its size in bytes.
    pub(crate) fn datatype(self) -> (&'static str, usize) {
        match self {
            Self::Float | Self::Base64 => ("FP32", 4),
            Self::Float16 => ("FP16", 2),
            Self::Binary => ("INT8", 1),
            Self::Ubinary => ("UINT8", 1),
        }
    }

    /// Its name in requests and replies.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, encoding)| *encoding == self).map_or("", |(name, _)| name)
    }

    /// The vector for a JSON reply: numbers; base64 for float16, which JSON cannot distinguish from other numbers.
    pub(crate) fn encode(self, vector: &[f32]) -> Encoded<'_> {
        match self {
            Self::Float => Encoded::Floats(vector),
            Self::Binary => Encoded::Signed(bits(vector).map(|byte| (byte ^ 0x80) as i8).collect()),
            Self::Ubinary => Encoded::Unsigned(bits(vector).collect()),
            Self::Float16 | Self::Base64 => Encoded::Base64(STANDARD.encode(self.pack(vector))),
        }
    }

    /// The vector as little-endian bytes.
    pub(crate) fn pack(self, vector: &[f32]) -> Vec<u8> {
        match self {
            Self::Float | Self::Base64 => vector.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Float16 => vector.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Self::Binary => bits(vector).map(|byte| byte ^ 0x80).collect(),
            Self::Ubinary => bits(vector).collect(),
        }
    }
}

/// Eight components per byte; the last byte is filled with zeros.
fn bits(vector: &[f32]) -> impl Iterator<Item = u8> {
    vector.chunks(8).map(|chunk| {
        let positive = chunk.iter().enumerate().filter(|(_, value)| **value > 0.0);
        positive.fold(0, |byte, (bit, _)| byte | 0x80 >> bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `quantize_embeddings(np.array([VECTOR], dtype=np.float32), precision)` of sentence-transformers 5.1.
    const VECTOR: [f32; 10] = [0.5, -0.25, 0.0, 1e-9, -1.0, 0.125, 3.0, -0.0, 0.75, -2.0];

    #[test]
    fn bits_are_those_of_sentence_transformers() {
        assert_eq!(Encoding::Ubinary.encode(&VECTOR), Encoded::Unsigned(vec![0b1001_0110, 0b1000_0000]));
        assert_eq!(Encoding::Binary.encode(&VECTOR), Encoded::Signed(vec![22, 0]));
        assert_eq!(Encoding::Binary.pack(&VECTOR), [22, 0]);
        assert_eq!(Encoding::Ubinary.pack(&VECTOR), [150, 128]);
    }

    #[test]
    fn floats_are_little_endian() {
        assert_eq!(Encoding::Float.pack(&[1.0, -2.5]), [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
        assert_eq!(Encoding::Float16.pack(&[1.0, -2.5, 65_520.0]), [0, 0x3c, 0, 0xc1, 0, 0x7c]);
        assert_eq!(Encoding::Base64.encode(&[1.0, -2.5]), Encoded::Base64("AACAPwAAIMA=".to_owned()));
        assert_eq!(Encoding::Float16.encode(&[1.0]), Encoded::Base64("ADw=".to_owned()));
        assert_eq!(Encoding::Float.encode(&VECTOR), Encoded::Floats(&VECTOR));
    }

    #[test]
    fn every_encoding_has_a_name() {
        for (name, encoding) in Encoding::NAMES {
            assert_eq!(encoding.name(), name);
        }
    }
}
