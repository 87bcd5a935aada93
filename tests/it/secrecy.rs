//! No text of a request and no token appears in logs, spans or metrics, whether the request succeeds or fails.

use std::fs::{self, File};
use std::time::Duration;

use embedd_proto::open_inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use embedd_proto::open_inference::model_infer_request::InferInputTensor;
use embedd_proto::open_inference::{InferTensorContents, ModelInferRequest};
use embedd_proto::tei::embed_client::EmbedClient;
use embedd_proto::tei::tokenize_client::TokenizeClient;
use embedd_proto::tei::{EmbedRequest as TeiRequest, EncodeRequest};
use embedd_proto::{
    BenchmarkRequest, CountTokensRequest, EmbedRequest, EmbedResponse, ReferencePair, ReloadModelRequest, Truncation,
    ValidateRequest,
};
use serde_json::{Value, json};
use tonic::Request;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::support::all;
use crate::support::collector::Collector;
use crate::support::http::{get, post};
use crate::support::models::Model;
use crate::support::server::{Server, serve, temporary_folder};
use crate::support::tls::write;

/// Part of every text. The tokenizer splits and normalizes it.
const MARKER: &str = "zyxwvmärker";
/// The part of the marker that survives normalization.
const PART: &str = "zyxwvm";
const TOKEN: &str = "zyxwvmtoken";
/// Everything that the process can log.
const EVERYTHING: &str =
    "trace,h2=trace,hyper=trace,ort=trace,rustls=trace,tokenizers=trace,tonic=trace,tower=trace,ureq=trace";

fn text(number: usize) -> String {
    format!("{MARKER} {number}")
}

/// A request with marked texts.
fn marked(texts: usize) -> EmbedRequest {
    EmbedRequest { texts: (0..texts).map(text).collect(), ..Default::default() }
}

/// A text of several hundred tokens.
fn long() -> String {
    text(0).repeat(100)
}

fn with_token<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().expect("metadata"));
    request
}

async fn call_own_protocol(server: &Server) {
    let mut client = server.client().await;
    client.embed(with_token(marked(3))).await.expect("embeddings");
    client.embed(with_token(marked(3))).await.expect("embeddings from the cache");
    client.count_tokens(with_token(CountTokensRequest { texts: marked(2).texts })).await.expect("counts");
    let requests = with_token(tokio_stream::iter([marked(2), marked(300)]));
    let replies = client.embed_stream(requests).await.expect("a stream").into_inner();
    assert!(all(replies).await.1.is_none(), "the error of a request is a reply");

    client.embed(marked(1)).await.expect_err("no token");
    client.embed(with_token(marked(300))).await.expect_err("too many texts");
    client.embed(with_token(EmbedRequest { encoding: 9, ..marked(1) })).await.expect_err("an unknown encoding");
    client.embed(with_token(EmbedRequest { dimensions: Some(0), ..marked(1) })).await.expect_err("no dimensions");
    let of = |text: String| EmbedRequest { texts: vec![text], ..Default::default() };
    let too_long = EmbedRequest { truncation: Truncation::Reject.into(), ..of(long()) };
    client.embed(with_token(too_long)).await.expect_err("too many tokens");
    client.embed(with_token(of(long().repeat(100)))).await.expect_err("a text of too many bytes");
    client.embed(with_token(of(long().repeat(10_000)))).await.expect_err("a message of too many bytes");
    let mut heavy = with_token(EmbedRequest { texts: vec![long(); 200], skip_cache: true, ..Default::default() });
    heavy.set_timeout(Duration::from_millis(50));
    client.embed(heavy).await.expect_err("too late");
}

async fn call_tei(server: &Server) {
    let mut client = EmbedClient::new(server.channel().await);
    let of = |inputs: String| TeiRequest { inputs, ..Default::default() };
    client.embed(with_token(of(text(0)))).await.expect("an embedding");
    client.embed(with_token(of(long()))).await.expect_err("too many tokens");
    let requests = with_token(tokio_stream::iter([of(text(1)), of(long().repeat(100))]));
    assert!(all(client.embed_stream(requests).await.expect("a stream").into_inner()).await.1.is_some());
    let request = EncodeRequest { inputs: text(0), ..Default::default() };
    TokenizeClient::new(server.channel().await).tokenize(with_token(request)).await.expect("tokens");
}

