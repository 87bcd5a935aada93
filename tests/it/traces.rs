//! Spans, as a collector receives them.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use embedd_proto::{EmbedRequest, GetStatsRequest};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::json;
use tonic::Request;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::collector::{Collector, attribute};
use crate::support::http::{get, get_with, post};
use crate::support::models::Model;
use crate::support::server::{HTTP, Server, embed, serve};
use crate::support::until_late;

const EMBED: &str = "embedd.v1.EmbeddingService/Embed";
const STREAM: &str = "embedd.v1.EmbeddingService/EmbedStream";
const OPENAI: &str = "POST /v1/embeddings";
const STATS: &str = "embedd.v1.AdminService/GetStats";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A server that sends its spans soon.
fn traced(collector: &Collector, flags: &[&str]) -> Server {
    let mut command = serve(Model::MiniLm, flags);
    command.args(["--otlp-endpoint", &collector.url()]).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a-test");
    let server = Server::spawn(&mut command);
    server.wait_for_line("ready");
    server
}

fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        request.metadata_mut().insert(*key, value.parse().expect("metadata"));
    }
    request
}

fn traceparent(sampled: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{sampled}")
}

fn texts(count: usize) -> EmbedRequest {
    EmbedRequest { texts: (0..count).map(|number| format!("text {number}")).collect(), ..Default::default() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn find<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:?}"))
}

/// In alphabetical order.
fn names<'s>(spans: impl IntoIterator<Item = &'s Span>) -> Vec<&'s str> {
    let mut names: Vec<&str> = spans.into_iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn children<'s>(spans: &'s [Span], parent: &Span) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect()
}

fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(attribute(&span.attributes, key).as_deref(), Some(*value), "{key} of {span:?}");
    }
}

fn status(span: &Span) -> StatusCode {
    span.status.as_ref().map_or(StatusCode::Unset, Status::code)
}

