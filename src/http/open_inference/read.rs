//! Reads inference requests into the messages of the protocol, which have one validation for gRPC and HTTP.

use std::collections::HashMap;

use axum::http::HeaderMap;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::api::json::{self, Field, Kind};
use super::super::api::refusal::{self, Refusal};
use super::JSON_LENGTH;
use crate::embed::ModelInfo;
use crate::open_inference::{self, ReplyForm, TEXT};
use crate::request::{EmbedRequest, Limits, Violations};
use embedd_proto::open_inference as proto;
use embedd_proto::open_inference::infer_parameter::ParameterChoice;
use embedd_proto::open_inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

/// Outputs that a request may name; the model has fewer.
const MAX_OUTPUTS: usize = 16;
/// Dimensions of a shape; valid ones have fewer.
const MAX_DIMENSIONS: usize = 8;

/// An inference request.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct InferRequest<'b> {
    /// Repeated in the reply.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    id: Field<'b>,
    #[serde(borrow, default)]
    #[schema(value_type = Option<InferParameters<'static>>)]
    parameters: Field<'b>,
    /// One tensor, `text`.
    #[serde(borrow, default)]
    #[schema(value_type = Vec<InferInput<'static>>, required = true)]
    inputs: Field<'b>,
    /// The outputs to return; the default is `embedding`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<InferOutput<'static>>>)]
    outputs: Field<'b>,
}

/// How to embed the texts. Others are ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::http) struct InferParameters<'b> {
    /// Whether to scale vectors to L2 norm 1; the default is true.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    normalize: Field<'b>,
    /// Keep this many components of each vector.
    #[serde(borrow, default)]
    #[schema(value_type = Option<u32>)]
    dimensions: Field<'b>,
    /// `end`, `start` or `reject`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    truncation: Field<'b>,
    /// `END`, `START` or `NONE`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    truncate: Field<'b>,
    /// The name of a prompt of the model.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    prompt_name: Field<'b>,
    /// The purpose of the texts, such as `query` or `passage`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    input_type: Field<'b>,
    /// The encoding of the vectors: `float`, `float16`, `binary` or `ubinary`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>)]
    embedding_type: Field<'b>,
    /// Whether outputs are binary unless they say otherwise.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    binary_data_output: Field<'b>,
}

/// The tensor of the texts.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct InferInput<'b> {
    /// `text`.
    #[serde(borrow, default)]
    #[schema(value_type = String, required = true)]
    name: Field<'b>,
    /// `[n]` or `[n, 1]`.
    #[serde(borrow, default)]
    #[schema(value_type = Vec<u64>, required = true)]
    shape: Field<'b>,
    /// `BYTES`.
    #[serde(borrow, default)]
    #[schema(value_type = String, required = true)]
    datatype: Field<'b>,
    /// `binary_data_size`, if the texts follow the JSON.
    #[serde(borrow, default)]
    #[schema(value_type = Option<TensorParameters<'static>>)]
    parameters: Field<'b>,
    /// The texts.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Vec<String>>)]
    data: Field<'b>,
}

/// An output to return.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::http) struct InferOutput<'b> {
    /// `embedding` (or `embeddings`), or `token_count`.
    #[serde(borrow, default)]
    #[schema(value_type = String, required = true)]
    name: Field<'b>,
    /// `binary_data`, if it is to follow the JSON.
    #[serde(borrow, default)]
    #[schema(value_type = Option<TensorParameters<'static>>)]
    parameters: Field<'b>,
}

/// How a tensor is transported.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(in crate::http) struct TensorParameters<'b> {
    /// Bytes of the tensor that follow the JSON.
    #[serde(borrow, default)]
    #[schema(value_type = Option<u64>)]
    binary_data_size: Field<'b>,
    /// Whether the output is to follow the JSON.
    #[serde(borrow, default)]
    #[schema(value_type = Option<bool>)]
    binary_data: Field<'b>,
    #[serde(borrow, default)]
    #[schema(ignore)]
    shared_memory_region: Field<'b>,
    #[serde(borrow, default)]
    #[schema(ignore)]
    classification: Field<'b>,
}

