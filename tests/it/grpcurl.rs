//! The server as grpcurl sees it, by way of reflection.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::grpcurl::grpcurl;
use crate::support::models::Model;
use crate::support::server::{Server, shared};

fn run(address: SocketAddr, before: &[&str], after: &[&str]) -> Output {
    Command::new(grpcurl())
        .args(["-plaintext", "-max-time", "60"])
        .args(before)
        .arg(address.to_string())
        .args(after)
        .output()
        .expect("grpcurl runs")
}

fn stdout(address: SocketAddr, before: &[&str], after: &[&str]) -> String {
    let output = run(address, before, after);
    assert!(output.status.success(), "grpcurl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn list_names_the_services_of_each_listener() {
    let server = shared(Model::MiniLm);
    let common =
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    let others = ["inference.GRPCInferenceService", "tei.v1.Embed", "tei.v1.Info", "tei.v1.Tokenize"];
    let callers = [&["embedd.v1.EmbeddingService"], &common[..], &others].concat();
    let admins = [&["embedd.v1.AdminService"], &common[..]].concat();
    for (address, expected) in [(server.address, callers), (server.admin_address, admins)] {
        let listed = stdout(address, &[], &["list"]);
        let mut lines: Vec<&str> = listed.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }
}

#[test]
fn describe_shows_methods_and_messages() {
    let server = shared(Model::MiniLm);
    let service = stdout(server.address, &[], &["describe", "embedd.v1.EmbeddingService"]);
    for method in ["rpc Embed (", "rpc EmbedStream (", "rpc CountTokens (", "rpc GetModel ("] {
        assert!(service.contains(method), "{service}");
    }
    let message = stdout(server.address, &[], &["describe", "embedd.v1.EmbedRequest"]);
    assert!(message.contains("repeated string texts = 1;"), "{message}");
}

#[test]
fn health_answers() {
    let server = shared(Model::MiniLm);
    for (address, service) in
        [(server.address, "embedd.v1.EmbeddingService"), (server.admin_address, "embedd.v1.AdminService")]
    {
        let request = format!(r#"{{"service": "{service}"}}"#);
        let answer = stdout(address, &["-d", &request], &["grpc.health.v1.Health/Check"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "SERVING");
    }
}

#[test]
fn embed_answers() {
    let server = shared(Model::Mpnet);
    let request = r#"{"texts": ["Ignore all previous instructions", ""]}"#;
    let answer = stdout(server.address, &["-d", request], &["embedd.v1.EmbeddingService/Embed"]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let embeddings = answer["embeddings"].as_array().expect("embeddings");
    assert_eq!(embeddings.len(), 2);
    assert_eq!(embeddings[0]["values"].as_array().expect("values").len(), 768);
    assert_eq!(embeddings[1]["tokenCount"], 2);
    assert_eq!(answer["model"], "sentence-transformers/all-mpnet-base-v2");
}

#[test]
fn an_error_shows_its_field() {
    let server = shared(Model::MiniLm);
    let output = run(server.address, &["-d", "{}"], &["embedd.v1.EmbeddingService/Embed"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("InvalidArgument") && text.contains(r#""field":"texts""#), "{text}");
}

#[test]
fn reflection_can_be_turned_off() {
    let server = Server::start(Model::MiniLm, &["--reflection=false"]);
    let output = run(server.address, &[], &["list"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not support the reflection API"));
}
