//! `embedd load`: against the real server, and against a fake one that fails in known ways.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use embedd_load::figures::Results;
use embedd_proto::EmbedResponse;
use tonic::Status;

use crate::support::exposition::Exposition;
use crate::support::fake::{Fake, Seen, reply};
use crate::support::models::Model;
use crate::support::process::Process;
use crate::support::server::{Server, command, shared, shared_native, temporary_folder};
use crate::support::tls::TlsFiles;

/// Steps are short, unless `args` sets their duration.
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
fn a_real_server_is_measured_and_verified_and_the_results_are_written() {
    let server = shared_native(Model::MiniLm);
    let (_folder, folder) = temporary_folder();
    let [json, csv, html] = ["l.json", "l.csv", "l.html"].map(|name| folder.join(name));
    let args = ["--concurrency", "1,4", "--tokens", "8-40", "--distinct", "24", "--texts-per-request", "3", "--verify"];
    let files = [("--json", &json), ("--csv", &csv), ("--html", &html)];
    let files = files.iter().flat_map(|(flag, path)| [*flag, path.to_str().expect("text")]);
    let output = load(&server.address.to_string(), &args.into_iter().chain(files).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("each is identical to that of its text alone"), "{}", text(&output.stdout));

    let results = results(&json);
    assert_eq!((results.server.model.as_str(), results.server.engine.as_str()), (Model::MiniLm.id(), "native"));
    assert_eq!(results.steps.len(), 2);
    for step in &results.steps {
        assert_eq!((step.wrong_length, step.mismatches, step.cached_share), (0, Some(0), 0.0));
        assert_eq!(step.codes, [("OK".to_owned(), step.requests)].into());
        assert!(step.requests > 0 && step.texts == 3 * step.requests, "{step:?}");
        assert!((8 * step.texts..=40 * step.texts).contains(&step.tokens), "{step:?}");
        let (latency, times) = (step.latency.expect("latencies"), step.times.expect("times"));
        assert!(latency.p50_ms <= latency.p99_ms && latency.p99_ms <= latency.max_ms * 1.001, "{latency:?}");
        assert!(times.infer_p50_ms > 0.0 && times.infer_p50_ms < latency.max_ms, "{times:?}");
        // A closed loop counts nothing after its end.
        assert_eq!(step.seconds, 1.0);
    }
    assert_eq!(fs::read_to_string(&csv).expect("the file").lines().count(), 3);
    let html = fs::read_to_string(&html).expect("the file");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let page = roxmltree::Document::parse_with_options(&html, options).expect("well-formed");
    assert_eq!(page.descendants().filter(|node| node.has_tag_name("circle")).count(), 2 + 3 * 2);
}

