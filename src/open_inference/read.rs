//! Validates inference requests.

use std::collections::HashMap;

use super::tensor::{self, Form, Output, TEXT};
use crate::embed::ModelInfo;
use crate::encoding::{Encoder, Encoding, Ranges};
use crate::input_type::prompt_for;
use crate::request::{EmbedOptions, EmbedRequest, Limits, TruncationChoice, Violations, quoted};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};
use embedd_proto::open_inference as proto;
use embedd_proto::open_inference::infer_parameter::ParameterChoice;
use embedd_proto::open_inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

/// The values of `truncation`.
const TRUNCATION: [(&str, Truncation); 3] =
    [("end", Truncation::End), ("start", Truncation::Start), ("reject", Truncation::Reject)];
/// The values of `truncate`, as NVIDIA's NIM calls it.
const TRUNCATE: [(&str, Truncation); 3] =
    [("END", Truncation::End), ("START", Truncation::Start), ("NONE", Truncation::Reject)];
/// Parameters of Triton's protocol extensions that would change the reply.
const UNSUPPORTED: [&str; 2] = ["shared_memory_region", "classification"];

/// A validated request, and what its reply contains.
#[derive(Debug)]
pub(crate) struct InferCall {
    pub request: EmbedRequest,
    pub(super) form: Form,
    pub(super) outputs: Vec<Output>,
    pub(super) encoder: Encoder,
}

pub(crate) fn infer(
    request: proto::ModelInferRequest,
    model: &ModelInfo,
    limits: &Limits,
) -> Result<InferCall, Violations> {
    check(request, model.default_truncation, limits, &model.prompts, model.ranges.as_deref())
}

/// Reads a request as the server does, for `crate::fuzzing`. An error is its message.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_tensors(
    request: proto::ModelInferRequest,
    default_truncation: Truncation,
    limits: &Limits,
) -> Result<EmbedRequest, String> {
    check(request, default_truncation, limits, &Prompts::default(), None)
        .map(|call| call.request)
        .map_err(|violations| violations.to_string())
}

fn check(
    request: proto::ModelInferRequest,
    default_truncation: Truncation,
    limits: &Limits,
    prompts: &Prompts,
    ranges: Option<&Ranges>,
) -> Result<InferCall, Violations> {
    let mut violations = Violations::of(TEXT);
    let options = options(&request.parameters, default_truncation, prompts, &mut violations);
    let encoding = encoding(&request.parameters, &mut violations);
    let encoder = encoding.encoder(ranges, &options, limits, "embedding_type", &mut violations);
    let outputs = outputs(&request.outputs, &mut violations);
    let input = only_input(request.inputs, &mut violations);
    let tensor = input.and_then(|input| tensor::read(input, request.raw_input_contents, limits, &mut violations));
    let Some((texts, form)) = tensor else { return Err(violations) };
    let valid = EmbedRequest::check(texts, options, limits, prompts, &mut violations);
    let valid = valid.filter(|_| violations.is_empty());
    valid.map(|request| InferCall { request, form, outputs, encoder }).ok_or(violations)
}

/// Other parameters are ignored: they are meant for proxies or extensions.
fn options(
    parameters: &HashMap<String, proto::InferParameter>,
    default_truncation: Truncation,
    prompts: &Prompts,
    violations: &mut Violations,
) -> EmbedOptions {
    let truncation = TruncationChoice::Default(default_truncation);
    let mut options = EmbedOptions { truncation, ..EmbedOptions::default() };
    let value = |name: &str| parameters.get(name).map(|parameter| parameter.parameter_choice.as_ref());
    match value("normalize") {
        None => {}
        Some(Some(&ParameterChoice::BoolParam(normalize))) => options.normalize = normalize,
        Some(_) => violations.add("normalize", "must be `true` or `false` (bool_param)"),
    }
    match value("dimensions") {
        None => {}
        Some(number) => match number.and_then(whole_number) {
            Some(dimensions) => options.dimensions = Some(dimensions),
            None => violations.add("dimensions", "must be a positive integer (int64_param)"),
        },
    }
    match value("truncation") {
        None => {}
        Some(side) => match side.and_then(|side| word(side, &TRUNCATION)) {
            Some(truncation) => options.truncation = TruncationChoice::Requested(truncation),
            None => violations.add("truncation", "must be `end`, `start` or `reject` (string_param)"),
        },
    }
    match value("truncate") {
        None => {}
        Some(side) => match side.and_then(|side| word(side, &TRUNCATE)) {
            Some(truncation) => options.truncation = TruncationChoice::Requested(truncation),
            None => violations.add("truncate", "must be `END`, `START` or `NONE` (string_param)"),
        },
    }
    match value("input_type") {
        None => {}
        Some(Some(ParameterChoice::StringParam(name))) => {
            options.prompt = prompt_for(name.clone(), prompts, violations);
        }
        Some(_) => violations.add("input_type", "must be the purpose of the texts (string_param)"),
    }
    match value("prompt_name") {
        None => {}
        Some(Some(ParameterChoice::StringParam(name))) => options.prompt = PromptChoice::of(Some(name.clone())),
        Some(_) => violations.add("prompt_name", "must be the name of a prompt (string_param)"),
    }
    options
}

