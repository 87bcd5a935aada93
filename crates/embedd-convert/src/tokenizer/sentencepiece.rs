//! Reads SentencePiece models.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Value, json};

use super::class::Class;
use super::special::AddedToken;
use super::vocabulary::Vocabulary;
use crate::source::SourceError;

/// The fields of a SentencePiece model that matter here.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    /// The index of the unknown token; 0 if the field is absent.
    #[prost(int32, optional, tag = "40")]
    unknown: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Normalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    character_map: Option<Vec<u8>>,
}

/// Kinds of pieces.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The vocabulary of a SentencePiece model, with the ids of a class. `named` returns the content of a named token.
pub(super) fn vocabulary<'n>(
    contents: &[u8],
    path: &Path,
    class: Class,
    named: impl Fn(&str) -> &'n str,
) -> Result<Vocabulary, SourceError> {
    let invalid = |value: String| SourceError::Value {
        path: path.to_owned(),
        field: "the SentencePiece model".to_owned(),
        value,
        expected: "it must be a complete file with pieces".to_owned(),
    };
    let model = Model::decode(contents).map_err(|error| invalid(format!("invalid ({error})")))?;
    if model.pieces.is_empty() {
        return Err(invalid("empty".to_owned()));
    }
    let map = model.normalizer.as_ref().and_then(|normalizer| normalizer.character_map.as_deref());
    let map = map.filter(|map| !map.is_empty());
    if map.is_some_and(|map| !is_valid(map)) {
        return Err(invalid("damaged (its character map)".to_owned()));
    }
    let unknown = model.trainer.as_ref().and_then(|trainer| trainer.unknown).unwrap_or(0);
    let unknown =
        usize::try_from(unknown).map_err(|_| invalid(format!("without an unknown token (its id is {unknown})")))?;
    Ok(Vocabulary {
        unknown: Some(unknown),
        tokens: model.with_ids_of(class, named),
        merges: Value::Null,
        character_map: map.map(|map| STANDARD.encode(map)),
        marked: Some(model.marked()),
    })
}

impl Model {
    /// Tokens and scores. Most classes have special tokens of their own in place of the model's first ones.
    fn with_ids_of<'n>(&self, class: Class, named: impl Fn(&str) -> &'n str) -> Value {
        let [unknown, padding] = ["unk_token", "pad_token"].map(|name| (named(name), 0.0));
        let (first, replaced) = match class {
            Class::DebertaV2 => (Vec::new(), 0),
            // The model's own token for unknown pieces must never be the best choice.
            Class::Camembert => {
                (vec![("<s>NOTUSED", 0.0), padding, ("</s>NOTUSED", 0.0), unknown, ("<unk>NOTUSED", -100.0)], 1)
            }
            _ => (vec![(named("bos_token"), 0.0), padding, (named("eos_token"), 0.0), unknown], 3),
        };
        let pieces = self.pieces.iter().skip(replaced);
        let pieces = pieces.map(|piece| (piece.piece.as_deref().unwrap_or_default(), piece.score.unwrap_or_default()));
        let mask = (class != Class::DebertaV2).then(|| (named("mask_token"), 0.0));
        let tokens = first.into_iter().chain(pieces).chain(mask);
        tokens.map(|(token, score)| json!([token, f64::from(score)])).collect()
    }

    /// The special and user-defined tokens.
    fn marked(&self) -> Vec<AddedToken> {
        let marked = self.pieces.iter().filter_map(|piece| match piece.kind {
            Some(kind @ (CONTROL | USER_DEFINED)) => Some((piece.piece.as_deref()?, kind == CONTROL)),
            _ => None,
        });
        marked.map(|(piece, special)| AddedToken::of_sentence_piece(piece, special)).collect()
    }
}

/// Whether a character map can be searched for any character. The tokenizer would panic if an index were out of range.
///
/// The map is the length of a double-array trie in bytes, the trie, and texts that end with a zero.
fn is_valid(map: &[u8]) -> bool {
    let Some((length, rest)) = map.split_first_chunk() else { return false };
    let Some((trie, texts)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { return false };
    let Ok(texts) = str::from_utf8(texts) else { return false };
    let (units, remainder) = trie.as_chunks();
    let unit = |index: usize| units.get(index).map(|bytes| u32::from_le_bytes(*bytes));
    let is_whole = !units.is_empty() && units.len().is_multiple_of(256) && remainder.is_empty();
    is_whole
        && (0..units.len()).all(|index| {
            let Some(node) = unit(index) else { return false };
            // A unit of this kind is a place in the texts, and has no children.
            if node >> 31 == 1 {
                return true;
            }
            let children = index ^ (((node >> 10) << ((node & (1 << 9)) >> 6)) as usize);
            // The children of a node are in the same block of 256 units.
            let Some(leaf) = unit(children) else { return false };
            let has_leaf = (node >> 8) & 1 == 1;
            !has_leaf || texts.is_char_boundary((leaf & (u32::MAX >> 1)) as usize)
        })
}
