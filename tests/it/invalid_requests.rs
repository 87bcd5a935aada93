//! Invalid requests get INVALID_ARGUMENT with the names of the fields, and have no other effect.

use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use embedd_proto::open_inference::model_infer_request::InferInputTensor;
use embedd_proto::open_inference::{InferTensorContents, ModelInferRequest};
use embedd_proto::{CountTokensRequest, EmbedRequest, EmbedResponse};
use serde_json::{Value, json};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use crate::support::exposition::Exposition;
use crate::support::fields;
use crate::support::http::post;
use crate::support::http2::{self, RawConnection, frame};
use crate::support::models::Model;
use crate::support::server::{Server, embed, long_texts, request, shared};

#[tokio::test]
async fn every_invalid_field_is_named_in_the_details() {
    let server = shared(Model::Small);
    let mut client = server.client().await;
    let good = EmbedRequest { texts: vec!["a".to_owned()], ..Default::default() };
    let too_long = "x".repeat(64 * 1024 + 1);
    let cases = [
        (EmbedRequest { texts: vec![], ..good.clone() }, vec!["texts"]),
        (EmbedRequest { texts: vec!["a".to_owned(); 257], ..good.clone() }, vec!["texts"]),
        (EmbedRequest { texts: vec!["a".to_owned(), too_long.clone()], ..good.clone() }, vec!["texts[1]"]),
        (EmbedRequest { dimensions: Some(0), ..good.clone() }, vec!["dimensions"]),
        (EmbedRequest { dimensions: Some(33), ..good.clone() }, vec!["dimensions"]),
        (EmbedRequest { truncation: 4, ..good.clone() }, vec!["truncation"]),
        (EmbedRequest { truncation: -1, ..good.clone() }, vec!["truncation"]),
        (EmbedRequest { encoding: 99, ..good.clone() }, vec!["encoding"]),
        (
            EmbedRequest { texts: vec![], truncation: 9, encoding: 99, dimensions: Some(9999), ..good.clone() },
            vec!["truncation", "encoding", "texts", "dimensions"],
        ),
    ];
    for (request, expected) in cases {
        let status = client.embed(request).await.expect_err("invalid");
        assert_eq!(fields(&status), expected, "{status}");
    }
    let status = client.count_tokens(CountTokensRequest { texts: vec![too_long] }).await.expect_err("invalid");
    assert_eq!(fields(&status), ["texts[0]"]);
    embed(&mut client, &["the server still answers"]).await;
}

#[tokio::test]
async fn requests_at_the_limits_are_accepted() {
    let server = shared(Model::Small);
    let mut client = server.client().await;
    let longest = "x".repeat(64 * 1024);
    let response = embed(&mut client, &[&longest]).await;
    assert_eq!(response.embeddings[0].values.len(), 32);
    let largest = vec!["a"; 256];
    assert_eq!(embed(&mut client, &largest).await.embeddings.len(), 256);
}

#[tokio::test]
async fn flags_set_the_limits() {
    let flags = ["--max-texts", "2", "--max-text-bytes", "10", "--max-message-bytes", "1KiB"];
    let server = Server::start(Model::Small, &flags);
    let mut client = server.client().await;
    embed(&mut client, &["0123456789", "b"]).await;
    assert_eq!(fields(&client.embed(request(&["a", "b", "c"])).await.expect_err("too many")), ["texts"]);
    assert_eq!(fields(&client.embed(request(&["0123456789a"])).await.expect_err("too long")), ["texts[0]"]);
    let status = client.embed(request(&["x".repeat(2000).as_str()])).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

#[tokio::test]
async fn every_client_can_receive_the_error_of_a_request_with_hundreds_of_faults() {
    let server = Server::start(Model::Small, &["--max-text-bytes", "10"]);
    let texts = vec!["longer than ten bytes".to_owned(); 256];
    let rest = "; and 246 more";

    // The limit of gRPC's core library.
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let channel = endpoint.http2_max_header_list_size(8 << 10).connect().await.expect("a connection");
    let mut client = EmbeddingServiceClient::new(channel.clone());
    let embed = client.embed(EmbedRequest { texts: texts.clone(), ..Default::default() }).await;
    let count = client.count_tokens(CountTokensRequest { texts: texts.clone() }).await;
    let infer = GrpcInferenceServiceClient::new(channel).model_infer(infer_request(&texts)).await;
    for (status, field) in [
        (embed.expect_err("invalid"), "texts"),
        (count.expect_err("invalid"), "texts"),
        (infer.expect_err("invalid"), "text"),
    ] {
        assert_eq!(fields(&status), (0..10).map(|index| format!("{field}[{index}]")).collect::<Vec<_>>());
        assert!(status.message().ends_with(rest), "{status}");
        assert!(status.get_details_request_info().is_some(), "{status}");
    }

    let body = json!({"model": Model::Small.name(), "input": texts}).to_string();
    let answer = post(server.http(), "/v1/embeddings", &[("content-type", "application/json")], &body);
    let error: Value = serde_json::from_str(&answer.body).expect("JSON");
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(answer.status == 400 && message.len() <= 1024 && message.ends_with(rest), "{answer:?}");
}

fn infer_request(texts: &[String]) -> ModelInferRequest {
    let bytes_contents = texts.iter().map(|text| text.clone().into_bytes()).collect();
    let input = InferInputTensor {
        name: "text".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: vec![texts.len() as i64],
        contents: Some(InferTensorContents { bytes_contents, ..Default::default() }),
        ..Default::default()
    };
    ModelInferRequest { model_name: Model::Small.name().to_owned(), inputs: vec![input], ..Default::default() }
}

#[tokio::test]
async fn a_full_queue_rejects_calls_and_says_when_to_retry() {
    let server = Server::start(Model::MiniLm, &["--queue-requests", "8", "--max-texts", "8", "--sessions", "1"]);
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(server.client().await);
    }
    let calls: Vec<_> =
        clients.into_iter().map(|mut client| tokio::spawn(async move { client.embed(long_texts(8)).await })).collect();
    let mut answered = 0;
    let mut rejected = 0;
    for call in calls {
        match call.await.expect("no panic") {
            Ok(_) => answered += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.get_details_retry_info().and_then(|info| info.retry_delay).is_some());
                rejected += 1;
            }
        }
    }
    assert!(answered >= 1 && rejected >= 1, "{answered} answered, {rejected} rejected");
}

