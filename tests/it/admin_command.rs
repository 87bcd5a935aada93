//! `embedd admin`: its output and its exit codes.

use std::process::Output;

use serde_json::Value;

use crate::support::models::Model;
use crate::support::server::{Server, command, temporary_folder};

fn admin(server: &str, args: &[&str]) -> Output {
    command().arg("admin").args(args).args(["--server", server]).output().expect("the program runs")
}

/// The JSON output of a command that exits with this code.
fn json(server: &str, args: &[&str], code: i32) -> Value {
    let output = admin(server, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The human-readable output of a command that exits with this code.
fn text(server: &str, args: &[&str], code: i32) -> String {
    let output = admin(server, args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The error message of a command that fails.
fn error(server: &str, args: &[&str]) -> String {
    let output = admin(server, args);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn each_command_prints_a_table_or_json_and_has_its_own_exit_code() {
    let server = Server::start(Model::Small, &[]);
    let address = server.admin_address.to_string();
    let address = address.as_str();

    let found = json(address, &["validate"], 0);
    assert_eq!((&found["passed"], found["texts"].as_array().map(Vec::len)), (&true.into(), Some(24)));
    let table = text(address, &["validate", "--min-cosine", "1"], 2);
    assert!(table.contains("FAIL (") && table.contains("minimum cosine"), "{table}");
    let set = Model::Small.reference();
    assert_eq!(
        json(address, &["validate", "--reference", set.to_str().expect("text")], 0)["texts"][0]["id"],
        found["texts"][0]["id"]
    );

    let shape = ["benchmark", "--lengths", "11,32", "--concurrencies", "2", "--requests", "4"];
    let measured = json(address, &shape, 0);
    assert_eq!((&measured["rows"][1]["tokens"], &measured["rows"][1]["latency"]["count"]), (&32.into(), &4.into()));
    assert!(measured["rows"][0]["latency"]["p50_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{measured}");
    let table = text(address, &shape, 0);
    assert_eq!(table.lines().count(), 3, "{table}");

    let reloaded = json(address, &["reload"], 0);
    assert_eq!(reloaded["fingerprint"], reloaded["previous_fingerprint"]);
    assert_eq!(reloaded["validation"]["passed"], true);
    assert_eq!(json(address, &["clear-cache"], 0)["entries"], 0);
    assert_eq!(text(address, &["clear-cache"], 0), "0 entries dropped\n");

    let stats = json(address, &["stats"], 0);
    assert_eq!(stats["methods"]["embedd.v1.AdminService/Validate"]["replies"]["OK"], 3);
    assert!(stats["sessions"]["total"].as_u64().is_some_and(|total| total >= 1), "{stats}");
    let table = text(address, &["stats"], 0);
    for part in ["uptime", "queue", "tokenize", "embedd.v1.AdminService/Benchmark", "OK 2", "P99 ms"] {
        assert!(table.contains(part), "{part}: {table}");
    }

    let missing = error(address, &["reload", "--bundle", "/no/such/folder"]);
    assert!(missing.contains("NOT_FOUND") && missing.contains("--bundle-roots"), "{missing}");
    let wrong = error(address, &["benchmark", "--lengths", "100000"]);
    assert!(wrong.contains("INVALID_ARGUMENT") && wrong.contains("token_counts[0]"), "{wrong}");
    let other = error(&server.address.to_string(), &["stats"]);
    assert!(other.contains("UNIMPLEMENTED") && other.contains("--server"), "{other}");
}

#[test]
fn a_missing_server_is_reported_with_its_address() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let text = error(&port.to_string(), &["stats"]);
    assert!(text.contains("cannot connect") && text.contains(&port.to_string()), "{text}");
}

#[test]
fn the_generated_token_is_needed_and_found_without_a_flag() {
    let server = Server::start(Model::Small, &[]);
    let address = server.admin_address.to_string();
    text(&address, &["stats"], 0);
    let (_folder, empty) = temporary_folder();
    let file = empty.join("token");
    std::fs::write(&file, "w".repeat(64)).expect("a file");
    let other = error(&address, &["stats", "--token-file", file.to_str().expect("text")]);
    assert!(other.contains("UNAUTHENTICATED"), "{other}");
    std::fs::write(&file, server.admin_token().expect("a token")).expect("a file");
    text(&address, &["stats", "--token-file", file.to_str().expect("text")], 0);

    let open = Server::start(Model::Small, &["--admin-token-file", "none"]);
    assert_eq!(open.admin_token(), None);
    text(&open.admin_address.to_string(), &["stats"], 0);
}