/// A validated call.
pub(in crate::http) struct Call {
    pub(in crate::http) request: EmbedRequest,
    pub(super) form: ReplyForm,
    pub(super) id: String,
    pub(super) binary: Binary,
}

/// Which outputs follow the JSON of the reply.
#[derive(Debug, Default)]
pub(in crate::http) struct Binary {
    default: bool,
    outputs: HashMap<String, bool>,
}

impl Binary {
    fn is_used(&self) -> bool {
        self.default || self.outputs.values().any(|is_binary| *is_binary)
    }

    pub(in crate::http) fn has(&self, output: &str) -> bool {
        self.outputs.get(output).copied().unwrap_or(self.default)
    }
}

/// The size of the JSON part of a body, if binary tensors may follow it.
pub(in crate::http) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|value| value.parse().ok());
    length.map(Some).ok_or_else(|| invalid(JSON_LENGTH, "is not a number of bytes"))
}

pub(in crate::http) fn infer(
    body: &[u8],
    json_length: Option<usize>,
    model: &ModelInfo,
    limits: &Limits,
) -> Result<Call, Refusal> {
    let (json, binary) = match json_length {
        Some(length) if length <= body.len() => body.split_at(length),
        Some(length) => {
            let problem = format!("is {length}, but the body has {} bytes", body.len());
            return Err(invalid(JSON_LENGTH, &problem));
        }
        None => (body, &[][..]),
    };
    let fields: InferRequest<'_> = json::parse(json, "`inputs`")?;
    let mut violations = Violations::of(TEXT);
    let read = message(&fields, binary, limits, &mut violations);
    let (message, binary) = read.filter(|_| violations.is_empty()).ok_or_else(|| refusal::invalid(&violations))?;
    let id = message.id.clone();
    let call = open_inference::infer(message, model, limits).map_err(|violations| refusal::invalid(&violations))?;
    let (request, form) = call.split(binary.is_used());
    Ok(Call { request, form, id, binary })
}

fn invalid(field: &str, problem: &str) -> Refusal {
    let mut violations = Violations::default();
    violations.add(field, problem);
    refusal::invalid(&violations)
}

/// The request as a message, and which outputs are binary.
fn message(
    fields: &InferRequest<'_>,
    binary: &[u8],
    limits: &Limits,
    violations: &mut Violations,
) -> Option<(proto::ModelInferRequest, Binary)> {
    let id = fields.id.text("id", "send a string", violations).unwrap_or_default();
    let given: InferParameters<'_> = fields.parameters.object("parameters", violations).unwrap_or_default();
    if !fields.inputs.is_given() {
        violations.add("inputs", "is missing; send the tensor `text`");
    }
    let mut inputs = Vec::new();
    let mut raw_input_contents = Vec::new();
    let mut rest = binary;
    for (index, input) in fields.inputs.elements("inputs", 1, violations)?.into_iter().enumerate() {
        let (input, raw) = tensor(input, &format!("inputs[{index}]"), &mut rest, limits, violations)?;
        inputs.push(input);
        raw_input_contents.extend(raw);
    }
    if !rest.is_empty() {
        let problem = format!("leaves {} bytes that belong to no tensor (binary_data_size)", rest.len());
        violations.add(JSON_LENGTH, problem);
    }
    let default = given.binary_data_output.boolean("binary_data_output", false, violations);
    let mut binary = Binary { default, outputs: HashMap::new() };
    let outputs = outputs(fields.outputs, &mut binary, violations)?;
    let parameters = parameters(&given, limits, violations);
    let request =
        proto::ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents, ..Default::default() };
    Some((request, binary))
}

fn parameters(
    fields: &InferParameters<'_>,
    limits: &Limits,
    violations: &mut Violations,
) -> HashMap<String, proto::InferParameter> {
    let mut choices = Vec::new();
    if fields.normalize.is_given() {
        choices
            .push(("normalize", ParameterChoice::BoolParam(fields.normalize.boolean("normalize", true, violations))));
    }
    if let Some(dimensions) = fields.dimensions.dimensions("dimensions", limits, violations) {
        choices.push(("dimensions", ParameterChoice::Int64Param(dimensions.into())));
    }
    for (name, field) in [
        ("truncation", fields.truncation),
        ("truncate", fields.truncate),
        ("prompt_name", fields.prompt_name),
        ("input_type", fields.input_type),
        ("embedding_type", fields.embedding_type),
    ] {
        if let Some(text) = field.text(name, "send a string", violations) {
            choices.push((name, ParameterChoice::StringParam(text)));
        }
    }
    let parameter = |choice| proto::InferParameter { parameter_choice: Some(choice) };
    choices.into_iter().map(|(name, choice)| (name.to_owned(), parameter(choice))).collect()
}

