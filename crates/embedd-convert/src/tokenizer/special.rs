//! Special and added tokens, which several files of a folder list.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::class::{Class, NAMES};
use super::{ADDED_TOKENS_FILE, SPECIAL_TOKENS_FILE};
use crate::source::{SourceError, TOKENIZER_CONFIG_FILE, read_optional_json};
use embedd_model::bundle::TOKENIZER_FILE;

/// A token that is found in texts before they are split into words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct AddedToken {
    pub(super) content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// An added token as files contain it.
#[derive(Deserialize)]
struct Listed {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

/// The special and added tokens of a folder, as transformers resolves them.
pub(super) struct SpecialTokens {
    /// Tokens that are listed with their ids, in the order of the ids.
    listed: Vec<AddedToken>,
    /// Tokens with a name, such as `cls_token`; `None` if the name has no token.
    named: Vec<(String, Option<AddedToken>)>,
    /// Special tokens without a name.
    further: Option<Vec<AddedToken>>,
}

impl AddedToken {
    pub(super) fn special(content: &str) -> Self {
        Self::of(content, true)
    }

    /// A token of SentencePiece, which is looked up in the original text.
    pub(super) fn of_sentence_piece(content: &str, special: bool) -> Self {
        Self { normalized: false, ..Self::of(content, special) }
    }

    fn of(content: &str, special: bool) -> Self {
        let content = content.to_owned();
        Self { content, single_word: false, lstrip: false, rstrip: false, normalized: !special, special }
    }
}

impl From<Listed> for AddedToken {
    fn from(listed: Listed) -> Self {
        let Listed { content, single_word, lstrip, rstrip, normalized, special, .. } = listed;
        Self { content, single_word, lstrip, rstrip, normalized: normalized.unwrap_or(!special), special }
    }
}

impl SpecialTokens {
    /// Reads the tokens of a folder; `tokenizer` is its `tokenizer.json`.
    ///
    /// `added_tokens_decoder` in `tokenizer_config.json` replaces all other lists.
    pub(super) fn read(
        folder: &Path,
        config: &Map<String, Value>,
        tokenizer: Option<&Value>,
    ) -> Result<Self, SourceError> {
        let invalid = |file: &str| {
            let path = folder.join(file);
            move |source| SourceError::Json { path, source }
        };
        let mut values = config.clone();
        let decoder = values.remove("added_tokens_decoder").filter(Value::is_object);
        let listed = match decoder {
            Some(decoder) => {
                let listed: BTreeMap<u32, Listed> =
                    serde_json::from_value(decoder).map_err(invalid(TOKENIZER_CONFIG_FILE))?;
                listed.into_iter().map(|(id, listed)| (id, listed.into())).collect()
            }
            None => {
                merge(&mut values, read_optional_json(&folder.join(SPECIAL_TOKENS_FILE))?.unwrap_or_default());
                let ids = read_optional_json(&folder.join(ADDED_TOKENS_FILE))?.unwrap_or_default();
                let mut listed = of_ids(ids, &values);
                listed.extend(of_tokenizer(tokenizer).map_err(invalid(TOKENIZER_FILE))?);
                listed
            }
        };
        Ok(Self::of(listed, &values))
    }

    fn of(listed: BTreeMap<u32, AddedToken>, values: &Map<String, Value>) -> Self {
        let listed: Vec<AddedToken> = listed.into_values().collect();
        let resolve = |value: &Value| {
            let token = token(value)?;
            Some(listed.iter().find(|listed| listed.content == token.content).cloned().unwrap_or(token))
        };
        let usual = NAMES.iter().filter_map(|name| Some((*name, values.get(*name)?)));
        let usual = usual.map(|(name, value)| (name.to_owned(), resolve(value)));
        let of_model = values.iter().filter(|(name, _)| name.ends_with("_token") && !NAMES.contains(&name.as_str()));
        let further = further(values);
        let of_further = further.and_then(Value::as_object).into_iter().flatten();
        let own = of_model.chain(of_further).filter_map(|(name, value)| Some((name.clone(), Some(token(value)?))));
        let named = usual.chain(own).collect();
        let further = further.and_then(Value::as_array).map(|tokens| tokens.iter().filter_map(token).collect());
        Self { listed, named, further }
    }

