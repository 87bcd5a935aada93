//! Checks that the settings, flags and variables in `deploy/` exist, and that their values are valid.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use embedd::cli::{self, Command};
use embedd::config::{OTHER_VARIABLES, Setting, Settings, Sources, TABLE};
use serde_json::Value;

use super::{documents, files_below, path, resources, text, variants};

/// The variables in the ConfigMap of the base or of an overlay.
fn variables(overlay: Option<&str>) -> Vec<(String, String)> {
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let file = text("deploy/base/embedd.env");
    let mut variables: Vec<_> = file.lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect();
    if let Some(name) = overlay {
        let [kustomization] =
            documents(&path(&format!("deploy/overlays/{name}/kustomization.yaml"))).try_into().expect("one document");
        let literals = kustomization["configMapGenerator"][0]["literals"].as_array().cloned().unwrap_or_default();
        variables.extend(literals.iter().filter_map(Value::as_str).filter_map(pair));
    }
    variables
}

/// The settings of the pods of the base or of an overlay.
pub(super) fn of(overlay: Option<&str>) -> Settings {
    let sources = Sources { env: variables(overlay), ..Sources::default() };
    Settings::resolve(&sources).unwrap_or_else(|error| panic!("{overlay:?}: {error}"))
}

/// The settings of a container that is configured by flags alone.
pub(super) fn of_flags(container: &Value) -> Settings {
    let sources = Sources { flags: flags(container), ..Sources::default() };
    Settings::resolve(&sources).unwrap_or_else(|error| panic!("{}: {error}", container["name"]))
}

/// The flags in a container's arguments.
fn flags(container: &Value) -> BTreeMap<&'static str, String> {
    let args = container["args"].as_array().cloned().unwrap_or_default();
    let args = args.iter().filter_map(Value::as_str).map(OsString::from);
    let invocation = cli::parse(std::iter::once("embedd".into()).chain(args)).expect("valid");
    assert!(matches!(invocation.command, Command::Serve(_)), "{invocation:?}");
    invocation.flags.values
}

#[test]
fn the_settings_of_the_base_and_of_every_overlay_are_valid() {
    for overlay in variants() {
        assert!(!variables(overlay).is_empty(), "{overlay:?} has variables");
        of(overlay);
    }
    for kind in ["Deployment", "ServingRuntime"] {
        for resource in resources("deploy", kind) {
            let [pod, runtime] = [&resource["spec"]["template"]["spec"], &resource["spec"]];
            let Some(containers) = pod["containers"].as_array().or(runtime["containers"].as_array()) else {
                assert!(pod["initContainers"].is_array(), "a patch that only adds init containers: {resource}");
                continue;
            };
            for container in containers.iter().filter(|container| container["name"] != "envoy") {
                of_flags(container);
            }
        }
    }
}

/// Flags of other programs.
const FLAGS_OF_OTHERS: [&str; 12] = [
    "--build-arg",
    "--config-path",
    "--docker-server",
    "--gpu",
    "--network",
    "--now",
    "--read-only",
    "--registry-config",
    "--set",
    "--stand-in",
    "--target",
    "--values",
];

/// The words in every file of `deploy/`, each with its file.
fn words() -> Vec<(PathBuf, String)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    // Shell scripts contain only flags of other programs.
    let files = files_below("deploy").into_iter().filter(|file| file.extension().is_none_or(|name| name != "sh"));
    let words = files.flat_map(|file| {
        let text = std::fs::read_to_string(&file).expect("text");
        let words: Vec<String> = text.split(|c| !is_word(c)).map(str::to_owned).collect();
        words.into_iter().map(move |word| (file.clone(), word))
    });
    words.collect()
}

#[test]
fn every_variable_exists() {
    let settings = TABLE.iter().map(Setting::variable);
    let known: BTreeSet<String> = settings.chain(OTHER_VARIABLES.iter().map(|(name, _)| (*name).to_owned())).collect();
    let image = text("Dockerfile");
    let of_image = image.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named = words().into_iter().chain(of_image.map(|word| (path("Dockerfile"), word.to_owned())));
    // `EMBEDD_*` stands for all variables.
    let named: Vec<_> = named.filter(|(_, word)| word.starts_with("EMBEDD_") && word != "EMBEDD_").collect();
    assert!(named.len() > 10, "variables were found");
    for (file, word) in named {
        assert!(known.contains(&word), "{}: {word} does not exist", file.display());
    }
}

#[test]
fn every_flag_exists() {
    let known = all_flags(&cli::command());
    let is_flag = |word: &str| word.starts_with("--") && word.trim_matches('-').len() > 1;
    let named: Vec<_> = words().into_iter().filter(|(_, word)| is_flag(word)).collect();
    assert!(named.len() > 10, "flags were found");
    for (file, word) in named {
        let exists = known.contains(&word) || FLAGS_OF_OTHERS.contains(&word.as_str());
        assert!(exists, "{}: {word} does not exist", file.display());
    }
}

fn all_flags(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_long).map(|name| format!("--{name}"));
    own.chain(command.get_subcommands().flat_map(all_flags)).collect()
}
