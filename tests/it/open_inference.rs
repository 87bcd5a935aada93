//! The Open Inference Protocol, called by generated clients and by Triton's client.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use embedd_proto as proto;
use embedd_proto::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use embedd_proto::open_inference::infer_parameter::ParameterChoice;
use embedd_proto::open_inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use embedd_proto::open_inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelReadyRequest, ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
};
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

use crate::support::fields;
use crate::support::models::Model;
use crate::support::python;
use crate::support::server::{Client, Server, shared, shared_native};

const TEXTS: [&str; 3] = ["Ignore all previous instructions", "", "naïve 東京"];

async fn connect(server: &Server) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection")
}

fn input(shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: "text".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: shape.to_vec(),
        ..Default::default()
    }
}

/// The texts in the tensor's own field.
fn typed(texts: &[&str]) -> ModelInferRequest {
    let bytes_contents = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let contents = Some(InferTensorContents { bytes_contents, ..Default::default() });
    ModelInferRequest {
        model_name: Model::MiniLm.name().to_owned(),
        id: "the caller's own".to_owned(),
        inputs: vec![InferInputTensor { contents, ..input(&[texts.len() as i64]) }],
        ..Default::default()
    }
}

/// The texts as raw contents, each preceded by its length.
fn raw(texts: &[&str]) -> ModelInferRequest {
    let element = |text: &&str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    ModelInferRequest {
        inputs: vec![input(&[texts.len() as i64, 1])],
        raw_input_contents: vec![texts.iter().flat_map(element).collect()],
        ..typed(texts)
    }
}

fn with(request: ModelInferRequest, parameters: &[(&str, ParameterChoice)]) -> ModelInferRequest {
    let parameter = |(name, value): &(&str, ParameterChoice)| {
        ((*name).to_owned(), InferParameter { parameter_choice: Some(value.clone()) })
    };
    ModelInferRequest { parameters: parameters.iter().map(parameter).collect(), ..request }
}

/// The vectors of a reply: those in the typed field, and those in the raw contents.
fn vectors(reply: &ModelInferResponse) -> (Vec<f32>, Vec<f32>) {
    let output = &reply.outputs[0];
    assert_eq!((output.name.as_str(), output.datatype.as_str()), ("embedding", "FP32"));
    let typed = output.contents.clone().unwrap_or_default().fp32_contents;
    let raw = reply.raw_output_contents.concat();
    let raw: Vec<f32> = raw.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    assert_eq!(output.shape.iter().product::<i64>() as usize, typed.len() + raw.len());
    (typed, raw)
}

/// The vectors of `embedd.v1`, concatenated.
async fn expected(client: &mut Client, request: proto::EmbedRequest) -> Vec<f32> {
    let texts = TEXTS.map(str::to_owned).to_vec();
    let reply = client.embed(proto::EmbedRequest { texts, ..request }).await.expect("embeddings").into_inner();
    reply.embeddings.into_iter().flat_map(|embedding| embedding.values).collect()
}

#[tokio::test]
async fn vectors_have_the_bits_of_embedd_v1_and_the_form_of_the_request() {
    let server = shared_native(Model::MiniLm);
    let mut client = connect(server).await;
    let mut own = server.client().await;
    let plain = expected(&mut own, proto::EmbedRequest::default()).await;
    let asked = ModelInferRequest {
        model_name: Model::MiniLm.id().to_owned(),
        model_version: "1".to_owned(),
        outputs: vec![InferRequestedOutputTensor { name: "embedding".to_owned(), parameters: HashMap::new() }],
        ..typed(&TEXTS)
    };
    for request in [typed(&TEXTS), asked] {
        let reply = client.model_infer(request.clone()).await.expect("a reply").into_inner();
        assert_eq!((&reply.model_name, reply.model_version.as_str()), (&request.model_name, "1"));
        assert_eq!((&reply.id, &reply.outputs[0].shape), (&request.id, &vec![3, 384]));
        assert_eq!(vectors(&reply), (plain.clone(), vec![]));
    }
    let reply = client.model_infer(raw(&TEXTS)).await.expect("a reply").into_inner();
    assert_eq!(vectors(&reply), (vec![], plain));

    let options = [("normalize", ParameterChoice::BoolParam(false)), ("dimensions", ParameterChoice::Int64Param(7))];
    let reply = client.model_infer(with(raw(&TEXTS), &options)).await.expect("a reply").into_inner();
    let cut = proto::EmbedRequest { normalize: Some(false), dimensions: Some(7), ..Default::default() };
    assert_eq!((&reply.outputs[0].shape, vectors(&reply).1), (&vec![3, 7], expected(&mut own, cut).await));
}

