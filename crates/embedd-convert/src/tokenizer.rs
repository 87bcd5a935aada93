//! Produces the bundle's `tokenizer.json`: the tokenizer that transformers 5 makes of a folder.
//!
//! Many of its classes take little more than the vocabulary from `tokenizer.json`. They build the normalizer, the
//! pre-tokenizer and the template from `tokenizer_config.json`, which may contradict `tokenizer.json`. Folders without
//! `tokenizer.json` have their vocabulary in the files of older versions, such as `vocab.txt` or a SentencePiece model.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::source::{SourceError, TOKENIZER_CONFIG_FILE, read_optional_json};
use embedd_common::files::read_bounded;
use embedd_model::bundle::TOKENIZER_FILE;

mod added;
mod class;
mod pipeline;
mod sentencepiece;
mod special;
mod vocabulary;

use added::Added;
use class::{Class, OlderFiles};
use special::SpecialTokens;
use vocabulary::{Ids, Vocabulary};

/// The vocabulary of WordPiece, one token per line.
const WORDS_FILE: &str = "vocab.txt";
/// The vocabulary of BPE.
const BPE_FILE: &str = "vocab.json";
/// The merges of BPE, one pair of tokens per line.
const MERGES_FILE: &str = "merges.txt";
/// The vocabulary of Unigram.
const SENTENCE_PIECE_FILE: &str = "sentencepiece.bpe.model";
/// The vocabulary of DeBERTa, which is a SentencePiece model, too.
const DEBERTA_FILE: &str = "spm.model";
/// Special tokens, as written by transformers before version 5.
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
/// Ids of tokens outside the vocabulary, as written by tokenizers without `tokenizer.json`.
const ADDED_TOKENS_FILE: &str = "added_tokens.json";

/// The largest known tokenizers, with 250,000 tokens, have 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// The largest known files have 5 MB.
const MAX_VOCABULARY_BYTES: u64 = 16 << 20;

/// The settings of a folder's tokenizer.
struct Settings {
    folder: PathBuf,
    class: Class,
    /// The contents of `tokenizer_config.json`.
    config: Map<String, Value>,
    /// The number of rows of the embedding table, from `config.json`.
    rows: Option<u64>,
    /// Whether sentence-transformers lowercases texts.
    lowercase: bool,
}

/// The contents of the bundle's `tokenizer.json`: those of the folder's file, unless Python uses another tokenizer.
///
/// `lowercase` is `do_lower_case` of `sentence_bert_config.json`.
///
/// # Errors
/// [`SourceError`], with the file and the field.
pub(crate) fn read(folder: &Path, lowercase: bool) -> Result<Vec<u8>, SourceError> {
    let settings = Settings::read(folder, lowercase)?;
    let path = settings.path(TOKENIZER_FILE);
    match read_optional(&path, MAX_TOKENIZER_BYTES)? {
        Some(contents) => {
            let file: Map<String, Value> =
                serde_json::from_slice(&contents).map_err(|source| SourceError::Json { path, source })?;
            settings.resolve(contents, file.into())
        }
        None => settings.build(),
    }
}

/// The files that the tokenizer depends on, apart from the configuration files. Some of them may be missing.
pub(crate) fn files(folder: &Path) -> &'static [&'static str] {
    match folder.join(TOKENIZER_FILE).exists() {
        // Many folders also have a `vocab.txt`, which is ignored.
        true => &[TOKENIZER_FILE, ADDED_TOKENS_FILE],
        false => &[WORDS_FILE, BPE_FILE, MERGES_FILE, SENTENCE_PIECE_FILE, DEBERTA_FILE, ADDED_TOKENS_FILE],
    }
}

