//! `embedd load`: against the real server, and against one that fails in known ways.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use embedd_load::figures::Results;
use embedd_proto::embedding_service_server::{EmbeddingService, EmbeddingServiceServer};
use embedd_proto::{
    CountTokensRequest, CountTokensResponse, EmbedRequest, EmbedResponse, Embedding, GetModelRequest, GetModelResponse,
    TokenCount,
};
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use crate::support::authority::{Authority, write};
use crate::support::models::Model;
use crate::support::server::{Server, command, shared, temporary_folder};

/// Steps are short where `args` does not say how long.
fn load(server: &str, args: &[&str]) -> Output {
    let times = [["--duration", "1s"], ["--warm-up", "200ms"]];
    let times = times.iter().filter(|[flag, _]| !args.contains(flag)).flatten();
    command().args(["load", "--server", server]).args(times).args(args).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn results(path: &Path) -> Results {
    serde_json::from_str(&fs::read_to_string(path).expect("the file")).expect("results")
}

#[test]
fn a_real_server_is_measured_verified_and_written_down() {
    let server = Server::start(Model::MiniLm, &["--engine", "native"]);
    let (_folder, folder) = temporary_folder();
    let [json, csv, html] = ["l.json", "l.csv", "l.html"].map(|name| folder.join(name));
    let args = ["--concurrency", "1,4", "--tokens", "8-40", "--distinct", "24", "--texts-per-request", "3", "--verify"];
    let files = [("--json", &json), ("--csv", &csv), ("--html", &html)];
    let files = files.iter().flat_map(|(flag, path)| [*flag, path.to_str().expect("text")]);
    let output = load(&server.address.to_string(), &args.into_iter().chain(files).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("each has the bits of its text alone"), "{}", text(&output.stdout));

    let results = results(&json);
    assert_eq!((results.server.model.as_str(), results.server.engine.as_str()), (Model::MiniLm.id(), "native"));
    assert_eq!(results.steps.len(), 2);
    for step in &results.steps {
        assert_eq!((step.wrong_length, step.mismatches, step.cached_share), (0, Some(0), 0.0));
        assert_eq!(step.codes, [("OK".to_owned(), step.requests)].into());
        assert!(step.requests > 2 && step.texts == 3 * step.requests, "{step:?}");
        assert!((8 * step.texts..=40 * step.texts).contains(&step.tokens), "{step:?}");
        let (latency, times) = (step.latency.expect("latencies"), step.times.expect("times"));
        assert!(latency.p50_ms <= latency.p99_ms && latency.p99_ms <= latency.max_ms * 1.001, "{latency:?}");
        assert!(times.infer_p50_ms > 0.0 && times.infer_p50_ms < latency.max_ms, "{times:?}");
        assert!((0.9..1.1).contains(&step.seconds), "{}", step.seconds);
    }
    assert_eq!(fs::read_to_string(&csv).expect("the file").lines().count(), 3);
    let html = fs::read_to_string(&html).expect("the file");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let page = roxmltree::Document::parse_with_options(&html, options).expect("well-formed");
    assert_eq!(page.descendants().filter(|node| node.has_tag_name("circle")).count(), 2 + 3 * 2);
}

#[test]
fn an_open_loop_sends_texts_of_a_file_at_its_rate() {
    let server = shared(Model::MiniLm);
    let (_folder, folder) = temporary_folder();
    let (texts, json) = (folder.join("texts.jsonl"), folder.join("l.json"));
    fs::write(&texts, "{\"text\": \"one\"}\n{\"text\": \"two words\"}\n").expect("write");
    let args = ["--rate", "20", "--arrivals", "constant", "--deadline", "10s", "--encoding", "bytes", "--texts"];
    let args = [&args[..], &[texts.to_str().expect("text"), "--json", json.to_str().expect("text")]].concat();
    let output = load(&format!("http://{}", server.address), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let results = results(&json);
    let step = &results.steps[0];
    assert!((18..=21).contains(&step.requests), "{step:?}");
    assert_eq!((step.not_sent, step.mismatches, results.settings.distinct), (0, None, Some(2)));
    assert!(step.received_bytes as usize > step.texts as usize * 4 * Model::MiniLm.dimension(), "{step:?}");
}

#[test]
fn an_interrupt_ends_the_test_and_shows_what_was_measured() {
    let server = shared(Model::MiniLm);
    let mut command = command();
    command.args(["load", "--server", &server.address.to_string(), "--duration", "1h", "--warm-up", "0"]);
    let child = command.args(["--concurrency", "2,4"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().expect("the program runs");
    std::thread::sleep(Duration::from_secs(5));
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &id]).status().expect("kill runs").success());
    let output = child.wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(out.contains("Interrupted") && out.lines().any(|line| line.starts_with("       2 ")), "{out}");
}

#[test]
fn failures_are_told_and_have_their_exit_codes() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let output = load(&address, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address) && text(&output.stderr).contains("refused"));
    for wrong in [
        &["--concurrency", "0"][..],
        &["--concurrency", "1", "--rate", "5"],
        &["--rate", "-5"],
        &["--tokens", "9-8"],
        &["--duration", "10"],
        &["--verify"],
        &["--cache", "--skip-cache"],
        &["--arrivals", "poisson"],
        &["--key", "k"],
        &["--bundle", "b"],
    ] {
        assert_eq!(load(&address, wrong).status.code(), Some(64), "{wrong:?}");
    }
    let server = shared(Model::MiniLm);
    let (_folder, folder) = temporary_folder();
    let ca = write(&folder, "ca.pem", &Authority::new("servers").pem());
    for (args, expected) in [
        (&["--tokens", "257"][..], "at most 256"),
        (&["--tokens", "1"], "2 tokens already"),
        (&["--texts-per-request", "257"], "at most 256"),
        (&["--texts", "does/not/exist"], "does/not/exist"),
        (&["--ca", "does/not/exist"], "--ca does/not/exist"),
        (&["--ca", &ca], "https://"),
    ] {
        let output = load(&server.address.to_string(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
    }
}

/// What the server of these tests does with its requests.
#[derive(Clone, Copy)]
enum Habit {
    /// No two embeddings are the same.
    Inconstant,
    /// The queue is full, but for every fourth request.
    Full,
    /// The queue is always full.
    AlwaysFull,
    /// Replies come at once, but for one that holds up all others.
    Stalls,
}

struct Fake {
    habit: Habit,
    requests: AtomicU32,
    one_at_a_time: tokio::sync::Mutex<()>,
}

#[tonic::async_trait]
impl EmbeddingService for Fake {
    type EmbedStreamStream = Pin<Box<dyn Stream<Item = Result<EmbedResponse, Status>> + Send>>;

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut value = 1.0;
        match self.habit {
            Habit::Inconstant => value = number as f32,
            Habit::Full if number.is_multiple_of(4) => {}
            Habit::Full | Habit::AlwaysFull => return Err(Status::resource_exhausted("the queue is full")),
            Habit::Stalls => {
                let _turn = self.one_at_a_time.lock().await;
                if number == 10 {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
        let embedding =
            |text: &String| Embedding { values: vec![value], token_count: tokens(text), ..Default::default() };
        let embeddings = request.into_inner().texts.iter().map(embedding).collect();
        Ok(Response::new(EmbedResponse { embeddings, ..Default::default() }))
    }

    async fn embed_stream(
        &self,
        _: Request<Streaming<EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn count_tokens(
        &self,
        request: Request<CountTokensRequest>,
    ) -> Result<Response<CountTokensResponse>, Status> {
        let count = |text: &String| TokenCount { token_count: tokens(text), ..Default::default() };
        let counts = request.into_inner().texts.iter().map(count).collect();
        Ok(Response::new(CountTokensResponse { counts }))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        Ok(Response::new(GetModelResponse { max_tokens: 100, ..Default::default() }))
    }
}

fn tokens(text: &str) -> u32 {
    text.split_whitespace().count() as u32 + 2
}

/// Runs a load test against a server with a habit.
async fn load_fake(habit: Habit, args: &'static [&str]) -> (Output, Option<Results>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let fake = Fake { habit, requests: AtomicU32::new(0), one_at_a_time: tokio::sync::Mutex::default() };
    let service = EmbeddingServiceServer::new(fake);
    let incoming = TcpListenerStream::new(listener);
    let serving = tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let (_folder, folder) = temporary_folder();
    let json = folder.join("l.json");
    let path = json.to_str().expect("text").to_owned();
    let args = move || load(&address, &[args, &["--json", &path]].concat());
    let output = tokio::task::spawn_blocking(args).await.expect("no panic");
    serving.abort();
    (output, json.exists().then(|| results(&json)))
}

#[tokio::test]
async fn an_embedding_that_differs_from_its_text_alone_is_counted_and_exits_with_1() {
    let (output, results) = load_fake(Habit::Inconstant, &["--concurrency", "2", "--distinct", "3", "--verify"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("differ from those of the same texts alone"), "{}", text(&output.stderr));
    let results = results.expect("written before the end");
    assert_eq!(results.steps[0].mismatches, Some(results.steps[0].texts));
}

#[tokio::test]
async fn refusals_are_counted_and_timed_apart_from_replies() {
    let (output, results) = load_fake(Habit::Full, &["--concurrency", "4"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let step = &results.expect("results").steps[0];
    let refused = step.refused.expect("refusals");
    assert_eq!(step.codes["RESOURCE_EXHAUSTED"], refused.count);
    assert_eq!(step.codes["OK"], step.requests);
    assert!(refused.count > step.requests, "{step:?}");
    assert!(text(&output.stdout).contains("RESOURCE_EXHAUSTED: the queue is full"), "{}", text(&output.stdout));

    let (output, _) = load_fake(Habit::AlwaysFull, &["--concurrency", "1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no request succeeded: RESOURCE_EXHAUSTED"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn an_open_loop_tells_what_a_stall_cost_everyone_who_came_during_it() {
    let args = &["--rate", "100", "--arrivals", "constant", "--warm-up", "0"];
    let (output, results) = load_fake(Habit::Stalls, args).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let step = &results.expect("results").steps[0];
    let latency = step.latency.expect("latencies");
    assert!((95..=100).contains(&step.requests), "{step:?}");
    // Half of the second was a stall: a closed loop of one caller would have told of one slow request.
    assert!(latency.p90_ms > 350.0 && latency.max_ms > 450.0, "{latency:?}");
    assert!(latency.min_ms < 50.0, "{latency:?}");

    let few = &["--rate", "100", "--arrivals", "constant", "--warm-up", "0", "--max-in-flight", "4"];
    let (_, results) = load_fake(Habit::Stalls, few).await;
    let step = &results.expect("results").steps[0];
    assert!(step.not_sent > 30 && step.not_sent + step.requests > 94, "{step:?}");
}
