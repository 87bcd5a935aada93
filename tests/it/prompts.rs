//! Prompts: texts that precede the texts of requests, as in sentence-transformers' `encode(..., prompt_name=...)`.
//!
//! The model's prompts are `query` (`bron? `), `document` (empty) and `tag` (`<mask> fi: `), the default.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use embedd_model::accuracy::cosine;
use embedd_model::reference::ReferenceSet;
use embedd_model::{Model, PromptChoice, SessionOptions};
use embedd_proto::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use embedd_proto::open_inference::infer_parameter::ParameterChoice;
use embedd_proto::open_inference::model_infer_request::InferInputTensor;
use embedd_proto::open_inference::{InferParameter, InferTensorContents, ModelInferRequest};
use embedd_proto::tei::embed_client::EmbedClient;
use embedd_proto::{EmbedRequest, Embedding, GetModelRequest, tei};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::fields;
use crate::support::http::post;
use crate::support::models::runtime;
use crate::support::server::{Client, Server, command, embed, fails_to_serve, serve, temporary_folder};

const MIN_COSINE: f64 = 0.99999;
const TEXT: &str = "bal vin";

/// What PyTorch computes: for the texts with the default prompt, and with the prompt `query`.
struct Expected {
    default: ReferenceSet,
    query: Vec<Vec<f32>>,
}

/// The bundle, with the accuracy of its models compared with PyTorch.
fn bundle() -> PathBuf {
    static CONVERTED: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let (folder, path) = temporary_folder();
        let bundle = path.join("bert-default-prompt");
        let mut convert = command();
        convert.args(["convert", "--no-report", "--allow-inaccurate", "--model"]).arg(model());
        convert.arg("--reference").arg(reference()).arg("--output").arg(&bundle);
        let output = convert.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        (folder, bundle)
    });
    CONVERTED.1.clone()
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/bert-default-prompt")
}

fn reference() -> PathBuf {
    model().with_extension("expected.safetensors")
}

fn expected() -> Expected {
    let bytes = fs::read(reference()).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("tensors");
    let query = file.tensor("query/embeddings").expect("a tensor");
    let width = query.shape()[1];
    let values: Vec<f32> = query.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Expected {
        default: ReferenceSet::read(&reference()).expect("the reference"),
        query: values.chunks(width).map(<[f32]>::to_vec).collect(),
    }
}

fn start(flags: &[&str]) -> Server {
    let server = Server::spawn(&mut serve(&bundle(), flags));
    server.wait_for_line("ready");
    server
}

fn request(texts: &[&str], prompt_name: Option<&str>) -> EmbedRequest {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    EmbedRequest { texts, prompt_name: prompt_name.map(str::to_owned), ..EmbedRequest::default() }
}

async fn embed_with(client: &mut Client, texts: &[&str], prompt_name: Option<&str>) -> Vec<Embedding> {
    client.embed(request(texts, prompt_name)).await.expect("embeddings").into_inner().embeddings
}

async fn values(client: &mut Client, prompt_name: Option<&str>) -> Vec<f32> {
    embed_with(client, &[TEXT], prompt_name).await.remove(0).values
}

#[tokio::test]
async fn texts_have_the_embeddings_of_pytorch_with_every_prompt() {
    let server = start(&["--engine", "fp32"]);
    let mut client = server.client().await;
    let Expected { default, query } = expected();
    let texts: Vec<&str> = default.texts.iter().map(|text| text.text.as_str()).collect();
    let with_default = embed_with(&mut client, &texts, None).await;
    let with_query = embed_with(&mut client, &texts, Some("query")).await;
    for (index, text) in default.texts.iter().enumerate() {
        let alone = embed(&mut client, &[&text.text]).await.embeddings.remove(0);
        for found in [&alone, &with_default[index]] {
            assert_eq!(found.token_count, text.token_count, "{}", text.id);
            let cosine = cosine(&found.values, &text.embedding);
            assert!(cosine >= MIN_COSINE, "{}: {cosine}", text.id);
        }
        let cosine = cosine(&with_query[index].values, &query[index]);
        assert!(cosine >= MIN_COSINE, "{} with `query`: {cosine}", text.id);
    }

    let none = values(&mut client, Some("")).await;
    assert_eq!(values(&mut client, Some("document")).await, none, "an empty prompt changes nothing");
    let by_hand = embed_with(&mut client, &[&format!("bron? {TEXT}")], Some("")).await.remove(0).values;
    assert_eq!(values(&mut client, Some("query")).await, by_hand);
    assert_ne!(values(&mut client, None).await, none);
}

