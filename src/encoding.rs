//! How replies represent vectors: as float32, or quantized as sentence-transformers' `quantize_embeddings` does.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::f16;

use crate::request::{EmbedOptions, Limits, Violations};

mod ranges;

pub(crate) use ranges::Ranges;
use ranges::Scale;

/// The encoding of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// float32 values.
    Float,
    /// float16 values (IEEE 754 binary16), rounded to nearest.
    Float16,
    /// The number of the step in the component's range, 0 to 255, minus 128.
    Int8,
    /// The number of the step in the component's range, 0 to 255.
    Uint8,
    /// One bit per component, 1 if it is positive, the first in the highest bit; each byte minus 128, as a signed number.
    Binary,
    /// The same as unsigned numbers.
    Ubinary,
    /// float32 values in base64.
    Base64,
}

/// Encodes the vectors of a request.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    pub(crate) encoding: Encoding,
    /// Set for 8-bit integers.
    scale: Option<Arc<Scale>>,
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
    pub(crate) const NAMES: [(&str, Self); 7] = [
        ("float", Self::Float),
        ("base64", Self::Base64),
        ("float16", Self::Float16),
        ("int8", Self::Int8),
        ("uint8", Self::Uint8),
        ("binary", Self::Binary),
        ("ubinary", Self::Ubinary),
    ];

    /// The encodings of the Open Inference Protocol's tensors.
    pub(crate) const TENSORS: [(&str, Self); 6] = [
        ("float", Self::Float),
        ("float16", Self::Float16),
        ("int8", Self::Int8),
        ("uint8", Self::Uint8),
        ("binary", Self::Binary),
        ("ubinary", Self::Ubinary),
    ];

    /// The datatype of a component, or of eight, in the Open Inference Protocol, and its size in bytes.
    pub(crate) fn datatype(self) -> (&'static str, usize) {
        match self {
            Self::Float | Self::Base64 => ("FP32", 4),
            Self::Float16 => ("FP16", 2),
            Self::Int8 | Self::Binary => ("INT8", 1),
            Self::Uint8 | Self::Ubinary => ("UINT8", 1),
        }
    }

    /// Its name in requests and replies.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, encoding)| *encoding == self).map_or("", |(name, _)| name)
    }

    /// Prepares to encode vectors with this many components. 8-bit integers need the model's ranges, which are those of
    /// vectors with norm 1; otherwise, the encoding is a violation of the field.
    pub(crate) fn encoder(
        self,
        ranges: Option<&Ranges>,
        options: &EmbedOptions,
        limits: &Limits,
        field: &str,
        violations: &mut Violations,
    ) -> Encoder {
        let mut scale = None;
        if matches!(self, Self::Int8 | Self::Uint8) {
            let dimensions = options.dimensions.map_or(limits.dimension, |dimensions| dimensions as usize);
            match ranges {
                _ if !options.normalize => {
                    violations.add(field, format!("is `{}`, which needs normalized vectors", self.name()));
                }
                None => {
                    let problem = "which needs a bundle with a reference set; convert the model again";
                    violations.add(field, format!("is `{}`, {problem}", self.name()));
                }
                // Other dimensions are a violation of their own.
                Some(ranges) if (1..=limits.dimension).contains(&dimensions) => {
                    scale = Some(ranges.scale(dimensions));
                }
                Some(_) => {}
            }
        }
        Encoder { encoding: self, scale }
    }
}

impl Encoder {
    /// For an encoding that needs nothing but the vector.
    #[cfg(test)]
    pub(crate) fn plain(encoding: Encoding) -> Self {
        Self { encoding, scale: None }
    }

    fn steps(&self, vector: &[f32]) -> Vec<u8> {
        self.scale.as_ref().map(|scale| scale.steps(vector).collect()).unwrap_or_default()
    }

