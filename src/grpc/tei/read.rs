//! Validates requests.

use tonic::Status;

use crate::embed::Embedder;
use crate::grpc::calls::unknown_value;
use crate::grpc::status;
use crate::request::{EmbedOptions, EmbedRequest, Limits, TextField, Texts, TruncationChoice, Violations, quoted};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};
use embedd_proto::tei as proto;

/// The field of the text; a request has exactly one.
pub(super) const INPUTS: TextField = TextField::Single("inputs");

pub(super) fn embed(request: proto::EmbedRequest, embedder: &Embedder) -> Result<EmbedRequest, Status> {
    check_embed(request, embedder.limits(), &embedder.model().prompts)
        .map_err(|violations| status::invalid(&violations))
}

/// The text to tokenize.
pub(super) fn tokenize(request: proto::EncodeRequest, embedder: &Embedder) -> Result<Texts, Status> {
    let mut violations = Violations::of(INPUTS);
    check_not_empty(&request.inputs, &mut violations);
    check_no_prompt(request.prompt_name.as_deref(), &mut violations);
    let texts = Texts::check(vec![request.inputs], embedder.limits(), &mut violations);
    texts.filter(|_| violations.is_empty()).ok_or_else(|| status::invalid(&violations))
}

/// Accepts at most as many ids as the longest text can have.
pub(super) fn check_ids(ids: &[u32], embedder: &Embedder) -> Result<(), Status> {
    let max = embedder.limits().max_text_bytes;
    let mut violations = Violations::default();
    if ids.is_empty() || ids.len() > max {
        violations.add("ids", format!("has {} ids; send 1 to {max}", ids.len()));
        return Err(status::invalid(&violations));
    }
    Ok(())
}

fn check_embed(request: proto::EmbedRequest, limits: &Limits, prompts: &Prompts) -> Result<EmbedRequest, Violations> {
    let mut violations = Violations::of(INPUTS);
    check_not_empty(&request.inputs, &mut violations);
    let options = EmbedOptions {
        normalize: request.normalize.unwrap_or(true),
        truncation: TruncationChoice::Requested(truncation(
            request.truncate,
            request.truncation_direction,
            &mut violations,
        )),
        prompt: PromptChoice::of(request.prompt_name),
        dimensions: request.dimensions,
        skip_cache: false,
    };
    let valid = EmbedRequest::check(vec![request.inputs], options, limits, prompts, &mut violations);
    valid.filter(|_| violations.is_empty()).ok_or(violations)
}

fn truncation(truncate: bool, direction: i32, violations: &mut Violations) -> Truncation {
    match proto::TruncationDirection::try_from(direction) {
        Ok(_) if !truncate => Truncation::Reject,
        Ok(proto::TruncationDirection::Right) => Truncation::End,
        Ok(proto::TruncationDirection::Left) => Truncation::Start,
        Err(_) => {
            violations.add("truncation_direction", unknown_value(direction));
            Truncation::Reject
        }
    }
}

/// text-embeddings-inference rejects an empty text, too: it is taken for a missing one.
fn check_not_empty(inputs: &str, violations: &mut Violations) {
    if inputs.is_empty() {
        violations.add(INPUTS.all(), "is empty; send a text");
    }
}

fn check_no_prompt(name: Option<&str>, violations: &mut Violations) {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let problem = format!("is {}; texts are tokenized without a prompt, so leave it unset", quoted(name));
        violations.add("prompt_name", problem);
    }
}

#[cfg(test)]
mod tests;
