//! Converts results to messages.

use std::collections::HashMap;

use super::tensor::{BYTES, EMBEDDING, FP32, Form, TEXT};
use crate::embed::{Embedded, Embedder};
use embedd_proto::open_inference as proto;
use embedd_proto::open_inference::model_infer_response::InferOutputTensor;
use embedd_proto::open_inference::model_metadata_response::TensorMetadata;

/// The only version of the model.
pub(super) const VERSION: &str = "1";
/// A dimension of any size.
const ANY: i64 = -1;

pub(super) fn server() -> proto::ServerMetadataResponse {
    proto::ServerMetadataResponse {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: Vec::new(),
    }
}

pub(super) fn metadata(embedder: &Embedder) -> proto::ModelMetadataResponse {
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
        outputs: vec![tensor(EMBEDDING, FP32, vec![ANY, dimension])],
        properties: HashMap::new(),
    }
}

/// The reply, which repeats the model name that the request used.
pub(super) fn inferred(
    embedded: Embedded,
    dimensions: usize,
    form: Form,
    model_name: String,
    id: String,
) -> proto::ModelInferResponse {
    let shape = vec![embedded.embeddings.len() as i64, dimensions as i64];
    let values = embedded.embeddings.into_iter().flat_map(|embedding| embedding.values);
    let (contents, raw_output_contents) = match form {
        Form::Typed => {
            let contents = proto::InferTensorContents { fp32_contents: values.collect(), ..Default::default() };
            (Some(contents), Vec::new())
        }
        Form::Raw => (None, vec![values.flat_map(f32::to_le_bytes).collect()]),
    };
    let output = InferOutputTensor {
        name: EMBEDDING.to_owned(),
        datatype: FP32.to_owned(),
        shape,
        parameters: HashMap::new(),
        contents,
    };
    proto::ModelInferResponse {
        model_name,
        model_version: VERSION.to_owned(),
        id,
        parameters: HashMap::new(),
        outputs: vec![output],
        raw_output_contents,
    }
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
        let reply = |form| inferred(embedded(), 2, form, "model".to_owned(), "7".to_owned());
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
