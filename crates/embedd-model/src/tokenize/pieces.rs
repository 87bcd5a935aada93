//! Long texts are tokenized piece by piece: it takes less memory, can stop as soon as enough tokens are known, and can be
//! interrupted. A text is cut only where that provably changes no token.
//!
//! That is known for tokenizers with BERT's normalizer and pre-tokenizer, before two kinds of characters:
//!
//! * ASCII white space and ASCII punctuation that is not part of an added token (such as `<mask>`). The pre-tokenizer
//!   splits there, and tokenizes the parts independently. The normalizer works on single characters except for canonical
//!   reordering (NFD), which never crosses an ASCII character. No added token can extend across the character, whether it
//!   is matched before or after normalization.
//! * Common Chinese characters, which the normalizer surrounds with spaces, for the same reasons.

use std::borrow::Cow;
use std::ops::Range;

use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::{NormalizedString, Normalizer as _, PreTokenizerWrapper, Tokenizer};

/// The size that pieces have if there are enough places to cut: an encoding of it takes about a millisecond and a
/// megabyte.
const PIECE_BYTES: usize = 4096;

/// Where a text may be cut.
#[derive(Debug, Clone)]
pub(super) struct Cuts {
    /// The ASCII characters before which a cut is allowed.
    ascii: [bool; 128],
    /// Whether a cut is allowed before common Chinese characters.
    chinese: bool,
}

/// The contents of all added tokens, as they are written and normalized.
pub(super) fn added_tokens(tokenizer: &Tokenizer) -> Option<Vec<String>> {
    let mut contents = Vec::new();
    for token in tokenizer.get_added_tokens_decoder().into_values() {
        // The neighbors of these decide whether they match.
        if token.single_word {
            return None;
        }
        let mut normalized = NormalizedString::from(token.content.as_str());
        if let Some(normalizer) = tokenizer.get_normalizer() {
            normalizer.normalize(&mut normalized).ok()?;
        }
        contents.push(normalized.get().to_owned());
        contents.push(token.content);
    }
    Some(contents)
}

/// The normalizer, if it and the pre-tokenizer are BERT's.
pub(super) fn bert(tokenizer: &Tokenizer) -> Option<BertNormalizer> {
    let Some(PreTokenizerWrapper::BertPreTokenizer(_)) = tokenizer.get_pre_tokenizer() else { return None };
    match tokenizer.get_normalizer()? {
        NormalizerWrapper::BertNormalizer(normalizer) => Some(*normalizer),
        // sentence-transformers puts this in front of BERT's normalizer. It works on single characters as well, and in
        // ASCII texts it has the same effect as a part of BERT's normalizer.
        NormalizerWrapper::Sequence(parts) => match parts.as_ref() {
            [NormalizerWrapper::Lowercase(_), NormalizerWrapper::BertNormalizer(normalizer)] => {
                let mut lowercasing = *normalizer;
                lowercasing.lowercase = true;
                Some(lowercasing)
            }
            _ => None,
        },
        _ => None,
    }
}

impl Cuts {
    /// `None` if nothing is known about the tokenizer.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let normalizer = bert(tokenizer)?;
        let added = added_tokens(tokenizer)?.concat();
        if added.contains(char::is_whitespace) {
            return None;
        }
        let is_cut = |byte: u8| {
            let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            is_space || (byte.is_ascii_punctuation() && !added.contains(char::from(byte)))
        };
        Some(Self {
            ascii: std::array::from_fn(|byte| is_cut(byte as u8)),
            chinese: normalizer.handle_chinese_chars && !added.contains(is_common_chinese),
        })
    }

    fn is_cut(&self, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        match bytes[at] {
            ascii @ 0..128 => self.ascii[usize::from(ascii)],
            // The first byte of these characters.
            0xe4..=0xe9 if self.chinese => text[at..].chars().next().is_some_and(is_common_chinese),
            _ => false,
        }
    }
}

/// They are not decomposed by NFD.
fn is_common_chinese(character: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&character)
}

/// The pieces of a text, from either end.
#[derive(Debug)]
pub(super) struct Pieces<'t> {
    text: Cow<'t, str>,
    /// `None`: the text must not be cut.
    cuts: Option<&'t Cuts>,
    rest: Range<usize>,
}

impl<'t> Pieces<'t> {
    pub(super) fn new(text: Cow<'t, str>, cuts: Option<&'t Cuts>) -> Self {
        Self { rest: 0..text.len(), text, cuts }
    }

    /// The first of the remaining pieces.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        let Range { start, end } = self.rest.clone();
        if start == end {
            return None;
        }
        let cut = |at: &usize| self.cuts.is_some_and(|cuts| cuts.is_cut(&self.text, *at));
        let near = start + PIECE_BYTES;
        let at = match near < end {
            true => (start + 1..=near).rev().find(cut).or_else(|| (near + 1..end).find(cut)).unwrap_or(end),
            false => end,
        };
        self.rest.start = at;
        Some(start..at)
    }

    /// The last of the remaining pieces.
    pub(super) fn next_back(&mut self) -> Option<Range<usize>> {
        let Range { start, end } = self.rest.clone();
        if start == end {
            return None;
        }
        let cut = |at: &usize| self.cuts.is_some_and(|cuts| cuts.is_cut(&self.text, *at));
        let near = end.saturating_sub(PIECE_BYTES);
        let at = match near > start {
            true => (near..end).find(cut).or_else(|| (start + 1..near).rev().find(cut)).unwrap_or(start),
            false => start,
        };
        self.rest.end = at;
        Some(at..end)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}
