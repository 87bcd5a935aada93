//! `embedd health`: what probes and people are told.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::models::Model;
use crate::support::server::{Server, command};

fn health(server: &str) -> Command {
    let mut command = command();
    command.args(["health", "--server", server]);
    command
}

fn told(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[test]
fn health_exits_with_0_while_the_server_serves_and_with_1_before_and_after() {
    let _bundle = Model::Mpnet.bundle();
    let server = Server::launch(Model::Mpnet, &["--shutdown-grace", "60s"]);
    let mut ask = health(&server.address.to_string());
    let (code, text) = told(&mut ask);
    assert!(code == Some(1) && text.contains("is NOT_SERVING"), "while it loads: {text}");
    server.wait_for_line("ready");
    assert_eq!(told(&mut ask), (Some(0), "SERVING\n".to_owned()));
    server.signal("TERM");
    server.wait_for_line("stopping: health is NOT_SERVING");
    let (code, text) = told(&mut ask);
    assert!(code == Some(1) && text.contains("is NOT_SERVING"), "in its grace: {text}");
}

#[test]
fn the_server_of_the_settings_is_asked_where_none_is_named() {
    let server = Server::launch(Model::MiniLm, &["--health-listen", "127.0.0.1:0"]);
    let probes = server.read_address();
    server.wait_for_line("ready");
    let ask = |variable: &str, address: &str| told(command().arg("health").env(variable, address));
    assert_eq!(ask("EMBEDD_LISTEN", &server.address.to_string()).0, Some(0));
    assert_eq!(ask("EMBEDD_HEALTH_LISTEN", &probes.to_string()).0, Some(0));
    assert_eq!(ask("EMBEDD_LISTEN", "nowhere").0, Some(64));
}

#[test]
fn a_server_that_is_not_there_or_says_nothing_is_not_well() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let (code, text) = told(&mut health(&free.to_string()));
    assert!(code == Some(1) && text.contains("no connection"), "{text}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (code, text) = told(&mut health(&silent.local_addr().expect("an address").to_string()));
    assert!(code == Some(1) && text.contains("did not answer within 5s"), "{text}");
}