fn is_within(span: &Span, parent: &Span) -> bool {
    let times =
        [parent.start_time_unix_nano, span.start_time_unix_nano, span.end_time_unix_nano, parent.end_time_unix_nano];
    times.is_sorted()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_and_its_stages_stand_in_the_callers_trace() {
    let collector = Collector::start().await;
    let server = traced(&collector, &[]);
    let metadata = [("traceparent", &*traceparent("01")), ("tracestate", "vendor=1"), ("x-request-id", "mine")];
    server.client().await.embed(with(texts(3), &metadata)).await.expect("embeddings");

    let spans = collector.wait_for(EMBED, 1).await;
    let (call, request) = (find(&spans, EMBED), find(&spans, "embed"));
    assert_eq!((hex(&call.trace_id).as_str(), hex(&call.parent_span_id).as_str()), (TRACE, PARENT));
    assert_eq!(
        (call.kind(), status(call), call.trace_state.as_str()),
        (SpanKind::Server, StatusCode::Unset, "vendor=1")
    );
    assert_attributes(
        call,
        &[
            ("rpc.system", "grpc"),
            ("rpc.service", "embedd.v1.EmbeddingService"),
            ("rpc.method", "Embed"),
            ("rpc.grpc.status_code", "0"),
            ("embedd.request_id", "mine"),
        ],
    );
    assert_eq!(names(children(&spans, call)), ["embed"]);
    assert_attributes(request, &[("embedd.texts", "3"), ("embedd.tokens", "12"), ("embedd.cached_texts", "0")]);

    let stages = children(&spans, request);
    assert!(names(stages.iter().copied()).starts_with(&["infer"]) && stages.len() >= 3, "{stages:?}");
    for span in stages.iter().copied().chain([request]) {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert!(is_within(span, call) && (span == request || is_within(span, request)), "{span:?} in {call:?}");
    }
    let (tokenize, infer) = (find(&spans, "tokenize"), find(&spans, "infer"));
    let later = stages.iter().filter(|stage| stage.name != "tokenize");
    assert!(later.into_iter().all(|stage| tokenize.end_time_unix_nano <= stage.start_time_unix_nano), "{stages:?}");
    assert!(attribute(&infer.attributes, "embedd.batch").is_some(), "{infer:?}");
    assert!(infer.start_time_unix_nano < infer.end_time_unix_nano, "{infer:?}");
    let runs = stages.iter().filter(|stage| stage.name == "infer");
    let batched: usize = runs
        .map(|run| attribute(&run.attributes, "embedd.batch_texts").expect("a number").parse::<usize>().expect("one"))
        .sum();
    assert_eq!(batched, 3, "nobody else calls");

    let resource = collector.resource();
    for (key, value) in [
        ("service.name", "embedd"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "a-test"),
    ] {
        assert_eq!(attribute(&resource, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(attribute(&resource, "service.instance.id").expect("an id").len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_stream_and_vectors_of_the_cache_are_parts_of_their_call_and_probes_are_not_traced() {
    let collector = Collector::start().await;
    let server = traced(&collector, &[&HTTP[..], &["--cache-bytes", "1MiB"]].concat());
    let metadata = [("traceparent", &*traceparent("01"))];
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address").connect().await;
    let mut health = HealthClient::new(channel.expect("a connection"));
    health.check(with(HealthCheckRequest::default(), &metadata)).await.expect("a status");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(server.http(), path).status, 200);
    }
    let requests = tokio_stream::iter([texts(1), EmbedRequest::default(), texts(2)]);
    let mut replies = server.client().await.embed_stream(requests).await.expect("a stream").into_inner();
    while replies.message().await.expect("no end by an error").is_some() {}
    let spans = collector.wait_for(STREAM, 1).await;
    let requests = children(&spans, find(&spans, STREAM));
    assert_eq!(names(requests.iter().copied()), ["embed", "embed"]);
    assert_eq!(spans.len(), 1 + 2 + 3 + 3, "{:?}", names(&spans));

    server.client().await.embed(texts(2)).await.expect("embeddings");
    let spans = collector.wait_for(EMBED, 1).await;
    let cached = children(&spans, find(&spans, EMBED))[0];
    assert_attributes(cached, &[("embedd.texts", "2"), ("embedd.cached_texts", "2")]);
    assert_eq!(children(&spans, cached), Vec::<&Span>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_calls_for_embeddings_are_traced_as_http() {
    let collector = Collector::start().await;
    let server = traced(&collector, &HTTP);
    let (parent, body) = (traceparent("01"), json!({ "model": Model::MiniLm.name(), "input": ["a", "b"] }).to_string());
    let headers = [("traceparent", parent.as_str()), ("x-request-id", "mine")];
    assert_eq!(get_with(server.http(), "/v1/models", &headers).status, 200);
    for (body, status) in [("{}", 400), (body.as_str(), 200)] {
        assert_eq!(post(server.http(), "/v1/embeddings", &headers, body).status, status);
    }
    let spans = collector.wait_for(OPENAI, 2).await;
    let [refused, answered] = [0, 1].map(|nth| spans.iter().filter(|span| span.name == OPENAI).nth(nth).expect("two"));
    for (call, code) in [(refused, "400"), (answered, "200")] {
        assert_eq!((hex(&call.trace_id).as_str(), hex(&call.parent_span_id).as_str()), (TRACE, PARENT));
        assert_eq!((call.kind(), status(call)), (SpanKind::Server, StatusCode::Unset), "{call:?}");
        assert_attributes(
            call,
            &[
                ("http.request.method", "POST"),
                ("http.route", "/v1/embeddings"),
                ("http.response.status_code", code),
                ("embedd.request_id", "mine"),
            ],
        );
    }
    assert_eq!(children(&spans, refused), Vec::<&Span>::new());
    let [request] = children(&spans, answered)[..] else { panic!("one request in {spans:?}") };
    assert_attributes(request, &[("embedd.texts", "2")]);
    assert!(is_within(request, answered) && names(children(&spans, request)).contains(&"infer"), "{spans:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_and_those_of_callers_are_no_errors() {
    let collector = Collector::start().await;
    let server = traced(&collector, &[]);
    let mut client = server.client().await;
    client.embed(EmbedRequest::default()).await.expect_err("no texts");
    let spans = collector.wait_for(EMBED, 1).await;
    let refused = find(&spans, EMBED);
    assert_attributes(refused, &[("rpc.grpc.status_code", "3")]);
    assert_eq!((status(refused), spans.len()), (StatusCode::Unset, 1));
    assert!(refused.parent_span_id.is_empty(), "it begins a trace");

    let calls = until_late(async || {
        // About two seconds of work for one session, and no more than some ten milliseconds for the tokeniser.
        let mut late = Request::new(EmbedRequest { texts: vec!["word ".repeat(250); 100], ..Default::default() });
        late.set_timeout(Duration::from_millis(200));
        client.embed(late).await.expect_err("too late")
    })
    .await;
    let spans = collector.wait_for(EMBED, 1 + calls).await;
    let late = spans.iter().rfind(|span| span.name == EMBED).expect("some of them");
    assert_attributes(late, &[("rpc.grpc.status_code", "4")]);
    assert_eq!(status(late), StatusCode::Error);

    server.admin().await.get_stats(GetStatsRequest {}).await.expect("figures");
    collector.wait_for(STATS, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_decision_outdoes_the_ratio_and_the_end_sends_what_waits() {
    let collector = Collector::start().await;
    let flags = ["--trace-ratio", "0", "--shutdown-grace", "0s", "--otlp-endpoint", &collector.url()];
    let server = Server::start(Model::MiniLm, &flags);
    let mut client = server.client().await;
    embed(&mut client, &["nobody asked for a trace"]).await;
    for sampled in ["00", "01"] {
        client.embed(with(texts(1), &[("traceparent", &*traceparent(sampled))])).await.expect("embeddings");
    }
    drop(client);
    // Spans are sent every five seconds, and at the end.
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let spans = collector.spans();
    assert_eq!(names(&spans), ["embed", EMBED, "infer", "queue", "tokenize"]);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_traces_nothing_is_not_traced_whatever_the_ratio() {
    let collector = Collector::start().await;
    let server = traced(&collector, &[]);
    let mut client = server.client().await;
    client.embed(with(texts(1), &[("traceparent", &*traceparent("00"))])).await.expect("embeddings");
    embed(&mut client, &["a trace of its own"]).await;
    let spans = collector.wait_for(EMBED, 1).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "{spans:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_or_never_answers_is_told_of_once_and_holds_up_nothing() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    for address in [silent.local_addr().expect("an address"), gone] {
        let url = format!("http://{address}");
        let mut command = serve(Model::MiniLm, &["--shutdown-grace", "0s", "--otlp-endpoint", &url]);
        let server = Server::spawn(command.env("OTEL_BSP_SCHEDULE_DELAY", "50"));
        server.wait_for_line("ready");
        let mut client = server.client().await;
        for _ in 0..50 {
            let begun = Instant::now();
            embed(&mut client, &["served as ever"]).await;
            assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        }
        if address == gone {
            server.wait_for_line("spans cannot be sent; requests are served as usual");
            embed(&mut client, &["and after that"]).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        drop(client);
        let told = Instant::now();
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0), "{address}");
        assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
        let warnings = server.said().matches("spans cannot be sent").count();
        assert!(warnings <= 1, "{warnings}");
    }
}