/// A tensor, and its bytes if they follow the JSON.
fn tensor(
    field: Field<'_>,
    path: &str,
    rest: &mut &[u8],
    limits: &Limits,
    violations: &mut Violations,
) -> Option<(InferInputTensor, Option<Vec<u8>>)> {
    let input: InferInput<'_> = field.object(path, violations)?;
    let name = input.name.text(&format!("{path}.name"), "send a string", violations).unwrap_or_default();
    let datatype = input.datatype.text(&format!("{path}.datatype"), "send a string", violations).unwrap_or_default();
    let mut shape = Vec::new();
    for size in input.shape.elements(&format!("{path}.shape"), MAX_DIMENSIONS, violations).unwrap_or_default() {
        shape.push(size.raw().and_then(|size| size.parse().ok()).unwrap_or(-1));
    }
    let given: TensorParameters<'_> =
        input.parameters.object(&format!("{path}.parameters"), violations).unwrap_or_default();
    let parameters = unsupported(&given);
    let size = match given.binary_data_size.raw().map(str::parse::<usize>) {
        None => None,
        Some(Ok(size)) if size <= rest.len() => Some(size),
        Some(_) => {
            let problem = format!("is not a number of bytes, or more than the {} that follow the JSON", rest.len());
            violations.add(format!("{path}.parameters.binary_data_size"), problem);
            return None;
        }
    };
    let raw = size.map(|size| {
        let (tensor, others) = rest.split_at(size);
        *rest = others;
        tensor.to_vec()
    });
    let contents = match input.data.kind() {
        None => None,
        Some(Kind::List) => {
            let texts = input.data.nested_texts(&format!("{path}.data"), limits, violations)?;
            let bytes_contents = texts.into_iter().map(String::into_bytes).collect();
            Some(proto::InferTensorContents { bytes_contents, ..Default::default() })
        }
        Some(kind) => {
            violations.add(format!("{path}.data"), format!("is {kind}; send a list of strings"));
            return None;
        }
    };
    Some((InferInputTensor { name, datatype, shape, parameters, contents }, raw))
}

fn outputs(
    field: Field<'_>,
    binary: &mut Binary,
    violations: &mut Violations,
) -> Option<Vec<InferRequestedOutputTensor>> {
    if !field.is_given() {
        return Some(Vec::new());
    }
    let mut outputs = Vec::new();
    for (index, output) in field.elements("outputs", MAX_OUTPUTS, violations)?.into_iter().enumerate() {
        let path = format!("outputs[{index}]");
        let output: InferOutput<'_> = output.object(&path, violations)?;
        let name = output.name.text(&format!("{path}.name"), "send a string", violations).unwrap_or_default();
        let path = format!("{path}.parameters");
        let given: TensorParameters<'_> = output.parameters.object(&path, violations).unwrap_or_default();
        if given.binary_data.is_given() {
            let is_binary = given.binary_data.boolean(&format!("{path}.binary_data"), false, violations);
            binary.outputs.insert(name.clone(), is_binary);
        }
        outputs.push(InferRequestedOutputTensor { name, parameters: unsupported(&given) });
    }
    Some(outputs)
}

/// Parameters that this server rejects.
fn unsupported(given: &TensorParameters<'_>) -> HashMap<String, proto::InferParameter> {
    let fields = [("shared_memory_region", given.shared_memory_region), ("classification", given.classification)];
    let is_requested = |field: Field<'_>| field.is_given() && field.raw() != Some("0");
    let names = fields.into_iter().filter(|(_, field)| is_requested(*field)).map(|(name, _)| name.to_owned());
    names.map(|name| (name, proto::InferParameter::default())).collect()
}
