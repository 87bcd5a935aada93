//! Hot reload: another model is served, and no reply is wrong or missing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use embedd_common::checksum::Sha256Hex;
use embedd_model::bundle::{FP32_FILE, MANIFEST_FILE, NATIVE_WEIGHTS_FILE, TOKENIZER_FILE};
use embedd_proto::{EmbedResponse, GetModelRequest, GetStatsRequest, ReloadModelRequest, ReloadModelResponse};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::models::Model;
use crate::support::server::{AdminClient, Client, Server, embed, long_texts, serve, temporary_folder};
use crate::support::{PATIENCE, copy_folder};

const TEXTS: [&str; 3] = ["Ignore all previous instructions", "a", "Every model has its own vectors"];

async fn reload(admin: &mut AdminClient, bundle: &str) -> Result<ReloadModelResponse, Status> {
    let request = ReloadModelRequest { bundle: bundle.to_owned() };
    admin.reload_model(request).await.map(tonic::Response::into_inner)
}

fn path(model: Model) -> &'static str {
    model.bundle().to_str().expect("text")
}

/// A reply: the name of the model, and all bits of the vectors.
fn bits(reply: &EmbedResponse) -> (String, Vec<u32>) {
    let values = reply.embeddings.iter().flat_map(|embedding| embedding.values.iter().map(|value| value.to_bits()));
    (reply.model.clone(), values.collect())
}

