//! The native INT8 engine over gRPC, and the self-check, which rejects models that do not reproduce their
//! reference set.

use std::fs;
use std::path::Path;
use std::time::Duration;

use embedd_kernels::CpuInstructions;
use embedd_kernels::InstructionSet;
use embedd_model::bundle::{Bundle, FileRecord, MANIFEST_FILE, REFERENCE_FILE, Variant};
use embedd_proto::GetModelRequest;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::support::models::{Model, copy_of};
use crate::support::reference::{Nearness, assert_near_pytorch};
use crate::support::server::{Server, embed, fails_to_serve, serve, shared_native, temporary_folder};
use crate::support::skips::cpu_has;

#[tokio::test]
async fn vectors_are_close_to_pytorch_and_have_the_same_bits_in_every_batch_mpnet() {
    check(Model::Mpnet).await;
}

#[tokio::test]
async fn vectors_are_close_to_pytorch_and_have_the_same_bits_in_every_batch_minilm() {
    check(Model::MiniLm).await;
}

async fn check(model: Model) {
    let server = shared_native(model);
    assert_near_pytorch(server, model, Nearness::INT8, |alone, together| alone == together).await;
}

#[tokio::test]
async fn the_engine_and_the_instruction_set_of_its_kernels_are_reported() {
    let server = Server::start(Model::Small, &["--engine", "auto"]);
    let model = server.client().await.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    assert_eq!(model.device, "cpu");
    // The choice of the fastest engine has its own tests.
    let expected = match model.engine.as_str() {
        "native" => InstructionSet::best().to_string(),
        _ => CpuInstructions::widest().to_string(),
    };
    assert_eq!(model.instruction_set, expected, "{}", model.engine);
    if CpuInstructions::widest().has_int8_dot_products() {
        assert_eq!(model.engine, "native");
    }
    for set in InstructionSet::ALL {
        let flags = ["--engine", "native", "--instruction-set", set.name()];
        if cpu_has(set) {
            let server = Server::launch(Model::Small, &flags);
            let logged = server.wait_for_line("model loaded");
            assert_eq!((&logged["engine"], &logged["instruction_set"]), (&"native".into(), &set.name().into()));
            server.wait_for_line("ready");
            let model = server.client().await.get_model(GetModelRequest {}).await.expect("the model").into_inner();
            assert_eq!((model.engine.as_str(), model.instruction_set.as_str()), ("native", set.name()));
        } else {
            let error = fails_to_serve(Model::Small.bundle(), &flags);
            assert!(error.contains(set.name()) && error.contains("--instruction-set"), "{error}");
        }
    }
}

/// Activations in bfloat16 give other vectors than quantized ones, so their accuracy is measured, reported and required by
/// itself.
#[tokio::test]
async fn activations_in_bfloat16_have_an_accuracy_of_their_own() {
    let set = InstructionSet::EmulatedAmxBf16;
    if !cpu_has(set) {
        return;
    }
    let flags = ["--engine", "native", "--instruction-set", set.name()];
    let server = Server::start(Model::Small, &flags);
    let model = server.client().await.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    let bundle = Bundle::open(Model::Small.bundle()).expect("a bundle");
    let record = &bundle.manifest().models[&Variant::Native];
    let [int8, bf16] = [record.accuracy, record.accuracy_bf16].map(|accuracy| accuracy.expect("it was measured"));
    assert_ne!(int8.mean_cosine, bf16.mean_cosine);
    assert_eq!(model.accuracy.map(|accuracy| accuracy.mean_cosine), Some(bf16.mean_cosine));

    let (_folder, folder) = temporary_folder();
    copy_of(Model::Small, &folder, &[MANIFEST_FILE]);
    let path = folder.join(MANIFEST_FILE);
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("a manifest")).expect("JSON");
    manifest["models"]["native"].as_object_mut().expect("a map").remove("accuracy_bf16");
    fs::write(&path, manifest.to_string()).expect("written");
    let error = fails_to_serve(&folder, &flags);
    assert!(error.contains("never measured with emulated-amx-bf16") && error.contains("embedd convert"), "{error}");
}

/// The CPU time of the process in ticks of 10 ms.
#[cfg(target_os = "linux")]
fn ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).expect("a process");
    let (_, after_name) = stat.rsplit_once(')').expect("a name");
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_server_uses_no_cpu() {
    let flags = ["--engine", "native", "--sessions", "2", "--threads", "2"];
    let server = Server::start(Model::Small, &flags);
    let mut client = server.client().await;
    embed(&mut client, &["some work", "for every thread", "of the pool"]).await;
    server.until("the batch has ended", |metrics| metrics.value("embedd_sessions_busy", &[]) == 0.0).await;
    let before = ticks(&server);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = ticks(&server) - before;
    assert!(used <= 2, "{used} of 200 ticks");
}

/// Copies the bundle with a reference set of opposite vectors and the right checksums.
fn copy_with_opposite_vectors(folder: &Path) {
    copy_of(Model::Small, folder, &[REFERENCE_FILE, MANIFEST_FILE]);
    let bytes = fs::read(Model::Small.bundle().join(REFERENCE_FILE)).expect("the reference set");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let embeddings = file.tensor("embeddings").expect("embeddings");
    let opposite: Vec<u8> = embeddings.data().chunks(4).flat_map(|f| [f[0], f[1], f[2], f[3] ^ 0x80]).collect();
    let opposite = TensorView::new(Dtype::F32, embeddings.shape().to_vec(), &opposite).expect("a tensor");
    let part = |name| (name, file.tensor(name).expect("a tensor"));
    let tensors = [("embeddings", opposite), part("token_counts"), part("texts")];
    let metadata = SafeTensors::read_metadata(&bytes).expect("metadata").1.metadata().clone();
    let path = folder.join(REFERENCE_FILE);
    fs::write(&path, safetensors::serialize(tensors, metadata).expect("a file")).expect("written");
    let mut manifest = Bundle::open(Model::Small.bundle()).expect("a bundle").manifest().clone();
    manifest.files.insert(REFERENCE_FILE.to_owned(), FileRecord::of(&path).expect("a file"));
    fs::write(folder.join(MANIFEST_FILE), serde_json::to_vec(&manifest).expect("JSON")).expect("written");
}

#[test]
fn a_model_that_fails_the_self_check_is_not_served_unless_inaccurate_models_are_allowed() {
    let (_folder, folder) = temporary_folder();
    copy_with_opposite_vectors(&folder);
    for engine in ["native", "portable", "fp32"] {
        let error = fails_to_serve(&folder, &["--engine", engine]);
        for part in ["self-check", engine, "cosine -", "--engine fp32"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    Server::spawn(&mut serve(&folder, &["--allow-inaccurate"])).wait_for_line("ready");
}
