//! Pickles built byte by byte. The files that PyTorch itself writes are fixtures of the tests of `weights`.

use std::fs;
use std::io::{Cursor, Write as _};

use safetensors::Dtype;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;
use crate::weights::Weights;

mod archives;
mod hostile;

const ARCHIVE: &[u8] = include_bytes!("../../../../../fuzz/seeds/pytorch/archive.bin");
const LEGACY: &[u8] = include_bytes!("../../../../../fuzz/seeds/pytorch/legacy.bin");

/// Builds a pickle. Each method adds the opcodes for one value.
#[derive(Clone, Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    /// As LONG1.
    fn int(self, number: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&number.to_le_bytes())
    }

    fn ints(self, numbers: &[i64]) -> Self {
        numbers.iter().fold(self.raw(b"("), |pickle, &number| pickle.int(number)).raw(b"t")
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn storage(self, kind: &str, key: &str, elements: i64) -> Self {
        self.raw(b"(").text("storage").global("torch", kind).text(key).text("cpu").int(elements).raw(b"tQ")
    }

    /// A tensor of the float32 storage `0`, which has `elements`.
    fn tensor(self, elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage("FloatStorage", "0", elements)
            .int(offset)
            .ints(shape)
            .ints(strides)
            .raw(b"\x89NtR")
    }

    /// A state dict with one tensor, whose opcodes are `value`.
    fn state(name: &str, value: impl FnOnce(Self) -> Self) -> Vec<u8> {
        value(Self::default().raw(b"\x80\x02}").text(name)).raw(b"s.").0
    }
}

fn state_of_tensor(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    Pickle::state("a", |pickle| pickle.tensor(elements, offset, shape, strides))
}

/// A zip archive as PyTorch writes it, with these entries in the folder `archive`.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_with(SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored), entries)
}

fn archive_with(options: SimpleFileOptions, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in entries {
        writer.start_file(format!("archive/{name}"), options).expect("an entry");
        writer.write_all(contents).expect("its contents");
    }
    writer.finish().expect("the archive").into_inner()
}

/// The six values of the storage `0`: 0, 1, 2, 3, 4, 5.
fn six() -> Vec<u8> {
    (0..6_u8).flat_map(|value| f32::from(value).to_le_bytes()).collect()
}

fn archive_of(pickle: &[u8]) -> Vec<u8> {
    archive(&[("data.pkl", pickle), ("data/0", &six())])
}

fn open(bytes: &[u8]) -> Result<Weights, WeightsError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pytorch_model.bin");
    fs::write(&path, bytes).expect("write");
    Weights::open(&path)
}

#[track_caller]
fn assert_rejected(bytes: &[u8], reason: &str) {
    let error = open(bytes).expect_err(reason).to_string();
    assert!(error.contains("pytorch_model.bin") && error.contains(reason), "`{reason}` is not in: {error}");
}

#[track_caller]
fn assert_values(bytes: &[u8], name: &str, shape: &[usize], expected: &[f32]) {
    let weights = open(bytes).expect("valid weights");
    let tensor = weights.tensor(name, shape, "the test").expect("the tensor");
    assert_eq!(tensor.read().expect("its values"), expected, "{name}");
}

#[test]
fn both_formats_are_read_with_views_and_a_shared_storage() {
    for bytes in [ARCHIVE, LEGACY] {
        assert_values(bytes, "a.weight", &[2, 3], &[1.0, -2.0, 3.0, 4.0, 5.5, 6.0]);
        assert_values(bytes, "a.transposed", &[3, 2], &[3.0, 6.0, 4.0, 7.0, 5.5, 8.0]);
        assert_values(bytes, "LayerNorm.weight", &[2], &[0.5, -3.0]);
        let weights = open(bytes).expect("valid weights");
        assert_eq!(weights.names(), ["LayerNorm.weight", "a.transposed", "a.weight", "ids"]);
        assert!(matches!(weights.tensor("ids", &[1, 2], "x"), Err(WeightsError::Type { dtype: Dtype::I64, .. })));
    }
}

