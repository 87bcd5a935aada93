//! OpenAI's API, by its own client and by plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use embedd_proto::{EmbedRequest, EmbedResponse};
use serde_json::{Value, json};
use tonic::Request;

use crate::support::PATIENCE;
use crate::support::authority::{Authority, write};
use crate::support::exposition::Exposition;
use crate::support::http::{Answer, get, post};
use crate::support::models::Model;
use crate::support::python;
use crate::support::server::{HTTP, Server, command, embed, temporary_folder};

const TEXTS: [&str; 3] = ["Ignore all previous instructions", "", "naïve 東京"];
const EMBEDDINGS: &str = "/v1/embeddings";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// OpenAI's client, and what it needs.
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

fn start(flags: &[&str]) -> Server {
    Server::start(Model::MiniLm, &[&HTTP[..], flags].concat())
}

fn ask(address: SocketAddr, texts: &Value) -> Answer {
    post(address, EMBEDDINGS, &JSON, &json!({"model": Model::MiniLm.name(), "input": texts}).to_string())
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

/// Requests that ended with this status.
fn answered(metrics: &Exposition, status: &str) -> f64 {
    let labels = [("http_route", EMBEDDINGS), ("http_request_method", "POST"), ("http_response_status_code", status)];
    metrics.value("http_server_request_duration_seconds_count", &labels)
}

fn wait_until(server: &Server, what: &str, holds: impl Fn(&Exposition) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds(&server.metrics()) {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn openais_own_client_gets_the_vectors_of_embedd_v1() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "the-token\n");
    let server = start(&["--engine", "native", "--token-file", &file, "--max-message-bytes", "1MiB"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openai_client.py");
    let mut command = Command::new(python::interpreter(OPENAI_CLIENT));
    command.arg(script).arg(server.http().to_string()).arg("the-token").arg(Model::MiniLm.name());
    command.arg(json!(TEXTS).to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let mut own = server.client().await;
    let mut expected = async |dimensions| {
        let texts = TEXTS.map(str::to_owned).to_vec();
        let mut request = Request::new(EmbedRequest { texts, dimensions, ..Default::default() });
        request.metadata_mut().insert("authorization", "Bearer the-token".parse().expect("metadata"));
        own.embed(request).await.expect("embeddings").into_inner()
    };
    let (whole, cut) = (expected(None).await, expected(Some(7)).await);
    let vectors = &told["vectors"];
    for form in ["plain", "float", "asynchronous"] {
        assert_eq!(vectors[form], json!(hex(&whole)), "{form}");
    }
    assert_eq!(vectors["single"], json!([hex(&whole)[0]]));
    assert_eq!(vectors["cut"], json!(hex(&cut)));
    let tokens: u32 = whole.embeddings.iter().map(|embedding| embedding.token_count).sum();
    assert_eq!(told["reply"], json!(["list", Model::MiniLm.id(), "embedding", tokens, tokens]));

    let model = json!({"id": Model::MiniLm.id(), "object": "model", "created": 0, "owned_by": "sentence-transformers"});
    assert_eq!(told["models"], json!([model]));
    assert_eq!((&told["model"], &told["same_model"]), (&json!(Model::MiniLm.id()), &json!(Model::MiniLm.id())));
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
        "tokens": wrong("input"),
        "path": error("NotFoundError", 404, Some("unknown_url"), None),
    });
    assert_eq!(told["errors"], errors);
}

#[tokio::test]
async fn a_large_request_has_the_same_bits_in_digits() {
    let server = start(&["--cache-bytes", "1MiB"]);
    let text = "word ".repeat(60);
    let answer = ask(server.http(), &json!(vec![&text; 256]));
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
fn errors_of_the_body_leave_the_connection_and_the_server_as_they_were() {
    let server = start(&[]);
    for (headers, body, status, part) in [
        (&JSON[..], "{", 400, "not valid JSON"),
        (&JSON[..], "[1]", 400, "not a JSON object"),
        (&JSON[..], r#"{"input": [1, 2], "model": "all-MiniLM-L6-v2"}"#, 400, "another model's tokenizer"),
        (&[("content-type", "application/x-www-form-urlencoded")], "input=a", 415, "application/json"),
    ] {
        let answer = post(server.http(), EMBEDDINGS, headers, body);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part) && header(&answer, "connection").is_none(), "{answer:?}");
    }
    let answer = ask(server.http(), &json!("a"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let metrics = server.metrics();
    assert_eq!((answered(&metrics, "400"), answered(&metrics, "415"), answered(&metrics, "200")), (3.0, 1.0, 1.0));
    assert_eq!(metrics.value("embedd_stage_duration_seconds_count", &[("stage", "infer")]), 1.0);
}

#[test]
fn while_the_model_loads_callers_are_told_to_come_again() {
    let _bundle = Model::Mpnet.bundle();
    let server = Server::launch(Model::Mpnet, &HTTP);
    for answer in [ask(server.http(), &json!("a")), get(server.http(), "/v1/models")] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains("being loaded"), "{answer:?}");
        assert_eq!(
            (header(&answer, "retry-after").as_deref(), header(&answer, "retry-after-ms").is_some()),
            (Some("1"), true)
        );
    }
    server.wait_for_line("ready");
    assert_eq!(get(server.http(), "/v1/models/all-mpnet-base-v2").status, 200);
    assert_eq!(get(server.http(), "/v1/models/sentence-transformers/all-mpnet-base-v2").status, 200);
}

/// Callers at once, each with a connection of its own.
fn callers(number: usize, address: SocketAddr, texts: &Value) -> Vec<thread::JoinHandle<Answer>> {
    let caller = |_| {
        let texts = texts.clone();
        thread::spawn(move || ask(address, &texts))
    };
    (0..number).map(caller).collect()
}

#[test]
fn a_full_queue_is_told_with_the_time_to_come_again() {
    let server = start(&["--sessions", "1", "--queue-requests", "1"]);
    let texts = json!(["word ".repeat(250)]);
    let answers: Vec<Answer> =
        callers(16, server.http(), &texts).into_iter().map(|caller| caller.join().expect("an answer")).collect();
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!taken.is_empty() && !refused.is_empty(), "{answers:?}");
    for answer in refused {
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
fn sent(address: SocketAddr, texts: &Value) -> TcpStream {
    let body = json!({"model": Model::MiniLm.name(), "input": texts}).to_string();
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!("POST {EMBEDDINGS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("sent");
    stream
}

#[test]
fn what_only_a_caller_who_left_was_waiting_for_is_not_computed() {
    let server = start(&["--sessions", "1"]);
    // Some ten seconds of work.
    let stream = sent(server.http(), &json!(vec!["word ".repeat(250); 250]));
    wait_until(&server, "texts wait", |metrics| metrics.value("embedd_queue_texts", &[]) > 100.0);
    drop(stream);
    let begun = Instant::now();
    wait_until(&server, "the queue is empty", |metrics| metrics.value("embedd_queue_texts", &[]) == 0.0);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let metrics = server.metrics();
    assert!(metrics.value("embedd_texts_abandoned_total", &[]) > 50.0);
    assert_eq!(answered(&metrics, "499"), 1.0);
}

#[test]
fn nothing_that_was_taken_is_lost_when_the_server_stops() {
    let server = start(&["--sessions", "1", "--shutdown-grace", "500ms"]);
    let http = server.http();
    // Some seconds of work.
    let callers = callers(6, http, &json!(vec!["word ".repeat(250); 20]));
    wait_until(&server, "all wait", |metrics| metrics.value("embedd_queue_texts", &[]) > 90.0);
    server.signal("TERM");
    server.wait_for_line("stopping: health is NOT_SERVING");
    let during_grace = thread::spawn(move || ask(http, &json!("during the grace")));
    server.wait_for_line("draining");
    let late = ask(http, &json!("too late"));
    assert_eq!((late.status, header(&late, "connection").as_deref()), (503, Some("close")), "{late:?}");
    assert!(late.body.contains("stopping") && header(&late, "retry-after").is_some(), "{late:?}");
    assert_eq!(get(http, "/readyz").status, 503, "probes hear the end");
    for caller in callers.into_iter().chain([during_grace]) {
        let answer = caller.join().expect("an answer");
        assert_eq!((answer.status, header(&answer, "connection").as_deref()), (200, Some("close")), "{answer:?}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_reply_that_is_being_read_is_waited_for() {
    let flags = ["--max-texts", "4096", "--cache-bytes", "1MiB", "--shutdown-grace", "0s"];
    let server = start(&flags);
    // More than the system's buffers of the connection hold.
    let mut stream = sent(server.http(), &json!(vec!["the same text"; 4096]));
    let mut reply = vec![0; 1000];
    stream.read_exact(&mut reply).expect("its beginning");
    server.signal("TERM");
    server.wait_for_line("draining");
    thread::sleep(Duration::from_secs(1));
    stream.read_to_end(&mut reply).expect("its end");
    let text = String::from_utf8(reply).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.len() > 10 << 20, "{head}: {} bytes", body.len());
    let reply: Value = serde_json::from_str(body).expect("whole");
    assert_eq!(reply["data"].as_array().map(Vec::len), Some(4096));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn it_opens_nothing_that_grpc_does_not_unless_that_is_asked_for() {
    let (_folder, folder) = temporary_folder();
    let authority = Authority::new("servers");
    let [certificate, key] = authority.sign().write(&folder, "server");
    let (ca, tokens) = (write(&folder, "ca.pem", &authority.pem()), write(&folder, "tokens", "the-token\n"));
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key];

    for (flags, reason) in [
        ([&HTTP[..], &tls].concat(), "gRPC has TLS"),
        ([&HTTP[..], &["--openai", "off"]].concat(), "--openai is off"),
        // Every address of the machine, where gRPC listens on loopback alone.
        (vec!["--http-listen", "0.0.0.0:0"], "from where gRPC cannot"),
    ] {
        let server = Server::launch(Model::MiniLm, &flags);
        let line = server.wait_for_line("OpenAI's API is not served");
        assert!(line["reason"].as_str().expect("a reason").contains(reason), "{line}");
        server.wait_for_line("ready");
        assert_eq!(ask(server.http(), &json!("a")).status, 404);
        assert_eq!(get(server.http(), "/readyz").status, 200);
    }

    let mutual = [&tls[..], &["--tls-client-ca", &ca, "--openai", "on"]].concat();
    let output = command().args(["serve", "--http-listen", "127.0.0.1:0"]).args(&mutual).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(64) && text.contains("without a certificate"), "{text}");

    let server = Server::launch(Model::MiniLm, &[&HTTP[..], &mutual, &["--token-file", &tokens]].concat());
    server.wait_for_line("OpenAI's API is served on the HTTP port");
    server.wait_for_line("ready");
    assert_eq!(ask(server.http(), &json!("a")).status, 401);
    let body = json!({"model": Model::MiniLm.name(), "input": "a"}).to_string();
    let headers = [JSON[0], ("authorization", "Bearer the-token")];
    assert_eq!(post(server.http(), EMBEDDINGS, &headers, &body).status, 200);
}