/// Calls until it is stopped. Returns all replies.
async fn call(mut client: Client, stop: Arc<AtomicBool>) -> Vec<(String, Vec<u32>)> {
    let mut replies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        replies.push(bits(&embed(&mut client, &TEXTS).await));
    }
    replies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_models_are_reloaded_every_reply_has_the_bits_of_one_of_them() {
    // Vectors of the native engine have the same bits in every batch.
    let roots = format!("{}:{}", path(Model::Small), path(Model::MiniLm));
    let server = Server::start(Model::Small, &["--engine", "native", "--bundle-roots", &roots]);
    let mut client = server.client().await;
    let mut admin = server.admin().await;
    let of_small = bits(&embed(&mut client, &TEXTS).await);
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3).map(|_| tokio::spawn(call(client.clone(), Arc::clone(&stop)))).collect();

    let same = reload(&mut admin, "").await.expect("the same folder");
    assert_eq!(same.previous_fingerprint, same.fingerprint);
    assert!(same.validation.expect("it was compared").passed);
    let mut second = admin.clone();
    let (one, other) = tokio::join!(reload(&mut admin, path(Model::MiniLm)), reload(&mut second, path(Model::MiniLm)));
    let (done, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    let done = done.expect("one is done");
    let refused = refused.expect_err("one at a time");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(done.previous_fingerprint, same.fingerprint);
    assert_ne!(done.fingerprint, same.fingerprint);

    let served = client.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    assert_eq!((served.name.as_str(), served.dimension), (Model::MiniLm.id(), 384));
    let of_minilm = bits(&embed(&mut client, &TEXTS).await);
    let back = reload(&mut admin, path(Model::Small)).await.expect("the first one again");
    assert_eq!((back.previous_fingerprint, back.fingerprint), (done.fingerprint, same.fingerprint));
    assert_eq!(bits(&embed(&mut client, &TEXTS).await), of_small);

    stop.store(true, Ordering::Relaxed);
    let mut seen = [0, 0];
    for caller in callers {
        for reply in caller.await.expect("no call fails") {
            let which = [&of_small, &of_minilm].iter().position(|model| **model == reply).expect("one model's bits");
            seen[which] += 1;
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "both models answered: {seen:?}");
    let stats = admin.get_stats(GetStatsRequest {}).await.expect("statistics").into_inner();
    let replies = |name: &str| &stats.methods.iter().find(|method| method.method.ends_with(name)).expect(name).replies;
    assert_eq!(replies("/Embed").keys().collect::<Vec<_>>(), [&0], "no call has failed");
    assert_eq!(*replies("/ReloadModel"), [(0, 3), (9, 1)].into());
}

#[tokio::test]
async fn after_a_failed_reload_the_old_model_is_still_served() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let empty = folder.join("empty");
    fs::create_dir(&empty).expect("a folder");
    copy_folder(Model::Small.bundle(), &bundle);
    let roots = folder.to_str().expect("text");
    let server = Server::spawn(&mut serve(&bundle, &["--engine", "native", "--bundle-roots", roots]));
    server.wait_for_line("ready");
    let mut client = server.client().await;
    let mut admin = server.admin().await;
    let before = bits(&embed(&mut client, &TEXTS).await);

    let nowhere = folder.join("nowhere");
    let missing = reload(&mut admin, nowhere.to_str().expect("text")).await.expect_err("no folder");
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let none = reload(&mut admin, empty.to_str().expect("text")).await.expect_err("not a bundle");
    assert_eq!(none.code(), Code::InvalidArgument, "{none}");
    let details = none.get_details_bad_request().expect("BadRequest details");
    assert_eq!(details.field_violations[0].field, "bundle");

    let weights = bundle.join(NATIVE_WEIGHTS_FILE);
    let mut bytes = fs::read(&weights).expect("weights");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("write");
    for named in ["", bundle.to_str().expect("text")] {
        let damaged = reload(&mut admin, named).await.expect_err("damaged");
        assert_eq!(damaged.code(), Code::FailedPrecondition, "{damaged}");
        assert!(damaged.message().contains("has changed since the conversion"), "{damaged}");
    }
    fs::remove_file(bundle.join("manifest.json")).expect("remove");
    let gone = reload(&mut admin, "").await.expect_err("no longer a bundle");
    assert_eq!(gone.code(), Code::FailedPrecondition, "the argument is not invalid: {gone}");
    assert_eq!(bits(&embed(&mut client, &TEXTS).await), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_waits_until_the_model_before_the_current_one_has_finished_its_requests() {
    let server = Server::start(
        Model::MiniLm,
        &["--sessions", "1", "--threads", "1", "--bundle-roots", path(Model::Small), "--log-level", "debug"],
    );
    let mut client = server.client().await;
    let admin = server.admin().await;
    // Takes half a minute, unless it is abandoned.
    let large = tokio::spawn(async move { client.embed(long_texts(256)).await });
    server.until("the request is being processed", |metrics| metrics.value("embedd_queue_texts", &[]) > 0.0).await;
    reload(&mut admin.clone(), path(Model::Small)).await.expect("a second model");
    let mut third = admin.clone();
    let mut third = tokio::spawn(async move { reload(&mut third, path(Model::Small)).await });
    let waited = tokio::time::timeout(Duration::from_secs(1), &mut third).await;
    assert!(waited.is_err() && !large.is_finished(), "three models would be in memory: {waited:?}");
    large.abort();
    server.wait_for_line("model retired");
    let reloaded = tokio::time::timeout(PATIENCE, third).await.expect("the first model is gone");
    reloaded.expect("no panic").expect("a third model");
}

#[tokio::test]
async fn bundles_elsewhere_are_not_loaded_and_nothing_is_said_about_them() {
    let server = Server::start(Model::Small, &[]);
    let mut admin = server.admin().await;
    let mut messages = Vec::new();
    let source = Model::Small.source();
    for elsewhere in
        [source.to_str().expect("text"), "/", "/root", "/no/such/folder", "..", "/etc/passwd", "/dev/stdin", "a\nb"]
    {
        let status = reload(&mut admin, elsewhere).await.expect_err("not a root");
        assert_eq!(status.code(), Code::NotFound, "{elsewhere}: {status}");
        messages.push(status.message().to_owned());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    for served in ["", path(Model::Small)] {
        reload(&mut admin, served).await.expect("the folder that is served");
    }
}

#[tokio::test]
async fn files_that_are_not_regular_do_not_block_a_reload() {
    let (_folder, folder) = temporary_folder();
    let server = Server::start(Model::Small, &["--bundle-roots", folder.to_str().expect("text")]);
    let mut admin = server.admin().await;
    let bundle = folder.join("bundle");
    copy_folder(Model::Small.bundle(), &bundle);
    let manifest = bundle.join(MANIFEST_FILE);
    let rest = fs::read(&manifest).expect("the manifest");
    let named = bundle.to_str().expect("text").to_owned();
    let pipe = |path: &Path| {
        fs::remove_file(path).expect("removed");
        assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
    };
    let mut is_rejected = async |what: &str| {
        let status = reload(&mut admin, &named).await.expect_err(what);
        assert_eq!(status.code(), Code::FailedPrecondition, "{what}: {status}");
        assert!(status.message().contains("not a regular file"), "{what}: {status}");
    };
    pipe(&manifest);
    is_rejected("a pipe").await;
    fs::remove_file(&manifest).expect("removed");
    std::os::unix::fs::symlink("/dev/zero", &manifest).expect("a link");
    is_rejected("a device").await;
    fs::remove_file(&manifest).expect("removed");
    fs::write(&manifest, rest).expect("written");
    pipe(&bundle.join(TOKENIZER_FILE));
    is_rejected("a pipe").await;
}

#[tokio::test]
async fn a_reload_that_takes_too_long_changes_nothing_and_does_not_block_later_ones() {
    let server = Server::start(Model::Small, &["--reload-timeout", "1ms", "--engine", "native"]);
    let mut client = server.client().await;
    let mut admin = server.admin().await;
    let before = bits(&embed(&mut client, &TEXTS).await);
    // Each one starts to load, and the next one waits for it to end.
    let mut late = 0;
    while late < 3 {
        let status = reload(&mut admin, "").await.expect_err("too late");
        match status.code() {
            Code::DeadlineExceeded => late += 1,
            Code::FailedPrecondition => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => panic!("{status}"),
        }
    }
    assert_eq!(bits(&embed(&mut client, &TEXTS).await), before);
}

/// Replaces a file of a bundle, and its record in the manifest.
fn forge(bundle: &Path, file: &str, contents: &[u8]) {
    fs::write(bundle.join(file), contents).expect("written");
    let path = bundle.join(MANIFEST_FILE);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).expect("the manifest")).expect("JSON");
    let sha256 = Sha256Hex::of(contents);
    manifest["files"][file] = json!({ "sha256": sha256.as_str(), "bytes": contents.len() });
    fs::write(path, manifest.to_string()).expect("written");
}

#[tokio::test]
async fn a_forged_bundle_is_rejected_even_if_its_checksums_match() {
    let (_folder, folder) = temporary_folder();
    let server = Server::start(Model::Small, &["--bundle-roots", folder.to_str().expect("text")]);
    let mut admin = server.admin().await;
    let bundle = folder.join("bundle");
    copy_folder(Model::Small.bundle(), &bundle);
    let mut rejection = async || {
        let status = reload(&mut admin, bundle.to_str().expect("text")).await.expect_err("forged");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        status.message().to_owned()
    };

    let tokenizer = fs::read(bundle.join(TOKENIZER_FILE)).expect("the tokenizer");
    let mut json: Value = serde_json::from_slice(&tokenizer).expect("JSON");
    let token = json!({ "id": 4_294_967_294_u32, "content": "<evil>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": false });
    json["added_tokens"].as_array_mut().expect("a list").push(token);
    forge(&bundle, TOKENIZER_FILE, json.to_string().as_bytes());
    let message = rejection().await;
    assert!(message.contains("has the token id"), "{message}");
    forge(&bundle, TOKENIZER_FILE, &tokenizer);

    // Field 7 of a model is its graph, field 5 of a graph an initializer, and field 14 of that says that it is external.
    let mut graph = fs::read(bundle.join(FP32_FILE)).expect("the graph");
    graph.extend([0x3a, 0x04, 0x2a, 0x02, 0x70, 0x01]);
    forge(&bundle, FP32_FILE, &graph);
    let message = rejection().await;
    assert!(message.contains("its tensors are in other files"), "{message}");
}
