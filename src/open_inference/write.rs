//! Converts results to messages.

use std::collections::HashMap;

use super::read::InferCall;
use super::tensor::{BYTES, Form, Output, TEXT};
use crate::embed::{Embedded, Embedder, Embedding};
use crate::encoding::{Encoder, Encoding};
use crate::request::EmbedRequest;
use embedd_proto::open_inference as proto;
use embedd_proto::open_inference::model_infer_response::InferOutputTensor;
use embedd_proto::open_inference::model_metadata_response::TensorMetadata;

/// The only version of the model.
pub(super) const VERSION: &str = "1";
/// A dimension of any size.
const ANY: i64 = -1;

pub(crate) fn server() -> proto::ServerMetadataResponse {
    proto::ServerMetadataResponse {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: Vec::new(),
    }
}

pub(crate) fn metadata(embedder: &Embedder) -> proto::ModelMetadataResponse {
    let model = embedder.model();
    let dimension = embedder.limits().dimension as i64;
    let tensor = |name: &str, datatype: &str, shape| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape,
    };
    proto::ModelMetadataResponse {
        name: model.names.main().to_owned(),
        versions: vec![VERSION.to_owned()],
        platform: format!("{}_{}", env!("CARGO_PKG_NAME"), model.variant),
        inputs: vec![tensor(TEXT.all(), BYTES, vec![ANY])],
        outputs: vec![
            tensor(Output::Embedding.name(), "FP32", vec![ANY, dimension]),
            tensor(Output::TokenCount.name(), "INT32", vec![ANY]),
        ],
        properties: HashMap::new(),
    }
}

/// What a reply to a request contains, besides the vectors.
#[derive(Debug)]
pub(crate) struct ReplyForm {
    form: Form,
    outputs: Vec<Output>,
    encoder: Encoder,
}

impl ReplyForm {
    /// The same with raw contents.
    pub(crate) fn raw(self) -> Self {
        Self { form: Form::Raw, ..self }
    }
}

impl InferCall {
    /// The request, and the form of its reply.
    pub(crate) fn split(self) -> (EmbedRequest, ReplyForm) {
        let Self { request, form, outputs, encoder } = self;
        // The protocol has no typed contents for FP16.
        let form = if encoder.encoding == Encoding::Float16 { Form::Raw } else { form };
        (request, ReplyForm { form, outputs, encoder })
    }
}

/// The reply, which repeats the model name that the request used.
pub(crate) fn inferred(
    embedded: &Embedded,
    form: &ReplyForm,
    model_name: String,
    id: String,
) -> proto::ModelInferResponse {
    let embeddings = embedded.embeddings.as_slice();
    let mut outputs = Vec::new();
    let mut raw_output_contents = Vec::new();
    for output in &form.outputs {
        let tensor = match output {
            Output::Embedding | Output::Embeddings => vectors(embeddings, &form.encoder),
            Output::TokenCount => counts(embeddings),
        };
        let contents = match form.form {
            Form::Typed => Some(tensor.typed),
            Form::Raw => {
                raw_output_contents.push(tensor.raw);
                None
            }
        };
        let Tensor { datatype, shape, .. } = tensor;
        outputs.push(InferOutputTensor {
            name: output.name().to_owned(),
            datatype: datatype.to_owned(),
            shape,
            parameters: HashMap::new(),
            contents,
        });
    }
    proto::ModelInferResponse {
        model_name,
        model_version: VERSION.to_owned(),
        id,
        parameters: HashMap::new(),
        outputs,
        raw_output_contents,
    }
}

/// An output in both forms.
struct Tensor {
    datatype: &'static str,
    shape: Vec<i64>,
    typed: proto::InferTensorContents,
    raw: Vec<u8>,
}

fn vectors(embeddings: &[Embedding], encoder: &Encoder) -> Tensor {
    let raw: Vec<u8> = embeddings.iter().flat_map(|embedding| encoder.pack(&embedding.values)).collect();
    let (datatype, bytes) = encoder.encoding.datatype();
    let columns = raw.len() / embeddings.len().max(1) / bytes;
    let mut typed = proto::InferTensorContents::default();
    match encoder.encoding {
        Encoding::Int8 | Encoding::Binary => {
            typed.int_contents = raw.iter().map(|byte| i32::from(*byte as i8)).collect();
        }
        Encoding::Uint8 | Encoding::Ubinary => typed.uint_contents = raw.iter().map(|byte| u32::from(*byte)).collect(),
        Encoding::Float | Encoding::Base64 | Encoding::Float16 => {
            typed.fp32_contents = embeddings.iter().flat_map(|embedding| embedding.values.iter().copied()).collect();
        }
    }
    Tensor { datatype, shape: vec![embeddings.len() as i64, columns as i64], typed, raw }
}

fn counts(embeddings: &[Embedding]) -> Tensor {
    let counts: Vec<i32> = embeddings.iter().map(|embedding| embedding.token_count as i32).collect();
    let raw = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let typed = proto::InferTensorContents { int_contents: counts, ..Default::default() };
    Tensor { datatype: "INT32", shape: vec![embeddings.len() as i64], typed, raw }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{Embedding, Timeline, Timings};

    #[test]
    fn a_reply_has_the_form_of_its_request() {
        let embedded = || {
            let vectors = [[1.0, -2.5], [0.0, 3.0]].map(|values| Embedding {
                values: values.to_vec(),
                token_count: 3,
                truncated: false,
                cached: false,
            });
            Embedded { embeddings: vectors.into(), timings: Timings::default(), timeline: Timeline::default() }
        };
        let reply = |form| {
            let form = ReplyForm { form, outputs: vec![Output::Embedding], encoder: Encoder::plain(Encoding::Float) };
            inferred(&embedded(), &form, "model".to_owned(), "7".to_owned())
        };
        let typed = reply(Form::Typed);
        let raw = reply(Form::Raw);
        for reply in [&typed, &raw] {
            assert_eq!(
                (reply.model_name.as_str(), reply.model_version.as_str(), reply.id.as_str()),
                ("model", "1", "7")
            );
            let output = &reply.outputs[0];
            assert_eq!((output.name.as_str(), output.datatype.as_str()), ("embedding", "FP32"));
            assert_eq!(output.shape, [2, 2]);
        }
        assert_eq!(typed.outputs[0].contents.clone().expect("contents").fp32_contents, [1.0, -2.5, 0.0, 3.0]);
        assert!(typed.raw_output_contents.is_empty() && raw.outputs[0].contents.is_none());
        assert_eq!(raw.raw_output_contents, [b"\x00\x00\x80\x3f\x00\x00\x20\xc0\x00\x00\x00\x00\x00\x00\x40\x40"]);
    }
}
