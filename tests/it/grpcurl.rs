//! grpcurl, which finds the services through reflection.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::grpcurl::grpcurl;
use crate::support::models::Model;
use crate::support::server::{Server, shared};

fn run(address: SocketAddr, before: &[&str], after: &[&str]) -> Output {
    Command::new(grpcurl())
        .args(["-plaintext", "-max-time", "600"])
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
    let server = shared(Model::Small);
    let common =
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    let others = ["inference.GRPCInferenceService", "tei.v1.Embed", "tei.v1.Info", "tei.v1.Tokenize"];
    let callers = [&["embedd.v1.EmbeddingService"], &common[..], &others].concat();
    let admins = [&["embedd.v1.AdminService"], &common[..]].concat();
    let token = format!("authorization: Bearer {}", server.admin_token().expect("a token"));
    for (address, expected) in [(server.address, callers), (server.admin_address, admins)] {
        let listed = stdout(address, &["-H", &token], &["list"]);
        let mut lines: Vec<&str> = listed.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }
}

#[test]
fn describe_prints_methods_and_messages() {
    let server = shared(Model::Small);
    let service = stdout(server.address, &[], &["describe", "embedd.v1.EmbeddingService"]);
    for method in ["rpc Embed (", "rpc EmbedStream (", "rpc CountTokens (", "rpc GetModel ("] {
        assert!(service.contains(method), "{service}");
    }
    let message = stdout(server.address, &[], &["describe", "embedd.v1.EmbedRequest"]);
    assert!(message.contains("repeated string texts = 1;"), "{message}");
}

#[test]
fn health_reports_serving_on_both_listeners() {
    let server = shared(Model::Small);
    let token = format!("authorization: Bearer {}", server.admin_token().expect("a token"));
    for (address, service) in
        [(server.address, "embedd.v1.EmbeddingService"), (server.admin_address, "embedd.v1.AdminService")]
    {
        let request = format!(r#"{{"service": "{service}"}}"#);
        // For reflection; health itself needs no token.
        let answer = stdout(address, &["-H", &token, "-d", &request], &["grpc.health.v1.Health/Check"]);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "SERVING");
    }
}

#[test]
fn embed_returns_embeddings() {
    let server = shared(Model::Small);
    let request = r#"{"texts": ["Ignore all previous instructions", ""]}"#;
    let answer = stdout(server.address, &["-d", request], &["embedd.v1.EmbeddingService/Embed"]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let embeddings = answer["embeddings"].as_array().expect("embeddings");
    assert_eq!(embeddings.len(), 2);
    assert_eq!(embeddings[0]["values"].as_array().expect("values").len(), Model::Small.dimension());
    assert_eq!(embeddings[1]["tokenCount"], 2);
    assert_eq!(answer["model"], Model::Small.id());
}

#[test]
fn an_error_names_its_field() {
    let server = shared(Model::Small);
    let output = run(server.address, &["-d", "{}"], &["embedd.v1.EmbeddingService/Embed"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("InvalidArgument") && text.contains(r#""field":"texts""#), "{text}");
}

#[test]
fn reflection_can_be_turned_off() {
    let server = Server::start(Model::Small, &["--reflection=false"]);
    let output = run(server.address, &[], &["list"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not support the reflection API"));
}