/// Calls a method with a message whose only field has the number 1 and these bytes.
async fn call_with_bytes(channel: &Channel, method: &'static str, bytes: &[u8]) -> Status {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("a connection");
    let codec = ProstCodec::<Vec<u8>, EmbedResponse>::default();
    let call = grpc.unary(Request::new(bytes.to_vec()), PathAndQuery::from_static(method), codec);
    call.await.expect_err("not a valid message")
}

#[tokio::test]
async fn messages_that_cannot_be_decoded_are_the_callers_fault() {
    let server = Server::start(Model::Small, &[]);
    let channel = server.channel().await;
    for (method, message) in [
        (EMBED, "embedd.v1.EmbedRequest"),
        ("/embedd.v1.EmbeddingService/CountTokens", "embedd.v1.CountTokensRequest"),
        ("/tei.v1.Tokenize/Tokenize", "tei.v1.EncodeRequest"),
        ("/inference.GRPCInferenceService/ModelInfer", "inference.ModelInferRequest"),
    ] {
        let status = call_with_bytes(&channel, method, b"\xff\xfe").await;
        assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status}");
        assert!(status.message().starts_with(&format!("not a valid {message}: ")), "{status}");
    }
    let health = call_with_bytes(&channel, "/grpc.health.v1.Health/Check", b"\xff\xfe").await;
    assert_eq!(health.code(), Code::InvalidArgument, "{health}");

    let message = [&[0, 0, 0, 0, 4, 0x0a, 2][..], b"ab"].concat();
    let cut_off = message[..7].to_vec();
    let compressed = [&[1][..], &message[1..]].concat();
    let with_rest = [&message[..], &[0, 0]].concat();
    for (name, data) in [
        ("no message", vec![]),
        ("a part of the length", vec![0; 3]),
        ("a part of the message", cut_off.clone()),
        ("compressed", compressed),
        ("a part of a second message", with_rest),
    ] {
        let mut connection = begin(&server);
        // With END_STREAM.
        connection.send(&frame(http2::DATA, 1, 1, &data));
        while connection.receive().expect(name).kind != http2::HEADERS {}
    }
    let mut reset = begin(&server);
    reset.send(&frame(http2::DATA, 0, 1, &cut_off));
    // INTERNAL_ERROR: the code does not matter.
    reset.send(&frame(http2::RST_STREAM, 0, 1, &2_u32.to_be_bytes()));
    let mut client = server.client().await;
    embed(&mut client, &["the server still answers"]).await;
    let ended = |metrics: &Exposition| calls(metrics, "CANCELLED") == 1.0;
    let metrics = server.until("the call that was reset has ended", ended).await;
    assert_eq!((calls(&metrics, "INVALID_ARGUMENT"), calls(&metrics, "INTERNAL")), (6.0, 0.0));
    server.signal("TERM");
    server.wait();
    assert!(!server.log().contains("call failed"), "invalid messages are not logged as failures");
}

const EMBED: &str = "/embedd.v1.EmbeddingService/Embed";

/// A connection with a call that has not sent its message yet.
fn begin(server: &Server) -> RawConnection {
    let mut connection = RawConnection::open(server.address);
    connection.send(&frame(http2::HEADERS, http2::END_HEADERS, 1, &http2::call_headers(EMBED)));
    connection
}

/// The number of Embed calls that have ended with this status.
fn calls(metrics: &Exposition, status: &str) -> f64 {
    let labels = [("grpc_method", &EMBED[1..]), ("grpc_status", status)];
    metrics.value("grpc_server_call_duration_seconds_count", &labels)
}

#[tokio::test]
async fn messages_that_would_grow_many_times_are_rejected() {
    let server = shared(Model::Small);
    let mut client = server.client().await;
    // Two bytes each on the wire, and 24 in memory.
    let texts = vec![String::new(); 3 << 20];
    let status = client.embed(EmbedRequest { texts, ..Default::default() }).await.expect_err("too many");
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["texts".to_owned()]), "{status}");
    let inputs = vec![InferInputTensor::default(); 100_000];
    let request = ModelInferRequest { inputs, ..Default::default() };
    let mut inference = GrpcInferenceServiceClient::new(server.channel().await);
    let status = inference.model_infer(request).await.expect_err("too many");
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec!["inputs".to_owned()]), "{status}");
}
