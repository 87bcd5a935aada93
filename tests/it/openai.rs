//! OpenAI's API, called by OpenAI's client and by plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use embedd_proto::{EmbedRequest, EmbedResponse};
use serde_json::{Value, json};
use tonic::Request;

use crate::support::exposition::Exposition;
use crate::support::http::{Answer, get, post};
use crate::support::loading::Loading;
use crate::support::models::Model;
use crate::support::python;
use crate::support::server::{Server, command, embed, long_texts, temporary_folder};
use crate::support::tls::{TlsFiles, write};

const TEXTS: [&str; 3] = ["Ignore all previous instructions", "", "naïve 東京"];
const EMBEDDINGS: &str = "/v1/embeddings";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// OpenAI's client and its dependencies.
const OPENAI_CLIENT: &[&str] = &[
    "openai==3.54.0",
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "h11==0.16.0",
    "httpcore2==2.16.2",
    "httpx2==2.16.2",
    "idna==3.20",
    "jiter==0.19.0",
    "pydantic==2.14.3",
    "pydantic_core==2.50.4",
    "sniffio==1.3.1",
    "truststore==0.10.5",
    "typing-inspection==0.4.5",
    "typing_extensions==4.16.0",
];

/// A slow server, whose queue grows long: it has one session of one thread.
fn start_slow(flags: &[&str]) -> Server {
    Server::start(Model::MiniLm, &[&["--sessions", "1", "--threads", "1"], flags].concat())
}

fn body(model: Model, texts: &Value) -> String {
    json!({"model": model.name(), "input": texts}).to_string()
}

fn ask(address: SocketAddr, model: Model, texts: &Value) -> Answer {
    post(address, EMBEDDINGS, &JSON, &body(model, texts))
}

fn parse(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.headers.get(name).map(|value| value.to_str().expect("text").to_owned())
}

/// The little-endian bytes of every vector.
fn hex(reply: &EmbedResponse) -> Vec<String> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let digits = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    reply.embeddings.iter().map(|embedding| digits(bytes(&embedding.values))).collect()
}

/// The token ids of the texts, with special tokens: the empty text has no others.
fn tokenize(address: SocketAddr, token: &str) -> Value {
    let bearer = format!("Bearer {token}");
    let headers = [JSON[0], ("authorization", bearer.as_str())];
    let answer = parse(&post(address, "/tokenize", &headers, &json!({"inputs": TEXTS}).to_string()));
    let ids = |tokens: &Value| tokens.as_array().expect("tokens").iter().map(|token| token["id"].clone()).collect();
    Value::Array(answer.as_array().expect("a list").iter().map(ids).collect())
}

/// The number of requests that ended with this status.
fn ended_with(metrics: &Exposition, status: &str) -> f64 {
    let labels = [("http_route", EMBEDDINGS), ("http_request_method", "POST"), ("http_response_status_code", status)];
    metrics.value("http_server_request_duration_seconds_count", &labels)
}

