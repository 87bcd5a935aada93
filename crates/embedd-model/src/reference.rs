//! Reference sets: texts with their embeddings, by PyTorch (`reference/make_reference.py` writes them) or, for models
//! without such a set, by the float32 model.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::json;

use crate::bundle::ReferenceKind;
use embedd_common::files::read_bounded;

/// A set of 253 texts has less than a megabyte.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Texts with their embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceSet {
    /// The texts; at least one.
    pub texts: Vec<ReferenceText>,
    /// The number of components of each embedding.
    pub dimension: usize,
    /// The maximum number of tokens per text with which the embeddings were computed, including special tokens.
    pub max_tokens: u32,
    /// The origin of the set: model, SHA-256 of its weights, versions, date.
    pub provenance: BTreeMap<String, String>,
}

/// One text and its embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceText {
    /// The text's name in the set.
    pub id: String,
    /// The text to embed.
    pub text: String,
    /// The embedding, of L2 norm 1.
    pub embedding: Vec<f32>,
    /// The number of tokens after truncation, including special tokens.
    pub token_count: u32,
}

/// Why a reference set cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum ReferenceError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// The file is not a reference set.
    #[error("{path} is not a reference set: {reason}; create one with reference/make_reference.py")]
    Malformed { path: PathBuf, reason: String },
}

/// The metadata that tells sets of float32 models from those of PyTorch, and its value.
const EMBEDDINGS: &str = "embeddings";
const FLOAT32: &str = "float32";
const MAX_TOKENS: &str = "max_seq_length";

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: String,
    text: String,
}

/// The file contents of the built-in reference set for these weights; `None` for other models.
pub fn built_in(weights_sha256: &str) -> Option<&'static [u8]> {
    match weights_sha256 {
        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658" => {
            Some(include_bytes!("../../../reference/all-mpnet-base-v2.safetensors"))
        }
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" => {
            Some(include_bytes!("../../../reference/all-MiniLM-L6-v2.safetensors"))
        }
        _ => None,
    }
}

/// The texts on which models without a reference set of their own are compared, with their ids.
///
/// # Errors
/// [`ReferenceError::Malformed`] never happens: the set is part of the program.
pub fn built_in_texts() -> Result<Vec<(String, String)>, ReferenceError> {
    let set = ReferenceSet::parse(
        include_bytes!("../../../reference/all-MiniLM-L6-v2.safetensors"),
        Path::new("the built-in texts"),
    )?;
    Ok(set.texts.into_iter().map(|text| (text.id, text.text)).collect())
}

impl ReferenceSet {
    /// A set with the embeddings of the model `name` in float32.
    pub fn of_float32(name: &str, texts: Vec<ReferenceText>, max_tokens: u32) -> Self {
        let dimension = texts.first().map_or(0, |text| text.embedding.len());
        let provenance = [("model", name), (EMBEDDINGS, FLOAT32), (MAX_TOKENS, &max_tokens.to_string())]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { texts, dimension, max_tokens, provenance: provenance.into() }
    }

    /// Where the embeddings come from.
    pub fn kind(&self) -> ReferenceKind {
        match self.provenance.get(EMBEDDINGS).map(String::as_str) {
            Some(FLOAT32) => ReferenceKind::Float32,
            _ => ReferenceKind::PyTorch,
        }
    }

    /// The contents of a file with this set; always the same for the same set.
    pub fn to_bytes(&self) -> Vec<u8> {
        let rows = self.texts.len();
        let floats = self.texts.iter().flat_map(|text| text.embedding.iter().flat_map(|value| value.to_le_bytes()));
        let counts = self.texts.iter().flat_map(|text| i64::from(text.token_count).to_le_bytes());
        let line = |text: &ReferenceText| json!({ "id": text.id, "text": text.text }).to_string() + "\n";
        let lines: String = self.texts.iter().map(line).collect();
        let mut data: Vec<u8> = floats.collect();
        let embeddings = data.len();
        data.extend(counts);
        let token_counts = data.len();
        data.extend_from_slice(lines.as_bytes());
        // The crate writes metadata in random order.
        let header = json!({
            "__metadata__": self.provenance,
            "embeddings": { "dtype": "F32", "shape": [rows, self.dimension], "data_offsets": [0, embeddings] },
            "token_counts": { "dtype": "I64", "shape": [rows], "data_offsets": [embeddings, token_counts] },
            "texts": { "dtype": "U8", "shape": [lines.len()], "data_offsets": [token_counts, data.len()] },
        });
        let header = header.to_string().into_bytes();
        [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
    }

    /// Reads a reference set from a file.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn read(path: &Path) -> Result<Self, ReferenceError> {
        let bytes = read_bounded(path, MAX_FILE_BYTES);
        let bytes = bytes.map_err(|source| ReferenceError::Io { path: path.to_owned(), source })?;
        Self::parse(&bytes, path)
    }

