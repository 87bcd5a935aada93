//! The Dockerfile.

use std::ffi::OsString;

use embedd::cli::{self, Command};
use embedd::config::by_key;

use super::{resources, text};

/// The arguments of the last instruction with this name in the Dockerfile, which must be in the JSON form.
fn exec_form(instruction: &str) -> Vec<OsString> {
    let dockerfile = text("Dockerfile");
    let line = dockerfile.lines().rev().find(|line| line.starts_with(instruction)).expect("the instruction");
    let list = &line[line.find('[').expect("the JSON form")..];
    let list: Vec<String> = serde_json::from_str(list).expect("a list");
    list.into_iter().map(Into::into).collect()
}

#[test]
fn the_image_serves_and_checks_its_health_with_commands_that_exist() {
    let serve = [exec_form("ENTRYPOINT"), exec_form("CMD")].concat();
    assert!(matches!(cli::parse(serve).expect("valid").command, Command::Serve(_)));
    let health = exec_form("HEALTHCHECK");
    assert_eq!(health[..1], exec_form("ENTRYPOINT"));
    assert!(matches!(cli::parse(health).expect("valid").command, Command::Health(_)));
}

#[test]
fn the_image_exposes_the_ports_of_the_default_settings() {
    let dockerfile = text("Dockerfile");
    let exposed = dockerfile.lines().find_map(|line| line.strip_prefix("EXPOSE ")).expect("EXPOSE");
    let port = |key| by_key(key).and_then(|setting| setting.default.rsplit_once(':')).map(|(_, port)| port);
    // Metrics are served over HTTP.
    let ports = [port("listen"), port("http_listen").or(Some("9090"))].map(|port| port.expect("a port"));
    assert_eq!(exposed.split(' ').collect::<Vec<_>>(), ports);
}

#[test]
fn the_crate_the_checkout_and_the_image_name_the_same_compiler() {
    let (cargo, dockerfile) = (text("Cargo.toml"), text("Dockerfile"));
    let version = cargo.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    let image = dockerfile.lines().find_map(|line| line.strip_prefix("ARG BUILD_IMAGE=")).expect("an image");
    assert!(image.contains(&format!("/rust:{}.", version.trim_matches('"'))), "{image} and {version}");
    let toolchain = text("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel");
    assert!(image.contains(&format!("/rust:{}-", channel.trim_matches('"'))), "{image} and {channel}");
}

#[test]
fn manifests_use_the_image_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let images: Vec<String> = ["Deployment", "ServingRuntime"]
        .into_iter()
        .flat_map(|kind| resources("deploy", kind))
        .flat_map(|resource| {
            let spec = &resource["spec"];
            let containers = spec["containers"].as_array().or(spec["template"]["spec"]["containers"].as_array());
            containers.cloned().unwrap_or_default()
        })
        .filter_map(|container| container["image"].as_str().map(str::to_owned))
        .filter(|image| !image.contains("envoy"))
        .collect();
    assert_eq!(images.len(), 2, "{images:?}");
    assert!(images.iter().all(|image| image.ends_with(&format!(":{version}"))), "{images:?}");
}