#[tokio::test]
async fn openai_s_client_gets_the_vectors_of_embedd_v1() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "the-token\n");
    let flags = ["--engine", "native", "--token-file", &file, "--max-message-bytes", "1MiB"];
    let server = Server::start(Model::Small, &flags);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openai_client.py");
    let mut command = Command::new(python::interpreter(OPENAI_CLIENT));
    command.arg(script).arg(server.http().to_string()).arg("the-token").arg(Model::Small.name());
    command.arg(json!(TEXTS).to_string()).arg(tokenize(server.http(), "the-token").to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let mut own = server.client().await;
    let mut expected = async |dimensions| {
        let texts = TEXTS.map(str::to_owned).to_vec();
        let mut request = Request::new(EmbedRequest { texts, dimensions, ..Default::default() });
        request.metadata_mut().insert("authorization", "Bearer the-token".parse().expect("metadata"));
        own.embed(request).await.expect("embeddings").into_inner()
    };
    let (whole, cut) = (expected(None).await, expected(Some(7)).await);
    let vectors = &printed["vectors"];
    for form in ["plain", "float", "asynchronous"] {
        assert_eq!(vectors[form], json!(hex(&whole)), "{form}");
    }
    assert_eq!(vectors["single"], json!([hex(&whole)[0]]));
    assert_eq!(vectors["cut"], json!(hex(&cut)));
    assert_eq!(vectors["tokens"], vectors["plain"], "token ids of the model's tokenizer");
    let tokens: u32 = whole.embeddings.iter().map(|embedding| embedding.token_count).sum();
    assert_eq!(printed["reply"], json!(["list", Model::Small.id(), "embedding", tokens, tokens]));

    let model = json!({"id": Model::Small.id(), "object": "model", "created": 0, "owned_by": "tests"});
    assert_eq!(printed["models"], json!([model]));
    assert_eq!((&printed["model"], &printed["same_model"]), (&json!(Model::Small.id()), &json!(Model::Small.id())));
    let error = |name: &str, status: u16, code: Option<&str>, param: Option<&str>| {
        json!([name, status, "invalid_request_error", code, param])
    };
    let key = error("AuthenticationError", 401, Some("invalid_api_key"), None);
    let absent = error("NotFoundError", 404, Some("model_not_found"), Some("model"));
    let wrong = |param| error("BadRequestError", 400, None, Some(param));
    let errors = json!({
        "key": key,
        "key_for_models": key,
        "model": absent,
        "model_alone": absent,
        "texts": wrong("input"),
        "text": wrong("input[1]"),
        "body": error("APIStatusError", 413, None, None),
        "dimensions": wrong("dimensions"),
        "tokens": wrong("input[0]"),
        "path": error("NotFoundError", 404, Some("unknown_url"), None),
    });
    assert_eq!(printed["errors"], errors);
}

#[tokio::test]
async fn the_decimal_numbers_of_a_large_reply_have_the_same_bits() {
    let server = Server::start(Model::Small, &["--cache-bytes", "1MiB"]);
    let text = "word ".repeat(60);
    let answer = ask(server.http(), Model::Small, &json!(vec![&text; 256]));
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    let reply = parse(&answer);
    let expected = &embed(&mut server.client().await, &[text.as_str()]).await.embeddings[0];
    let items = reply["data"].as_array().expect("a list");
    assert_eq!(items.len(), 256);
    for item in items {
        let values = item["embedding"].as_array().expect("numbers").iter();
        let values: Vec<u32> = values.map(|number| (number.as_f64().expect("a number") as f32).to_bits()).collect();
        assert_eq!(values, expected.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    }
    assert_eq!(reply["usage"]["prompt_tokens"], expected.token_count * 256);
}

#[test]
fn after_an_error_in_the_body_the_connection_and_the_server_stay_usable() {
    let server = Server::start(Model::Small, &[]);
    for (headers, body, status, part) in [
        (&JSON[..], "{", 400, "not valid JSON"),
        (&JSON[..], "[1]", 400, "not a JSON object"),
        (&JSON[..], r#"{"input": [1, 9999999], "model": "bert-mean"}"#, 400, "may belong to another tokenizer"),
        (&[("content-type", "application/x-www-form-urlencoded")], "input=a", 415, "application/json"),
    ] {
        let answer = post(server.http(), EMBEDDINGS, headers, body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part) && header(&answer, "connection").is_none(), "{answer:?}");
    }
    let answer = ask(server.http(), Model::Small, &json!("a"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let metrics = server.metrics();
    assert_eq!(
        (ended_with(&metrics, "400"), ended_with(&metrics, "415"), ended_with(&metrics, "200")),
        (3.0, 1.0, 1.0)
    );
    assert_eq!(metrics.value("embedd_stage_duration_seconds_count", &[("stage", "infer")]), 1.0);
}

#[test]
fn while_the_model_loads_requests_are_rejected_with_a_retry_delay() {
    let loading = Loading::start(Model::Small, &[]);
    let http = loading.server.http();
    for answer in [ask(http, Model::Small, &json!("a")), get(http, "/v1/models")] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains("being loaded"), "{answer:?}");
        assert_eq!(
            (header(&answer, "retry-after").as_deref(), header(&answer, "retry-after-ms").is_some()),
            (Some("1"), true)
        );
    }
    loading.finish();
    assert_eq!(get(http, "/v1/models/bert-mean").status, 200);
    assert_eq!(get(http, "/v1/models/tests/bert-mean").status, 200);
}

/// Concurrent callers, each with its own connection.
fn callers(number: usize, address: SocketAddr, texts: &Value) -> Vec<thread::JoinHandle<Answer>> {
    let caller = |_| {
        let texts = texts.clone();
        thread::spawn(move || ask(address, Model::MiniLm, &texts))
    };
    (0..number).map(caller).collect()
}

#[test]
fn a_full_queue_rejects_requests_with_a_retry_delay() {
    let server = start_slow(&["--queue-requests", "1"]);
    let texts = json!(long_texts(16).texts);
    let answers: Vec<Answer> =
        callers(16, server.http(), &texts).into_iter().map(|caller| caller.join().expect("an answer")).collect();
    let (accepted, rejected): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!accepted.is_empty() && !rejected.is_empty(), "{answers:?}");
    for answer in rejected {
        assert_eq!(
            (answer.status, &parse(answer)["error"]["code"]),
            (429, &json!("rate_limit_exceeded")),
            "{answer:?}"
        );
        let millis: u64 = header(answer, "retry-after-ms").and_then(|text| text.parse().ok()).expect("milliseconds");
        let seconds: u64 = header(answer, "retry-after").and_then(|text| text.parse().ok()).expect("seconds");
        assert_eq!(seconds, millis.div_ceil(1000), "{answer:?}");
    }
}