    /// Parses the bytes of a file; `path` is used in error messages.
    ///
    /// # Errors
    /// [`ReferenceError::Malformed`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ReferenceError> {
        Self::decode(bytes).map_err(|reason| ReferenceError::Malformed { path: path.to_owned(), reason })
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let provenance: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let max_tokens = provenance.get(MAX_TOKENS).and_then(|text| text.parse().ok());
        let max_tokens = max_tokens.ok_or("its metadata has no valid `max_seq_length`")?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;

        let embeddings = tensor(&file, "embeddings", Dtype::F32, 2)?;
        let counts = tensor(&file, "token_counts", Dtype::I64, 1)?;
        let lines = tensor(&file, "texts", Dtype::U8, 1)?;
        let &[rows, dimension] = embeddings.shape() else { return Err("`embeddings` is not a matrix".to_owned()) };
        if rows == 0 || dimension == 0 {
            return Err("it is empty".to_owned());
        }
        let lines = std::str::from_utf8(lines.data()).map_err(|error| format!("`texts`: {error}"))?;
        let lines: Vec<Line> = lines
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|error| format!("`texts`: {error}")))
            .collect::<Result<_, _>>()?;
        if lines.len() != rows || counts.shape() != [rows] {
            return Err(format!(
                "it has {rows} embeddings, but {} texts and token counts of shape {:?}",
                lines.len(),
                counts.shape()
            ));
        }
        let embeddings = embeddings.data().chunks_exact(size_of::<f32>() * dimension).map(floats);
        let counts = counts.data().as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes));
        let texts = lines
            .into_iter()
            .zip(embeddings.zip(counts))
            .map(|(line, (embedding, count))| {
                let token_count = u32::try_from(count).map_err(|_| format!("{count} is not a valid token count"))?;
                if embedding.iter().any(|value| !value.is_finite()) {
                    return Err(format!("the embedding of {} has a component that is not finite", line.id));
                }
                Ok(ReferenceText { id: line.id, text: line.text, embedding, token_count })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { texts, dimension, max_tokens, provenance })
    }
}

fn tensor<'f>(
    file: &SafeTensors<'f>,
    name: &str,
    dtype: Dtype,
    dimensions: usize,
) -> Result<safetensors::tensor::TensorView<'f>, String> {
    let view = file.tensor(name).map_err(|_| format!("it has no tensor `{name}`"))?;
    if view.dtype() != dtype || view.shape().len() != dimensions {
        return Err(format!(
            "`{name}` is {:?} {:?}, but must be {dtype:?} with {dimensions} dimensions",
            view.dtype(),
            view.shape()
        ));
    }
    Ok(view)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mpnet() -> &'static [u8] {
        built_in("78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658").expect("a built-in set")
    }

    #[test]
    fn the_built_in_set_is_complete_and_normalized() {
        let set = ReferenceSet::parse(mpnet(), Path::new("built-in")).expect("a set");
        assert_eq!((set.texts.len(), set.dimension, set.max_tokens), (253, 768, 384));
        assert_eq!(set.provenance["model"], "sentence-transformers/all-mpnet-base-v2");
        for text in &set.texts {
            let norm: f64 = text.embedding.iter().map(|&value| f64::from(value).powi(2)).sum();
            assert!((norm.sqrt() - 1.0).abs() < 1e-5, "{}", text.id);
        }
    }

    #[test]
    fn a_set_of_a_float32_model_is_read_back() {
        let text = |id: &str, embedding: [f32; 2]| ReferenceText {
            id: id.to_owned(),
            text: format!("{id} \"quoted\"\n\u{2028}"),
            embedding: embedding.to_vec(),
            token_count: 7,
        };
        let set = ReferenceSet::of_float32("org/model", vec![text("a", [0.6, 0.8]), text("b", [1.0, 0.0])], 12);
        let back = ReferenceSet::parse(&set.to_bytes(), Path::new("own")).expect("a set");
        assert_eq!(back, set);
        assert_eq!(back.kind(), ReferenceKind::Float32);
        assert_eq!(ReferenceSet::parse(mpnet(), Path::new("built-in")).expect("a set").kind(), ReferenceKind::PyTorch);
        assert_eq!(built_in_texts().expect("texts").len(), 253);
    }

    #[test]
    fn a_truncated_set_is_rejected() {
        let whole = mpnet();
        for length in (0..whole.len()).step_by(whole.len() / 50) {
            let error = ReferenceSet::parse(&whole[..length], Path::new("cut")).expect_err("truncated").to_string();
            assert!(error.contains("cut is not a reference set"), "{error}");
        }
    }
}
