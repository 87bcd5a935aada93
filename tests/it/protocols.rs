//! What holds for every protocol of the service alike: tokens, deadlines, the cache, statistics, health, and the end.

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
use embedd_proto::{EmbedRequest, GetStatsRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::authority::write;
use crate::support::models::Model;
use crate::support::server::{Server, embed, temporary_folder};
use crate::support::until_late;

const SERVICES: [&str; 4] = ["tei.v1.Info", "tei.v1.Embed", "tei.v1.Tokenize", "inference.GRPCInferenceService"];

async fn connect(server: &Server) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.address)).expect("an address").connect().await.expect("connected")
}

fn infer(texts: Vec<String>) -> ModelInferRequest {
    let shape = vec![texts.len() as i64];
    let bytes_contents = texts.into_iter().map(String::into_bytes).collect();
    ModelInferRequest {
        model_name: Model::MiniLm.name().to_owned(),
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

/// One call to embed of each protocol, but for `embedd.v1`.
async fn call(channel: &Channel, texts: &[&str], prepare: impl Fn(&mut MetadataMap)) -> [Result<(), Status>; 2] {
    let mut tei_request =
        Request::new(tei::EmbedRequest { inputs: texts.concat(), truncate: true, ..Default::default() });
    let mut infer_request = Request::new(infer(texts.iter().map(|&text| text.to_owned()).collect()));
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

/// How often the method was answered with which code.
async fn replies_of(server: &Server, name: &str) -> HashMap<i32, u64> {
    let stats = server.admin().await.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    stats.methods.into_iter().find(|method| method.method == name).expect("every method is told of").replies
}

#[tokio::test]
async fn tokens_open_every_protocol() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "the-token\n");
    let server = Server::start(Model::MiniLm, &["--token-file", &file]);
    let channel = connect(&server).await;
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
async fn a_text_that_one_protocol_had_computed_is_in_the_cache_for_the_others_and_every_call_is_counted() {
    let server = Server::start(Model::MiniLm, &["--cache-bytes", "1MiB"]);
    let channel = connect(&server).await;
    let texts = vec!["the same text".to_owned()];
    let request = EmbedRequest { texts: texts.clone(), ..Default::default() };
    let first = server.client().await.embed(request).await.expect("an embedding").into_inner();
    for reply in call(&channel, &["the same text"], |_| {}).await {
        reply.expect("an embedding");
    }
    let reply = GrpcInferenceServiceClient::new(channel).model_infer(infer(texts)).await.expect("a reply").into_inner();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_hold_for_every_protocol() {
    let server = Server::start(Model::MiniLm, &[]);
    let channel = connect(&server).await;
    let mut client = GrpcInferenceServiceClient::new(channel.clone());
    until_late(async || {
        // About two seconds of work for one session.
        let mut late = Request::new(infer(vec!["word ".repeat(250); 100]));
        late.set_timeout(Duration::from_millis(200));
        client.model_infer(late).await.expect_err("too late")
    })
    .await;
    // A stream whose caller sends nothing.
    let (_sender, requests) = mpsc::channel::<tei::EmbedRequest>(1);
    let mut late = Request::new(ReceiverStream::new(requests));
    late.set_timeout(Duration::from_millis(100));
    let mut replies = EmbedClient::new(channel).embed_stream(late).await.expect("a stream").into_inner();
    replies.message().await.expect_err("too late");
    let [late, cancelled] = [Code::DeadlineExceeded as i32, Code::Cancelled as i32];
    assert_eq!(replies_of(&server, "tei.v1.Embed/EmbedStream").await, HashMap::from([(late, 1)]));
    let replies = replies_of(&server, "inference.GRPCInferenceService/ModelInfer").await;
    assert!(replies.keys().all(|code| [late, cancelled].contains(code)) && replies.contains_key(&late), "{replies:?}");
}

#[tokio::test]
async fn protocols_tell_that_the_model_is_loading_and_that_the_server_stops() {
    let _bundle = Model::MiniLm.bundle();
    let server = Server::launch(Model::MiniLm, &["--shutdown-grace", "2s"]);
    let channel = connect(&server).await;
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
    server.wait_for_line("ready");
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
        reply.expect("requests are still answered");
    }
    drop((channel, inference));
    assert_eq!(tokio::task::spawn_blocking(move || server.wait().code()).await.expect("no panic"), Some(0));
}

#[tokio::test]
async fn protocols_can_be_turned_off() {
    let server = Server::start(Model::MiniLm, &["--tei=false", "--open-inference=false"]);
    let channel = connect(&server).await;
    for reply in call(&channel, &["a"], |_| {}).await {
        assert_eq!(reply.expect_err("not spoken").code(), Code::Unimplemented);
    }
    let info = InfoClient::new(channel.clone()).info(tei::InfoRequest {}).await;
    assert_eq!(info.expect_err("not spoken").code(), Code::Unimplemented);
    for service in SERVICES {
        assert_eq!(health(&channel, service).await.expect_err("not known").code(), Code::NotFound, "{service}");
    }
    embed(&mut server.client().await, &["embedd.v1 goes on"]).await;
}