#[test]
fn the_model_in_process_has_the_same_prompts() {
    let runtime = runtime();
    let options = SessionOptions { threads: std::num::NonZeroUsize::MIN };
    // The accuracy of quantized random weights does not matter here.
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let mut convert = command();
    convert.args(["convert", "--precision", "fp32", "--model"]).arg(model()).arg("--output").arg(&bundle);
    assert!(convert.output().expect("the program runs").status.success());
    let mut model = Model::open(&bundle, &runtime, options).expect("a model");
    assert_eq!(model.prompts().names().collect::<Vec<_>>(), ["document", "query", "tag"]);

    let Expected { default, query } = expected();
    let texts: Vec<&str> = default.texts.iter().map(|text| text.text.as_str()).collect();
    let with_default = model.embed(&texts).expect("embeddings");
    let with_query = model.embed_with_prompt(&texts, &PromptChoice::named("query")).expect("embeddings");
    for (index, text) in default.texts.iter().enumerate() {
        for (found, expected) in [(&with_default, &text.embedding), (&with_query, &query[index])] {
            let cosine = cosine(&found.row(index).to_vec(), expected);
            assert!(cosine >= MIN_COSINE, "{}: {cosine}", text.id);
        }
    }
    let error = model.embed_with_prompt(&texts, &PromptChoice::named("x")).expect_err("unknown").to_string();
    assert_eq!(error, "the prompt `x` is unknown; the model has the prompts `document`, `query`, `tag`");
}

#[tokio::test]
async fn every_protocol_chooses_the_prompt_by_name() {
    let server = start(&["--engine", "native"]);
    let mut own = server.client().await;
    let mut tei = EmbedClient::connect(server.url()).await.expect("a connection");
    let mut triton = GrpcInferenceServiceClient::connect(server.url()).await.expect("a connection");
    for name in [None, Some(""), Some("query"), Some("document"), Some("tag")] {
        let expected = values(&mut own, name).await;
        let request = tei::EmbedRequest {
            inputs: TEXT.to_owned(),
            prompt_name: name.map(str::to_owned),
            ..tei::EmbedRequest::default()
        };
        assert_eq!(tei.embed(request).await.expect("a vector").into_inner().embeddings, expected, "{name:?}");
        let reply = triton.model_infer(infer(name)).await.expect("a vector").into_inner();
        let contents = reply.outputs[0].contents.clone().expect("contents");
        assert_eq!(contents.fp32_contents, expected, "{name:?}");
        let found = openai(&server, &json!({ "prompt_name": name }));
        assert_eq!(found, (200, json!(expected)), "{name:?}");
        assert_eq!(command_line(&server, name), expected, "{name:?}");
    }
    let mut stream = own.embed_stream(tokio_stream::iter([request(&[TEXT], Some("query"))])).await.expect("a stream");
    let reply = stream.get_mut().message().await.expect("no error").expect("a reply");
    assert_eq!(reply.embeddings[0].values, values(&mut own, Some("query")).await);
    for (input_type, name) in [("query", "query"), ("search_query", "query"), ("passage", "document"), ("tag", "tag")] {
        let expected = json!(values(&mut own, Some(name)).await);
        assert_eq!(openai(&server, &json!({ "input_type": input_type })), (200, expected), "{input_type}");
    }
}

fn infer(prompt_name: Option<&str>) -> ModelInferRequest {
    let parameter =
        |name: &str| InferParameter { parameter_choice: Some(ParameterChoice::StringParam(name.to_owned())) };
    let contents = InferTensorContents { bytes_contents: vec![TEXT.as_bytes().to_vec()], ..Default::default() };
    let input = InferInputTensor {
        name: "text".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![1],
        contents: Some(contents),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "bert-default-prompt".to_owned(),
        parameters: prompt_name.map(|name| ("prompt_name".to_owned(), parameter(name))).into_iter().collect(),
        inputs: vec![input],
        ..Default::default()
    }
}