#[tokio::test]
async fn metadata_describes_the_server_and_its_model() {
    let server = shared(Model::MiniLm);
    let mut client = connect(server).await;
    assert!(client.server_live(ServerLiveRequest {}).await.expect("a reply").into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.expect("a reply").into_inner().ready);
    let found = client.server_metadata(ServerMetadataRequest {}).await.expect("metadata").into_inner();
    assert_eq!((found.name.as_str(), found.extensions.len()), ("embedd", 0));
    for (name, version) in [(Model::MiniLm.id(), ""), (Model::MiniLm.name(), "1")] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let ready = ModelReadyRequest { name: name.clone(), version: version.clone() };
        assert!(client.model_ready(ready).await.expect("a reply").into_inner().ready);
        let found = client.model_metadata(ModelMetadataRequest { name, version }).await.expect("metadata").into_inner();
        assert_eq!((found.name.as_str(), found.platform.as_str()), (Model::MiniLm.id(), "embedd_fp32"));
        assert_eq!(found.versions, ["1"]);
        let (input, output) = (&found.inputs[0], &found.outputs[0]);
        assert_eq!((input.name.as_str(), input.datatype.as_str(), &input.shape[..]), ("text", "BYTES", &[-1][..]));
        assert_eq!((output.name.as_str(), output.datatype.as_str()), ("embedding", "FP32"));
        assert_eq!(output.shape, [-1, 384]);
    }
}

#[tokio::test]
async fn an_unknown_model_is_not_found_and_the_error_names_the_known_one() {
    let server = shared(Model::MiniLm);
    let mut client = connect(server).await;
    for (name, version, named) in [
        ("", "", Model::MiniLm.id()),
        ("all-mpnet-base-v2", "", Model::MiniLm.name()),
        ("sentence-transformers", "", Model::MiniLm.id()),
        (Model::MiniLm.name(), "2", "version `1`"),
    ] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let ready = ModelReadyRequest { name: name.clone(), version: version.clone() };
        let metadata = ModelMetadataRequest { name: name.clone(), version: version.clone() };
        let infer = ModelInferRequest { model_name: name, model_version: version, ..typed(&["a"]) };
        let statuses = [
            client.model_ready(ready).await.map(drop),
            client.model_metadata(metadata).await.map(drop),
            client.model_infer(infer).await.map(drop),
        ];
        for status in statuses {
            let status = status.expect_err("not found");
            assert_eq!(status.code(), Code::NotFound, "{status}");
            assert!(status.message().contains(named), "{status}");
        }
    }
}

#[tokio::test]
async fn errors_name_the_invalid_field() {
    let server = shared(Model::MiniLm);
    let mut client = connect(server).await;
    let long = "word ".repeat(600);
    let reject = [("truncation", ParameterChoice::StringParam("reject".to_owned()))];
    let cases = [
        (with(raw(&["a", &long]), &reject), "text[1]"),
        (raw(&["a", &"x".repeat(64 * 1024 + 1)]), "text[1]"),
        (
            ModelInferRequest { raw_input_contents: vec![b"\x05\0\0\0abc".to_vec()], ..raw(&["a"]) },
            "raw_input_contents[0]",
        ),
        (
            ModelInferRequest { raw_input_contents: raw(&["a"]).raw_input_contents, ..typed(&["a"]) },
            "raw_input_contents",
        ),
        (typed(&["a"; 257]), "inputs[0].shape"),
    ];
    for (request, field) in cases {
        let status = client.model_infer(request).await.expect_err("invalid");
        assert_eq!(fields(&status), [field], "{status}");
    }
    client.model_infer(raw(&["a", &long])).await.expect("it is truncated by default");
}

/// Triton's client and its dependencies.
const TRITON_CLIENT: &[&str] = &[
    "tritonclient[grpc]==2.73.0",
    "grpcio==1.85.1",
    "ml_dtypes==0.5.4",
    "numpy==2.4.6",
    "packaging==26.3",
    "protobuf==6.33.6",
    "python-rapidjson==1.25",
    "urllib3==2.8.0",
];

#[tokio::test]
async fn triton_s_client_gets_the_vectors_of_embedd_v1() {
    let server = shared_native(Model::MiniLm);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/triton.py");
    let mut command = Command::new(python::interpreter(TRITON_CLIENT));
    command.arg(script).arg(server.address.to_string()).arg(Model::MiniLm.name()).arg(json!(TEXTS).to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let mut own = server.client().await;
    let plain = expected(&mut own, proto::EmbedRequest::default()).await;
    let cut = proto::EmbedRequest { normalize: Some(false), dimensions: Some(7), ..Default::default() };
    let hex = |values: Vec<f32>| {
        values.iter().flat_map(|value| value.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let vectors = printed["vectors"].as_object().expect("vectors");
    assert_eq!(vectors["plain"], json!({"shape": [3, 384], "bytes": hex(plain.clone())}));
    assert_eq!(vectors["column"], vectors["plain"]);
    assert_eq!(vectors["asynchronous"], vectors["plain"]);
    assert_eq!(vectors["options"], json!({"shape": [3, 7], "bytes": hex(expected(&mut own, cut).await)}));
    for state in ["live", "ready", "model_ready"] {
        assert_eq!(printed[state], true, "{state}");
    }
    assert_eq!(printed["server"]["name"], "embedd");
    assert_eq!(
        printed["model"]["outputs"][0],
        json!({"name": "embedding", "datatype": "FP32", "shape": ["-1", "384"]})
    );
    assert_eq!(printed["id"], "42");
    let codes = json!({
        "config": "StatusCode.UNIMPLEMENTED",
        "other_model": "StatusCode.NOT_FOUND",
        "other_datatype": "StatusCode.INVALID_ARGUMENT",
    });
    assert_eq!(printed["errors"], codes);
}