    /// The vector for a JSON reply: numbers; base64 for float16, which JSON cannot distinguish from other numbers.
    pub(crate) fn encode<'v>(&self, vector: &'v [f32]) -> Encoded<'v> {
        match self.encoding {
            Encoding::Float => Encoded::Floats(vector),
            Encoding::Int8 | Encoding::Binary => {
                Encoded::Signed(self.pack(vector).into_iter().map(|byte| byte as i8).collect())
            }
            Encoding::Uint8 | Encoding::Ubinary => Encoded::Unsigned(self.pack(vector)),
            Encoding::Float16 | Encoding::Base64 => Encoded::Base64(STANDARD.encode(self.pack(vector))),
        }
    }

    /// The vector as little-endian bytes.
    pub(crate) fn pack(&self, vector: &[f32]) -> Vec<u8> {
        match self.encoding {
            Encoding::Float | Encoding::Base64 => vector.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Encoding::Float16 => vector.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Encoding::Int8 => self.steps(vector).into_iter().map(|step| step ^ 0x80).collect(),
            Encoding::Uint8 => self.steps(vector),
            Encoding::Binary => bits(vector).map(|byte| byte ^ 0x80).collect(),
            Encoding::Ubinary => bits(vector).collect(),
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
    use std::collections::BTreeMap;

    use super::*;
    use embedd_common::checksum::Sha256Hex;
    use embedd_model::reference::{ReferenceSet, ReferenceText};
    use embedd_model::vector::normalize;

    const VECTOR: [f32; 10] = [0.5, -0.25, 0.0, 1e-9, -1.0, 0.125, 3.0, -0.0, 0.75, -2.0];

    fn encoder(encoding: Encoding) -> Encoder {
        Encoder::plain(encoding)
    }

    #[test]
    fn bits_are_those_of_sentence_transformers() {
        assert_eq!(encoder(Encoding::Ubinary).encode(&VECTOR), Encoded::Unsigned(vec![0b1001_0110, 0b1000_0000]));
        assert_eq!(encoder(Encoding::Binary).encode(&VECTOR), Encoded::Signed(vec![22, 0]));
        assert_eq!(encoder(Encoding::Binary).pack(&VECTOR), [22, 0]);
        assert_eq!(encoder(Encoding::Ubinary).pack(&VECTOR), [150, 128]);
    }

    #[test]
    fn floats_are_little_endian() {
        assert_eq!(encoder(Encoding::Float).pack(&[1.0, -2.5]), [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
        assert_eq!(encoder(Encoding::Float16).pack(&[1.0, -2.5, 65_520.0]), [0, 0x3c, 0, 0xc1, 0, 0x7c]);
        assert_eq!(encoder(Encoding::Base64).encode(&[1.0, -2.5]), Encoded::Base64("AACAPwAAIMA=".to_owned()));
        assert_eq!(encoder(Encoding::Float16).encode(&[1.0]), Encoded::Base64("ADw=".to_owned()));
        assert_eq!(encoder(Encoding::Float).encode(&VECTOR), Encoded::Floats(&VECTOR));
    }

    const LIMITS: Limits =
        Limits { max_texts: std::num::NonZeroUsize::MIN, max_text_bytes: 1, truncates_any_size: false, dimension: 4 };

    fn ranges(vectors: &[[f32; 4]]) -> Ranges {
        let text = |vector: &[f32; 4]| ReferenceText {
            id: String::new(),
            text: String::new(),
            embedding: vector.to_vec(),
            token_count: 2,
        };
        let texts = vectors.iter().map(text).collect();
        Ranges::of(Arc::new(ReferenceSet { texts, dimension: 4, max_tokens: 8, provenance: BTreeMap::new() }))
    }

    #[test]
    fn integers_are_steps_in_the_ranges_of_the_reference_set() {
        let ranges = ranges(&[[0.6, 0.8, 0.0, 0.0], [-0.6, 0.0, 0.8, 0.0], [0.0, -1.0, 0.0, 0.0]]);
        let mut violations = Violations::default();
        let options = EmbedOptions::default();
        let mut encoder =
            |encoding: Encoding| encoding.encoder(Some(&ranges), &options, &LIMITS, "encoding", &mut violations);
        let vector = [0.6, -1.0, 0.4, 0.5];
        // The last component has no range.
        assert_eq!(encoder(Encoding::Uint8).encode(&vector), Encoded::Unsigned(vec![255, 0, 127, 0]));
        assert_eq!(encoder(Encoding::Int8).encode(&vector), Encoded::Signed(vec![127, -128, -1, -128]));
        let outside = [9.0, -9.0, f32::NAN, 1000.0];
        assert_eq!(encoder(Encoding::Uint8).encode(&outside), Encoded::Unsigned(vec![255, 0, 0, 255]));
        assert!(violations.is_empty());
    }

    /// Digests of what sentence-transformers 6.2 makes of the reference set of all-MiniLM-L6-v2, whole and cut to 64
    /// dimensions with norm 1: `quantize_embeddings(e, precision, ranges=np.vstack((e.min(axis=0), e.max(axis=0))))`.
    const QUANTIZED: [(Encoding, u32, &str); 8] = [
        (Encoding::Int8, 384, "7bb637a5204a00154be84629157451d9cb1c7a4cd6970673242196ec36a98105"),
        (Encoding::Uint8, 384, "c8cdfd60b21d9143879fd8dc9647bea08d6a0c136cef46d9d5b7a4c08ce80416"),
        (Encoding::Binary, 384, "16c9fa4412ace52cfb3b43fc1fbc5b5854cf435703b4c2b48cb6e3c668307b27"),
        (Encoding::Ubinary, 384, "9a5e61c9ed5128b1dc5f2cee209291ca76904f84000f4ab706a07b5a70f13ef0"),
        (Encoding::Int8, 64, "06f5b1114764eae8b966d1ba59a36accdc6b9275621e558b99c07f31f82e6aaf"),
        (Encoding::Uint8, 64, "9aaa43f20f61f217c3f15e1a2457dd87d7771847af2af32c4544b7d1a1a85f9c"),
        (Encoding::Binary, 64, "6d56efe8ed9483cff496cc3922bfd23df5e23cdd2f5f0f6445e298657dcc80ef"),
        (Encoding::Ubinary, 64, "66786ec74f5644227c182c13390182744927d65b53135ef9a30c43a63326c84b"),
    ];

    #[test]
    fn integers_and_bits_are_those_of_sentence_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/reference/all-MiniLM-L6-v2.safetensors");
        let reference = ReferenceSet::read(std::path::Path::new(path)).expect("a reference set");
        let reference = Arc::new(reference);
        let ranges = Ranges::of(Arc::clone(&reference));
        let limits = Limits { dimension: 384, ..LIMITS };
        for (encoding, dimensions, expected) in QUANTIZED {
            let options = EmbedOptions { dimensions: Some(dimensions), ..EmbedOptions::default() };
            let mut violations = Violations::default();
            let encoder = encoding.encoder(Some(&ranges), &options, &limits, "encoding", &mut violations);
            let packed = reference.texts.iter().flat_map(|text| {
                let mut vector = text.embedding[..dimensions as usize].to_vec();
                if dimensions < 384 {
                    normalize(&mut vector);
                }
                encoder.pack(&vector)
            });
            let digest = Sha256Hex::of(&packed.collect::<Vec<u8>>());
            assert_eq!(digest.as_str(), expected, "{encoding:?}, {dimensions} dimensions");
        }
    }

    #[test]
    fn integers_need_ranges_and_normalized_vectors() {
        let ranges = ranges(&[[1.0, 0.0, 0.0, 0.0]]);
        let check = |ranges: Option<&Ranges>, normalize: bool| {
            let mut violations = Violations::default();
            let options = EmbedOptions { normalize, ..EmbedOptions::default() };
            Encoding::Int8.encoder(ranges, &options, &LIMITS, "encoding", &mut violations);
            violations.to_string()
        };
        assert!(check(Some(&ranges), false).contains("needs normalized vectors"));
        assert!(check(None, true).contains("convert the model again"));
        assert_eq!(check(Some(&ranges), true), "");
    }

    #[test]
    fn every_encoding_has_a_name() {
        for (name, encoding) in Encoding::NAMES {
            assert_eq!(encoding.name(), name);
        }
    }
}
