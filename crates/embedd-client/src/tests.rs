use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

pub(super) mod fake;

use fake::{Fake, busy, reply};

/// Bounds a test that hangs; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

async fn client(servers: &[&Fake]) -> Client {
    with(servers, |builder| builder).await
}

async fn with(servers: &[&Fake], settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let builder = Client::builder(addresses.join(",")).deadline(PATIENCE);
    let client = settings(builder).connect().await.expect("a client");
    // Whoever connects first would have all calls until the others have.
    while client.caller.pool.all().iter().any(|(_, channel)| channel.is_err()) {
        tokio::task::yield_now().await;
    }
    client
}

fn wrong_text(index: usize) -> Status {
    let details = ErrorDetails::with_bad_request_violation(format!("texts[{index}]"), "is wrong");
    Status::with_error_details(Code::InvalidArgument, format!("texts[{index}] is wrong"), details)
}

fn lengths(embeddings: &[Embedding]) -> Vec<usize> {
    embeddings.iter().map(|embedding| embedding.values[0] as usize).collect()
}

#[tokio::test]
async fn texts_become_embeddings_and_nothing_is_asked_for_nothing() {
    let server = Fake::fine().await;
    let client = client(&[&server]).await;
    let embeddings = client.embed(["a", "bcd"]).await.expect("embeddings");
    assert_eq!(lengths(&embeddings), [1, 3]);
    assert_eq!(client.embed(Vec::<String>::new()).await, Ok(Vec::new()));
    assert_eq!(client.count_tokens(["ab"]).await.expect("counts")[0].token_count, 3);
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn calls_go_round_among_the_servers() {
    let servers = [Fake::fine().await, Fake::fine().await, Fake::fine().await];
    let client = client(&servers.each_ref()).await;
    for _ in 0..30 {
        client.embed(["a"]).await.expect("an embedding");
    }
    assert_eq!(servers.each_ref().map(Fake::calls), [10, 10, 10]);
}

#[tokio::test]
async fn a_server_that_does_not_serve_is_passed_over_and_no_call_fails() {
    let away = Fake::start(|_, _| Err(Status::unavailable("loading"))).await;
    let fine = Fake::fine().await;
    let retries = RetryPolicy { budget: 0, ..RetryPolicy::default() };
    let client = with(&[&away, &fine], |builder| builder.retries(retries)).await;
    let begun = Instant::now();
    for _ in 0..200 {
        client.embed(["a"]).await.expect("the other one answers");
    }
    let rests = begun.elapsed().as_secs() as usize + 1;
    assert!((1..=rests).contains(&away.calls()), "{} calls", away.calls());
    assert_eq!(fine.calls(), 200);
}

#[tokio::test]
async fn a_busy_server_is_called_again_when_it_says_and_told_that_it_is_again() {
    let server = Fake::start(|seen, before| if before < 2 { Err(busy("120")) } else { Ok(reply(seen)) }).await;
    let client = client(&[&server]).await;
    let begun = Instant::now();
    client.embed(["a"]).await.expect("the third time");
    // A busy machine only makes this longer. How much longer a wait may be is tested with the retry rules.
    assert!(begun.elapsed() >= Duration::from_millis(360), "120 ms and twice that: {:?}", begun.elapsed());
    let previous = |call: usize| {
        let seen = server.seen()[call].metadata.get("grpc-previous-rpc-attempts").cloned();
        seen.map(|value| value.to_str().expect("text").to_owned())
    };
    assert_eq!([0, 1, 2].map(previous), [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test]
async fn a_server_that_says_not_to_repeat_is_obeyed() {
    let server = Fake::start(|_, _| Err(busy("-1"))).await;
    let error = client(&[&server]).await.embed(["a"]).await.expect_err("busy");
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Busy { retry_after: None }, 1));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn what_is_wrong_is_not_repeated() {
    let server = Fake::start(|_, _| Err(wrong_text(0))).await;
    let error = client(&[&server]).await.embed(["a"]).await.expect_err("wrong");
    assert!(matches!(error.kind(), CallErrorKind::Invalid(_)), "{error}");
    assert_eq!((server.calls(), error.server()), (1, Some(server.address.to_string().as_str())));
}

#[tokio::test]
async fn repetitions_have_a_budget() {
    let server = Fake::start(|_, _| Err(busy("0"))).await;
    let retries = RetryPolicy { attempts: 3, budget: 4, ..RetryPolicy::default() };
    let client = with(&[&server], |builder| builder.retries(retries)).await;
    for _ in 0..10 {
        client.embed(["a"]).await.expect_err("busy");
    }
    // Three refusals of the first call, and one of the second, are within the budget; the last of a call is not repeated.
    assert_eq!(server.calls(), 10 + 3);
}

#[tokio::test]
async fn each_attempt_tells_the_server_what_is_left_of_the_deadline() {
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
async fn nothing_is_waited_for_beyond_the_deadline() {
    let server = Fake::start(|_, _| Err(busy("40000"))).await;
    let client = with(&[&server], |builder| builder.deadline(Duration::from_secs(30))).await;
    // Had the client waited, for the server or for its deadline, the call would be late.
    let busy = client.embed(["a"]).await.expect_err("busy");
    assert_eq!(busy.kind(), &CallErrorKind::Busy { retry_after: Some(Duration::from_secs(40)) });
    assert_eq!(server.calls(), 1);
    let client = client.with_deadline(Some(Duration::from_millis(100)));
    let late = client.embed(["a text that takes long"]).await.expect_err("late");
    assert_eq!(late.kind(), &CallErrorKind::Late, "{late}");
}

#[tokio::test]
async fn large_requests_are_split_and_errors_tell_the_place_in_the_whole() {
    let wrong = |seen: &fake::Seen| seen.texts.iter().position(|text| text == "wrong");
    let server =
        Fake::start(move |seen, _| wrong(seen).map_or_else(|| Ok(reply(seen)), |at| Err(wrong_text(at)))).await;
    let client = client(&[&server]).await;
    let texts: Vec<String> = (0..8).map(|length| "x".repeat(length)).collect();
    let embeddings = client.embed(texts.clone()).await.expect("embeddings");
    assert_eq!(lengths(&embeddings), (0..8).collect::<Vec<_>>());
    assert_eq!(server.calls(), 3, "three texts at most");
    assert_eq!(client.count_tokens(texts.clone()).await.expect("counts").len(), 8);

    let mut texts = texts;
    texts[7] = "wrong".to_owned();
    let error = client.embed(texts).await.expect_err("wrong");
    assert!(error.to_string().contains("texts[7]"), "{error}");
}

#[tokio::test]
async fn vectors_of_different_models_are_never_in_one_answer() {
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
async fn a_stream_keeps_the_order_tells_errors_of_texts_and_ends_with_any_other() {
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
async fn a_stream_gives_what_it_has_before_more_comes_and_takes_no_more_than_it_gives() {
    let server = Fake::fine().await;
    let client = client(&[&server]).await;
    let (sender, texts) = mpsc::channel(1);
    let mut embeddings = Box::pin(client.embed_stream(ReceiverStream::new(texts), EmbedOptions::default()));
    for text in ["a", "bb"] {
        sender.send(text).await.expect("the stream is open");
        let (given, embedding) = embeddings.next().await.expect("an embedding");
        assert_eq!((given, embedding.expect("an embedding").values), (text, vec![text.len() as f32]));
    }
    drop(embeddings);

    let taken = Arc::new(Mutex::new(0));
    let count = Arc::clone(&taken);
    let endless = stream::iter(0..).map(move |_| {
        *count.lock().expect("no panic") += 1;
        "a"
    });
    let mut embeddings = Box::pin(client.embed_stream(endless, EmbedOptions::default()));
    for given in 1..=100 {
        embeddings.next().await.expect("an embedding").1.expect("an embedding");
        let taken = *taken.lock().expect("no panic");
        assert!(taken < given + 300, "{taken} texts taken, {given} embeddings given");
    }
}

#[tokio::test]
async fn health_is_that_of_each_server() {
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
    assert!(matches!(second.1, Health::Unknown(_)), "it has no health: {second:?}");
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    assert_eq!(client.health().await[0].1, Health::NotServing);
}