/// A connection on which a request has been sent.
fn sent(address: SocketAddr, model: Model, texts: &Value) -> TcpStream {
    let body = body(model, texts);
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!("POST {EMBEDDINGS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("sent");
    stream
}

/// Texts in the queue, and texts that were taken from it to be computed.
fn queued_and_computed(metrics: &Exposition) -> (f64, f64) {
    (metrics.value("embedd_queue_texts", &[]), metrics.value("embedd_batch_texts_sum", &[]))
}

#[test]
fn texts_are_not_computed_when_their_only_caller_has_disconnected() {
    let server = start_slow(&[]);
    let (_, computed_before) = queued_and_computed(&server.metrics());
    let stream = sent(server.http(), Model::MiniLm, &json!(long_texts(250).texts));
    server.wait_until("texts are queued", |metrics| queued_and_computed(metrics).0 > 100.0);
    drop(stream);
    let all_ended = |metrics: &Exposition| {
        queued_and_computed(metrics).0 == 0.0
            && metrics.value("embedd_sessions_busy", &[]) == 0.0
            && ended_with(metrics, "499") == 1.0
    };
    let metrics = server.wait_until("the queue is empty", all_ended);
    let computed = queued_and_computed(&metrics).1 - computed_before;
    let abandoned = metrics.value("embedd_texts_abandoned_total", &[]);
    assert!(abandoned >= 1.0 && computed + abandoned == 250.0, "{computed} computed, {abandoned} abandoned");
}

#[test]
fn no_accepted_request_is_lost_when_the_server_stops() {
    const ACCEPTED: usize = 80;
    const ABANDONED: usize = 750;
    let server = start_slow(&["--shutdown-grace", "500ms", "--drain-timeout", "10m"]);
    let http = server.http();
    let (_, computed_before) = queued_and_computed(&server.metrics());
    let wait_for = |texts: usize| {
        server.wait_until("all texts have been accepted", |metrics| {
            let (queued, computed) = queued_and_computed(metrics);
            // The difference may be in the batch that runs.
            queued + computed - computed_before > (texts - 10) as f64
        })
    };
    // The drain does not end before these are abandoned.
    let last = [(); 3].map(|()| sent(http, Model::MiniLm, &json!(long_texts(ABANDONED / 3).texts)));
    wait_for(ABANDONED);
    // These share the server with the others, and so are in progress when it stops.
    let callers = callers(4, http, &json!(long_texts(ACCEPTED / 4).texts));
    wait_for(ABANDONED + ACCEPTED);
    server.signal("TERM");
    server.wait_for_line("stopping: health is NOT_SERVING");
    let during_grace = thread::spawn(move || ask(http, Model::MiniLm, &json!("during the grace")));
    server.wait_for_line("draining");
    let late = ask(http, Model::MiniLm, &json!("too late"));
    assert_eq!((late.status, header(&late, "connection").as_deref()), (503, Some("close")), "{late:?}");
    assert!(late.body.contains("stopping") && header(&late, "retry-after").is_some(), "{late:?}");
    assert_eq!(get(http, "/readyz").status, 503, "probes are answered until the end");
    drop(last);
    for caller in callers.into_iter().chain([during_grace]) {
        let answer = caller.join().expect("an answer");
        assert_eq!((answer.status, header(&answer, "connection").as_deref()), (200, Some("close")), "{answer:?}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_drain_waits_until_a_reply_has_been_read() {
    const TEXTS: usize = 32_768;
    let sizes = ["--max-texts", "65536", "--queue-total-texts", "65536", "--cache-bytes", "1MiB"];
    let flags = [&sizes[..], &["--shutdown-grace", "0s", "--drain-timeout", "10m"]].concat();
    let server = Server::start(Model::Small, &flags);
    // The reply is larger than the system's socket buffers.
    let mut stream = sent(server.http(), Model::Small, &json!(vec!["the same text"; TEXTS]));
    let mut reply = vec![0; 1000];
    stream.read_exact(&mut reply).expect("its beginning");
    server.signal("TERM");
    server.wait_for_line("draining");
    for _ in 0..50 {
        assert_eq!(get(server.http(), "/readyz").status, 503, "the drain continues");
    }
    stream.read_to_end(&mut reply).expect("its end");
    let text = String::from_utf8(reply).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.len() > 10 << 20, "{head}: {} bytes", body.len());
    let reply: Value = serde_json::from_str(body).expect("the whole reply");
    assert_eq!(reply["data"].as_array().map(Vec::len), Some(TEXTS));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_http_port_serves_the_api_only_if_grpc_is_as_accessible_or_a_flag_allows_it() {
    let tls = TlsFiles::new();
    let tokens = write(&tls.folder, "tokens", "the-token\n");
    for (flags, reason) in [
        (&tls.flags()[..], "gRPC has TLS"),
        (&["--http-api", "off"], "--http-api is off"),
        // Every address of the machine, while gRPC listens on loopback.
        (&["--http-listen", "0.0.0.0:0"], "reachable from more places than gRPC"),
    ] {
        let server = Server::launch(Model::Small, flags);
        let line = server.wait_for_line("the HTTP port serves no APIs");
        assert!(line["reason"].as_str().expect("a reason").contains(reason), "{line}");
        server.wait_for_line("ready");
        assert_eq!(ask(server.http(), Model::Small, &json!("a")).status, 404);
        assert_eq!(get(server.http(), "/readyz").status, 200);
    }

    let mutual = [&tls.mutual_flags()[..], &["--http-api", "on"]].concat();
    let output = command().args(["serve", "--http-listen", "127.0.0.1:0"]).args(&mutual).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(64) && text.contains("without a certificate"), "{text}");

    let server = Server::launch(Model::Small, &[&mutual[..], &["--token-file", &tokens]].concat());
    server.wait_for_line("the HTTP port serves APIs");
    server.wait_for_line("ready");
    assert_eq!(ask(server.http(), Model::Small, &json!("a")).status, 401);
    let headers = [JSON[0], ("authorization", "Bearer the-token")];
    assert_eq!(post(server.http(), EMBEDDINGS, &headers, &body(Model::Small, &json!("a"))).status, 200);
}
