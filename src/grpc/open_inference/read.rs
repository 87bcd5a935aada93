//! Validates inference requests.

use std::collections::HashMap;

use tonic::Status;

use super::tensor::{self, EMBEDDING, Form, TEXT};
use crate::embed::Embedder;
use crate::grpc::status;
use crate::request::{EmbedOptions, EmbedRequest, Limits, Violations, quoted};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};
use embedd_proto::open_inference as proto;
use embedd_proto::open_inference::infer_parameter::ParameterChoice;
use embedd_proto::open_inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

/// Parameters of Triton's protocol extensions that would change the reply.
const UNSUPPORTED: [&str; 2] = ["shared_memory_region", "classification"];

/// The validated request, and the form of its reply.
pub(super) fn infer(request: proto::ModelInferRequest, embedder: &Embedder) -> Result<(EmbedRequest, Form), Status> {
    let model = embedder.model();
    check(request, model.default_truncation, embedder.limits(), &model.prompts)
        .map_err(|violations| status::invalid(&violations))
}

/// Reads a request as the server does, for `crate::fuzzing`. An error is its message.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_tensors(
    request: proto::ModelInferRequest,
    default_truncation: Truncation,
    limits: &Limits,
) -> Result<EmbedRequest, String> {
    check(request, default_truncation, limits, &Prompts::default())
        .map(|(request, _)| request)
        .map_err(|violations| violations.to_string())
}

fn check(
    request: proto::ModelInferRequest,
    default_truncation: Truncation,
    limits: &Limits,
    prompts: &Prompts,
) -> Result<(EmbedRequest, Form), Violations> {
    let mut violations = Violations::of(TEXT);
    let options = options(&request.parameters, default_truncation, &mut violations);
    check_outputs(&request.outputs, &mut violations);
    let input = only_input(request.inputs, &mut violations);
    let tensor = input.and_then(|input| tensor::read(input, request.raw_input_contents, limits, &mut violations));
    let Some((texts, form)) = tensor else { return Err(violations) };
    let valid = EmbedRequest::check(texts, options, limits, prompts, &mut violations);
    valid.filter(|_| violations.is_empty()).map(|valid| (valid, form)).ok_or(violations)
}

/// Other parameters are ignored: they are meant for proxies or extensions.
fn options(
    parameters: &HashMap<String, proto::InferParameter>,
    default_truncation: Truncation,
    violations: &mut Violations,
) -> EmbedOptions {
    let mut options = EmbedOptions { truncation: default_truncation, ..EmbedOptions::default() };
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
        Some(side) => match side.and_then(truncation) {
            Some(truncation) => options.truncation = truncation,
            None => violations.add("truncation", "must be `end`, `start` or `reject` (string_param)"),
        },
    }
    match value("prompt_name") {
        None => {}
        Some(Some(ParameterChoice::StringParam(name))) => options.prompt = PromptChoice::of(Some(name.clone())),
        Some(_) => violations.add("prompt_name", "must be the name of a prompt (string_param)"),
    }
    options
}

fn whole_number(value: &ParameterChoice) -> Option<u32> {
    match *value {
        ParameterChoice::Int64Param(number) => number.try_into().ok(),
        ParameterChoice::Uint64Param(number) => number.try_into().ok(),
        _ => None,
    }
}

fn truncation(value: &ParameterChoice) -> Option<Truncation> {
    match value {
        ParameterChoice::StringParam(side) => match side.as_str() {
            "end" => Some(Truncation::End),
            "start" => Some(Truncation::Start),
            "reject" => Some(Truncation::Reject),
            _ => None,
        },
        _ => None,
    }
}

/// Reports only the first invalid output, since a request may have any number of them.
fn check_outputs(outputs: &[InferRequestedOutputTensor], violations: &mut Violations) {
    for (index, output) in outputs.iter().enumerate() {
        let unsupported = unsupported(&output.parameters);
        if output.name != EMBEDDING {
            let problem = format!("is {}; the model has one output, `{EMBEDDING}`", quoted(&output.name));
            return violations.add(format!("outputs[{index}].name"), problem);
        }
        if let Some(name) = unsupported {
            let problem =
                format!("has `{name}`, which this server does not support; the embedding is returned in the reply");
            return violations.add(format!("outputs[{index}].parameters"), problem);
        }
    }
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
