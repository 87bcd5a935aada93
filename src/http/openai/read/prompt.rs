//! The prompt of a request. OpenAI's models have none; other servers of this API have a field for its name
//! (`prompt_name`) or for the purpose of the texts (`input_type`).

use super::super::json::Value;
use crate::request::{Violations, unknown_prompt};
use embedd_model::{PromptChoice, Prompts};

/// Purposes that clients send for the texts of a search, and the prompts that models have for them. Names of prompts come
/// in the order in which they are tried.
const PURPOSES: [Purpose; 2] = [
    Purpose { input_types: &["query", "search_query"], prompts: &["query"] },
    Purpose {
        input_types: &["document", "passage", "search_document"],
        // As in sentence-transformers' encode_document().
        prompts: &["document", "passage", "corpus"],
    },
];

struct Purpose {
    input_types: &'static [&'static str],
    prompts: &'static [&'static str],
}

/// `prompt_name` overrides `input_type`.
pub(super) fn read(
    prompt_name: Option<Value>,
    input_type: Option<Value>,
    prompts: &Prompts,
    violations: &mut Violations,
) -> PromptChoice {
    let is_named = prompt_name.is_some();
    let name = word("prompt_name", prompt_name, violations);
    let input_type = word("input_type", input_type, violations);
    match input_type {
        Some(input_type) if !is_named => of_input_type(input_type, prompts, violations),
        _ => PromptChoice::of(name),
    }
}

fn word(field: &str, value: Option<Value>, violations: &mut Violations) -> Option<String> {
    match value? {
        Value::Text(word) => return Some(word),
        other => violations.add(field, format!("is {other}; send a string")),
    }
    None
}

fn of_input_type(input_type: String, prompts: &Prompts, violations: &mut Violations) -> PromptChoice {
    if input_type.is_empty() || prompts.contains(&input_type) {
        return PromptChoice::of(Some(input_type));
    }
    let has = |name: &&str| prompts.contains(name);
    if let Some(purpose) = PURPOSES.iter().find(|purpose| purpose.input_types.contains(&input_type.as_str())) {
        if let Some(name) = purpose.prompts.iter().copied().find(|name| has(name)) {
            return PromptChoice::named(name);
        }
        // Many models have a prompt for queries only, or none at all.
        let is_for_search = PURPOSES.iter().flat_map(|purpose| purpose.prompts).any(has);
        if is_for_search || prompts.names().next().is_none() {
            return PromptChoice::None;
        }
    }
    violations.add("input_type", unknown_prompt(&input_type, prompts));
    PromptChoice::Default
}

#[cfg(test)]
mod tests;