async fn call_open_inference(server: &Server) {
    let mut client = GrpcInferenceServiceClient::new(server.channel().await);
    let of = |model: &str, text: Vec<u8>| {
        let contents = Some(InferTensorContents { bytes_contents: vec![text], ..Default::default() });
        let (name, datatype) = ("text".to_owned(), "BYTES".to_owned());
        let input = InferInputTensor { name, datatype, shape: vec![1], contents, ..Default::default() };
        with_token(ModelInferRequest { model_name: model.to_owned(), inputs: vec![input], ..Default::default() })
    };
    let name = Model::MiniLm.name();
    client.model_infer(of(name, text(0).into_bytes())).await.expect("an embedding");
    client.model_infer(of(&text(0), text(0).into_bytes())).await.expect_err("an unknown model");
    client.model_infer(of(name, [text(0).as_bytes(), b"\xff"].concat())).await.expect_err("not UTF-8");
}

/// Sends messages of the wrong type, whose fields differ from those of the method's request.
async fn call_with_nonsense(server: &Server) {
    let mut grpc = Grpc::new(server.channel().await);
    let other_type = EmbedResponse { model: MARKER.to_owned(), ..Default::default() };
    for path in ["/embedd.v1.EmbeddingService/Embed", "/embedd.v1.EmbeddingService/None", "/zyxwvmethod/Embed"] {
        grpc.ready().await.expect("a connection");
        let (codec, path) = (ProstCodec::<EmbedResponse, EmbedResponse>::default(), path.try_into().expect("a path"));
        grpc.unary(with_token(other_type.clone()), path, codec).await.expect_err("an unreadable message");
    }
    let infer = ModelInferRequest { raw_input_contents: vec![b"zyxwvm\xff\xfe".to_vec()], ..Default::default() };
    grpc.ready().await.expect("a connection");
    let path = "/embedd.v1.EmbeddingService/CountTokens".try_into().expect("a path");
    let codec = ProstCodec::<ModelInferRequest, EmbedResponse>::default();
    // The server ignores field 7, which CountTokensRequest does not have, and finds no texts.
    grpc.unary(with_token(infer), path, codec).await.expect_err("no texts");
}

fn call_openai(server: &Server) {
    let key = format!("Bearer {TOKEN}");
    let key = [("authorization", key.as_str()), ("content-type", "application/json")];
    let model = Model::MiniLm.name();
    let body = |input: Value| json!({ "model": model, "input": input, "user": MARKER }).to_string();
    let (good, unclosed) = (body(json!([text(0), text(1)])), format!("{{\"input\": \"{MARKER}"));
    for (path, headers, body, status) in [
        ("/v1/embeddings", &key[..], &good, 200),
        ("/v1/embeddings", &[], &good, 401),
        ("/v1/embeddings", &[("authorization", "Bearer zyxwvmwrong")], &good, 401),
        ("/v1/embeddings", &key, &body(json!({ "text": MARKER })), 400),
        ("/v1/embeddings", &key, &json!({ "model": model, "input": "a", "dimensions": MARKER }).to_string(), 400),
        ("/v1/embeddings", &key, &unclosed, 400),
        ("/v1/embeddings", &key, &json!({ "model": MARKER, "input": text(0) }).to_string(), 404),
        ("/v1/embeddings", &key, &body(json!(long().repeat(10_000))), 413),
        ("/v1/models/zyxwvmodel", &key, &String::new(), 405),
        ("/zyxwvmpath?zyxwvmquery", &key, &good, 404),
    ] {
        assert_eq!(post(server.http(), path, headers, body).status, status, "{path}");
    }
}