/// The status, and the vector or the error.
fn openai(server: &Server, further: &Value) -> (u16, Value) {
    let mut body = json!({ "model": "bert-default-prompt", "input": TEXT });
    let fields = further.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    let headers = [("content-type", "application/json")];
    let answer = post(server.http(), "/v1/embeddings", &headers, &body.to_string());
    let reply: Value = serde_json::from_str(&answer.body).expect("JSON");
    let vector = &reply["data"][0]["embedding"];
    if answer.status != 200 {
        return (answer.status, reply["error"].clone());
    }
    let values: Vec<f32> = serde_json::from_value(vector.clone()).expect("numbers");
    (answer.status, json!(values))
}

fn command_line(server: &Server, prompt_name: Option<&str>) -> Vec<f32> {
    let mut embed = command();
    embed.args(["embed", TEXT, "--server", &server.address.to_string()]);
    if let Some(name) = prompt_name {
        embed.args(["--prompt", name]);
    }
    let output = embed.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    serde_json::from_value(row["embedding"].clone()).expect("numbers")
}

#[tokio::test]
async fn an_unknown_prompt_is_rejected_with_the_known_ones() {
    let server = start(&["--engine", "fp32"]);
    let known = "is `Query`; the model has the prompts `document`, `query`, `tag`";
    let check = |status: &Status| {
        assert_eq!((status.code(), fields(status)), (Code::InvalidArgument, vec!["prompt_name".to_owned()]));
        assert!(status.message().contains(known), "{status}");
    };
    let mut own = server.client().await;
    check(&own.embed(request(&[TEXT], Some("Query"))).await.expect_err("unknown"));
    let mut tei = EmbedClient::connect(server.url()).await.expect("a connection");
    let prompt_name = Some("Query".to_owned());
    let unknown = tei::EmbedRequest { inputs: TEXT.to_owned(), prompt_name, ..Default::default() };
    check(&tei.embed(unknown).await.expect_err("unknown"));
    let mut triton = GrpcInferenceServiceClient::connect(server.url()).await.expect("a connection");
    check(&triton.model_infer(infer(Some("Query"))).await.expect_err("unknown"));
    for field in ["prompt_name", "input_type"] {
        let (status, error) = openai(&server, &json!({ field: "Query" }));
        assert_eq!((status, &error["param"]), (400, &json!(field)));
        assert!(error["message"].as_str().is_some_and(|message| message.contains(known)), "{error}");
    }
}

#[tokio::test]
async fn cached_vectors_belong_to_their_prompt() {
    let server = start(&["--engine", "native", "--cache-bytes", "1MiB"]);
    let mut client = server.client().await;
    let mut found = HashMap::new();
    for name in [None, Some("query"), Some("")] {
        let first = embed_with(&mut client, &[TEXT], name).await.remove(0);
        assert!(!first.cached, "{name:?}");
        let second = embed_with(&mut client, &[TEXT], name).await.remove(0);
        assert!(second.cached && second.values == first.values, "{name:?}");
        assert_eq!(found.insert(first.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), name), None);
    }
    let default = embed_with(&mut client, &[TEXT], Some("tag")).await.remove(0);
    assert!(default.cached, "the default prompt by its name");
}

#[tokio::test]
async fn the_server_can_have_another_default_prompt() {
    let server = start(&["--engine", "native"]);
    let mut plain = server.client().await;
    for (setting, default) in [("auto", Some("tag")), ("query", Some("query")), ("none", None)] {
        // The startup self-check compares with PyTorch, which has the model's own default.
        let server = start(&["--engine", "native", "--default-prompt", setting]);
        let mut client = server.client().await;
        let model = client.get_model(GetModelRequest {}).await.expect("a model").into_inner();
        assert_eq!(model.prompt_names, ["document", "query", "tag"]);
        assert_eq!(model.default_prompt_name.as_deref(), default);
        let expected = values(&mut plain, Some(default.unwrap_or_default())).await;
        assert_eq!(values(&mut client, None).await, expected, "{setting}");
    }
    let error = fails_to_serve(&bundle(), &["--default-prompt", "search"]);
    let expected = "the prompt `search` is unknown; the model has the prompts `document`, `query`, `tag` \
                    (--default-prompt)";
    assert!(error.contains(expected), "{error}");
}
