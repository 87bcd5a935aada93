//! Behavior shared by all protocols of the service: tokens, deadlines, the cache, statistics, health and shutdown.

use std::collections::HashMap;
use std::time::Duration;

use embedd_proto::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use embedd_proto::open_inference::model_infer_request::InferInputTensor;
use embedd_proto::open_inference::{
    InferTensorContents, ModelInferRequest, ModelReadyRequest, ServerLiveRequest, ServerReadyRequest,
};
use embedd_proto::tei;
use embedd_proto::tei::embed_client::EmbedClient;
use embedd_proto::tei::info_client::InfoClient;
use embedd_proto::{EmbedRequest, GetModelRequest, GetStatsRequest};
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::bare;
use crate::support::busy::Busy;
use crate::support::http::{get, post};
use crate::support::loading::Loading;
use crate::support::models::Model;
use crate::support::server::{Server, embed, long_texts, temporary_folder};
use crate::support::tls::write;

const SERVICES: [&str; 4] = ["tei.v1.Info", "tei.v1.Embed", "tei.v1.Tokenize", "inference.GRPCInferenceService"];

fn infer(model: Model, texts: Vec<String>) -> ModelInferRequest {
    let shape = vec![texts.len() as i64];
    let bytes_contents = texts.into_iter().map(String::into_bytes).collect();
    ModelInferRequest {
        model_name: model.name().to_owned(),
        inputs: vec![InferInputTensor {
            name: "text".to_owned(),
            datatype: "BYTES".to_owned(),
            shape,
            contents: Some(InferTensorContents { bytes_contents, ..Default::default() }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// One call over each protocol except `embedd.v1`, to a server with the small model.
async fn call(channel: &Channel, texts: &[&str], prepare: impl Fn(&mut MetadataMap)) -> [Result<(), Status>; 2] {
    let mut tei_request =
        Request::new(tei::EmbedRequest { inputs: texts.concat(), truncate: true, ..Default::default() });
    let mut infer_request = Request::new(infer(Model::Small, texts.iter().map(|&text| text.to_owned()).collect()));
    prepare(tei_request.metadata_mut());
    prepare(infer_request.metadata_mut());
    [
        EmbedClient::new(channel.clone()).embed(tei_request).await.map(drop),
        GrpcInferenceServiceClient::new(channel.clone()).model_infer(infer_request).await.map(drop),
    ]
}

async fn health(channel: &Channel, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel.clone()).check(request).await.map(|reply| reply.into_inner().status())
}

/// The number of replies of a method, by code.
async fn replies_of(server: &Server, name: &str) -> HashMap<i32, u64> {
    let stats = server.admin().await.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    stats.methods.into_iter().find(|method| method.method == name).expect("every method").replies
}

#[tokio::test]
async fn every_protocol_accepts_only_calls_with_a_token() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "the-token\n");
    let server = Server::start(Model::Small, &["--token-file", &file]);
    let channel = server.channel().await;
    for reply in call(&channel, &["a"], |_| {}).await {
        assert_eq!(reply.expect_err("no token").code(), Code::Unauthenticated);
    }
    let with_token = |metadata: &mut MetadataMap| {
        metadata.insert("authorization", "Bearer the-token".parse().expect("a value"));
    };
    for reply in call(&channel, &["a"], with_token).await {
        reply.expect("a token");
    }
    let live = GrpcInferenceServiceClient::new(channel).server_live(ServerLiveRequest {}).await;
    assert_eq!(live.expect_err("no token").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn protocols_share_the_cache_and_each_call_is_counted() {
    let server = Server::start(Model::Small, &["--cache-bytes", "1MiB"]);
    let channel = server.channel().await;
    let texts = vec!["the same text".to_owned()];
    let request = EmbedRequest { texts: texts.clone(), ..Default::default() };
    let first = server.client().await.embed(request).await.expect("an embedding").into_inner();
    for reply in call(&channel, &["the same text"], |_| {}).await {
        reply.expect("an embedding");
    }
    let reply = GrpcInferenceServiceClient::new(channel)
        .model_infer(infer(Model::Small, texts))
        .await
        .expect("a reply")
        .into_inner();
    let contents = reply.outputs[0].contents.clone().expect("contents");
    assert_eq!(contents.fp32_contents, first.embeddings[0].values);

    assert_eq!(replies_of(&server, "tei.v1.Embed/Embed").await, HashMap::from([(0, 1)]));
    assert_eq!(replies_of(&server, "inference.GRPCInferenceService/ModelInfer").await, HashMap::from([(0, 2)]));
    let stats = server.admin().await.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    let cache = stats.cache.expect("a cache");
    assert_eq!((cache.hits, cache.misses, cache.entries), (3, 1, 1), "{cache:?}");
    let tokenize = stats.stages.iter().find(|stage| stage.stage == "tokenize").expect("every stage");
    assert_eq!(tokenize.latency.expect("a latency").count, 1);
}

#[tokio::test]
async fn every_protocol_enforces_deadlines() {
    const INFER: &str = "inference.GRPCInferenceService/ModelInfer";
    const STREAM: &str = "tei.v1.Embed/EmbedStream";
    let server = Server::start(Model::MiniLm, &["--sessions", "1", "--threads", "1"]);
    let busy = Busy::keep(&server, &server.client().await).await;
    let mut late = Request::new(infer(Model::MiniLm, long_texts(100).texts));
    late.set_timeout(Duration::from_millis(200));
    assert_eq!(bare::call(&server, INFER, late).await.code(), Code::DeadlineExceeded);
    let mut late = Request::new(());
    late.set_timeout(Duration::from_millis(100));
    assert_eq!(bare::call_and_send_nothing(&server, STREAM, late).await.code(), Code::DeadlineExceeded);
    busy.end().await;
    for method in [INFER, STREAM] {
        let replies = replies_of(&server, method).await;
        assert_eq!(replies, HashMap::from([(Code::DeadlineExceeded as i32, 1)]), "{method}");
    }
}

#[tokio::test]
async fn every_protocol_reports_that_the_model_is_loading_and_that_the_server_stops() {
    let loading = Loading::start(Model::Small, &["--shutdown-grace", "2s"]);
    let server = &loading.server;
    let channel = server.channel().await;
    let mut inference = GrpcInferenceServiceClient::new(channel.clone());
    for reply in call(&channel, &["a"], |_| {}).await {
        assert_eq!(reply.expect_err("no model yet").code(), Code::Unavailable);
    }
    assert!(inference.server_live(ServerLiveRequest {}).await.expect("a reply").into_inner().live);
    assert!(!inference.server_ready(ServerReadyRequest {}).await.expect("a reply").into_inner().ready);
    let unknown = ModelReadyRequest { name: "any".to_owned(), version: String::new() };
    assert!(!inference.model_ready(unknown).await.expect("a reply").into_inner().ready);
    for service in SERVICES {
        assert_eq!(health(&channel, service).await.expect("a status"), ServingStatus::NotServing, "{service}");
    }
    loading.finish();
    for service in SERVICES {
        assert_eq!(health(&channel, service).await.expect("a status"), ServingStatus::Serving, "{service}");
    }
    assert!(inference.server_ready(ServerReadyRequest {}).await.expect("a reply").into_inner().ready);

    server.signal("TERM");
    server.wait_for_line("stopping: health is NOT_SERVING");
    assert!(!inference.server_ready(ServerReadyRequest {}).await.expect("a reply").into_inner().ready);
    for service in SERVICES {
        assert_eq!(health(&channel, service).await.expect("a status"), ServingStatus::NotServing, "{service}");
    }
    for reply in call(&channel, &["during the grace"], |_| {}).await {
        reply.expect("calls are still answered");
    }
    drop((channel, inference));
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn requests_must_use_one_of_the_configured_model_names() {
    let server = Server::start(Model::Small, &["--model-name", "detector/v2, text-embedding-3-small"]);
    let channel = server.channel().await;
    let mut inference = GrpcInferenceServiceClient::new(channel.clone());
    let http = server.http();
    for (name, known) in [
        ("detector/v2", true),
        ("text-embedding-3-small", true),
        ("v2", false),
        (Model::Small.id(), false),
        (Model::Small.name(), false),
    ] {
        let request = ModelInferRequest { model_name: name.to_owned(), ..infer(Model::Small, vec!["a".to_owned()]) };
        let reply = inference.model_infer(request).await;
        assert_eq!(
            reply.as_ref().map_or_else(Status::code, |_| Code::Ok),
            if known { Code::Ok } else { Code::NotFound }
        );
        if let Err(status) = reply {
            let names = "this server has `detector/v2` (or `text-embedding-3-small`)";
            assert!(status.message().ends_with(names), "{status}");
        }
        let body = json!({ "model": name, "input": "a" }).to_string();
        let answer = post(http, "/v1/embeddings", &[("content-type", "application/json")], &body);
        assert_eq!(answer.status, if known { 200 } else { 404 }, "{answer:?}");
        if known {
            let reply: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(reply["model"], "detector/v2");
        }
    }
    let models: Value = serde_json::from_str(&get(http, "/v1/models").body).expect("JSON");
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["owned_by"]), (&json!("detector/v2"), &json!("detector")));
    let model = server.client().await.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    assert_eq!((model.name.as_str(), &model.aliases[..]), ("detector/v2", &["text-embedding-3-small".to_owned()][..]));
    let info = InfoClient::new(channel).info(tei::InfoRequest {}).await.expect("info").into_inner();
    assert_eq!(info.model_id, "detector/v2");
}

#[tokio::test]
async fn protocols_can_be_turned_off() {
    let server = Server::start(Model::Small, &["--tei=false", "--open-inference=false"]);
    let channel = server.channel().await;
    for reply in call(&channel, &["a"], |_| {}).await {
        assert_eq!(reply.expect_err("turned off").code(), Code::Unimplemented);
    }
    let info = InfoClient::new(channel.clone()).info(tei::InfoRequest {}).await;
    assert_eq!(info.expect_err("turned off").code(), Code::Unimplemented);
    for service in SERVICES {
        assert_eq!(health(&channel, service).await.expect_err("not known").code(), Code::NotFound, "{service}");
    }
    embed(&mut server.client().await, &["embedd.v1 is still served"]).await;
}