#[test]
fn an_open_loop_sends_texts_from_a_file_at_the_requested_rate() {
    let server = shared(Model::Small);
    let (_folder, folder) = temporary_folder();
    let (texts, json) = (folder.join("texts.jsonl"), folder.join("l.json"));
    fs::write(&texts, "{\"text\": \"one\"}\n{\"text\": \"two words\"}\n").expect("write");
    let args = ["--rate", "20", "--arrivals", "constant", "--deadline", "10s", "--encoding", "bytes", "--texts"];
    let args = [&args[..], &[texts.to_str().expect("text"), "--json", json.to_str().expect("text")]].concat();
    let output = load(&server.url(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let results = results(&json);
    let step = &results.steps[0];
    assert!((1..=20).contains(&step.requests), "{step:?}");
    assert_eq!((step.not_sent, step.mismatches, results.settings.distinct), (0, None, Some(2)));
    assert!(step.received_bytes as usize > step.texts as usize * 4 * Model::Small.dimension(), "{step:?}");
}

#[test]
fn an_interrupt_ends_the_test_and_prints_what_was_measured() {
    let server = Server::start(Model::Small, &[]);
    let computed = |metrics: &Exposition| metrics.value("embedd_batch_texts_sum", &[]);
    let before = computed(&server.metrics());
    let mut command = command();
    command.args(["load", "--server", &server.address.to_string(), "--duration", "1h", "--warm-up", "0"]);
    command.args(["--concurrency", "2,4"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut load = Process::spawn(&mut command);
    server.wait_until("requests are answered", |metrics| computed(metrics) > before + 20.0);
    load.signal("INT");
    assert_eq!(load.wait().code(), Some(0));
    let out = std::io::read_to_string(load.child.stdout.take().expect("a pipe")).expect("text");
    assert!(out.contains("Interrupted") && out.lines().any(|line| line.starts_with("       2 ")), "{out}");
}

#[test]
fn failures_are_reported_and_exit_with_1() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let output = load(&address, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address) && text(&output.stderr).contains("refused"));
    let server = shared(Model::Small);
    let tls = TlsFiles::new();
    for (args, expected) in [
        (&["--tokens", "65"][..], "at most 64"),
        (&["--tokens", "1"], "even an empty text has 2 tokens"),
        (&["--texts-per-request", "257"], "at most 256"),
        (&["--texts", "does/not/exist"], "does/not/exist"),
        (&["--ca", "does/not/exist"], "--ca does/not/exist"),
        (&["--ca", &tls.client_ca], "https://"),
    ] {
        let output = load(&server.address.to_string(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{args:?}: {}", text(&output.stderr));
    }
}

type Answer = Result<EmbedResponse, Status>;

/// Runs a load test against a fake server.
async fn load_fake(
    answer: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    args: &'static [&str],
) -> (Output, Option<Results>) {
    let fake = Fake::start(answer).await;
    let address = fake.address.to_string();
    let (_folder, folder) = temporary_folder();
    let json = folder.join("l.json");
    let path = json.to_str().expect("text").to_owned();
    let run = move || load(&address, &[args, &["--json", &path]].concat());
    let output = tokio::task::spawn_blocking(run).await.expect("no panic");
    (output, json.exists().then(|| results(&json)))
}

fn full() -> Answer {
    Err(Status::resource_exhausted("the queue is full"))
}

/// Replies immediately, except for one reply, which delays all others.
fn stalls_once(seen: &Seen, before: usize) -> Answer {
    if before == 10 {
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(reply(seen))
}

#[tokio::test]
async fn embeddings_that_change_are_counted_and_the_exit_code_is_1() {
    let inconstant = |seen: &Seen, before| {
        let mut reply = reply(seen);
        reply.embeddings[0].values = vec![before as f32];
        Ok(reply)
    };
    let (output, results) = load_fake(inconstant, &["--concurrency", "2", "--distinct", "3", "--verify"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("differ from those of the same texts alone"), "{}", text(&output.stderr));
    let results = results.expect("results are written despite the failure");
    assert_eq!(results.steps[0].mismatches, Some(results.steps[0].texts));
}

#[tokio::test]
async fn rejected_calls_are_counted_and_timed_separately() {
    let mostly_full = |seen: &Seen, before: usize| if before.is_multiple_of(4) { Ok(reply(seen)) } else { full() };
    let (output, results) = load_fake(mostly_full, &["--concurrency", "4"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let step = &results.expect("results").steps[0];
    let refused = step.refused.expect("rejected calls");
    assert_eq!(step.codes["RESOURCE_EXHAUSTED"], refused.count);
    assert_eq!(step.codes["OK"], step.requests);
    assert!(refused.count > step.requests, "{step:?}");
    assert!(text(&output.stdout).contains("RESOURCE_EXHAUSTED: the queue is full"), "{}", text(&output.stdout));

    let (output, _) = load_fake(|_, _| full(), &["--concurrency", "1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no request succeeded: RESOURCE_EXHAUSTED"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn an_open_loop_shows_the_cost_of_a_stall_for_all_requests_that_are_due_during_it() {
    let args = &["--rate", "100", "--arrivals", "constant", "--warm-up", "0"];
    let (output, results) = load_fake(stalls_once, args).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let step = &results.expect("results").steps[0];
    let latency = step.latency.expect("latencies");
    assert!((20..=100).contains(&step.requests), "{step:?}");
    // The stall takes half of the second. A closed loop with one caller would have one slow request.
    assert!(latency.p90_ms > 350.0 && latency.max_ms > 450.0, "{latency:?}");
    assert!(latency.min_ms < latency.p90_ms, "{latency:?}");

    let few = &["--rate", "100", "--arrivals", "constant", "--warm-up", "0", "--max-in-flight", "4"];
    let (_, results) = load_fake(stalls_once, few).await;
    let step = &results.expect("results").steps[0];
    assert!(step.not_sent > 30 && step.not_sent + step.requests <= 100, "{step:?}");
}
