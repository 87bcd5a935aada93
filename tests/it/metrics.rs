//! Metrics and readiness: exact counts of known traffic, and only documented metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use embedd_proto::{
    ClearCacheRequest, CountTokensRequest, EmbedRequest, EmbedResponse, GetModelRequest, ReloadModelRequest,
};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

use crate::support::bare;
use crate::support::busy::Busy;
use crate::support::exposition::Exposition;
use crate::support::http::{get, get_with};
use crate::support::loading::Loading;
use crate::support::models::Model;
use crate::support::server::{Client, Server, embed, long_texts, temporary_folder};
use crate::support::tls::write;

const EMBED: &str = "embedd.v1.EmbeddingService/Embed";
const CALLS: &str = "grpc_server_call_duration_seconds_count";

fn calls(metrics: &Exposition, method: &str, status: &str) -> f64 {
    metrics.value(CALLS, &[("grpc_method", method), ("grpc_status", status)])
}

/// All calls that have ended, by method and status.
fn all_calls(metrics: &Exposition) -> BTreeMap<(String, String), f64> {
    let samples = metrics.samples(CALLS).into_iter();
    samples
        .map(|sample| ((sample.labels["grpc_method"].clone(), sample.labels["grpc_status"].clone()), sample.value))
        .collect()
}

/// Sends any message to any method.
async fn send<M: prost::Message + Default + 'static>(channel: Channel, method: &str, message: M) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(format!("/{method}")).expect("a path");
    let codec = ProstCodec::<M, EmbedResponse>::default();
    grpc.unary(Request::new(message), path, codec).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_reported_from_loading_to_the_end_of_the_drain() {
    let loading = Loading::start(Model::MiniLm, &["--shutdown-grace", "300ms", "--sessions", "1", "--threads", "1"]);
    let server = &loading.server;
    let http = server.http();
    let ready = || get(http, "/readyz");
    let not_ready = ready();
    assert_eq!((get(http, "/healthz").status, not_ready.status), (200, 503));
    assert!(not_ready.body.contains("the model is being loaded"), "{}", not_ready.body);
    let metrics = server.metrics();
    assert_eq!((metrics.value("embedd_model_ready", &[]), metrics.samples("embedd_model_info").len()), (0.0, 0));
    assert_eq!(metrics.samples("embedd_queue_texts").len(), 0);

    loading.finish();
    assert_eq!((ready().status, ready().body.as_str()), (200, "SERVING\n"));
    assert_eq!(server.metrics().value("embedd_model_ready", &[]), 1.0);

    // The drain lasts for as long as these calls.
    let busy = Busy::keep(server, &server.client().await).await;
    server.signal("TERM");
    for line in ["stopping: health is NOT_SERVING", "draining"] {
        server.wait_for_line(line);
        let stopping = ready();
        assert_eq!((get(http, "/healthz").status, stopping.status), (200, 503), "{line}");
        assert!(stopping.body.contains("the server is stopping"), "{}", stopping.body);
        assert_eq!(server.metrics().value("embedd_model_ready", &[]), 0.0);
    }
    busy.end().await;
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_traffic_gives_exact_counts() {
    let flags =
        ["--sessions", "1", "--cache-bytes", "1MiB", "--max-message-bytes", "64KiB", "--max-text-bytes", "1KiB"];
    let server = Server::start(Model::Small, &flags);
    let before = server.metrics();
    assert_eq!(all_calls(&before), BTreeMap::new(), "no calls yet");
    // Each session computes one text when it starts.
    let warm_up = before.value("embedd_batch_texts_sum", &[]);

    let mut client = server.client().await;
    embed(&mut client, &["one"]).await;
    embed(&mut client, &["one", "two"]).await;
    embed(&mut client, &["one"]).await;
    client.embed(EmbedRequest::default()).await.expect_err("no texts");
    client.count_tokens(CountTokensRequest { texts: vec!["a".to_owned()] }).await.expect("counts");
    client.get_model(GetModelRequest {}).await.expect("the model");
    let stream = tokio_stream::iter([
        EmbedRequest::default(),
        EmbedRequest { texts: vec!["two".to_owned()], ..Default::default() },
    ]);
    let mut replies = client.embed_stream(stream).await.expect("a stream").into_inner();
    while replies.message().await.expect("no error").is_some() {}
    let channel = server.channel().await;
    let large = EmbedRequest { texts: vec!["x".repeat(100 << 10)], ..Default::default() };
    let unreadable = EmbedResponse { model: "where EmbedRequest has a bool".to_owned(), ..Default::default() };
    send(channel.clone(), EMBED, large).await.expect_err("too large");
    send(channel.clone(), EMBED, unreadable).await.expect_err("unreadable");
    for number in 0..20 {
        let method = format!("nobody.Knows{number}/Me{number}");
        assert_eq!(
            send(channel.clone(), &method, EmbedRequest::default()).await.expect_err("none").code(),
            Code::Unimplemented
        );
    }
    send(channel.clone(), "embedd.v1.EmbeddingService/Other", EmbedRequest::default()).await.expect_err("none");
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.expect("a status");

    let all_ended = |metrics: &Exposition| calls(metrics, "grpc.health.v1.Health/Check", "OK") == 1.0;
    let metrics = server.until("the last call has ended", all_ended).await;
    let service = |method: &str| format!("embedd.v1.EmbeddingService/{method}");
    let expected = [
        (EMBED.to_owned(), "OK", 3.0),
        (EMBED.to_owned(), "INVALID_ARGUMENT", 2.0),
        (EMBED.to_owned(), "OUT_OF_RANGE", 1.0),
        (service("EmbedStream"), "OK", 1.0),
        (service("CountTokens"), "OK", 1.0),
        (service("GetModel"), "OK", 1.0),
        ("grpc.health.v1.Health/Check".to_owned(), "OK", 1.0),
        ("_OTHER".to_owned(), "UNIMPLEMENTED", 21.0),
    ];
    let expected = expected.map(|(method, status, count)| ((method, status.to_owned()), count)).into();
    assert_eq!(all_calls(&metrics), expected);
    let started = |method| metrics.value("grpc_server_call_started_total", &[("grpc_method", method)]);
    assert_eq!((started(EMBED), started("_OTHER")), (6.0, 21.0));
    assert_eq!(metrics.value("embedd_cache_hits_total", &[]), 3.0, "`one` twice, `two` once");
    assert_eq!(metrics.value("embedd_cache_misses_total", &[]), 2.0);
    assert_eq!(metrics.value("embedd_cache_entries", &[]), 2.0);
    assert_eq!(metrics.value("embedd_cache_limit_bytes", &[]), f64::from(1 << 20));
    assert_eq!(metrics.value("embedd_batch_texts_sum", &[]), warm_up + 2.0);
    for stage in ["tokenize", "queue", "infer"] {
        let count = metrics.value("embedd_stage_duration_seconds_count", &[("stage", stage)]);
        assert_eq!(count, 2.0, "{stage}: the requests that the cache did not answer");
    }
    assert_eq!((metrics.value("embedd_sessions", &[]), metrics.value("embedd_queue_texts", &[])), (1.0, 0.0));
}

fn with_token<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", "Bearer the-token".parse().expect("metadata"));
    request
}