    /// Adds the special tokens that a class has by default; `marked` are those of a SentencePiece model.
    pub(super) fn with_defaults(mut self, class: Class, marked: Option<Vec<AddedToken>>) -> Self {
        for (name, content) in NAMES.into_iter().zip(class.special_tokens()) {
            let Some(content) = content.filter(|_| self.named.iter().all(|(known, _)| known != name)) else { continue };
            self.named.push((name.to_owned(), Some(AddedToken::special(content))));
        }
        let order = |name: &str| NAMES.iter().position(|usual| *usual == name).unwrap_or(NAMES.len());
        self.named.sort_by_key(|(name, _)| order(name));
        let default = || class.further_tokens().iter().map(|content| AddedToken::special(content)).collect();
        self.further = self.further.or(marked).or_else(|| Some(default()));
        let mask = self.named.iter_mut().find(|(name, _)| name == "mask_token").and_then(|(_, mask)| mask.as_mut());
        if let Some(mask) =
            mask.filter(|mask| class.strips_before_mask() && **mask == AddedToken::special(&mask.content))
        {
            mask.lstrip = true;
        }
        self
    }

    /// The content of a named token.
    fn named(&self, name: &str) -> Option<&str> {
        let (_, token) = self.named.iter().find(|(known, _)| known == name)?;
        token.as_ref().map(|token| token.content.as_str())
    }

    /// The content of a named token, or what the class has by default.
    pub(super) fn named_or_default(&self, name: &str, class: Class) -> &str {
        let default = || NAMES.iter().position(|usual| *usual == name).and_then(|at| class.special_tokens()[at]);
        self.named(name).or_else(default).unwrap_or_default()
    }

    /// All tokens, each once, in the order in which those outside the vocabulary get their ids.
    pub(super) fn tokens(&self) -> Vec<AddedToken> {
        let named = || self.named.iter().filter_map(|(_, token)| token.as_ref());
        let names: HashSet<&str> = named().map(|token| token.content.as_str()).collect();
        let all = self.listed.iter().chain(named()).chain(self.further.iter().flatten());
        let mut known = HashSet::new();
        let tokens = all.filter(|token| known.insert(token.content.as_str())).cloned();
        tokens
            .map(|token| AddedToken { special: token.special || names.contains(token.content.as_str()), ..token })
            .collect()
    }

    /// The contents of all tokens that files list by themselves, not only under a name such as `mask_token`.
    pub(super) fn unnamed(&self) -> HashSet<&str> {
        self.listed.iter().chain(self.further.iter().flatten()).map(|token| token.content.as_str()).collect()
    }
}

/// The added tokens in the contents of `tokenizer.json`.
pub(super) fn of_tokenizer(tokenizer: Option<&Value>) -> Result<BTreeMap<u32, AddedToken>, serde_json::Error> {
    #[derive(Deserialize)]
    struct WithId {
        id: u32,
        #[serde(flatten)]
        token: Listed,
    }
    let list = tokenizer.and_then(|tokenizer| tokenizer.get("added_tokens"));
    let list: Option<Vec<WithId>> = list.map(Deserialize::deserialize).transpose()?;
    Ok(list.into_iter().flatten().map(|WithId { id, token }| (id, token.into())).collect())
}

/// A token is its content or an object.
fn token(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(content) => Some(AddedToken::special(content)),
        _ => Listed::deserialize(value).ok().map(AddedToken::from),
    }
}

/// `extra_special_tokens`, or its former name.
fn further(values: &Map<String, Value>) -> Option<&Value> {
    let has_any = |value: &&Value| value.as_array().is_some_and(|tokens| !tokens.is_empty()) || value.is_object();
    let new = values.get("extra_special_tokens");
    new.filter(has_any).or_else(|| values.get("additional_special_tokens")).or(new)
}

/// Merges `special_tokens_map.json` into the settings.
fn merge(values: &mut Map<String, Value>, map: Map<String, Value>) {
    for (name, mut value) in map {
        if name == "extra_special_tokens" {
            let mut merged = values.get(&name).and_then(Value::as_array).cloned().unwrap_or_default();
            merged.extend(value.as_array().into_iter().flatten().cloned());
            value = merged.into();
        } else if let Some(token) = value.as_object_mut() {
            token.insert("special".to_owned(), true.into());
        }
        values.insert(name, value);
    }
}

/// The tokens of `added_tokens.json`.
fn of_ids(ids: HashMap<String, u32>, values: &Map<String, Value>) -> BTreeMap<u32, AddedToken> {
    let further = further(values).and_then(Value::as_array).into_iter().flatten();
    let special = NAMES.iter().filter_map(|name| values.get(*name)).chain(further).filter_map(token);
    let special: HashSet<String> = special.map(|token| token.content).collect();
    ids.into_iter().map(|(content, id)| (id, AddedToken::of(&content, special.contains(&content)))).collect()
}
