use std::fs;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use super::*;

mod checkpoints;

/// A file with `a.weight`, float32 `[2, 3]`, and `b.ids`, int64 `[1]`.
fn valid_file(dir: &Path) -> PathBuf {
    let path = dir.join("model.safetensors");
    let a: Vec<u8> = [1.0f32, -2.0, 3.0, 4.0, 5.5, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let b = 7i64.to_le_bytes();
    let tensors = [
        ("a.weight", TensorView::new(Dtype::F32, vec![2, 3], &a).expect("a view")),
        ("b.ids", TensorView::new(Dtype::I64, vec![1], &b).expect("a view")),
    ];
    serialize_to_file(tensors, None, &path).expect("write");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_tensor_is_read_back() {
    let dir = folder();
    let weights = Weights::open(&valid_file(dir.path())).expect("open");
    let tensor = weights.tensor("a.weight", &[2, 3], "the test").expect("the tensor");
    assert_eq!(tensor.read().expect("read"), [1.0, -2.0, 3.0, 4.0, 5.5, 6.0]);
}

#[test]
fn half_precision_is_widened() {
    let dir = folder();
    let path = dir.path().join("half.safetensors");
    let f: Vec<u8> = [f16::from_f32(0.5), f16::from_f32(-3.0)].iter().flat_map(|v| v.to_le_bytes()).collect();
    let b: Vec<u8> = [bf16::from_f32(0.25), bf16::from_f32(8.0)].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensors = [
        ("f", TensorView::new(Dtype::F16, vec![2], &f).expect("a view")),
        ("b", TensorView::new(Dtype::BF16, vec![2], &b).expect("a view")),
    ];
    serialize_to_file(tensors, None, &path).expect("write");
    let weights = Weights::open(&path).expect("open");
    assert_eq!(weights.tensor("f", &[2], "the test").expect("f").read().expect("read"), [0.5, -3.0]);
    assert_eq!(weights.tensor("b", &[2], "the test").expect("b").read().expect("read"), [0.25, 8.0]);
}

#[test]
fn a_file_truncated_anywhere_is_rejected() {
    let dir = folder();
    let whole = fs::read(valid_file(dir.path())).expect("read");
    let cut = dir.path().join("cut.safetensors");
    for length in 0..whole.len() {
        fs::write(&cut, &whole[..length]).expect("write");
        let error = Weights::open(&cut).expect_err("a truncated file").to_string();
        assert!(error.contains("cut.safetensors"), "{length}: {error}");
    }
}

#[test]
fn bytes_after_the_last_tensor_are_rejected() {
    let dir = folder();
    let path = valid_file(dir.path());
    let mut bytes = fs::read(&path).expect("read");
    bytes.push(0);
    fs::write(&path, bytes).expect("write");
    let error = Weights::open(&path).expect_err("too long").to_string();
    assert!(error.contains("1 bytes follow the last tensor"), "{error}");
}

#[test]
fn an_invalid_header_is_rejected() {
    let dir = folder();
    let path = dir.path().join("bad.safetensors");
    let with_header = |header: &[u8]| [&(header.len() as u64).to_le_bytes()[..], header].concat();
    let cases: [(Vec<u8>, &str); 4] = [
        (vec![0xff; 64], "bytes is too long"),
        (with_header(b"not json"), "expected"),
        (with_header(br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#), "offset"),
        (with_header(br#"{"a":{"dtype":"F32","shape":[18446744073709551615,8],"data_offsets":[0,0]}}"#), ""),
    ];
    for (bytes, expected) in cases {
        fs::write(&path, bytes).expect("write");
        let error = Weights::open(&path).expect_err("an invalid file").to_string();
        assert!(error.contains("not a valid safetensors file") && error.contains(expected), "{error}");
    }
}

#[test]
fn errors_for_missing_misshapen_and_mistyped_tensors_have_the_expected_value() {
    let dir = folder();
    let weights = Weights::open(&valid_file(dir.path())).expect("open");
    let missing = weights.tensor("encoder.a.weight", &[2, 3], "config.json").expect_err("missing").to_string();
    assert!(missing.contains("no tensor `encoder.a.weight`") && missing.contains("[2, 3]"), "{missing}");
    let shape = weights.tensor("a.weight", &[3, 2], "hidden_size of config.json").expect_err("shape").to_string();
    assert!(shape.contains("[2, 3], but hidden_size of config.json requires [3, 2]"), "{shape}");
    let dtype = weights.tensor("b.ids", &[1], "config.json").expect_err("type").to_string();
    assert!(dtype.contains("I64"), "{dtype}");
}

#[test]
fn non_finite_values_are_rejected() {
    let dir = folder();
    let path = dir.path().join("nan.safetensors");
    let bytes: Vec<u8> = [0.0f32, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![2], &bytes).expect("a view");
    serialize_to_file([("a", view)], None, &path).expect("write");
    let weights = Weights::open(&path).expect("open");
    let error = weights.tensor("a", &[2], "the test").expect("there").read().expect_err("NaN").to_string();
    assert!(error.contains("element 1"), "{error}");
}

#[test]
fn old_names_of_layer_norms_are_the_current_ones() {
    let dir = folder();
    let path = dir.path().join("old.safetensors");
    let value = |value: f32| value.to_le_bytes();
    let names = ["x.LayerNorm.gamma", "x.LayerNorm.beta", "y.LayerNorm.gamma", "y.LayerNorm.weight", "z.gamma"];
    let bytes: Vec<_> = (0..5_u8).map(|n| value(f32::from(n))).collect();
    let views = bytes.iter().map(|bytes| TensorView::new(Dtype::F32, vec![1], bytes).expect("a view"));
    serialize_to_file(names.into_iter().zip(views), None, &path).expect("write");
    let weights = Weights::open(&path).expect("open");
    let expected = ["x.LayerNorm.bias", "x.LayerNorm.weight", "y.LayerNorm.weight", "z.gamma"];
    assert_eq!(weights.names(), expected);
    let read = |name| weights.tensor(name, &[1], "the test").expect("there").read().expect("read");
    assert_eq!(expected.map(read), [[1.0], [0.0], [3.0], [4.0]], "the current name is preferred");
}

#[test]
fn a_pointer_of_git_lfs_is_recognized() {
    let dir = folder();
    for file in ["model.safetensors", "pytorch_model.bin"] {
        let path = dir.path().join(file);
        fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n").expect("write");
        let error = Weights::open(&path).expect_err("a pointer").to_string();
        assert!(error.contains(file) && error.contains("git lfs pull"), "{error}");
    }
}
