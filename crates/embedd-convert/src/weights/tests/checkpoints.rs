//! Checkpoints of the same two models, as PyTorch and safetensors save them.

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

fn open(name: &str) -> Weights {
    Weights::open_folder(&fixture(name)).expect("the checkpoint")
}

fn values(weights: &Weights, name: &str) -> (Vec<usize>, Vec<f32>) {
    let shape = weights.tensors[name].stored.shape.clone();
    let tensor = weights.tensor(name, &shape, "the file").expect("the tensor");
    (shape, tensor.read().expect("its values"))
}

/// Every tensor of `found` equals that of the safetensors file, after `round`.
fn assert_same(found: &str, expected: &str, round: impl Fn(f32) -> f32) {
    let weights = open(found);
    let twin = open(expected);
    assert_eq!(weights.names(), twin.names(), "{found}");
    let floats = |name: &String| is_float(twin.tensors[name].stored.dtype);
    let (floats, integers): (Vec<_>, Vec<_>) = twin.names().into_iter().partition(floats);
    assert!(floats.len() >= 38, "{found} has {} tensors", floats.len());
    for name in floats {
        let (shape, expected) = values(&twin, &name);
        let expected: Vec<f32> = expected.into_iter().map(&round).collect();
        assert_eq!(values(&weights, &name), (shape, expected), "{found}: {name}");
    }
    for name in integers {
        let shape = &twin.tensors[&name].stored.shape;
        let error = weights.tensor(&name, shape, "the file").expect_err("integers").to_string();
        assert!(error.contains("I64"), "{error}");
    }
}

#[test]
fn files_of_pytorch_have_the_values_of_safetensors() {
    assert_same("bert-bin", "bert-old", |value| value);
    assert_same("mpnet-bin", "mpnet-old", |value| value);
}

#[test]
fn files_of_pytorch_before_1_6_have_the_values_of_safetensors() {
    assert_same("bert-bin-legacy", "bert-old", |value| value);
}

#[test]
fn shards_have_the_values_of_one_file() {
    assert_same("bert-sharded", "bert-old", |value| value);
    assert_same("bert-bin-sharded", "bert-old", |value| value);
}

#[test]
fn half_precision_has_the_rounded_values() {
    assert_same("bert-fp16", "bert-old", |value| f16::from_f32(value).to_f32());
    assert_same("mpnet-bf16", "mpnet-old", |value| bf16::from_f32(value).to_f32());
}

#[test]
fn a_tensor_that_is_not_in_its_shard_is_reported_with_both_files() {
    let dir = folder();
    for entry in fs::read_dir(fixture("bert-sharded")).expect("the fixture") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, dir.path().join(path.file_name().expect("a name"))).expect("copy");
    }
    let index = dir.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).expect("read").replace("embeddings.position_ids", "embeddings.missing");
    fs::write(&index, text).expect("write");
    let error = Weights::open_folder(dir.path()).expect_err("a tensor is missing").to_string();
    for part in [
        "model-00001-of-00003.safetensors has no tensor `embeddings.missing`",
        "model.safetensors.index.json places it there",
    ] {
        assert!(error.contains(part), "{error}");
    }
    fs::remove_file(dir.path().join("model-00001-of-00003.safetensors")).expect("remove");
    let error = Weights::open_folder(dir.path()).expect_err("a shard is missing").to_string();
    assert!(error.contains("model-00001-of-00003.safetensors"), "{error}");
}

#[test]
fn pickles_in_files_named_safetensors_are_rejected() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    fs::copy(fixture("bert-bin/pytorch_model.bin"), &path).expect("copy");
    let error = Weights::open(&path).expect_err("not safetensors").to_string();
    assert!(error.contains("not a valid safetensors file"), "{error}");
}
