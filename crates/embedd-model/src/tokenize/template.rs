//! The special tokens around every text.

use serde_json::Value;
use tokenizers::{Encoding, Token, Tokenizer};

/// Stands for the tokens of a text. A real text might have no tokens in the vocabulary.
pub(super) const TEXT: u32 = u32::MAX;

/// What the post-processor makes of [`TEXT`].
pub(super) fn around_a_text(tokenizer: &Tokenizer) -> tokenizers::Result<Encoding> {
    let text = Token::new(TEXT, String::new(), (0, 0));
    tokenizer.post_process(Encoding::from_tokens(vec![text], 0), None, true)
}

/// The special tokens before and after every text.
pub(super) fn special_tokens(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let whole = around_a_text(tokenizer).map_err(|error| error.to_string())?;
    match whole.get_ids().split(|id| *id == TEXT).collect::<Vec<_>>()[..] {
        [prefix, suffix] => Ok((prefix.to_vec(), suffix.to_vec())),
        _ => Err("its special tokens do not surround the text".to_owned()),
    }
}

/// Checks the template of a post-processor, or the templates of a sequence of them. The crate `tokenizers` panics on
/// inconsistent ones.
///
/// # Errors
/// What is inconsistent.
pub(super) fn check(post_processor: &Value) -> Result<(), String> {
    post_processor["processors"].as_array().into_iter().flatten().try_for_each(check)?;
    for piece in post_processor["single"].as_array().into_iter().flatten() {
        let name = piece["SpecialToken"]["id"].as_str();
        if let Some(name) = name.filter(|name| post_processor["special_tokens"].get(name).is_none()) {
            return Err(format!("its template has the token `{name}`, which is missing in special_tokens"));
        }
        if piece["Sequence"]["id"] == "B" {
            return Err("its template for a single text has a second text".to_owned());
        }
    }
    Ok(())
}
