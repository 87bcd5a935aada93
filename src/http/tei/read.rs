//! Validates requests.

use serde::Deserialize;
use utoipa::ToSchema;

use super::super::api::json::{self, Field, Kind};
use super::super::api::refusal::Refusal;
use super::super::api::valid;
use super::super::docs::Inputs;
use crate::embed::ModelInfo;
use crate::request::{
    EmbedOptions, EmbedRequest as Request, Input, Limits, TextField, Texts, TruncationChoice, Violations,
};
use embedd_model::PromptChoice;
use embedd_model::tokenize::Truncation;

/// The sentences of a comparison, in error messages: the source sentence is the first.
pub(super) const SENTENCES: &str = "inputs.sentences";
const FIELDS: &str = "`inputs`";
const DIRECTIONS: [(&str, Truncation); 4] =
    [("Right", Truncation::End), ("Left", Truncation::Start), ("right", Truncation::End), ("left", Truncation::Start)];

/// A request for embeddings.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct EmbedRequest<'b> {
    /// A text, a list of texts, the token ids of a text, or a list of them.
    #[serde(borrow, default)]
    #[schema(value_type = Inputs, required = true)]
    inputs: Field<'b>,
    /// Whether to truncate texts that are too long (true) or to reject them (false); the default is a setting of the
    /// server.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    truncate: Field<'b>,
    /// `Right`: drop the end of texts that are too long; `Left`: drop the beginning.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, example = "Right")]
    truncation_direction: Field<'b>,
    /// The name of a prompt of the model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    prompt_name: Field<'b>,
    /// Whether to scale vectors to L2 norm 1; the default is true.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    normalize: Field<'b>,
    /// Keep this many components of each vector.
    #[serde(borrow, default)]
    #[schema(value_type = Option<u32>)]
    dimensions: Field<'b>,
}

/// How to embed sentences.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::http) struct Options<'b> {
    /// Whether to truncate texts that are too long (true) or to reject them (false); the default is a setting of the
    /// server.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    truncate: Field<'b>,
    /// `Right`: drop the end of texts that are too long; `Left`: drop the beginning.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, example = "Right")]
    truncation_direction: Field<'b>,
    /// The name of a prompt of the model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    prompt_name: Field<'b>,
}

/// A request to compare sentences.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct SimilarityRequest<'b> {
    #[serde(borrow, default)]
    #[schema(value_type = SimilarityInputs<'static>, required = true)]
    inputs: Field<'b>,
    #[serde(borrow, default)]
    #[schema(value_type = Option<Options<'static>>)]
    parameters: Field<'b>,
}

/// The sentences to compare.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::http) struct SimilarityInputs<'b> {
    /// The sentence that is compared with the others.
    #[serde(borrow, default)]
    #[schema(value_type = String, required = true)]
    source_sentence: Field<'b>,
    /// The others.
    #[serde(borrow, default)]
    #[schema(value_type = Vec<String>, required = true)]
    sentences: Field<'b>,
}

/// A request to tokenize texts.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct TokenizeRequest<'b> {
    /// A text, or a list of texts.
    #[serde(borrow, default)]
    #[schema(value_type = Vec<String>, required = true)]
    inputs: Field<'b>,
    /// Whether to add the special tokens around every text; the default is true.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    add_special_tokens: Field<'b>,
}

/// A request to turn token ids into texts.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct DecodeRequest<'b> {
    /// The token ids of a text, or a list of them.
    #[serde(borrow, default)]
    #[schema(value_type = Vec<Vec<u32>>, required = true)]
    ids: Field<'b>,
    /// Whether to leave out special tokens; the default is true.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    skip_special_tokens: Field<'b>,
}

/// A validated call for embeddings.
#[derive(Debug)]
pub(in crate::http) struct Call {
    pub(in crate::http) request: Request,
    /// The field of its texts, for error messages.
    pub(super) texts: TextField,
}

/// A validated call for tokens.
#[derive(Debug)]
pub(in crate::http) struct TokenizeCall {
    pub(super) texts: Texts,
    pub(super) field: TextField,
    pub(super) with_special_tokens: bool,
}

/// A validated call for the texts of tokens.
#[derive(Debug)]
pub(in crate::http) struct DecodeCall {
    pub(super) ids: Vec<Vec<u32>>,
    pub(super) skip_special_tokens: bool,
}

pub(in crate::http) fn embed(body: &[u8], model: &ModelInfo, limits: &Limits) -> Result<Call, Refusal> {
    let fields: EmbedRequest<'_> = json::parse(body, FIELDS)?;
    let texts = fields.inputs.texts_named("inputs");
    let mut violations = Violations::of(texts);
    let options = EmbedOptions {
        normalize: fields.normalize.boolean("normalize", true, &mut violations),
        dimensions: fields.dimensions.dimensions("dimensions", limits, &mut violations),
        ..options(
            &Options {
                truncate: fields.truncate,
                truncation_direction: fields.truncation_direction,
                prompt_name: fields.prompt_name,
            },
            model,
            &mut violations,
        )
    };
    let inputs = fields.inputs.inputs("inputs", limits, &mut violations);
    let inputs = inputs.unwrap_or_else(|| vec![String::new().into()]);
    let request = Request::check(inputs, options, limits, &model.prompts, &mut violations);
    Ok(Call { request: valid(request, &violations)?, texts })
}

