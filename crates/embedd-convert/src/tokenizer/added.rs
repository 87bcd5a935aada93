//! The added tokens of a tokenizer, with their ids.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::special::{AddedToken, SpecialTokens};
use super::vocabulary::Ids;

/// Added tokens by id.
pub(super) struct Added {
    tokens: BTreeMap<u32, AddedToken>,
    ids: HashMap<String, u32>,
    /// Tokens with new ids that only a name such as `mask_token` refers to. If the model has no embedding for them, texts
    /// that contain them fail in Python.
    optional: HashSet<u32>,
}

/// An element of `added_tokens`.
#[derive(Serialize)]
struct Entry<'t> {
    id: u32,
    #[serde(flatten)]
    token: &'t AddedToken,
}

impl Added {
    /// Adds tokens to the `existing` ones. Tokens outside the vocabulary get the next ids.
    pub(super) fn of(special: &SpecialTokens, vocabulary: &Ids<'_>, existing: BTreeMap<u32, AddedToken>) -> Self {
        let mut next = existing.last_key_value().map_or(0, |(id, _)| id.saturating_add(1)).max(vocabulary.end);
        let ids = existing.iter().map(|(id, token)| (token.content.clone(), *id)).collect();
        let mut added = Self { tokens: existing, ids, optional: HashSet::new() };
        let unnamed = special.unnamed();
        for token in special.tokens() {
            if token.content.is_empty() {
                continue;
            }
            let known = added.id_of(&token.content).or_else(|| vocabulary.get(&token.content));
            let id = known.unwrap_or(next);
            if known.is_none() {
                next = next.saturating_add(1);
                if !unnamed.contains(token.content.as_str()) {
                    added.optional.insert(id);
                }
            }
            added.ids.insert(token.content.clone(), id);
            added.tokens.insert(id, token);
        }
        added
    }

    pub(super) fn id_of(&self, content: &str) -> Option<u32> {
        self.ids.get(content).copied()
    }

    /// The value of `added_tokens`, without optional tokens beyond the `rows` of the embedding table. All texts have the
    /// tokens in `ends`.
    pub(super) fn entries(&self, rows: Option<u64>, ends: [&str; 2]) -> Value {
        let is_beyond = |id: u32| rows.is_some_and(|rows| u64::from(id) >= rows);
        let is_left_out = |id: u32, token: &AddedToken| {
            self.optional.contains(&id) && is_beyond(id) && !ends.contains(&token.content.as_str())
        };
        let entries = self.tokens.iter().filter(|&(&id, token)| !is_left_out(id, token));
        json!(entries.map(|(&id, token)| Entry { id, token }).collect::<Vec<_>>())
    }
}