/// The encoding of the vectors, which NVIDIA's NIM calls `embedding_type`.
fn encoding(parameters: &HashMap<String, proto::InferParameter>, violations: &mut Violations) -> Encoding {
    let Some(parameter) = parameters.get("embedding_type") else { return Encoding::Float };
    let found = parameter.parameter_choice.as_ref().and_then(|value| word(value, &Encoding::TENSORS));
    found.unwrap_or_else(|| {
        let known = Encoding::TENSORS.map(|(name, _)| quoted(name)).join(", ");
        violations.add("embedding_type", format!("must be one of {known} (string_param)"));
        Encoding::Float
    })
}

fn whole_number(value: &ParameterChoice) -> Option<u32> {
    match *value {
        ParameterChoice::Int64Param(number) => number.try_into().ok(),
        ParameterChoice::Uint64Param(number) => number.try_into().ok(),
        _ => None,
    }
}

fn word<T: Copy>(value: &ParameterChoice, words: &[(&str, T)]) -> Option<T> {
    let ParameterChoice::StringParam(text) = value else { return None };
    words.iter().find(|(word, _)| word == text).map(|(_, value)| *value)
}

/// The outputs of the reply. Reports only the first invalid one, since a request may have any number of them.
fn outputs(requested: &[InferRequestedOutputTensor], violations: &mut Violations) -> Vec<Output> {
    let mut outputs = Vec::new();
    for (index, output) in requested.iter().enumerate() {
        let Some(known) = Output::ALL.into_iter().find(|known| known.name() == output.name) else {
            let known = Output::ALL.map(|output| quoted(output.name())).join(", ");
            let problem = format!("is {}; the model has the outputs {known}", quoted(&output.name));
            violations.add(format!("outputs[{index}].name"), problem);
            break;
        };
        if let Some(name) = unsupported(&output.parameters) {
            let problem =
                format!("has `{name}`, which this server does not support; the embedding is returned in the reply");
            violations.add(format!("outputs[{index}].parameters"), problem);
            break;
        }
        if !outputs.contains(&known) {
            outputs.push(known);
        }
    }
    if outputs.is_empty() { vec![Output::Embedding] } else { outputs }
}

fn only_input(mut inputs: Vec<InferInputTensor>, violations: &mut Violations) -> Option<InferInputTensor> {
    let text = TEXT.all();
    if let Some((index, other)) = inputs.iter().enumerate().find(|(_, input)| input.name != text) {
        let problem = format!("is {}; the model has one input, `{text}`", quoted(&other.name));
        violations.add(format!("inputs[{index}].name"), problem);
        return None;
    }
    let input = inputs.pop();
    let more = inputs.len();
    match input {
        None => violations.add("inputs", format!("is empty; send the tensor `{text}`")),
        Some(_) if more > 0 => violations.add("inputs", format!("has `{text}` {} times; send it once", more + 1)),
        Some(input) => {
            let Some(name) = unsupported(&input.parameters) else { return Some(input) };
            let problem = format!("has `{name}`, which this server does not support; send the texts in the request");
            violations.add("inputs[0].parameters", problem);
        }
    }
    None
}

fn unsupported(parameters: &HashMap<String, proto::InferParameter>) -> Option<&'static str> {
    UNSUPPORTED.into_iter().find(|name| parameters.contains_key(*name))
}

#[cfg(test)]
mod tests;
