//! The purposes that clients give for their texts (`input_type`), and the prompts that models have for them.

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

/// The prompt for a purpose; one that is unknown is a violation.
pub(crate) fn prompt_for(input_type: String, prompts: &Prompts, violations: &mut Violations) -> PromptChoice {
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