async fn call_admin(server: &Server) {
    let embedding = server.client().await.embed(with_token(marked(1))).await.expect("embeddings").into_inner();
    let mut admin = server.admin().await;
    for (values, accepted) in [(embedding.embeddings[0].values.clone(), true), (vec![1.0], false)] {
        let pairs = vec![ReferencePair { text: text(0), embedding: values }];
        let answer = admin.validate(ValidateRequest { pairs, min_cosine: None }).await;
        assert_eq!(answer.is_ok(), accepted, "{answer:?}");
    }
    let pairs = vec![ReferencePair { text: long().repeat(100), embedding: vec![1.0] }];
    admin.validate(ValidateRequest { pairs, min_cosine: None }).await.expect_err("too many bytes");
    let benchmark = BenchmarkRequest { token_counts: vec![8], requests: Some(3), ..Default::default() };
    assert!(all(admin.benchmark(benchmark).await.expect("it begins").into_inner()).await.1.is_none());
    admin.reload_model(ReloadModelRequest { bundle: "/nowhere".to_owned() }).await.expect_err("no folder");
}

/// The secret in the forms that log lines may have: as text, as lists of bytes, in hexadecimal.
fn forms(secret: &str) -> Vec<String> {
    let list = |write: fn(&u8) -> String, between: &str| {
        secret.bytes().map(|byte| write(&byte)).collect::<Vec<_>>().join(between)
    };
    vec![
        secret.to_owned(),
        list(u8::to_string, ", "),
        list(|byte| format!("{byte:02x}"), ""),
        list(|byte| format!("0x{byte:02x}"), ", "),
        list(|byte| format!("\\x{byte:02x}"), ""),
        list(|byte| format!("'{}'", char::from(*byte)), ", "),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_and_no_token_is_in_logs_spans_or_metrics() {
    let (_folder, folder) = temporary_folder();
    let (tokens, collector) = (write(&folder, "tokens", TOKEN), Collector::start().await);
    for engine in ["native", "fp32"] {
        let flags = ["--engine", engine, "--cache-bytes", "1MiB", "--shutdown-grace", "0s", "--token-file", &tokens];
        let mut command = serve(Model::MiniLm.bundle(), &flags);
        command.args(["--log-level", EVERYTHING, "--otlp-endpoint", &collector.url()]);
        command.stdout(File::create(folder.join("stdout")).expect("a file"));
        let server = Server::spawn(&mut command);
        server.wait_for_line("ready");
        call_own_protocol(&server).await;
        call_tei(&server).await;
        call_open_inference(&server).await;
        call_with_nonsense(&server).await;
        call_openai(&server);
        call_admin(&server).await;
        let admin_token = server.admin_token().expect("a token");
        let metrics = get(server.http(), "/metrics").body;
        server.signal("TERM");
        assert_eq!(server.exit().await.code(), Some(0));

        let lines = server.log();
        let stdout = fs::read_to_string(folder.join("stdout")).expect("text");
        // The log that is searched is complete.
        for hay in ["\"TRACE\"", "h2::", "\"call\"", "INVALID_ARGUMENT", "\"embedd::batch::worker\""] {
            assert!(lines.contains(hay), "{hay} is in the log");
        }
        let spans = collector.text();
        assert!(spans.contains("ModelInfer") && spans.contains("/v1/embeddings") && spans.contains("infer"), "{spans}");
        assert!(metrics.contains("grpc_server_call_duration_seconds"), "{metrics}");
        for (place, text) in [("log", &lines), ("output", &stdout), ("spans", &spans), ("metrics", &metrics)] {
            for secret in forms(PART).into_iter().chain(forms(&admin_token)) {
                let found = text.lines().find(|line| line.to_lowercase().contains(&secret));
                assert!(found.is_none(), "{engine}: {secret} in {place}: {}", found.unwrap_or_default());
            }
        }
        let quoted = lines.lines().find(|line| line.contains("\"TRACE\"") && line.contains("\"tokenizers::"));
        assert!(quoted.is_none(), "the tokenizer logs characters: {}", quoted.unwrap_or_default());
    }
}