/// Starts a call with 200 long texts, and abandons it while they are in the queue.
async fn abandon_a_call(server: &Server, client: &Client) {
    let mut client = client.clone();
    let call = tokio::spawn(async move { client.embed(with_token(long_texts(200))).await });
    server.until("texts are queued", |metrics| metrics.value("embedd_queue_texts", &[]) > 100.0).await;
    call.abort();
    server.until("the call has ended", |metrics| calls(metrics, EMBED, "CANCELLED") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_late_and_unauthenticated_calls_are_counted_by_their_status() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "the-token\n");
    let server = Server::start(Model::MiniLm, &["--token-file", &file, "--sessions", "1", "--threads", "1"]);
    let mut client = server.client().await;
    client.embed(EmbedRequest::default()).await.expect_err("no token");
    client.embed(with_token(EmbedRequest::default())).await.expect_err("no texts");
    abandon_a_call(&server, &client).await;
    let mut late = with_token(long_texts(200));
    late.set_timeout(Duration::from_millis(300));
    assert_eq!(bare::call(&server, EMBED, late).await.code(), Code::DeadlineExceeded);

    let all_ended = |metrics: &Exposition| {
        metrics.value("embedd_queue_texts", &[]) == 0.0 && calls(metrics, EMBED, "DEADLINE_EXCEEDED") == 1.0
    };
    let metrics = server.until("the queue is empty", all_ended).await;
    for (status, count) in [
        ("UNAUTHENTICATED", 1.0),
        ("INVALID_ARGUMENT", 1.0),
        ("CANCELLED", 1.0),
        ("DEADLINE_EXCEEDED", 1.0),
        ("OK", 0.0),
    ] {
        assert_eq!(calls(&metrics, EMBED, status), count, "{status}");
    }
    // Texts that were being computed when their call ended do not count as abandoned.
    let abandoned = metrics.value("embedd_texts_abandoned_total", &[]);
    assert!((2.0..400.0).contains(&abandoned), "{abandoned}");
}

