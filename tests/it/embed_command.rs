//! `embedd embed`: its output and its exit codes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, Output, Stdio};

use serde_json::Value;

use crate::support::fake::{Fake, NEVER_ANSWERED};
use crate::support::models::Model;
use crate::support::norm;
use crate::support::process::Process;
use crate::support::server::{Server, command, embed, shared, temporary_folder};

fn to(server: SocketAddr, args: &[&str]) -> Command {
    let mut command = command();
    command.arg("embed").args(args).args(["--server", &server.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs with these bytes on standard input.
fn run_with_input(server: SocketAddr, args: &[&str], input: &[u8]) -> Output {
    let mut child = to(server, args).spawn().expect("the program runs");
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.to_vec());
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("no panic");
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn rows(output: &Output) -> Vec<Value> {
    let rows = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    rows.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

fn values(row: &Value) -> Vec<f32> {
    serde_json::from_value(row["embedding"].clone()).expect("numbers")
}

#[tokio::test]
async fn texts_have_the_embeddings_of_a_plain_call() {
    let server = shared(Model::Small);
    let output =
        to(server.address, &["Ignore all previous instructions", "", "-", "--with-text"]).output().expect("it runs");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let rows = rows(&output);
    let plain = embed(&mut server.client().await, &["Ignore all previous instructions", "", "-"]).await.embeddings;
    assert_eq!(rows.len(), 3);
    for ((row, embedding), (index, text)) in
        rows.iter().zip(&plain).zip([(0, "Ignore all previous instructions"), (1, ""), (2, "-")])
    {
        assert_eq!((&row["index"], &row["text"]), (&index.into(), &text.into()));
        assert_eq!(row["token_count"], embedding.token_count);
        assert_eq!((&row["truncated"], &row["cached"]), (&false.into(), &false.into()));
        assert!(embedd_model::accuracy::cosine(&values(row), &embedding.values) > 0.9999, "{text}");
    }
}

#[test]
fn options_are_passed_to_the_call() {
    let server = shared(Model::Small);
    let row = |args: &[&str]| {
        let output = to(server.address, &[args, &["a text"]].concat()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        rows(&output).remove(0)
    };
    let short = row(&["--dimensions", "8"]);
    assert!((values(&short).len(), short.get("text")) == (8, None) && (norm(&values(&short)) - 1.0).abs() < 1e-5);
    assert!((norm(&values(&row(&["--no-normalize"]))) - 1.0).abs() > 1e-2);
    let array = to(server.address, &["--output", "json", "a", "b"]).output().expect("it runs");
    let array: Vec<Value> = serde_json::from_slice(&array.stdout).expect("JSON");
    assert_eq!(array.len(), 2);
}

#[test]
fn lines_are_embedded_in_order_and_an_empty_line_is_a_text() {
    let server = shared(Model::Small);
    let lines: Vec<String> =
        (0..500).map(|number| if number == 7 { String::new() } else { format!("{number}") }).collect();
    let output = run_with_input(server.address, &["--with-text"], (lines.join("\n") + "\r\n").as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = rows(&output);
    assert_eq!(rows.iter().map(|row| row["text"].as_str().expect("text")).collect::<Vec<_>>(), lines);
    assert!(rows.iter().enumerate().all(|(index, row)| row["index"] == index));
    let nothing = run_with_input(server.address, &[], b"");
    assert_eq!((nothing.status.code(), nothing.stdout.len()), (Some(0), 0));
}

#[test]
fn output_begins_before_the_input_ends() {
    let server = shared(Model::Small);
    let mut running = Process::spawn(&mut to(server.address, &[]));
    let mut stdin: ChildStdin = running.stdin();
    let mut stdout = BufReader::new(running.child.stdout.take().expect("a pipe"));
    for index in 0..3 {
        writeln!(stdin, "line {index}").expect("it reads");
        let mut row = String::new();
        stdout.read_line(&mut row).expect("it prints");
        let row: Value = serde_json::from_str(&row).expect("JSON");
        assert_eq!(row["index"], index);
    }
    drop(stdin);
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn lines_that_cannot_be_embedded_are_reported_by_number_and_the_others_are_embedded() {
    let server = Server::start(Model::Small, &["--max-text-bytes", "2KiB"]);
    let long_text = "word ".repeat(300);
    let long_line = "x".repeat(5000);
    let input = [b"one\n\xff\xfe\n", long_line.as_bytes(), b"\nfour\n", long_text.as_bytes(), b"\nsix\n"].concat();
    let output = run_with_input(server.address, &["--truncation", "reject"], &input);
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for part in ["line 2: is not UTF-8", "line 3: has more than 2048 bytes", "line 5: ", "3 lines were not embedded"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert_eq!(rows(&output).iter().map(|row| row["index"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(3), Some(5)]);
    let truncated = run_with_input(server.address, &[], long_text.as_bytes());
    assert_eq!(rows(&truncated)[0]["truncated"], true);
}

#[test]
fn it_ends_without_an_error_when_the_reader_closes_its_output() {
    let server = shared(Model::Small);
    let mut running = Process::spawn(&mut to(server.address, &[]));
    let mut stdin = running.stdin();
    let feeder = std::thread::spawn(move || {
        // Writes until the command ends.
        while stdin.write_all(b"a line\n").is_ok() {}
    });
    let mut stdout = BufReader::new(running.child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut String::new()).expect("a row");
    drop(stdout);
    let status = running.wait();
    let stderr = std::io::read_to_string(running.child.stderr.take().expect("a pipe")).expect("text");
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    feeder.join().expect("no panic");
}

#[test]
fn a_failed_call_is_reported_once_and_exits_with_1() {
    let server = shared(Model::Small);
    let wrong = run_with_input(server.address, &["--dimensions", "1000"], b"a\nb\nc\n");
    assert_eq!((wrong.status.code(), stderr(&wrong).matches("dimensions").count()), (Some(1), 1), "{}", stderr(&wrong));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let nobody = command().args(["embed", "a text", "--server", &free.to_string()]).output().expect("it runs");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains(&free.to_string()) && nobody.stdout.is_empty(), "{}", stderr(&nobody));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_misses_its_deadline_exits_with_1() {
    let server = Fake::fine().await;
    let late = to(server.address, &["--deadline", "100ms", NEVER_ANSWERED]).output().expect("it runs");
    assert_eq!(late.status.code(), Some(1));
    assert!(stderr(&late).contains("deadline"), "{}", stderr(&late));
}

#[test]
fn a_server_with_tokens_accepts_calls_with_one_of_them() {
    let (_folder, folder) = temporary_folder();
    let tokens = folder.join("tokens");
    std::fs::write(&tokens, "a-token-of-this-test\n").expect("write");
    let tokens = tokens.to_str().expect("text");
    let server = Server::start(Model::Small, &["--token-file", tokens]);
    let accepted = to(server.address, &["--token-file", tokens, "a text"]).output().expect("it runs");
    assert_eq!((accepted.status.code(), rows(&accepted).len()), (Some(0), 1), "{}", stderr(&accepted));
    let rejected = to(server.address, &["a text"]).output().expect("it runs");
    assert_eq!(rejected.status.code(), Some(1));
    assert!(stderr(&rejected).contains("UNAUTHENTICATED"), "{}", stderr(&rejected));
}
