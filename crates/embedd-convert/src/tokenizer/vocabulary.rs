//! What a tokenizer class takes from a file.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::special::AddedToken;
use crate::source::SourceError;

/// The number of characters of a line that errors quote.
const MAX_QUOTED: usize = 40;

/// What a class takes from `tokenizer.json` or from an older file.
pub(super) struct Vocabulary {
    /// An object of tokens and ids, or a list of tokens and scores.
    pub(super) tokens: Value,
    /// The merges of BPE.
    pub(super) merges: Value,
    /// The character map of SentencePiece in base64.
    pub(super) character_map: Option<String>,
    /// The special and user-defined tokens of a SentencePiece model.
    pub(super) marked: Option<Vec<AddedToken>>,
    /// The index of a SentencePiece model's unknown token.
    pub(super) unknown: Option<usize>,
}

impl Vocabulary {
    /// Takes the vocabulary out of the contents of `tokenizer.json`.
    pub(super) fn take(file: &mut Value) -> Self {
        let tokens = file["model"]["vocab"].take();
        let merges = file["model"]["merges"].take();
        let normalizer = &file["normalizer"];
        let parts = normalizer["normalizers"].as_array();
        let parts = parts.map_or(std::slice::from_ref(normalizer), Vec::as_slice);
        let character_map = parts.iter().find_map(|part| part["precompiled_charsmap"].as_str());
        Self { tokens, merges, character_map: character_map.map(str::to_owned), marked: None, unknown: None }
    }

    /// The contents of `vocab.txt`, which has each token in the line of its id.
    pub(super) fn of_words(contents: &[u8], path: &Path) -> Result<Self, SourceError> {
        let text = utf8(contents, path)?;
        // As in Python, the last of several equal lines counts.
        let tokens = text.lines().zip(0_u32..).map(|(token, id)| (token.trim_end().to_owned(), Value::from(id)));
        let tokens = Value::Object(tokens.collect::<Map<_, _>>());
        Ok(Self { tokens, merges: Value::Null, character_map: None, marked: None, unknown: None })
    }

    /// The contents of `vocab.json`, an object of tokens and ids, and of `merges.txt`, each with its path.
    pub(super) fn of_merges(tokens: (&[u8], &Path), merges: (&[u8], &Path)) -> Result<Self, SourceError> {
        let (tokens, path) = tokens;
        let tokens: Map<String, Value> =
            serde_json::from_slice(tokens).map_err(|source| SourceError::Json { path: path.to_owned(), source })?;
        let (merges, path) = merges;
        let lines = utf8(merges, path)?.lines().zip(1_u32..).filter(|(line, _)| !line.starts_with("#version"));
        let merges = lines.map(|(line, number)| match line.split(' ').count() {
            2 => Ok(Value::from(line)),
            _ => Err(SourceError::Value {
                path: path.to_owned(),
                field: format!("line {number}"),
                value: format!("{:?}", line.chars().take(MAX_QUOTED).collect::<String>()),
                expected: "it must be two tokens with a space between them".to_owned(),
            }),
        });
        let merges = Value::Array(merges.collect::<Result<_, _>>()?);
        Ok(Self { tokens: tokens.into(), merges, character_map: None, marked: None, unknown: None })
    }
}

fn utf8<'c>(contents: &'c [u8], path: &Path) -> Result<&'c str, SourceError> {
    str::from_utf8(contents).map_err(|error| SourceError::Value {
        path: path.to_owned(),
        field: "the encoding".to_owned(),
        value: format!("not UTF-8 ({error})"),
        expected: "it must be UTF-8".to_owned(),
    })
}

/// The ids of a vocabulary, by token.
pub(super) struct Ids<'v> {
    ids: HashMap<&'v str, u32>,
    /// The id of the first token that is added.
    pub(super) end: u32,
}

impl<'v> Ids<'v> {
    /// The ids of `model.vocab`.
    pub(super) fn of(tokens: &'v Value) -> Self {
        let ids: HashMap<&str, u32> = match tokens {
            Value::Object(tokens) => {
                let ids = tokens.iter().filter_map(|(token, id)| Some((token.as_str(), id.as_u64()?)));
                ids.filter_map(|(token, id)| Some((token, u32::try_from(id).ok()?))).collect()
            }
            // Pairs of a token and its score.
            Value::Array(tokens) => {
                tokens.iter().zip(0..).filter_map(|(pair, id)| Some((pair[0].as_str()?, id))).collect()
            }
            _ => HashMap::new(),
        };
        let end = tokens.as_array().map_or(ids.len(), Vec::len) as u32;
        Self { ids, end }
    }

    pub(super) fn get(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }
}
