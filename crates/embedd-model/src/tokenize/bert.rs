//! Encodes texts with the pipeline of BERT: its normalizer, its pre-tokenizer, and WordPiece.

use tokenizers::normalizers::BertNormalizer;
use tokenizers::{
    Encoding, Model as _, ModelWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, Token,
    Tokenizer,
};

use super::pieces;
use super::wordpiece::{NoUnknownToken, Words};

#[derive(Debug)]
pub(super) struct Bert {
    words: Words,
    ascii: Option<Ascii>,
}

/// The rules for ASCII texts, which need no tables and no copies.
#[derive(Debug)]
struct Ascii {
    lowercase: bool,
    /// The first characters of added tokens; texts that contain one of them are not handled here.
    added: [bool; 128],
}

impl Bert {
    /// `None` if the tokenizer is a different one.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let normalizer = pieces::bert(tokenizer)?;
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return None };
        Some(Self { words: Words::new(model), ascii: Ascii::of(tokenizer, &normalizer) })
    }

    /// Adds the ids of a text, without special tokens.
    pub(super) fn ids(&self, tokenizer: &Tokenizer, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        if let Some(ascii) = self.ascii.as_ref().filter(|ascii| ascii.handles(text)) {
            return Ok(ascii.ids(&self.words, text, ids)?);
        }
        let split = pre_tokenize(tokenizer, text)?;
        for (word, _, added) in split.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match added {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => self.words.split(word, ids, |id, _| id)?,
            }
        }
        Ok(())
    }

    /// The tokens of a text with their places, without special tokens.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Encoding> {
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return Err("no WordPiece".into()) };
        let mut split = pre_tokenize(tokenizer, text)?;
        split.tokenize(|word| {
            let mut tokens = Vec::new();
            self.words.split(word.get(), &mut tokens, |id, bytes| {
                Token::new(id, model.id_to_token(id).unwrap_or_default(), (bytes.start, bytes.end))
            })?;
            Ok(tokens)
        })?;
        tokenizer.post_process(split.into_encoding(None, 0, OffsetType::Byte)?, None, false)
    }
}

/// The words and the added tokens of a text.
fn pre_tokenize(tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<PreTokenizedString> {
    let mut split = tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut split)?;
    }
    Ok(split)
}

impl Ascii {
    /// `None` if the normalizer keeps control characters, or if the added tokens have special rules.
    fn of(tokenizer: &Tokenizer, normalizer: &BertNormalizer) -> Option<Self> {
        let firsts: Vec<u8> =
            pieces::added_tokens(tokenizer)?.iter().filter_map(|content| content.bytes().next()).collect();
        normalizer.clean_text.then(|| Self {
            lowercase: normalizer.lowercase,
            added: std::array::from_fn(|byte| firsts.contains(&(byte as u8))),
        })
    }

    fn handles(&self, text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii() && !self.added[usize::from(byte)])
    }

    fn ids(&self, words: &Words, text: &str, ids: &mut Vec<u32>) -> Result<(), NoUnknownToken> {
        let mut word = String::new();
        for byte in text.bytes() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => end(words, &mut word, ids)?,
                // Removed as if it were not there.
                control if control.is_ascii_control() => {}
                punctuation if punctuation.is_ascii_punctuation() => {
                    end(words, &mut word, ids)?;
                    word.push(char::from(punctuation));
                    end(words, &mut word, ids)?;
                }
                letter if self.lowercase => word.push(char::from(letter.to_ascii_lowercase())),
                letter => word.push(char::from(letter)),
            }
        }
        end(words, &mut word, ids)
    }
}

/// Adds the ids of a word, if there is one, and empties it.
fn end(words: &Words, word: &mut String, ids: &mut Vec<u32>) -> Result<(), NoUnknownToken> {
    if !word.is_empty() {
        words.split(word, ids, |id, _| id)?;
        word.clear();
    }
    Ok(())
}
