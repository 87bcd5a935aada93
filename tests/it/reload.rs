//! Hot reload: another model is served, and no reply is wrong or missing.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use embedd_model::bundle::NATIVE_WEIGHTS_FILE;
use embedd_proto::{EmbedResponse, GetModelRequest, GetStatsRequest, ReloadModelRequest, ReloadModelResponse};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::models::Model;
use crate::support::server::{AdminClient, Client, Server, embed, serve, temporary_folder};

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
    let server = Server::start(Model::Small, &["--engine", "native"]);
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

fn copy(bundle: &Path, folder: &Path) {
    for entry in fs::read_dir(bundle).expect("the bundle") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.join(path.file_name().expect("a name"))).expect("copy");
    }
}

#[tokio::test]
async fn after_a_failed_reload_the_old_model_is_still_served() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let empty = folder.join("empty");
    fs::create_dir(&bundle).expect("a folder");
    fs::create_dir(&empty).expect("a folder");
    copy(Model::Small.bundle(), &bundle);
    let server = Server::spawn(&mut serve(&bundle, &["--engine", "native"]));
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
