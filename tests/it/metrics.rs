//! What Prometheus and probes are told: exact counts of known traffic, and nothing that is not documented.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use embedd_proto::{
    ClearCacheRequest, CountTokensRequest, EmbedRequest, EmbedResponse, GetModelRequest, ReloadModelRequest,
};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

use crate::support::authority::write;
use crate::support::exposition::Exposition;
use crate::support::http::get;
use crate::support::models::Model;
use crate::support::server::{HTTP, Server, embed, temporary_folder};
use crate::support::{PATIENCE, until_late};

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

async fn channel(server: &Server) -> Channel {
    let address = format!("http://{}", server.address);
    Endpoint::from_shared(address).expect("an address").connect().await.expect("a connection")
}

/// Any message to any method.
async fn send<M: prost::Message + Default + 'static>(channel: Channel, method: &str, message: M) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(format!("/{method}")).expect("a path");
    let codec = ProstCodec::<M, EmbedResponse>::default();
    grpc.unary(Request::new(message), path, codec).await.map(drop)
}

/// What the server tells once a metric has this value.
async fn wait_for(server: &Server, value: impl Fn(&Exposition) -> f64, expected: f64) -> Exposition {
    let until = Instant::now() + PATIENCE;
    loop {
        let metrics = server.metrics();
        let found = value(&metrics);
        if found == expected {
            return metrics;
        }
        assert!(Instant::now() < until, "{found}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_told_from_loading_to_the_end_of_the_drain() {
    let _bundle = Model::Mpnet.bundle();
    let server = Server::launch(Model::Mpnet, &[&HTTP[..], &["--shutdown-grace", "300ms"]].concat());
    let http = server.http();
    let ready = || get(http, "/readyz");
    let (alive, loading) = (get(http, "/healthz"), ready());
    assert_eq!((alive.status, loading.status), (200, 503));
    assert!(loading.body.contains("the model is being loaded"), "{}", loading.body);
    let metrics = server.metrics();
    assert_eq!((metrics.value("embedd_model_ready", &[]), metrics.samples("embedd_model_info").len()), (0.0, 0));
    assert_eq!(metrics.samples("embedd_queue_texts").len(), 0);

    server.wait_for_line("ready");
    assert_eq!((ready().status, ready().body.as_str()), (200, "SERVING\n"));
    assert_eq!(server.metrics().value("embedd_model_ready", &[]), 1.0);

    let mut client = server.client().await;
    let texts = vec!["word ".repeat(250); 40];
    let call = tokio::spawn(async move { client.embed(EmbedRequest { texts, ..Default::default() }).await });
    wait_for(&server, |metrics| metrics.value("embedd_sessions_busy", &[]), 1.0).await;
    server.signal("TERM");
    for line in ["stopping: health is NOT_SERVING", "draining"] {
        server.wait_for_line(line);
        let (alive, stopping) = (get(http, "/healthz"), ready());
        assert_eq!((alive.status, stopping.status), (200, 503), "{line}");
        assert!(stopping.body.contains("the server is stopping"), "{}", stopping.body);
        assert_eq!(server.metrics().value("embedd_model_ready", &[]), 0.0);
    }
    call.await.expect("no panic").expect("an accepted request is answered");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_traffic_gives_exact_counts() {
    let flags =
        ["--sessions", "1", "--cache-bytes", "1MiB", "--max-message-bytes", "64KiB", "--max-text-bytes", "1KiB"];
    let server = Server::start(Model::MiniLm, &[&HTTP[..], &flags].concat());
    let before = server.metrics();
    assert_eq!(all_calls(&before), BTreeMap::new(), "nobody has called");
    // At its start, each session answers once.
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
    while replies.message().await.expect("no end by an error").is_some() {}
    let channel = channel(&server).await;
    let large = EmbedRequest { texts: vec!["x".repeat(100 << 10)], ..Default::default() };
    let unreadable = EmbedResponse { model: "where EmbedRequest has a bool".to_owned(), ..Default::default() };
    send(channel.clone(), EMBED, large).await.expect_err("too large");
    send(channel.clone(), EMBED, unreadable).await.expect_err("not to be read");
    for number in 0..20 {
        let method = format!("nobody.Knows{number}/Me{number}");
        assert_eq!(
            send(channel.clone(), &method, EmbedRequest::default()).await.expect_err("none").code(),
            Code::Unimplemented
        );
    }
    send(channel.clone(), "embedd.v1.EmbeddingService/Other", EmbedRequest::default()).await.expect_err("none");
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.expect("a status");

    let metrics = wait_for(&server, |metrics| calls(metrics, "grpc.health.v1.Health/Check", "OK"), 1.0).await;
    let service = |method: &str| format!("embedd.v1.EmbeddingService/{method}");
    let expected = [
        (EMBED.to_owned(), "OK", 3.0),
        (EMBED.to_owned(), "INVALID_ARGUMENT", 1.0),
        (EMBED.to_owned(), "OUT_OF_RANGE", 1.0),
        (EMBED.to_owned(), "INTERNAL", 1.0),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_leave_or_come_without_a_token_are_counted() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "the-token\n");
    let server = Server::start(Model::MiniLm, &[&HTTP[..], &["--token-file", &file]].concat());
    let mut client = server.client().await;
    let with_token = |message| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", "Bearer the-token".parse().expect("metadata"));
        request
    };
    client.embed(EmbedRequest::default()).await.expect_err("no token");
    client.embed(with_token(EmbedRequest::default())).await.expect_err("no texts");
    let long = || EmbedRequest { texts: vec!["word ".repeat(250); 200], ..Default::default() };
    let leaving = client.embed(with_token(long()));
    tokio::time::timeout(Duration::from_millis(100), leaving).await.expect_err("it takes longer");
    let late = until_late(async || {
        let mut request = with_token(long());
        request.set_timeout(Duration::from_millis(300));
        client.embed(request).await.expect_err("it takes longer")
    })
    .await as f64;

    let ended = |metrics: &Exposition| ["CANCELLED", "DEADLINE_EXCEEDED"].map(|status| calls(metrics, EMBED, status));
    let metrics = wait_for(&server, |metrics| ended(metrics).iter().sum(), late + 1.0).await;
    let [cancelled, deadline_exceeded] = ended(&metrics);
    assert!(cancelled >= 1.0 && deadline_exceeded >= 1.0, "{cancelled} {deadline_exceeded}");
    for (status, count) in [("UNAUTHENTICATED", 1.0), ("INVALID_ARGUMENT", 1.0), ("OK", 0.0)] {
        assert_eq!(calls(&metrics, EMBED, status), count, "{status}");
    }
    // Calls of 200 texts; what ran when they ended was computed.
    let metrics = wait_for(&server, |metrics| metrics.value("embedd_queue_texts", &[]), 0.0).await;
    let abandoned = metrics.value("embedd_texts_abandoned_total", &[]);
    assert!((200.0..200.0 * (late + 1.0)).contains(&abandoned), "{abandoned}");
}

#[tokio::test]
async fn a_new_model_takes_the_place_of_the_old_one_in_all_series() {
    let server = Server::start(Model::MiniLm, &HTTP);
    let mut client = server.client().await;
    embed(&mut client, &["counted by the first model"]).await;
    for (model, reload) in [(Model::MiniLm, false), (Model::Mpnet, true)] {
        if reload {
            let bundle = model.bundle().to_str().expect("text").to_owned();
            server.admin().await.reload_model(ReloadModelRequest { bundle }).await.expect("reloaded");
        }
        let (metrics, told) =
            (server.metrics(), client.get_model(GetModelRequest {}).await.expect("a model").into_inner());
        let [info] = &metrics.samples("embedd_model_info")[..] else { panic!("one model") };
        let label = |name: &str| info.labels[name].as_str();
        assert_eq!((label("model"), label("revision")), (model.id(), told.revision.as_str()));
        assert_eq!((label("engine"), label("instruction_set")), (told.engine.as_str(), told.instruction_set.as_str()));
        assert_eq!(label("quantization"), told.quantization);
        assert_eq!(label("fingerprint").len(), 64);
        let accuracy = told.accuracy.expect("it was compared");
        let cosine = |statistic| metrics.value("embedd_model_accuracy_cosine", &[("statistic", statistic)]);
        assert_eq!((cosine("min"), cosine("mean")), (accuracy.min_cosine, accuracy.mean_cosine));
        let [build] = &metrics.samples("embedd_build_info")[..] else { panic!("one program") };
        let runtime = told.runtime.expect("it is told");
        assert_eq!(build.labels["onnxruntime_version"], runtime.onnxruntime_version);
        assert_eq!(build.labels["version"], runtime.version);
        assert_eq!(calls(&metrics, EMBED, "OK"), 1.0, "counters go on");
    }
}

/// The table of docs/OPERATING.md: names, with type and labels.
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
async fn what_a_server_tells_is_what_the_page_says() {
    let server = Server::start(Model::MiniLm, &HTTP);
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    embed(&mut client, &["some traffic"]).await;
    client.embed(EmbedRequest::default()).await.expect_err("no texts");
    admin.clear_cache(ClearCacheRequest {}).await.expect("done");
    for path in ["/healthz", "/readyz", "/metrics", "/nothing"] {
        get(server.http(), path);
    }
    let answer = get(server.http(), "/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let metrics = Exposition::parse(&answer.body);
    let told: BTreeMap<String, (String, BTreeSet<String>)> = metrics
        .families()
        .map(|(name, family)| {
            let labels = family.labels().into_iter().map(str::to_owned).collect();
            (name, (family.kind.clone(), labels))
        })
        .collect();
    assert_eq!(told, documented());
    let process = |name: &str| metrics.value(name, &[]);
    assert!(process("process_cpu_seconds_total") > 0.0 && process("process_threads") > 2.0);
    assert!(process("process_resident_memory_bytes") > f64::from(1 << 20));
    let requests = |route, status| {
        let labels = [("http_request_method", "GET"), ("http_route", route), ("http_response_status_code", status)];
        metrics.value("http_server_request_duration_seconds_count", &labels)
    };
    assert_eq!((requests("/healthz", "200"), requests("/metrics", "200"), requests("_OTHER", "404")), (1.0, 1.0, 1.0));
}
