//! Traces, as a collector receives them.

use std::net::SocketAddr;
use std::time::Duration;

use embedd_proto::{EmbedRequest, GetStatsRequest};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::collector::{Collector, attribute};
use crate::support::http::{get, get_with, post};
use crate::support::models::Model;
use crate::support::server::{Server, embed, long_texts, serve};
use crate::support::{PATIENCE, bare};

const EMBED: &str = "embedd.v1.EmbeddingService/Embed";
const STREAM: &str = "embedd.v1.EmbeddingService/EmbedStream";
const OPENAI: &str = "POST /v1/embeddings";
const STATS: &str = "embedd.v1.AdminService/GetStats";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A server that sends its spans after a short delay.
fn traced(collector: &Collector, model: Model, flags: &[&str]) -> Server {
    let mut command = serve(model.bundle(), flags);
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

/// The names in alphabetical order.
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
async fn the_spans_of_a_call_and_its_stages_belong_to_the_trace_of_the_caller() {
    let collector = Collector::start().await;
    let server = traced(&collector, Model::Small, &[]);
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
    assert_eq!(batched, 3, "there are no other calls");

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
async fn requests_of_a_stream_are_children_of_their_call_and_probes_are_not_traced() {
    let collector = Collector::start().await;
    let server = traced(&collector, Model::Small, &["--cache-bytes", "1MiB"]);
    let metadata = [("traceparent", &*traceparent("01"))];
    let mut health = HealthClient::new(server.channel().await);
    health.check(with(HealthCheckRequest::default(), &metadata)).await.expect("a status");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(server.http(), path).status, 200);
    }
    let requests = tokio_stream::iter([texts(1), EmbedRequest::default(), texts(2)]);
    let mut replies = server.client().await.embed_stream(requests).await.expect("a stream").into_inner();
    while replies.message().await.expect("no error").is_some() {}
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
async fn openai_requests_are_traced_as_http() {
    let collector = Collector::start().await;
    let server = traced(&collector, Model::Small, &[]);
    let parent = traceparent("01");
    let body = json!({ "model": Model::Small.name(), "input": ["a", "b"] }).to_string();
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
async fn spans_have_the_status_of_their_call_and_only_failures_of_the_server_are_errors() {
    let collector = Collector::start().await;
    let server = traced(&collector, Model::MiniLm, &["--sessions", "1", "--threads", "1"]);
    let mut client = server.client().await;
    client.embed(EmbedRequest::default()).await.expect_err("no texts");
    let spans = collector.wait_for(EMBED, 1).await;
    let refused = find(&spans, EMBED);
    assert_attributes(refused, &[("rpc.grpc.status_code", "3")]);
    assert_eq!((status(refused), spans.len()), (StatusCode::Unset, 1));
    assert!(refused.parent_span_id.is_empty(), "it begins a trace");

    // This would take seconds.
    let mut late = Request::new(long_texts(256));
    late.set_timeout(Duration::from_millis(200));
    assert_eq!(bare::call(&server, EMBED, late).await.code(), Code::DeadlineExceeded);
    let spans = collector.wait_for(EMBED, 2).await;
    let late = spans.iter().rfind(|span| span.name == EMBED).expect("some of them");
    assert_attributes(late, &[("rpc.grpc.status_code", "4")]);
    assert_eq!(status(late), StatusCode::Error);

    server.admin().await.get_stats(GetStatsRequest {}).await.expect("statistics");
    collector.wait_for(STATS, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_followed_if_that_is_configured_and_shutdown_sends_the_last_spans() {
    let collector = Collector::start().await;
    let url = collector.url();
    let flags = ["--trace-ratio", "0", "--trace-parent", "follow", "--shutdown-grace", "0s", "--otlp-endpoint", &url];
    let server = Server::start(Model::Small, &flags);
    let mut client = server.client().await;
    embed(&mut client, &["nobody asked for a trace"]).await;
    for sampled in ["00", "01"] {
        client.embed(with(texts(1), &[("traceparent", &*traceparent(sampled))])).await.expect("embeddings");
    }
    drop(client);
    // Spans are sent every five seconds, and at the shutdown.
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(0));
    let spans = collector.spans();
    assert_eq!(names(&spans), ["embed", EMBED, "infer", "queue", "tokenize"]);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_caller_does_not_sample_them_have_no_spans() {
    let collector = Collector::start().await;
    let server = traced(&collector, Model::Small, &[]);
    let mut client = server.client().await;
    client.embed(with(texts(1), &[("traceparent", &*traceparent("00"))])).await.expect("embeddings");
    embed(&mut client, &["a trace of its own"]).await;
    let spans = collector.wait_for(EMBED, 1).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE), "{spans:?}");
}

/// A server whose collector is at this address.
fn traced_to(address: SocketAddr) -> Server {
    let url = format!("http://{address}");
    let mut command = serve(Model::Small.bundle(), &["--shutdown-grace", "0s", "--otlp-endpoint", &url]);
    let server = Server::spawn(command.env("OTEL_BSP_SCHEDULE_DELAY", "50"));
    server.wait_for_line("ready");
    server
}

/// Asserts that the server answers calls and stops. If each call waited for the collector, this would time out.
async fn assert_unhindered(server: &Server) {
    let mut client = server.client().await;
    let calls = async {
        for _ in 0..200 {
            embed(&mut client, &["served as usual"]).await;
        }
    };
    timeout(PATIENCE, calls).await.expect("answers");
    drop(client);
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(0));
    let warnings = server.log().matches("spans cannot be sent").count();
    assert!(warnings <= 1, "{warnings} warnings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_delays_nothing() {
    // It accepts connections, but never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    assert_unhindered(&traced_to(silent.local_addr().expect("an address"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_collector_delays_nothing_and_is_reported_once() {
    let closes = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = traced_to(closes.local_addr().expect("an address"));
    let mut client = server.client().await;
    // Several attempts fail, and only the first is reported.
    for _ in 0..5 {
        embed(&mut client, &["served as usual"]).await;
        drop(timeout(PATIENCE, closes.accept()).await.expect("an attempt"));
    }
    // From now on there is no collector.
    drop(closes);
    server.wait_for_line("spans cannot be sent; requests are served as usual");
    assert_unhindered(&server).await;
}
