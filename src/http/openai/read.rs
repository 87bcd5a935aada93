//! Validates requests.

use serde::Deserialize;
use utoipa::ToSchema;

use super::super::api::json::{self, Field};
use super::super::api::refusal::{self, Refusal};
use super::super::api::{prompt, valid};
use super::super::docs::Inputs;
use crate::embed::ModelInfo;
use crate::encoding::{Encoder, Encoding};
use crate::request::{EmbedOptions, EmbedRequest, Limits, TextField, TruncationChoice, Violations};

const FIELDS: &str = "`input`";

/// A request for embeddings.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct EmbeddingsRequest<'b> {
    /// A text, a list of texts, the token ids of a text, or a list of them.
    #[serde(borrow, default)]
    #[schema(value_type = Inputs, required = true)]
    input: Field<'b>,
    /// A name of the served model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    model: Field<'b>,
    /// `float`: a list of numbers; `base64`: little-endian float32 values in base64; `float16`: the same with float16
    /// values; `int8` and `uint8`: integers in the ranges of the model's components; `binary` and `ubinary`: one bit per component, as signed or unsigned bytes.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, example = "float")]
    encoding_format: Field<'b>,
    /// Keep this many components of each vector.
    #[serde(borrow, default)]
    #[schema(value_type = Option<u32>)]
    dimensions: Field<'b>,
    /// The name of a prompt of the model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    prompt_name: Field<'b>,
    /// The purpose of the texts, such as `query` or `document`, which selects a prompt of the model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    input_type: Field<'b>,
}

/// A validated call for embeddings.
#[derive(Debug)]
pub(in crate::http) struct Call {
    pub(in crate::http) request: EmbedRequest,
    /// The field of its texts, for error messages.
    pub(super) texts: TextField,
    pub(super) encoder: Encoder,
}

/// Validates the body of a request for embeddings.
pub(in crate::http) fn embeddings(body: &[u8], model: &ModelInfo, limits: &Limits) -> Result<Call, Refusal> {
    let fields: EmbeddingsRequest<'_> = json::parse(body, FIELDS)?;
    let texts = fields.input.texts_named("input");
    let mut violations = Violations::of(texts);
    if let Some(name) = fields.model.text("model", "send a string", &mut violations) {
        model.names.check(&name).map_err(|error| refusal::from_no_such_model(&error))?;
    }
    let encoding = fields.encoding_format.word("encoding_format", &Encoding::NAMES, &mut violations);
    let encoding = encoding.unwrap_or(Encoding::Float);
    let options = EmbedOptions {
        truncation: TruncationChoice::Default(model.default_truncation),
        dimensions: fields.dimensions.dimensions("dimensions", limits, &mut violations),
        prompt: prompt::read(fields.prompt_name, fields.input_type, &model.prompts, &mut violations),
        ..EmbedOptions::default()
    };
    let ranges = model.ranges.as_deref();
    let encoder = encoding.encoder(ranges, &options, limits, "encoding_format", &mut violations);
    // Without texts, a stand-in is checked, so that errors in the other fields are reported as well.
    let inputs = fields.input.inputs("input", limits, &mut violations);
    let inputs = inputs.unwrap_or_else(|| vec![String::new().into()]);
    let request = EmbedRequest::check(inputs, options, limits, &model.prompts, &mut violations);
    let request = valid(request, &violations)?;
    Ok(Call { request, texts, encoder })
}

#[cfg(test)]
mod tests;
