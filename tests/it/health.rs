//! `embedd health`: its output and its exit codes.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::loading::Loading;
use crate::support::models::Model;
use crate::support::server::{Server, command};

fn health(server: &str) -> Command {
    let mut command = command();
    command.args(["health", "--server", server]);
    command
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[test]
fn health_exits_with_0_while_the_server_serves_and_with_1_before_and_after() {
    let loading = Loading::start(Model::Small, &["--shutdown-grace", "10m"]);
    let server = &loading.server;
    let mut ask = health(&server.address.to_string());
    let (code, text) = run(&mut ask);
    assert!(code == Some(1) && text.contains("is NOT_SERVING"), "while the model loads: {text}");
    loading.finish();
    assert_eq!(run(&mut ask), (Some(0), "SERVING\n".to_owned()));
    server.signal("TERM");
    server.wait_for_line("stopping: health is NOT_SERVING");
    let (code, text) = run(&mut ask);
    assert!(code == Some(1) && text.contains("is NOT_SERVING"), "during the grace: {text}");
}

#[test]
fn without_an_address_health_checks_the_configured_server() {
    let server = Server::launch(Model::Small, &["--health-listen", "127.0.0.1:0"]);
    let probes = server.read_address();
    server.wait_for_line("ready");
    let ask = |variable: &str, address: &str| run(command().arg("health").env(variable, address));
    assert_eq!(ask("EMBEDD_LISTEN", &server.address.to_string()).0, Some(0));
    assert_eq!(ask("EMBEDD_HEALTH_LISTEN", &probes.to_string()).0, Some(0));
    assert_eq!(ask("EMBEDD_LISTEN", "nowhere").0, Some(64));
}

#[test]
fn a_missing_or_silent_server_is_not_healthy() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let (code, text) = run(&mut health(&free.to_string()));
    assert!(code == Some(1) && text.contains("cannot connect"), "{text}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (code, text) = run(&mut health(&silent.local_addr().expect("an address").to_string()));
    assert!(code == Some(1) && text.contains("did not answer within 5s"), "{text}");
}
