//! Validates requests.

use serde::Deserialize;
use utoipa::ToSchema;

use super::super::api::json::{self, Field};
use super::super::api::refusal::{self, Refusal};
use super::super::api::valid;
use crate::embed::ModelInfo;
use crate::encoding::{Encoder, Encoding};
use crate::input_type::prompt_for;
use crate::request::{EmbedOptions, EmbedRequest as Request, Input, Limits, TextField, TruncationChoice, Violations};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};

const FIELDS: &str = "`texts` and `model`";
const TRUNCATIONS: [(&str, Truncation); 3] =
    [("END", Truncation::End), ("START", Truncation::Start), ("NONE", Truncation::Reject)];
/// Purposes of Cohere's models for which a model may have a prompt, and needs none.
const OTHER_PURPOSES: [&str; 2] = ["classification", "clustering"];

/// The version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Version {
    V1,
    V2,
}

/// A request for embeddings.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CohereEmbedRequest)]
pub(in crate::http) struct EmbedRequest<'b> {
    /// The texts.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<String>>)]
    texts: Field<'b>,
    /// The texts as lists of contents; images are not supported.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<Object>>)]
    inputs: Field<'b>,
    #[serde(borrow, default)]
    #[schema(ignore)]
    images: Field<'b>,
    /// A name of the served model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    model: Field<'b>,
    /// The purpose of the texts: `search_query`, `search_document`, `classification`, `clustering`. It selects a prompt of
    /// the model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    input_type: Field<'b>,
    /// The encodings of the vectors: `float`, `int8`, `uint8`, `binary`, `ubinary`, `base64`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<String>>)]
    embedding_types: Field<'b>,
    /// What to drop of texts that are too long: `END` (the default), `START`, or `NONE` to reject them.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    truncate: Field<'b>,
    /// Keep this many components of each vector.
    #[serde(borrow, default)]
    #[schema(value_type = Option<u32>)]
    output_dimension: Field<'b>,
}

#[derive(Debug, Deserialize)]
struct Contents<'b> {
    #[serde(borrow, default)]
    content: Field<'b>,
}

#[derive(Debug, Deserialize)]
struct Content<'b> {
    #[serde(borrow, default, rename = "type")]
    kind: Field<'b>,
    #[serde(borrow, default)]
    text: Field<'b>,
}

/// A validated call for embeddings.
#[derive(Debug)]
pub(in crate::http) struct Call {
    pub(in crate::http) request: Request,
    /// The field of its texts, for error messages.
    pub(super) field: TextField,
    /// The requested encodings, in the order of the API.
    pub(super) encoders: Option<Vec<Encoder>>,
}

impl Call {
    /// A copy of the texts, which the reply repeats.
    pub(in crate::http) fn texts(&self) -> Vec<String> {
        let texts = self.request.inputs().iter().filter_map(|input| match input {
            Input::Text(text) => Some(text.clone()),
            Input::TokenIds(_) => None,
        });
        texts.collect()
    }
}

pub(in crate::http) fn embed(
    body: &[u8],
    version: Version,
    model: &ModelInfo,
    limits: &Limits,
) -> Result<Call, Refusal> {
    let fields: EmbedRequest<'_> = json::parse(body, FIELDS)?;
    let field = TextField::List(if fields.texts.is_given() || !fields.inputs.is_given() { "texts" } else { "inputs" });
    let mut violations = Violations::of(field);
    if let Some(name) = fields.model.text("model", "send a string", &mut violations) {
        model.names.check(&name).map_err(|error| refusal::from_no_such_model(&error))?;
    }
    if fields.images.is_given() {
        violations.add("images", "are not supported by the model, which embeds texts");
    }
    let truncation = fields.truncate.word("truncate", &TRUNCATIONS, &mut violations);
    let options = EmbedOptions {
        truncation: TruncationChoice::Requested(truncation.unwrap_or_default()),
        dimensions: fields.output_dimension.dimensions("output_dimension", limits, &mut violations),
        prompt: prompt(fields.input_type, &model.prompts, &mut violations),
        ..EmbedOptions::default()
    };
    let encoders = encodings(fields.embedding_types, version, &mut violations).map(|encodings| {
        let ranges = model.ranges.as_deref();
        let mut encoder =
            |encoding: Encoding| encoding.encoder(ranges, &options, limits, "embedding_types", &mut violations);
        encodings.into_iter().map(&mut encoder).collect()
    });
    let texts = if field.all() == "texts" {
        fields.texts.texts("texts", limits, &mut violations)
    } else {
        contents(fields.inputs, limits, &mut violations)
    };
    let texts = texts.unwrap_or_else(|| vec![String::new()]);
    let request = Request::check(texts, options, limits, &model.prompts, &mut violations);
    Ok(Call { request: valid(request, &violations)?, field, encoders })
}

/// The texts of `inputs`: each is a list of contents, which must be one text.
fn contents(inputs: Field<'_>, limits: &Limits, violations: &mut Violations) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for (index, input) in inputs.elements("inputs", limits.max_texts.get(), violations)?.into_iter().enumerate() {
        let name = format!("inputs[{index}]");
        let input: Contents<'_> = input.object(&name, violations)?;
        let name = format!("{name}.content");
        let [content] = input.content.elements(&name, 1, violations)?[..] else {
            violations.add(name, "is empty; send one element of the type `text`");
            return None;
        };
        let name = format!("{name}[0]");
        let content: Content<'_> = content.object(&name, violations)?;
        content.kind.word(&format!("{name}.type"), &[("text", ())], violations)?;
        texts.push(content.text.text(&format!("{name}.text"), "send a string", violations)?);
    }
    Some(texts)
}

/// Models without a prompt for classification or clustering need none.
fn prompt(input_type: Field<'_>, prompts: &Prompts, violations: &mut Violations) -> PromptChoice {
    match input_type.text("input_type", "send a string", violations) {
        None => PromptChoice::Default,
        Some(name) if OTHER_PURPOSES.contains(&name.as_str()) && !prompts.contains(&name) => PromptChoice::None,
        Some(name) => prompt_for(name, prompts, violations),
    }
}

/// Without types, the first version of the API returns plain lists, and the second `float`.
fn encodings(types: Field<'_>, version: Version, violations: &mut Violations) -> Option<Vec<Encoding>> {
    if !types.is_given() {
        return (version == Version::V2).then(|| vec![Encoding::Float]);
    }
    let mut encodings = Vec::new();
    for (index, kind) in types.elements("embedding_types", Encoding::NAMES.len(), violations)?.into_iter().enumerate() {
        let name = format!("embedding_types[{index}]");
        let encoding = kind.word(&name, &Encoding::NAMES, violations);
        encodings.extend(encoding.filter(|encoding| !encodings.contains(encoding)));
    }
    Some(encodings)
}

#[cfg(test)]
mod tests;