#[tokio::test]
async fn a_new_model_replaces_the_old_one_in_all_series() {
    let roots = Model::MiniLm.bundle().to_str().expect("text");
    let server = Server::start(Model::Small, &["--bundle-roots", roots]);
    let mut client = server.client().await;
    embed(&mut client, &["counted by the first model"]).await;
    for (model, reload) in [(Model::Small, false), (Model::MiniLm, true)] {
        if reload {
            let bundle = model.bundle().to_str().expect("text").to_owned();
            server.admin().await.reload_model(ReloadModelRequest { bundle }).await.expect("reloaded");
        }
        let metrics = server.metrics();
        let served = client.get_model(GetModelRequest {}).await.expect("a model").into_inner();
        let [info] = &metrics.samples("embedd_model_info")[..] else { panic!("one model") };
        let label = |name: &str| info.labels[name].as_str();
        assert_eq!((label("model"), label("revision")), (model.id(), served.revision.as_str()));
        assert_eq!(
            (label("engine"), label("device"), label("instruction_set")),
            (served.engine.as_str(), served.device.as_str(), served.instruction_set.as_str())
        );
        assert_eq!(label("quantization"), served.quantization);
        assert_eq!(label("fingerprint").len(), 64);
        let accuracy = served.accuracy.expect("it was compared");
        let cosine = |statistic| metrics.value("embedd_model_accuracy_cosine", &[("statistic", statistic)]);
        assert_eq!((cosine("min"), cosine("mean")), (accuracy.min_cosine, accuracy.mean_cosine));
        let [build] = &metrics.samples("embedd_build_info")[..] else { panic!("one program") };
        let runtime = served.runtime.expect("a runtime");
        assert_eq!(build.labels["onnxruntime_version"], runtime.onnxruntime_version);
        assert_eq!(build.labels["version"], runtime.version);
        assert_eq!(calls(&metrics, EMBED, "OK"), 1.0, "counters keep their values");
    }
}

/// The metrics of docs/OPERATING.md: names, with type and labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATING.md");
    let page = fs::read_to_string(path).expect("the page");
    let (_, section) = page.split_once("\n## Metrics\n").expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let labels =
            cells[2].split(", ").map(|label| label.trim_matches('`').to_owned()).filter(|label| !label.is_empty());
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels.collect()))
    });
    rows.collect()
}

#[tokio::test]
async fn the_metrics_of_a_server_match_the_documentation() {
    let server = Server::start(Model::Small, &[]);
    let mut client = server.client().await;
    let mut admin = server.admin().await;
    embed(&mut client, &["some traffic"]).await;
    client.embed(EmbedRequest::default()).await.expect_err("no texts");
    admin.clear_cache(ClearCacheRequest {}).await.expect("done");
    for path in ["/healthz", "/readyz", "/metrics", "/nothing"] {
        get(server.http(), path);
    }
    let answer = get_with(server.http(), "/metrics", &[("accept", "application/openmetrics-text; version=1.0.0")]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let metrics = Exposition::parse(&answer.body);
    let exported: BTreeMap<String, (String, BTreeSet<String>)> = metrics
        .families()
        .map(|(name, family)| {
            let labels = family.labels().into_iter().map(str::to_owned).collect();
            (name, (family.kind.clone(), labels))
        })
        .collect();
    let mut documented = documented();
    // A server without a GPU does not have these.
    assert_eq!(documented.extract_if("embedd_gpu_".to_owned().."embedd_gpu_~".to_owned(), |_, _| true).count(), 2);
    assert_eq!(exported, documented);
    let process = |name: &str| metrics.value(name, &[]);
    assert!(process("process_cpu_seconds_total") > 0.0 && process("process_threads") > 2.0);
    assert!(process("process_resident_memory_bytes") > f64::from(1 << 20));
    let requests = |route, status| {
        let labels = [("http_request_method", "GET"), ("http_route", route), ("http_response_status_code", status)];
        metrics.value("http_server_request_duration_seconds_count", &labels)
    };
    assert_eq!((requests("/healthz", "200"), requests("/metrics", "200"), requests("_OTHER", "404")), (1.0, 1.0, 1.0));
}