/// Whether a request to `/` compares sentences.
pub(in crate::http) fn is_similarity(body: &[u8]) -> Result<bool, Refusal> {
    let fields: EmbedRequest<'_> = json::parse(body, FIELDS)?;
    Ok(fields.inputs.kind() == Some(Kind::Object))
}

/// The request for the embeddings of all sentences, the source sentence first.
pub(in crate::http) fn similarity(body: &[u8], model: &ModelInfo, limits: &Limits) -> Result<Request, Refusal> {
    let fields: SimilarityRequest<'_> = json::parse(body, FIELDS)?;
    let mut violations = Violations::of(TextField::List(SENTENCES));
    let parameters: Options<'_> = fields.parameters.object("parameters", &mut violations).unwrap_or_default();
    let options = options(&parameters, model, &mut violations);
    if !fields.inputs.is_given() {
        violations.add("inputs", "is missing; send an object with `source_sentence` and `sentences`");
    }
    let inputs: SimilarityInputs<'_> = fields.inputs.object("inputs", &mut violations).unwrap_or_default();
    let mut sentences = Vec::new();
    if violations.is_empty() {
        let source = inputs.source_sentence.text("inputs.source_sentence", "send a string", &mut violations);
        if source.is_none() && violations.is_empty() {
            violations.add("inputs.source_sentence", "is missing; send a string");
        }
        sentences.extend(source);
        let others = inputs.sentences.texts(SENTENCES, limits, &mut violations);
        if others.as_ref().is_some_and(Vec::is_empty) {
            violations.add(SENTENCES, "is empty; send at least one sentence");
        }
        sentences.extend(others.into_iter().flatten());
    }
    if sentences.is_empty() {
        sentences.push(String::new());
    }
    let request = Request::check(sentences, options, limits, &model.prompts, &mut violations);
    valid(request, &violations)
}

pub(in crate::http) fn tokenize(body: &[u8], limits: &Limits) -> Result<TokenizeCall, Refusal> {
    let fields: TokenizeRequest<'_> = json::parse(body, FIELDS)?;
    let field = fields.inputs.texts_named("inputs");
    let mut violations = Violations::of(field);
    let with_special_tokens = fields.add_special_tokens.boolean("add_special_tokens", true, &mut violations);
    let texts = match fields.inputs.kind() {
        Some(Kind::Text) => fields.inputs.text("inputs", "send a string", &mut violations).map(|text| vec![text]),
        _ => fields.inputs.texts("inputs", limits, &mut violations),
    };
    let texts = texts.and_then(|texts| Texts::check(texts, limits, &mut violations));
    Ok(TokenizeCall { texts: valid(texts, &violations)?, field, with_special_tokens })
}

pub(in crate::http) fn decode(body: &[u8], limits: &Limits) -> Result<DecodeCall, Refusal> {
    let fields: DecodeRequest<'_> = json::parse(body, "`ids`")?;
    let mut violations = Violations::default();
    let skip_special_tokens = fields.skip_special_tokens.boolean("skip_special_tokens", true, &mut violations);
    let ids = fields.ids.ids("ids", limits, &mut violations);
    Ok(DecodeCall { ids: valid(ids, &violations)?, skip_special_tokens })
}

fn options(fields: &Options<'_>, model: &ModelInfo, violations: &mut Violations) -> EmbedOptions {
    let direction = fields.truncation_direction.word("truncation_direction", &DIRECTIONS, violations);
    let truncation = match fields.truncate.kind() {
        None => match direction {
            // The direction matters only if texts are truncated.
            Some(direction) if model.default_truncation != Truncation::Reject => TruncationChoice::Default(direction),
            _ => TruncationChoice::Default(model.default_truncation),
        },
        Some(_) if fields.truncate.boolean("truncate", false, violations) => {
            TruncationChoice::Requested(direction.unwrap_or_default())
        }
        Some(_) => TruncationChoice::Requested(Truncation::Reject),
    };
    let prompt = PromptChoice::of(fields.prompt_name.text("prompt_name", "send a string", violations));
    EmbedOptions { truncation, prompt, ..EmbedOptions::default() }
}

/// The characters of all texts; tokens count as one.
pub(in crate::http) fn chars(inputs: &[Input]) -> usize {
    inputs
        .iter()
        .map(|input| match input {
            Input::Text(text) => text.chars().count(),
            Input::TokenIds(ids) => ids.len(),
        })
        .sum()
}

#[cfg(test)]
mod tests;
