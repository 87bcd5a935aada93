use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

pub(crate) mod fake;

use fake::{Fake, NEVER_ANSWERED, busy, reply};

/// Ends tests that hang. Not a performance requirement.
const PATIENCE: Duration = Duration::from_secs(60);

async fn client(servers: &[&Fake]) -> Client {
    with(servers, |builder| builder).await
}

async fn with(servers: &[&Fake], settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let builder = Client::builder(addresses.join(",")).deadline(PATIENCE);
    let client = settings(builder).connect().await.expect("a client");
    // Until all servers are connected, the first would get all calls.
    while client.caller.pool.all().iter().any(|(_, channel)| channel.is_err()) {
        tokio::task::yield_now().await;
    }
    client
}

fn wrong_text(index: usize) -> Status {
    let details = ErrorDetails::with_bad_request_violation(format!("texts[{index}]"), "is invalid");
    Status::with_error_details(Code::InvalidArgument, format!("texts[{index}] is invalid"), details)
}

fn lengths(embeddings: &[Embedding]) -> Vec<usize> {
    embeddings.iter().map(|embedding| embedding.values[0] as usize).collect()
}

#[tokio::test]
async fn texts_are_embedded_and_an_empty_list_needs_no_call() {
    let server = Fake::fine().await;
    let client = client(&[&server]).await;
    let embeddings = client.embed(["a", "bcd"]).await.expect("embeddings");
    assert_eq!(lengths(&embeddings), [1, 3]);
    assert_eq!(client.embed(Vec::<String>::new()).await, Ok(Vec::new()));
    assert_eq!(client.count_tokens(["ab"]).await.expect("counts")[0].token_count, 3);
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn calls_are_spread_evenly_over_the_servers() {
    let servers = [Fake::fine().await, Fake::fine().await, Fake::fine().await];
    let client = client(&servers.each_ref()).await;
    for _ in 0..30 {
        client.embed(["a"]).await.expect("an embedding");
    }
    assert_eq!(servers.each_ref().map(Fake::calls), [10, 10, 10]);
}

#[tokio::test]
async fn an_unavailable_server_is_skipped_and_no_call_fails() {
    let unavailable = Fake::start(|_, _| Err(Status::unavailable("loading"))).await;
    let fine = Fake::fine().await;
    let retries = RetryPolicy { budget: 0, ..RetryPolicy::default() };
    let client = with(&[&unavailable, &fine], |builder| builder.retries(retries)).await;
    let started = Instant::now();
    for _ in 0..200 {
        client.embed(["a"]).await.expect("the other server answers");
    }
    let probes = started.elapsed().as_secs() as usize + 1;
    assert!((1..=probes).contains(&unavailable.calls()), "{} calls", unavailable.calls());
    assert_eq!(fine.calls(), 200);
}

#[tokio::test]
async fn a_busy_server_is_called_again_after_the_requested_wait_and_receives_the_number_of_attempts() {
    let server = Fake::start(|seen, before| if before < 2 { Err(busy("120")) } else { Ok(reply(seen)) }).await;
    let client = client(&[&server]).await;
    let started = Instant::now();
    client.embed(["a"]).await.expect("the third attempt succeeds");
    // Only a lower bound, since a busy machine makes this longer. The tests of the retry policy cover the upper bound.
    assert!(started.elapsed() >= Duration::from_millis(360), "120 ms and twice that: {:?}", started.elapsed());
    let previous = |call: usize| {
        let seen = server.seen()[call].metadata.get("grpc-previous-rpc-attempts").cloned();
        seen.map(|value| value.to_str().expect("text").to_owned())
    };
    assert_eq!([0, 1, 2].map(previous), [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test]
async fn a_call_is_not_retried_if_the_server_forbids_it() {
    let server = Fake::start(|_, _| Err(busy("-1"))).await;
    let error = client(&[&server]).await.embed(["a"]).await.expect_err("busy");
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Busy { retry_after: None }, 1));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn invalid_requests_are_not_retried() {
    let server = Fake::start(|_, _| Err(wrong_text(0))).await;
    let error = client(&[&server]).await.embed(["a"]).await.expect_err("wrong");
    assert!(matches!(error.kind(), CallErrorKind::Invalid(_)), "{error}");
    assert_eq!((server.calls(), error.server()), (1, Some(server.address.to_string().as_str())));
}

#[tokio::test]
async fn retries_have_a_budget() {
    let server = Fake::start(|_, _| Err(busy("0"))).await;
    let retries = RetryPolicy { attempts: 3, budget: 4, ..RetryPolicy::default() };
    let client = with(&[&server], |builder| builder.retries(retries)).await;
    for _ in 0..10 {
        client.embed(["a"]).await.expect_err("busy");
    }
    // The budget covers three rejected attempts of the first call and one of the second. The last attempt of a call is
    // not retried.
    assert_eq!(server.calls(), 10 + 3);
}

/// Crashes a [`crashing`] server.
const CRASHES: &str = "a text that crashes the server";

/// A server that crashes when it is asked to embed. Counts how often.
async fn crashing() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let crashes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&crashes);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let crashes = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut received = Vec::new();
                while connection.read_buf(&mut received).await.is_ok_and(|bytes| bytes > 0) {
                    if received.windows(CRASHES.len()).any(|window| window == CRASHES.as_bytes()) {
                        crashes.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            });
        }
    });
    (address, crashes)
}

