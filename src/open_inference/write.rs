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

impl InferCall {
    /// The request, and the form of its reply: that of the request, unless it must be raw.
    pub(crate) fn split(self, must_be_raw: bool) -> (EmbedRequest, ReplyForm) {
        let Self { request, form, outputs, encoder } = self;
        // The protocol has no typed contents for FP16.
        let is_raw = must_be_raw || encoder.encoding == Encoding::Float16;
        let form = if is_raw { Form::Raw } else { form };
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
        let Tensor { datatype, shape, contents } = match output {
            Output::Embedding | Output::Embeddings => vectors(embeddings, &form.encoder, form.form),
            Output::TokenCount => counts(embeddings, form.form),
        };
        let contents = match contents {
            Contents::Typed(typed) => Some(typed),
            Contents::Raw(raw) => {
                raw_output_contents.push(raw);
                None
            }
        };
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

struct Tensor {
    datatype: &'static str,
    shape: Vec<i64>,
    contents: Contents,
}

enum Contents {
    Typed(proto::InferTensorContents),
    Raw(Vec<u8>),
}

fn vectors(embeddings: &[Embedding], encoder: &Encoder, form: Form) -> Tensor {
    let (datatype, element_bytes) = encoder.encoding.datatype();
    let typed_floats = form == Form::Typed && datatype == "FP32";
    let (elements, contents) = if typed_floats {
        let floats: Vec<f32> = embeddings.iter().flat_map(|embedding| embedding.values.iter().copied()).collect();
        let elements = floats.len();
        (elements, Contents::Typed(proto::InferTensorContents { fp32_contents: floats, ..Default::default() }))
    } else {
        let packed: Vec<u8> = embeddings.iter().flat_map(|embedding| encoder.pack(&embedding.values)).collect();
        let elements = packed.len() / element_bytes;
        let contents = match form {
            Form::Raw => Contents::Raw(packed),
            Form::Typed => Contents::Typed(integers(datatype, &packed)),
        };
        (elements, contents)
    };
    let rows = embeddings.len();
    Tensor { datatype, shape: vec![rows as i64, (elements / rows.max(1)) as i64], contents }
}

/// Bytes in the field for their datatype.
fn integers(datatype: &str, bytes: &[u8]) -> proto::InferTensorContents {
    let mut typed = proto::InferTensorContents::default();
    if datatype == "INT8" {
        typed.int_contents = bytes.iter().map(|byte| i32::from(*byte as i8)).collect();
    } else {
        typed.uint_contents = bytes.iter().map(|byte| u32::from(*byte)).collect();
    }
    typed
}

fn counts(embeddings: &[Embedding], form: Form) -> Tensor {
    let counts = embeddings.iter().map(|embedding| embedding.token_count as i32);
    let contents = match form {
        Form::Typed => {
            Contents::Typed(proto::InferTensorContents { int_contents: counts.collect(), ..Default::default() })
        }
        Form::Raw => Contents::Raw(counts.flat_map(i32::to_le_bytes).collect()),
    };
    Tensor { datatype: "INT32", shape: vec![embeddings.len() as i64], contents }
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
