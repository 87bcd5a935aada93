//! Models on GPUs. Most machines have none, and must say so instead of using their CPUs.

use std::fs;
use std::path::Path;

use embedd_model::accuracy::cosine;
use embedd_model::bundle::{Bundle, FP16_FILE, Manifest, Variant};
use embedd_model::engine::Gpu;
use embedd_proto::GetModelRequest;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::support::copy_folder;
use crate::support::models::Model;
use crate::support::reference;
use crate::support::server::{Server, command, embed, temporary_folder};
use crate::support::skips::not_tested;

/// The number of a GPU that no machine has.
const MISSING: &str = "cuda:1000";
/// float16 has significands of 11 bits.
const MIN_COSINE: f64 = 0.9999;

#[test]
fn a_gpu_that_cannot_be_used_is_an_error_before_anything_is_fetched() {
    let (_folder, home) = temporary_folder();
    let bundle = Model::Small.bundle();
    // Other tests may use the default ports.
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"];
    for arguments in [&serve[..], &["bench", "--lengths", "11"], &["validate"], &["report"]] {
        let mut command = command();
        command.args(arguments).args(["--device", MISSING, "--bundle"]).arg(bundle).env("EMBEDD_HOME", &home);
        let output = command.output().expect("the program runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("cannot run models on cuda:1000"), "{arguments:?}: {stderr}");
        // Which of the two depends on this machine.
        let reasons =
            ["NVIDIA's driver cannot be loaded", "there is no GPU with number 1000", "the driver finds no GPU"];
        assert!(reasons.iter().any(|reason| stderr.contains(reason)), "{arguments:?}: {stderr}");
        assert!(!home.join("onnxruntime").exists(), "gigabytes for nothing");
    }
}

#[test]
fn a_device_is_named_or_rejected() {
    for device in ["gpu", "cuda:", "cuda:one", "rocm"] {
        let output = command().args(["serve", "--device", device]).output().expect("the program runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{device}: {stderr}");
        assert!(stderr.contains("`cuda:N`"), "{device}: {stderr}");
    }
}

/// Conversion needs no GPU.
#[test]
fn a_bundle_for_gpus_has_int8_engines_on_request() {
    let (_folder, folder) = temporary_folder();
    let models = |further: &[&str]| convert(Model::Small, &folder.join(format!("bundle {further:?}")), further).models;
    assert_eq!(models(&[]).into_keys().collect::<Vec<_>>(), [Variant::Fp32, Variant::Fp16]);
    let both = models(&["--precision", "int8", "--allow-inaccurate"]);
    assert_eq!(both.into_keys().collect::<Vec<_>>(), Variant::ALL);
}

/// The units of the feed-forward networks are a million times as large as those of the original, and their weights in
/// the next layer a millionth, so that the embeddings are the same. Only float16 cannot represent them.
#[test]
fn a_model_that_exceeds_the_range_of_float16_gets_no_float16_engine() {
    let (_folder, folder) = temporary_folder();
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/bert-relu");
    let large = folder.join("large");
    copy_folder(&original, &large);
    scale_weights(&large.join("model.safetensors"), |name| match name {
        _ if name.contains("intermediate.dense") => 1e6,
        _ if name.ends_with("output.dense.weight") && !name.contains("attention") => 1e-6,
        _ => 1.0,
    });
    let reference = original.with_file_name("bert-relu.expected.safetensors");
    for (model, has_float16) in [(&original, true), (&large, false)] {
        let bundle = folder.join(if has_float16 { "bundle" } else { "bundle-large" });
        let models = convert_folder(model, &reference, &bundle, &[]).models;
        assert!(models[&Variant::Fp32].accuracy.expect("it was measured").min_cosine > 0.99999);
        assert_eq!(models.contains_key(&Variant::Fp16), has_float16);
        assert_eq!(bundle.join(FP16_FILE).exists(), has_float16);
    }
}

/// With emulated float16.
#[test]
fn float16_is_as_accurate_as_it_can_be() {
    let (_folder, folder) = temporary_folder();
    let manifest = convert(Model::MiniLm, &folder.join("bundle"), &[]);
    let accuracy = manifest.models[&Variant::Fp16].accuracy.expect("it was measured");
    assert_eq!(accuracy.texts, 253);
    assert!(accuracy.min_cosine >= MIN_COSINE, "{accuracy:?}");
    let bytes = |engine: Variant| manifest.files[&manifest.models[&engine].file].bytes as f64;
    assert!(bytes(Variant::Fp16) < 0.51 * bytes(Variant::Fp32));
}

#[tokio::test]
async fn the_embeddings_of_a_gpu_are_those_of_pytorch() {
    if let Err(error) = Gpu::open(0) {
        return not_tested(error);
    }
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    convert(Model::MiniLm, &bundle, &[]);
    let mut serve = command();
    serve.args(["serve", "--device", "cuda", "--cache-bytes", "0", "--http-listen", "127.0.0.1:0", "--bundle"]);
    let server = Server::spawn(serve.arg(&bundle));
    server.wait_for_line("ready");
    let mut client = server.client().await;
    let model = client.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    assert_eq!(model.engine, "fp16");
    assert!(model.device.starts_with("cuda:0 ("), "{}", model.device);
    let texts = reference::load(Model::MiniLm).texts;
    let all: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
    for (text, embedding) in texts.iter().zip(embed(&mut client, &all).await.embeddings) {
        let cosine = cosine(&embedding.values, &text.embedding);
        assert!(cosine >= MIN_COSINE, "{}: {cosine}", text.id);
    }
    assert!(server.metrics().value("embedd_gpu_memory_used_bytes", &[]) > 0.0);
}

fn convert(model: Model, bundle: &Path, further: &[&str]) -> Manifest {
    convert_folder(&model.source(), &model.reference(), bundle, further)
}

fn convert_folder(source: &Path, reference: &Path, bundle: &Path, further: &[&str]) -> Manifest {
    let mut convert = command();
    convert.args(["convert", "--device", "cuda", "--no-report", "--model"]).arg(source);
    convert.arg("--reference").arg(reference).arg("--output").arg(bundle).args(further);
    let output = convert.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    Bundle::open(bundle).expect("a bundle").manifest().clone()
}

/// Multiplies each float32 tensor of a file by a factor.
fn scale_weights(file: &Path, factor: impl Fn(&str) -> f32) {
    let contents = fs::read(file).expect("weights");
    let tensors = SafeTensors::deserialize(&contents).expect("safetensors");
    let scale = |(name, view): (String, TensorView<'_>)| {
        let values = view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let data = match view.dtype() {
            Dtype::F32 => values.flat_map(|value| (value * factor(&name)).to_le_bytes()).collect(),
            _ => view.data().to_vec(),
        };
        (name, view.dtype(), view.shape().to_vec(), data)
    };
    let scaled: Vec<_> = tensors.tensors().into_iter().map(scale).collect();
    let views = scaled.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).expect("the same shape"))
    });
    let contents = safetensors::serialize(views, None).expect("safetensors");
    fs::write(file, contents).expect("written");
}