#[tokio::test]
async fn a_call_that_may_have_crashed_its_server_is_retried_once() {
    let servers = [crashing().await, crashing().await, crashing().await];
    let addresses: Vec<String> = servers.iter().map(|(address, _)| address.to_string()).collect();
    let builder = Client::builder(addresses.join(",")).deadline(PATIENCE);
    let client = builder.connect().await.expect("a connection");
    let error = client.embed([CRASHES]).await.expect_err("both servers crashed");
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Unavailable, 2), "{error}");
    let crashes: usize = servers.iter().map(|(_, crashes)| crashes.load(Ordering::Relaxed)).sum();
    assert_eq!(crashes, 2);
}

#[tokio::test]
async fn a_reply_that_is_larger_than_any_vector_is_rejected() {
    let server = Fake::start(|seen, _| {
        let components = seen.texts[0].parse().expect("a number");
        let embedding = embedd_proto::Embedding { values: vec![1.0; components], ..Default::default() };
        Ok(EmbedResponse { embeddings: vec![embedding], ..reply(seen) })
    })
    .await;
    let client = client(&[&server]).await;
    assert_eq!(client.embed(["16384"]).await.expect("an embedding")[0].values.len(), 16_384);
    let error = client.embed(["1000000"]).await.expect_err("4 MB");
    assert!(error.to_string().contains("too large"), "{error}");
    assert_eq!(server.calls(), 2, "another attempt would not help");
}

#[tokio::test]
async fn each_attempt_sends_the_remaining_time_to_the_server() {
    let server = Fake::start(|seen, before| if before == 0 { Err(busy("200")) } else { Ok(reply(seen)) }).await;
    let client = client(&[&server]).await;
    client.embed(["a"]).await.expect("an embedding");
    let left = server.seen().into_iter().map(|seen| {
        let text = seen.metadata.get("grpc-timeout").expect("a deadline").to_str().expect("text").to_owned();
        let (digits, unit) = text.split_at(text.len() - 1);
        let number: u64 = digits.parse().expect("a number");
        Duration::from_nanos(number * if unit == "u" { 1000 } else { 1_000_000 })
    });
    let left: Vec<Duration> = left.collect();
    assert!(left[0] <= PATIENCE && left[0] > PATIENCE / 2, "{left:?}");
    assert!(left[0] - left[1] >= Duration::from_millis(200), "{left:?}");
}

#[tokio::test]
async fn no_call_waits_beyond_its_deadline() {
    let server = Fake::start(|_, _| Err(busy("40000"))).await;
    let client = with(&[&server], |builder| builder.deadline(Duration::from_secs(30))).await;
    // If the client had waited for the server or the deadline, the error would be `Late`.
    let busy = client.embed(["a"]).await.expect_err("busy");
    assert_eq!(busy.kind(), &CallErrorKind::Busy { retry_after: Some(Duration::from_secs(40)) });
    assert_eq!(server.calls(), 1);
    let client = client.with_deadline(Some(Duration::from_millis(100)));
    let late = client.embed([NEVER_ANSWERED]).await.expect_err("late");
    assert_eq!(late.kind(), &CallErrorKind::Late, "{late}");
}

#[tokio::test]
async fn large_requests_are_split_and_errors_have_the_index_in_the_whole_request() {
    let wrong = |seen: &fake::Seen| seen.texts.iter().position(|text| text == "wrong");
    let server =
        Fake::start(move |seen, _| wrong(seen).map_or_else(|| Ok(reply(seen)), |at| Err(wrong_text(at)))).await;
    let client = client(&[&server]).await;
    let texts: Vec<String> = (0..8).map(|length| "x".repeat(length)).collect();
    let embeddings = client.embed(texts.clone()).await.expect("embeddings");
    assert_eq!(lengths(&embeddings), (0..8).collect::<Vec<_>>());
    assert_eq!(server.calls(), 3, "at most three texts each");
    assert_eq!(client.count_tokens(texts.clone()).await.expect("counts").len(), 8);

    let mut texts = texts;
    texts[7] = "wrong".to_owned();
    let error = client.embed(texts).await.expect_err("wrong");
    assert!(error.to_string().contains("texts[7]"), "{error}");
}

