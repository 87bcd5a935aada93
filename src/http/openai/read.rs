//! Validates requests.

use super::error::{self, Refusal};
use super::json::{Fields, List, Value};
use super::write::Encoding;
use crate::embed::ModelInfo;
use crate::request::{EmbedOptions, EmbedRequest, Limits, TextField, Violations, quoted, too_many_texts};

mod prompt;

const INPUT: &str = "input";

/// A validated call for embeddings.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: EmbedRequest,
    /// The field of its texts, for error messages.
    pub(super) texts: TextField,
    pub(super) encoding: Encoding,
}

/// Validates the body of a request for embeddings.
pub(super) fn embeddings(body: &[u8], model: &ModelInfo, limits: &Limits) -> Result<Call, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(error::not_an_object());
    }
    let fields = Fields::parse(body, limits.max_texts.get()).map_err(|error| error::unreadable(&error))?;
    if let Some(Value::Text(name)) = &fields.model {
        model.names.check(name).map_err(|error| error::from_no_such_model(&error))?;
    }
    check(fields, model, limits).map_err(|violations| error::invalid(&violations))
}

/// Reads a body as the server does, for `crate::fuzzing`. An error is the status of its response.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_openai_body(
    body: &[u8],
    model: &ModelInfo,
    limits: &Limits,
) -> Result<EmbedRequest, axum::http::StatusCode> {
    use axum::response::IntoResponse as _;

    embeddings(body, model, limits).map(|call| call.request).map_err(|refusal| refusal.into_response().status())
}

fn check(fields: Fields, model: &ModelInfo, limits: &Limits) -> Result<Call, Violations> {
    let is_single = matches!(fields.input, Some(Value::Text(_)));
    let texts = if is_single { TextField::Single(INPUT) } else { TextField::List(INPUT) };
    let mut violations = Violations::of(texts);
    check_model(fields.model.as_ref(), &mut violations);
    let encoding = encoding(fields.encoding_format.as_ref(), &mut violations);
    let dimensions = dimensions(fields.dimensions.as_ref(), limits, &mut violations);
    let prompt = prompt::read(fields.prompt_name, fields.input_type, &model.prompts, &mut violations);
    let options = EmbedOptions { truncation: model.default_truncation, prompt, dimensions, ..EmbedOptions::default() };
    // Without texts, a stand-in is checked, so that errors in the other fields are reported as well.
    let input = input(fields.input, limits, &mut violations).unwrap_or_else(|| vec![String::new()]);
    let request = EmbedRequest::check(input, options, limits, &model.prompts, &mut violations);
    let request = request.filter(|_| violations.is_empty());
    request.map(|request| Call { request, texts, encoding }).ok_or(violations)
}

/// Without a name, the request is for the model that is served.
fn check_model(name: Option<&Value>, violations: &mut Violations) {
    match name {
        Some(Value::Text(_)) | None => {}
        Some(other) => violations.add("model", format!("is {other}; send a string")),
    }
}

fn encoding(format: Option<&Value>, violations: &mut Violations) -> Encoding {
    match format {
        None => return Encoding::Float,
        Some(Value::Text(name)) => match name.as_str() {
            "float" => return Encoding::Float,
            "base64" => return Encoding::Base64,
            _ => violations.add("encoding_format", format!("is {}; use `float` or `base64`", quoted(name))),
        },
        Some(other) => violations.add("encoding_format", format!("is {other}; send `float` or `base64`")),
    }
    Encoding::Float
}

fn dimensions(value: Option<&Value>, limits: &Limits, violations: &mut Violations) -> Option<u32> {
    let problem = match value {
        None => return None,
        Some(Value::Number(Some(number))) => match u32::try_from(*number) {
            Ok(dimensions) => return Some(dimensions),
            Err(_) => number.to_string(),
        },
        Some(Value::Number(None)) => "not a positive integer".to_owned(),
        Some(other) => other.to_string(),
    };
    violations
        .add("dimensions", format!("is {problem}; must be from 1 to {}, the model's dimension", limits.dimension));
    None
}

fn input(value: Option<Value>, limits: &Limits, violations: &mut Violations) -> Option<Vec<String>> {
    let (field, problem) = match value {
        Some(Value::Text(text)) => return Some(vec![text]),
        Some(Value::List(List { texts, other: None, count })) if count == texts.len() => return Some(texts),
        Some(Value::List(List { other: None, count, .. })) => (INPUT.to_owned(), too_many_texts(count, limits)),
        Some(Value::List(List { other: Some((0, ids)), .. })) if ids.may_be_token_ids() => {
            let problem = "has token ids, which belong to another model's tokenizer; send the texts instead";
            (INPUT.to_owned(), problem.to_owned())
        }
        Some(Value::List(List { other: Some((index, other)), .. })) => {
            (format!("{INPUT}[{index}]"), format!("is {other}; send a string"))
        }
        Some(other) => (INPUT.to_owned(), format!("is {other}; send a string or a list of strings")),
        None => (INPUT.to_owned(), "is missing; send a string or a list of strings".to_owned()),
    };
    violations.add(field, problem);
    None
}

#[cfg(test)]
mod tests;
