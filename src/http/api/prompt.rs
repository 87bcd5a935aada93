//! The prompt of a request. OpenAI's models have none; other servers of this API have a field for its name
//! (`prompt_name`) or for the purpose of the texts (`input_type`).

use super::json::Field;
use crate::input_type::prompt_for;
use crate::request::Violations;
use embedd_model::{PromptChoice, Prompts};

const HINT: &str = "send a string";

/// `prompt_name` overrides `input_type`.
pub(in crate::http) fn read(
    prompt_name: Field<'_>,
    input_type: Field<'_>,
    prompts: &Prompts,
    violations: &mut Violations,
) -> PromptChoice {
    let is_named = prompt_name.is_given();
    let name = prompt_name.text("prompt_name", HINT, violations);
    let input_type = input_type.text("input_type", HINT, violations);
    match input_type {
        Some(input_type) if !is_named => prompt_for(input_type, prompts, violations),
        _ => PromptChoice::of(name),
    }
}

#[cfg(test)]
mod tests;