#[tokio::test]
async fn vectors_of_different_models_are_never_mixed() {
    let server =
        Fake::start(|seen, before| Ok(EmbedResponse { model: format!("model {before}"), ..reply(seen) })).await;
    let client = client(&[&server]).await;
    let error = client.embed(["a"; 4]).await.expect_err("two models");
    assert_eq!(error.kind(), &CallErrorKind::MixedModels, "{error}");

    let (sender, texts) = mpsc::channel(1);
    let mut embeddings = Box::pin(client.embed_stream(ReceiverStream::new(texts), EmbedOptions::default()));
    let mut next = async || {
        sender.send("a").await.expect("the stream is open");
        embeddings.next().await.map(|(_, result)| result)
    };
    assert!(matches!(next().await, Some(Ok(_))));
    let error = next().await.expect("a result").expect_err("another model");
    assert_eq!(error.kind(), &CallErrorKind::MixedModels, "{error}");
    assert_eq!(next().await, None, "the stream has ended");
}

#[tokio::test]
async fn a_stream_keeps_the_order_and_continues_only_after_errors_of_single_texts() {
    let server = Fake::start(|seen, _| {
        if seen.texts.iter().any(|text| text == "denied") {
            return Err(Status::unauthenticated("no token"));
        }
        let wrong = seen.texts.iter().position(|text| text == "wrong");
        wrong.map_or_else(|| Ok(reply(seen)), |at| Err(wrong_text(at)))
    })
    .await;
    let client = client(&[&server]).await;
    let texts = ["a", "bb", "wrong", "", "ccc", "wrong"].map(str::to_owned);
    let all = client.embed_stream(stream::iter(texts.clone()), EmbedOptions::default()).collect::<Vec<_>>().await;
    assert_eq!(all.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>(), texts);
    let found: Vec<_> = all.iter().map(|(_, result)| result.as_ref().ok().map(|found| found.values[0])).collect();
    assert_eq!(found, [Some(1.0), Some(2.0), None, Some(0.0), Some(3.0), None]);

    let texts = stream::iter(["denied"; 100]).chain(stream::pending());
    let all = client.embed_stream(texts, EmbedOptions::default()).collect::<Vec<_>>().await;
    assert!(matches!(all.as_slice(), [("denied", Err(error))] if *error.kind() == CallErrorKind::Denied), "{all:?}");
}

#[tokio::test]
async fn a_stream_does_not_wait_for_more_texts_and_does_not_read_far_ahead() {
    let server = Fake::fine().await;
    let client = client(&[&server]).await;
    let (sender, texts) = mpsc::channel(1);
    let mut embeddings = Box::pin(client.embed_stream(ReceiverStream::new(texts), EmbedOptions::default()));
    for text in ["a", "bb"] {
        sender.send(text).await.expect("the stream is open");
        let (returned, embedding) = embeddings.next().await.expect("an embedding");
        assert_eq!((returned, embedding.expect("an embedding").values), (text, vec![text.len() as f32]));
    }
    drop(embeddings);

    let read = Arc::new(Mutex::new(0));
    let count = Arc::clone(&read);
    let endless = stream::iter(0..).map(move |_| {
        *count.lock().expect("no panic") += 1;
        "a"
    });
    let mut embeddings = Box::pin(client.embed_stream(endless, EmbedOptions::default()));
    for returned in 1..=100 {
        embeddings.next().await.expect("an embedding").1.expect("an embedding");
        let read = *read.lock().expect("no panic");
        assert!(read < returned + 300, "{read} texts read, {returned} embeddings returned");
    }
}

#[tokio::test]
async fn health_is_reported_for_each_server() {
    let server = Fake::fine().await;
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
    let client = Client::connect(&format!("{address},{}", server.address)).await.expect("a client");
    while client.caller.pool.all().iter().any(|(_, channel)| channel.is_err()) {
        tokio::task::yield_now().await;
    }
    let [first, second] = client.health().await.try_into().expect("two servers");
    assert_eq!(first, (address, Health::Serving));
    assert!(matches!(second.1, Health::Unknown(_)), "it has no health service: {second:?}");
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    assert_eq!(client.health().await[0].1, Health::NotServing);
}
