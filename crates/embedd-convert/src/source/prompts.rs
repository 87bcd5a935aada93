//! Reads the prompts of a folder: texts that sentence-transformers puts in front of the texts to embed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{SourceError, read_json, read_optional_json};
use embedd_model::bundle::{MAX_PROMPT_BYTES, MAX_PROMPT_NAME_BYTES, MAX_PROMPTS, is_prompt_name};

/// sentence-transformers adds these prompts to every model. They are empty unless the folder has others.
const ALWAYS: [&str; 2] = ["query", "document"];
/// Names that an error message lists.
const MAX_LISTED: usize = 10;

#[derive(Default, Deserialize)]
struct Config {
    prompts: Option<BTreeMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
}

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default = "include")]
    include_prompt: bool,
}

fn include() -> bool {
    true
}

/// The texts by name, and the name of the default, if there is one.
pub(super) fn read(path: &Path) -> Result<(BTreeMap<String, String>, Option<String>), SourceError> {
    let config: Config = read_optional_json(path)?.unwrap_or_default();
    let prompts = config.prompts.unwrap_or_default();
    let mut prompts: BTreeMap<_, _> =
        prompts.into_iter().map(|(name, text)| (name, text.unwrap_or_default())).collect();
    check(path, &prompts)?;
    if let Some(name) = &config.default_prompt_name
        && !prompts.contains_key(name)
    {
        if !ALWAYS.contains(&name.as_str()) {
            return Err(unknown_default(path, name, &prompts));
        }
        prompts.insert(name.clone(), String::new());
    }
    Ok((prompts, config.default_prompt_name))
}

/// Whether the pooling module ignores the tokens of a prompt.
pub(super) fn excluded_by(pooling: &Path) -> Result<bool, SourceError> {
    let config: PoolingConfig = read_json(pooling)?;
    Ok(!config.include_prompt)
}

fn check(path: &Path, prompts: &BTreeMap<String, String>) -> Result<(), SourceError> {
    let wrong = |field: String, value: String, expected: String| {
        Err(SourceError::Value { path: path.to_owned(), field, value, expected })
    };
    if prompts.len() > MAX_PROMPTS {
        let value = format!("a list of {}", prompts.len());
        return wrong("prompts".to_owned(), value, format!("at most {MAX_PROMPTS} are supported"));
    }
    for (name, text) in prompts {
        if !is_prompt_name(name) {
            let expected = format!("it must have 1 to {MAX_PROMPT_NAME_BYTES} bytes and no control characters");
            return wrong("the name of a prompt".to_owned(), quoted(name), expected);
        }
        if text.len() > MAX_PROMPT_BYTES {
            let value = format!("{} bytes long", text.len());
            return wrong(format!("prompts.{name}"), value, format!("at most {MAX_PROMPT_BYTES} are supported"));
        }
    }
    Ok(())
}

fn unknown_default(path: &Path, name: &str, prompts: &BTreeMap<String, String>) -> SourceError {
    let listed: Vec<_> = prompts.keys().take(MAX_LISTED).map(|name| quoted(name)).collect();
    let expected = match prompts.len() {
        0 => "the file has no prompts".to_owned(),
        count if count > MAX_LISTED => format!("the prompts are {} and {} more", listed.join(", "), count - MAX_LISTED),
        _ => format!("the prompts are {}", listed.join(", ")),
    };
    SourceError::Value { path: path.to_owned(), field: "default_prompt_name".to_owned(), value: quoted(name), expected }
}

/// Names of any length and content.
fn quoted(name: &str) -> String {
    let end = name.floor_char_boundary(MAX_PROMPT_NAME_BYTES);
    let more = if end < name.len() { "..." } else { "" };
    format!("`{}{more}`", name[..end].escape_debug())
}

#[cfg(test)]
mod tests;