impl Settings {
    fn read(folder: &Path, lowercase: bool) -> Result<Self, SourceError> {
        let config: Map<String, Value> = read_optional_json(&folder.join(TOKENIZER_CONFIG_FILE))?.unwrap_or_default();
        let model: Map<String, Value> = read_optional_json(&folder.join("config.json"))?.unwrap_or_default();
        let rows = model.get("vocab_size").and_then(Value::as_u64);
        Ok(Self { folder: folder.to_owned(), class: Class::of(&config, &model), config, rows, lowercase })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A setting that is true or false.
    fn flag(&self, field: &str, default: bool) -> bool {
        self.config.get(field).map_or(default, |value| value == true)
    }

    /// The tokenizer that Python makes of `tokenizer.json`.
    fn resolve(&self, contents: Vec<u8>, file: Value) -> Result<Vec<u8>, SourceError> {
        self.reject_left_truncation(file["truncation"]["direction"].as_str())?;
        let before = without_vocabulary(&file);
        let after = self.finish(self.load(file)?);
        Ok(if without_vocabulary(&after) == before { contents } else { to_bytes(&after) })
    }

    fn load(&self, mut file: Value) -> Result<Value, SourceError> {
        let special = || SpecialTokens::read(&self.folder, &self.config, Some(&file));
        match self.class {
            Class::Unknown => Ok(file),
            Class::Generic => {
                let special = special()?;
                self.extend(file, &special)
            }
            class if class.model() == file["model"]["type"].as_str() => {
                let special = special()?;
                Ok(self.rebuild(Vocabulary::take(&mut file), special))
            }
            // Rebuilt around another kind of model, it would not be the tokenizer that the model was trained with.
            _ => Ok(file),
        }
    }

    /// sentence-transformers lets the tokenizer lowercase texts, after it has found the special tokens.
    fn finish(&self, mut file: Value) -> Value {
        let lowercase = json!({ "type": "Lowercase" });
        let normalizer = &file["normalizer"];
        let parts = match normalizer {
            Value::Null => &[],
            _ => normalizer["normalizers"].as_array().map_or(std::slice::from_ref(normalizer), Vec::as_slice),
        };
        if self.lowercase && !parts.contains(&lowercase) {
            let parts: Vec<&Value> = [&lowercase].into_iter().chain(parts).collect();
            file["normalizer"] = json!({ "type": "Sequence", "normalizers": parts });
        }
        file
    }

    /// Adds the tokens of other files to a `tokenizer.json` that is used as it is.
    fn extend(&self, mut file: Value, special: &SpecialTokens) -> Result<Value, SourceError> {
        let invalid = |source| SourceError::Json { path: self.path(TOKENIZER_FILE), source };
        let existing = special::of_tokenizer(Some(&file)).map_err(invalid)?;
        let added = Added::of(special, &Ids::of(&file["model"]["vocab"]), existing);
        file["added_tokens"] = added.entries(self.rows, [""; 2]);
        Ok(file)
    }

    /// The tokenizer that Python makes of the files that older versions wrote.
    fn build(&self) -> Result<Vec<u8>, SourceError> {
        self.reject_left_truncation(None)?;
        let files = self.class.older_files().ok_or_else(|| self.missing("a folder without this file"))?;
        let special = SpecialTokens::read(&self.folder, &self.config, None)?;
        let vocabulary = match files {
            OlderFiles::Words => {
                let [words] = self.read_all([WORDS_FILE])?;
                Vocabulary::of_words(&words, &self.path(WORDS_FILE))?
            }
            OlderFiles::Merges => {
                let [tokens, merges] = self.read_all([BPE_FILE, MERGES_FILE])?;
                Vocabulary::of_merges((&tokens, &self.path(BPE_FILE)), (&merges, &self.path(MERGES_FILE)))?
            }
            OlderFiles::SentencePiece(file) => {
                let [model] = self.read_all([file])?;
                let named = |name: &str| special.named_or_default(name, self.class);
                sentencepiece::vocabulary(&model, &self.path(file), self.class, named)?
            }
        };
        Ok(to_bytes(&self.finish(self.rebuild(vocabulary, special))))
    }

    /// The contents of the files, all of which must exist.
    fn read_all<const N: usize>(&self, files: [&str; N]) -> Result<[Vec<u8>; N], SourceError> {
        let mut all = [const { Vec::new() }; N];
        for (contents, file) in all.iter_mut().zip(files) {
            let what = || format!("a folder with neither this file nor {}", files.join(" and "));
            let found = read_optional(&self.path(file), MAX_VOCABULARY_BYTES)?;
            *contents = found.ok_or_else(|| self.missing(&what()))?;
        }
        Ok(all)
    }

    fn missing(&self, what: &str) -> SourceError {
        unsupported(&self.path(TOKENIZER_FILE), what, "save the tokenizer with transformers, which writes the file")
    }

    /// The server truncates at the end unless a request asks for the start.
    fn reject_left_truncation(&self, of_file: Option<&str>) -> Result<(), SourceError> {
        let configured = self.config.get("truncation_side").and_then(Value::as_str);
        let (file, side) = match configured {
            Some(side) => (TOKENIZER_CONFIG_FILE, side),
            None => (TOKENIZER_FILE, of_file.unwrap_or_default()),
        };
        if !side.eq_ignore_ascii_case("left") {
            return Ok(());
        }
        let instead = "remove it and request truncation at the start in each call";
        Err(unsupported(&self.path(file), "truncation on the left side", instead))
    }
}

/// All parts but the vocabulary that affect the tokens of a text.
fn without_vocabulary(file: &Value) -> [Value; 5] {
    let model = file["model"].as_object().into_iter().flatten();
    let model = model.filter(|(field, _)| !matches!(field.as_str(), "vocab" | "merges"));
    let model: Map<String, Value> = model.map(|(field, value)| (field.clone(), value.clone())).collect();
    let part = |field: &str| file[field].clone();
    [part("added_tokens"), part("normalizer"), part("pre_tokenizer"), part("post_processor"), model.into()]
}

fn to_bytes(file: &Value) -> Vec<u8> {
    file.to_string().into_bytes()
}

fn read_optional(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, SourceError> {
    match read_bounded(path, max_bytes) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SourceError::Io { path: path.to_owned(), source }),
    }
}

fn unsupported(path: &Path, what: &str, instead: &str) -> SourceError {
    SourceError::Unsupported { path: path.to_owned(), what: what.to_owned(), instead: instead.to_owned() }
}

#[cfg(test)]
mod tests;
