//! Serializes replies.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::api;
use super::super::api::refusal::Refusal;
use super::JSON_LENGTH;
use super::read::Binary;
use crate::embed::Embedder;
use crate::open_inference;
use embedd_proto::open_inference as proto;

/// The server.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ServerMetadata {
    name: String,
    version: String,
    extensions: [&'static str; 1],
}

/// The model.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ModelMetadata {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

/// A tensor of the model; -1 is a dimension of any size.
#[derive(Debug, Serialize, ToSchema)]
struct TensorMetadata {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// The reply to an inference request.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct InferResponse {
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    outputs: Vec<OutputTensor>,
}

/// An output.
#[derive(Debug, Serialize, ToSchema)]
struct OutputTensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    /// The elements in row-major order, unless they follow the JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<f32>>)]
    data: Option<Data>,
}

#[derive(Debug, Serialize, ToSchema)]
struct OutputParameters {
    binary_data_size: usize,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data {
    Floats(Vec<f32>),
    Signed(Vec<i32>),
    Unsigned(Vec<u32>),
}

pub(super) fn server() -> ServerMetadata {
    let proto::ServerMetadataResponse { name, version, .. } = open_inference::server();
    ServerMetadata { name, version, extensions: ["binary_tensor_data"] }
}

pub(super) fn metadata(embedder: &Embedder) -> ModelMetadata {
    let proto::ModelMetadataResponse { name, versions, platform, inputs, outputs, .. } =
        open_inference::metadata(embedder);
    let tensor = |tensor: proto::model_metadata_response::TensorMetadata| TensorMetadata {
        name: tensor.name,
        datatype: tensor.datatype,
        shape: tensor.shape,
    };
    ModelMetadata {
        name,
        versions,
        platform,
        inputs: inputs.into_iter().map(tensor).collect(),
        outputs: outputs.into_iter().map(tensor).collect(),
    }
}

/// The JSON of a reply, and the binary tensors that follow it.
pub(super) fn infer(reply: proto::ModelInferResponse, binary: &Binary) -> (InferResponse, Vec<u8>) {
    let mut raw = Vec::new();
    let mut contents = reply.raw_output_contents.into_iter();
    let mut outputs = Vec::new();
    for output in reply.outputs {
        let mut tensor = OutputTensor {
            name: output.name,
            datatype: output.datatype,
            shape: output.shape,
            parameters: None,
            data: None,
        };
        if let Some(typed) = output.contents {
            tensor.data = Some(typed_numbers(&tensor.datatype, typed));
        } else {
            let bytes = contents.next().unwrap_or_default();
            if binary.has(&tensor.name) {
                tensor.parameters = Some(OutputParameters { binary_data_size: bytes.len() });
                raw.extend(bytes);
            } else {
                tensor.data = Some(numbers(&tensor.datatype, &bytes));
            }
        }
        outputs.push(tensor);
    }
    let proto::ModelInferResponse { model_name, model_version, id, .. } = reply;
    (InferResponse { model_name, model_version, id, outputs }, raw)
}

/// The elements of a typed tensor.
fn typed_numbers(datatype: &str, contents: proto::InferTensorContents) -> Data {
    match datatype {
        "INT32" | "INT8" => Data::Signed(contents.int_contents),
        "UINT8" => Data::Unsigned(contents.uint_contents),
        _ => Data::Floats(contents.fp32_contents),
    }
}

/// The elements of a raw tensor.
fn numbers(datatype: &str, bytes: &[u8]) -> Data {
    let words = bytes.as_chunks().0.iter();
    match datatype {
        "INT32" => Data::Signed(words.map(|word| i32::from_le_bytes(*word)).collect()),
        "INT8" => Data::Signed(bytes.iter().map(|byte| i32::from(*byte as i8)).collect()),
        "UINT8" => Data::Unsigned(bytes.iter().map(|byte| u32::from(*byte)).collect()),
        "FP16" => {
            let halves = bytes.as_chunks().0.iter();
            Data::Floats(halves.map(|half| half::f16::from_le_bytes(*half).to_f32()).collect())
        }
        _ => Data::Floats(words.map(|word| f32::from_le_bytes(*word)).collect()),
    }
}

/// The response: JSON alone, or followed by binary tensors.
pub(super) fn response(floats: usize, reply: &InferResponse, binary: Vec<u8>) -> Result<Response, Refusal> {
    let serialize = || serde_json::to_vec(reply);
    if reply.outputs.iter().all(|output| output.data.is_some()) {
        return api::reply(floats, serialize);
    }
    let mut body = serialize()?;
    let length = body.len();
    body.extend(binary);
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(HeaderName::from_static(JSON_LENGTH), length.into());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_tensors_become_numbers() {
        let values = |data| serde_json::to_value(data).expect("JSON");
        assert_eq!(values(numbers("FP32", &[0, 0, 128, 63])), serde_json::json!([1.0]));
        assert_eq!(values(numbers("FP16", &[0, 60])), serde_json::json!([1.0]));
        assert_eq!(values(numbers("INT32", &[7, 0, 0, 0])), serde_json::json!([7]));
        assert_eq!(values(numbers("INT8", &[255])), serde_json::json!([-1]));
        assert_eq!(values(numbers("UINT8", &[255])), serde_json::json!([255]));
    }
}
