//! The admin service: validation, benchmarks and statistics.

use std::time::Duration;

use embedd_proto::benchmark_response::Event;
use embedd_proto::{
    BenchmarkRequest, BenchmarkResult, ClearCacheRequest, CountTokensRequest, EmbedRequest, GetModelRequest,
    GetStatsRequest, GetStatsResponse, MethodStats, ReferencePair, ValidateRequest,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::support::exposition::Exposition;
use crate::support::models::Model;
use crate::support::reference;
use crate::support::server::{AdminClient, Server, embed, long_texts, shared};
use crate::support::{PATIENCE, fields};

#[tokio::test]
async fn the_reference_set_of_the_bundle_passes_its_threshold_and_fails_a_higher_one() {
    let server = shared(Model::MiniLm);
    let mut admin = server.admin().await;
    let found = admin.validate(ValidateRequest::default()).await.expect("an answer").into_inner();
    assert!(found.passed, "{} of {}", found.min_cosine, found.threshold);
    assert_eq!((found.texts.len(), found.left_out, found.threshold), (253, 0, 0.99));
    let set = reference::load(Model::MiniLm);
    for (index, (text, expected)) in found.texts.iter().zip(&set.texts).enumerate() {
        assert_eq!((text.index as usize, text.id.as_str(), text.passed), (index, expected.id.as_str(), true));
    }
    let min = found.texts.iter().map(|text| text.cosine).fold(f64::INFINITY, f64::min);
    let mean = found.texts.iter().map(|text| text.cosine).sum::<f64>() / 253.0;
    let max_mse = found.texts.iter().map(|text| text.mse).fold(0.0, f64::max);
    assert_eq!((found.min_cosine, found.max_mse), (min, max_mse));
    assert!((found.mean_cosine - mean).abs() < 1e-12 && (min..=mean).contains(&found.p1_cosine), "{found:?}");

    let strict = ValidateRequest { min_cosine: Some(min.midpoint(1.0)), ..Default::default() };
    let found = admin.validate(strict).await.expect("an answer").into_inner();
    assert!(!found.passed && found.texts.iter().any(|text| !text.passed && text.cosine < found.threshold));
    let wrong = ValidateRequest { min_cosine: Some(1.5), ..Default::default() };
    assert_eq!(fields(&admin.validate(wrong).await.expect_err("not a cosine")), ["min_cosine"]);
}

#[tokio::test]
async fn the_caller_s_pairs_are_compared_and_invalid_ones_are_named() {
    let server = shared(Model::MiniLm);
    let mut admin = server.admin().await;
    let set = reference::load(Model::MiniLm);
    let pair = |index: usize, factor: f32| ReferencePair {
        text: set.texts[index].text.clone(),
        embedding: set.texts[index].embedding.iter().map(|value| value * factor).collect(),
    };
    let request = |pairs: Vec<ReferencePair>| ValidateRequest { pairs, min_cosine: None };
    // The norm of a vector does not matter.
    let found = admin.validate(request(vec![pair(3, 1.0), pair(4, 7.0)])).await.expect("an answer").into_inner();
    assert!(found.passed && found.max_mse < 1e-6, "{found:?}");
    let found = admin.validate(request(vec![pair(3, 1.0), pair(4, -1.0)])).await.expect("an answer").into_inner();
    assert!(!found.passed && found.texts[0].passed && found.texts[1].cosine < -0.99, "{found:?}");
    assert_eq!((found.texts[1].index, found.texts[1].id.as_str()), (1, ""));

    let short = ReferencePair { embedding: vec![1.0; 383], ..pair(0, 1.0) };
    let (zero, long) = (pair(0, 0.0), ReferencePair { text: "x".repeat(64 * 1024 + 1), ..pair(0, 1.0) });
    let wrong = request(vec![pair(0, 1.0), short, zero, long, pair(0, f32::NAN)]);
    let named = ["pairs[1].embedding", "pairs[2].embedding", "pairs[3].text", "pairs[4].embedding"];
    assert_eq!(fields(&admin.validate(wrong).await.expect_err("wrong")), named);
    let many = request(vec![ReferencePair::default(); 1001]);
    assert_eq!(fields(&admin.validate(many).await.expect_err("too many")), ["pairs"]);
}

/// The result, and the number of progress events before it.
async fn finish(mut events: Streaming<embedd_proto::BenchmarkResponse>) -> (BenchmarkResult, usize) {
    let mut progress_events = 0;
    let mut last = 0;
    loop {
        match events.message().await.expect("an event").expect("a result at the end").event.expect("an event") {
            Event::Progress(progress) => {
                assert!(progress.done > last && progress.done <= progress.total, "{progress:?}");
                assert!(progress.stage.contains("tokens"), "{progress:?}");
                progress_events += 1;
                last = progress.done;
            }
            Event::Result(result) => {
                assert!(events.message().await.expect("the end").is_none(), "the result is the last event");
                return (result, progress_events);
            }
        }
    }
}

async fn begin(admin: &mut AdminClient) -> Result<Streaming<embedd_proto::BenchmarkResponse>, Status> {
    let request = BenchmarkRequest { token_counts: vec![32], requests: Some(10_000), ..Default::default() };
    admin.benchmark(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_benchmark_reports_progress_and_measures_every_combination() {
    let server = Server::start(Model::Small, &[]);
    let mut admin = server.admin().await;
    let request = BenchmarkRequest {
        token_counts: vec![3, 64],
        batch_sizes: vec![1, 2],
        concurrencies: vec![3],
        requests: Some(7),
    };
    let (result, progress_events) = finish(admin.benchmark(request).await.expect("it begins").into_inner()).await;
    assert!(progress_events > 0);
    let shape = |row: &embedd_proto::BenchmarkRow| (row.token_count, row.batch_size, row.concurrency);
    assert_eq!(result.rows.iter().map(shape).collect::<Vec<_>>(), [(3, 1, 3), (3, 2, 3), (64, 1, 3), (64, 2, 3)]);
    for row in &result.rows {
        let latency = row.latency.as_ref().expect("a latency");
        let times = [latency.p50, latency.p95, latency.p99, latency.max].map(|time| time.expect("a time"));
        assert_eq!(latency.count, 7);
        assert!(times.is_sorted_by_key(|time| (time.seconds, time.nanos)), "{row:?}");
        let tokens = row.texts_per_second * f64::from(row.token_count);
        assert!(row.texts_per_second > 0.0 && (row.tokens_per_second - tokens).abs() < 1e-6 * tokens, "{row:?}");
    }
    let stats = admin.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    assert_eq!(method(&stats, "AdminService/Benchmark").replies, [(0, 1)].into());
    assert!(method(&stats, "EmbeddingService/Embed").replies.is_empty(), "no call");

    let wrong = BenchmarkRequest {
        token_counts: vec![1, 65],
        batch_sizes: vec![257],
        concurrencies: vec![0],
        requests: Some(0),
    };
    let named = ["token_counts[0]", "token_counts[1]", "batch_sizes[0]", "concurrencies[0]", "requests"];
    assert_eq!(fields(&admin.benchmark(wrong).await.expect_err("out of bounds")), named);
}

#[tokio::test]
async fn benchmarks_run_one_at_a_time_let_calls_through_and_end_when_their_caller_disconnects() {
    let server = Server::start(Model::MiniLm, &[]);
    let mut admin = server.admin().await;
    let first = begin(&mut admin).await.expect("it begins");
    let refused = begin(&mut admin).await.expect_err("one at a time");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let mut client = server.client().await;
    for _ in 0..20 {
        embed(&mut client, &["calls are answered meanwhile"]).await;
    }
    drop(first);
    let next = async {
        loop {
            match begin(&mut admin).await {
                Ok(next) => return next,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let next = timeout(PATIENCE, next).await.expect("the first benchmark ends");
    let stats = admin.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    let replies = &method(&stats, "AdminService/Benchmark").replies;
    assert_eq!(replies.get(&i32::from(Code::Cancelled)), Some(&1));
    assert!(replies.get(&i32::from(Code::FailedPrecondition)) >= Some(&1));
    assert!(!replies.contains_key(&i32::from(Code::Ok)), "{replies:?}");
    // The server does not wait for a benchmark when it stops.
    server.signal("TERM");
    let ended = drain(next).await;
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert_eq!(server.exit().await.code(), Some(0));
}

/// The status of a stream that is cut off.
async fn drain(mut events: Streaming<embedd_proto::BenchmarkResponse>) -> Status {
    loop {
        match events.message().await {
            Ok(event) => assert!(event.is_some(), "no end without a status"),
            Err(status) => return status,
        }
    }
}

fn method<'s>(stats: &'s GetStatsResponse, name: &str) -> &'s MethodStats {
    let name = format!("embedd.v1.{name}");
    stats.methods.iter().find(|method| method.method == name).expect("every method")
}

fn seconds(duration: Option<prost_types::Duration>) -> f64 {
    let duration = duration.expect("a duration");
    duration.seconds as f64 + f64::from(duration.nanos) * 1e-9
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_and_stages_are_timed() {
    let server = Server::start(Model::MiniLm, &["--sessions", "1", "--queue-total-texts", "300"]);
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    let before = admin.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    assert!(before.methods.iter().all(|method| method.replies.is_empty()), "{before:?}");
    for texts in [&["one"][..], &["two", "three"], &["four"]] {
        embed(&mut client, texts).await;
    }
    client.embed(EmbedRequest::default()).await.expect_err("no texts");
    client.count_tokens(CountTokensRequest { texts: vec!["a".to_owned()] }).await.expect("counts");
    client.get_model(GetModelRequest {}).await.expect("the model");
    // A long call whose caller does not wait for the reply.
    let mut leaving = client.clone();
    let abandoned = tokio::spawn(async move { leaving.embed(long_texts(200)).await });
    server.until("the long call has begun", |metrics| metrics.value("embedd_queue_texts", &[]) > 0.0).await;
    abandoned.abort();
    let cancelled = |metrics: &Exposition| {
        metrics.value("grpc_server_call_duration_seconds_count", &[("grpc_status", "CANCELLED")]) == 1.0
    };
    server.until("the long call has ended", cancelled).await;

    let stats = admin.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    let of_embed = method(&stats, "EmbeddingService/Embed");
    assert_eq!(of_embed.replies, [(0, 3), (1, 1), (3, 1)].into());
    assert_eq!(method(&stats, "EmbeddingService/CountTokens").replies, [(0, 1)].into());
    assert_eq!(method(&stats, "EmbeddingService/GetModel").replies, [(0, 1)].into());
    let latency = of_embed.latency.as_ref().expect("a latency");
    assert_eq!(latency.count, 5);
    assert!(seconds(latency.p50) > 0.0 && seconds(latency.max) > seconds(latency.p50), "{latency:?}");
    let stages = stats.stages.iter().map(|stage| (stage.stage.as_str(), stage.latency.as_ref().expect("one").count));
    assert_eq!(stages.collect::<Vec<_>>(), [("tokenize", 3), ("queue", 3), ("infer", 3)]);

    assert!(seconds(stats.uptime) > seconds(before.uptime));
    assert_eq!(seconds(stats.window), 60.0);
    let (queue, sessions) = (stats.queue.expect("a queue"), stats.sessions.expect("sessions"));
    assert_eq!((queue.capacity, queue.refused, sessions.total), (300, 0, 1));
    assert!(queue.mean_batch_texts >= 1.0 && queue.mean_batch_tokens >= 3.0, "{queue:?}");
    assert_eq!(admin.clear_cache(ClearCacheRequest {}).await.expect("an answer").into_inner().entries, 0);
}