#[test]
fn an_archive_with_numbers_of_64_bits_is_read() {
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
    let bytes = archive_with(options, &[("data.pkl", &state_of_tensor(6, 4, &[2], &[1])), ("data/0", &six())]);
    assert_values(&bytes, "a", &[2], &[4.0, 5.0]);
}

#[test]
fn a_parameter_is_its_tensor() {
    let pickle = Pickle::state("a", |pickle| {
        pickle.global("torch._utils", "_rebuild_parameter").raw(b"(").tensor(6, 1, &[2], &[2]).raw(b"\x88NtR")
    });
    assert_values(&archive_of(&pickle), "a", &[2], &[1.0, 3.0]);
}

#[test]
fn the_last_tensor_of_a_name_counts() {
    let pickle = Pickle::default().raw(b"}(").text("a").tensor(6, 0, &[1], &[1]).text("a").tensor(6, 5, &[1], &[1]);
    assert_values(&archive_of(&pickle.raw(b"u.").0), "a", &[1], &[5.0]);
}

#[test]
fn a_shape_may_be_a_torch_size() {
    let pickle = Pickle::state("a", |pickle| {
        let pickle = pickle.global("torch._utils", "_rebuild_tensor").raw(b"(").storage("FloatStorage", "0", 6).int(0);
        pickle.global("torch", "Size").ints(&[2]).raw(b"\x85R").ints(&[3]).raw(b"tR")
    });
    assert_values(&archive_of(&pickle), "a", &[2], &[0.0, 3.0]);
}

#[test]
fn dicts_and_texts_of_python_2_are_read() {
    let pickle = Pickle::default().global("collections", "OrderedDict").raw(b"(](](U\x01a").tensor(6, 2, &[1], &[1]);
    assert_values(&archive_of(&pickle.raw(b"eetR.").0), "a", &[1], &[2.0]);
}

#[test]
fn newer_protocols_are_read() {
    let pickle = Pickle::default().raw(b"\x80\x04\x95\0\0\0\0\0\0\0\0}\x94\x8c\x01a\x94").raw(b"\x8c\x0ctorch._utils");
    let pickle = pickle.raw(b"\x8c\x12_rebuild_tensor_v2\x93(").storage("FloatStorage", "0", 6).int(3);
    let pickle = pickle.ints(&[1]).ints(&[1]).raw(b"\x89NtRs.");
    // Tuples in STACK_GLOBAL have 12 and 18 bytes.
    assert_eq!(("torch._utils".len(), "_rebuild_tensor_v2".len()), (12, 18));
    assert_values(&archive_of(&pickle.0), "a", &[1], &[3.0]);
}

#[test]
fn double_precision_is_rounded_to_float32() {
    let pickle = Pickle::state("a", |pickle| {
        let pickle = pickle.global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage("DoubleStorage", "0", 3);
        pickle.int(1).ints(&[2]).ints(&[1]).raw(b"\x89NtR")
    });
    let doubles: Vec<u8> = [9.0, 0.1, -2.5_f64].iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = archive(&[("data.pkl", &pickle), ("data/0", &doubles)]);
    assert_values(&bytes, "a", &[2], &[0.1, -2.5]);
}

#[test]
fn a_file_without_tensors_by_name_is_rejected_with_its_keys() {
    let nested = Pickle::default().raw(b"}").text("state_dict").raw(b"}").text("a").tensor(6, 0, &[6], &[1]);
    assert_rejected(&archive_of(&nested.raw(b"ss.").0), "a dict without tensors; it has state_dict");
    assert_rejected(&archive_of(b"}."), "a dict without tensors");
    assert_rejected(&archive_of(b"N."), "state dict");
    assert_rejected(b"not a pickle", "neither a zip archive nor a pickle");
    assert_rejected(b"PK", "its 2 bytes are too few");
    assert_rejected(b"\x80\x02N.", "magic number of torch.save");
}
