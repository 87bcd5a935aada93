use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use embedd_common::checksum::Sha256Hex;
use embedd_model::bundle::{FORMAT, NATIVE_FILE, NATIVE_WEIGHTS_FILE};

const FILES: [(&str, &str); 8] = [
    (PORTABLE_FILE, "weights"),
    (NATIVE_FILE, "graph"),
    (NATIVE_WEIGHTS_FILE, "packed weights"),
    ("config.json", "{}"),
    (TOKENIZER_FILE, "{ }"),
    ("special_tokens_map.json", "{  }"),
    ("report.md", "# Report"),
    ("model.onnx", "not for the tarball"),
];

/// A bundle with dummy files; `change` edits its manifest.
fn bundle(change: impl FnOnce(&mut Value)) -> (TempDir, Bundle) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = serde_json::Map::new();
    for (name, contents) in FILES {
        fs::write(folder.path().join(name), contents).expect("write");
        let sha256 = Sha256Hex::of(contents.as_bytes());
        files.insert(name.to_owned(), json!({ "sha256": sha256, "bytes": contents.len() }));
    }
    let accuracy =
        json!({ "texts": 253, "min_cosine": 0.995, "p1_cosine": 0.996, "mean_cosine": 0.998, "threshold": 0.99 });
    let mut manifest = json!({
        "format": FORMAT, "created_by": "test", "name": "org/model", "architecture": "mpnet",
        "source": { "weights_sha256": Sha256Hex::of(b"w"), "files": {} },
        "dimension": 4, "max_tokens": 6, "position_limit": 8, "pooling": "mean", "lowercase": false,
        "models": {
            "portable": { "file": PORTABLE_FILE, "quantization": "int8", "accuracy": accuracy },
            "native": {
                "file": NATIVE_FILE, "weights": NATIVE_WEIGHTS_FILE, "quantization": "int8", "accuracy": accuracy,
            },
        },
        "files": files,
    });
    change(&mut manifest);
    fs::write(folder.path().join(MANIFEST_FILE), manifest.to_string()).expect("write");
    let bundle = Bundle::open(folder.path()).expect("a bundle");
    (folder, bundle)
}

fn pack(bundle: &Bundle, output: &Path, replace: bool) -> Result<Package, PackageError> {
    package(bundle, output, replace, &Progress::silent())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.map(|name| name.into_string().expect("text")).collect()
}

#[test]
fn a_tarball_has_the_bundles_files_and_can_be_verified() {
    let (_folder, bundle) = bundle(|_| {});
    let destination = tempfile::tempdir().expect("a temporary folder");
    let output = destination.path().join("new/v1.tar.gz");
    let package = pack(&bundle, &output, false).expect("a tarball");
    assert_eq!(package.path, output);
    assert_eq!(package.folder, "onnx_models/model");
    let packed: Vec<_> = package.files.keys().map(String::as_str).collect();
    let models = [NATIVE_FILE, NATIVE_WEIGHTS_FILE, PORTABLE_FILE];
    let expected =
        [&["config.json", MANIFEST_FILE], &models[..], &["report.md", "special_tokens_map.json", TOKENIZER_FILE]];
    assert_eq!(packed, expected.concat(), "sorted, without the float32 model");
    assert_eq!(package.record, FileRecord::of(&output).expect("the file's record"));
    assert_eq!(verify(&output).expect("verified"), package);
    assert_eq!(names(&destination.path().join("new")), ["v1.tar.gz"], "no other file remains");
}

#[test]
fn an_unpacked_tarball_is_a_bundle_that_can_be_served() {
    let (folder, bundle) = bundle(|_| {});
    let output = folder.path().join("v1.tar.gz");
    pack(&bundle, &output, false).expect("a tarball");
    let gzip = flate2::read::GzDecoder::new(File::open(&output).expect("the tarball"));
    tar::Archive::new(gzip).unpack(folder.path()).expect("unpacked");
    let unpacked = Bundle::open(&folder.path().join("onnx_models/model")).expect("a bundle");
    assert_eq!(unpacked.fingerprint(), bundle.fingerprint());
    for variant in [Variant::Portable, Variant::Native] {
        unpacked.model(variant).expect("there").files().for_each(|file| drop(unpacked.verify(file).expect("whole")));
    }
}

#[test]
fn a_bundle_without_a_native_model_is_packed_without_it() {
    let (folder, bundle) = bundle(|manifest| drop(manifest["models"].as_object_mut().expect("a map").remove("native")));
    let package = pack(&bundle, &folder.path().join("v1.tar.gz"), false).expect("a tarball");
    assert!(!package.files.contains_key(NATIVE_FILE) && package.files.contains_key(PORTABLE_FILE));
}

#[test]
fn a_bundle_without_a_map_of_special_tokens_is_packed_without_it() {
    let map = "special_tokens_map.json";
    let (folder, bundle) = bundle(|manifest| drop(manifest["files"].as_object_mut().expect("a map").remove(map)));
    let output = folder.path().join("v1.tar.gz");
    let package = pack(&bundle, &output, false).expect("a tarball");
    assert!(!package.files.contains_key(map) && package.files.contains_key(TOKENIZER_FILE));
    assert_eq!(verify(&output).expect("verified"), package);
}

#[test]
fn the_same_bundle_gives_the_same_bytes_without_dates_and_owners() {
    let (folder, bundle) = bundle(|_| {});
    let first = folder.path().join("a.tar.gz");
    let second = folder.path().join("b.tar.gz");
    pack(&bundle, &first, false).expect("a tarball");
    let touched = File::options().write(true).open(folder.path().join("config.json")).expect("open");
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("a new date");
    pack(&bundle, &second, false).expect("a tarball");
    let bytes = fs::read(&first).expect("read");
    assert_eq!(bytes, fs::read(&second).expect("read"));
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], "no name, no time, no system");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    for entry in archive.entries().expect("entries") {
        let header = entry.expect("an entry").header().clone();
        let numbers = [header.mtime(), header.uid(), header.gid(), header.mode().map(u64::from)];
        assert_eq!(numbers.map(|number| number.expect("a number")), [0, 0, 0, 0o644]);
    }
}

#[test]
fn a_model_that_did_not_pass_the_accuracy_gate_is_rejected() {
    let rejection = |change: fn(&mut Value)| {
        let (folder, bundle) = bundle(change);
        let error = pack(&bundle, &folder.path().join("v1.tar.gz"), false).expect_err("rejected");
        assert!(!names(folder.path()).iter().any(|name| name.contains("v1")), "no file remains");
        (error.is_gate(), error.to_string())
    };
    let (gate, text) = rejection(|manifest| manifest["models"]["portable"]["accuracy"]["min_cosine"] = json!(0.98));
    assert!(gate && text.contains("0.980000") && text.contains("0.990000") && text.contains("253 texts"), "{text}");
    let (gate, text) =
        rejection(|manifest| drop(manifest["models"]["portable"].as_object_mut().expect("a map").remove("accuracy")));
    assert!(gate && text.contains("embedd validate"), "{text}");
    let (gate, text) = rejection(|manifest| manifest["models"]["native"]["accuracy"]["min_cosine"] = json!(0.97));
    assert!(gate && text.contains("the native model") && text.contains("0.970000"), "{text}");
    let (gate, text) = rejection(|manifest| manifest["models"] = json!({}));
    assert!(!gate && text.contains("no portable model") && text.contains("embedd convert"), "{text}");
    let (gate, text) =
        rejection(|manifest| drop(manifest["files"].as_object_mut().expect("a map").remove(TOKENIZER_FILE)));
    assert!(!gate && text.contains("does not list tokenizer.json"), "{text}");
    for name in ["org/..", "", "org/"] {
        let (folder, bundle) = bundle(|manifest| manifest["name"] = json!(name));
        let error = pack(&bundle, &folder.path().join("v1.tar.gz"), false).expect_err("rejected");
        assert!(matches!(error, PackageError::Name { .. }), "{error}");
    }
}

#[test]
fn a_changed_file_is_not_packed() {
    let (folder, bundle) = bundle(|_| {});
    fs::write(folder.path().join(PORTABLE_FILE), "w3ights").expect("write");
    let output = folder.path().join("v1.tar.gz");
    let error = pack(&bundle, &output, false).expect_err("changed");
    assert!(matches!(&error, PackageError::Bundle(BundleError::Changed { .. })), "{error}");

    // A change between verification and packing is detected, too.
    let record = FileRecord { sha256: Sha256Hex::of(b"weights"), bytes: 7 };
    let packed =
        BTreeMap::from([(PORTABLE_FILE.to_owned(), Packed { path: folder.path().join(PORTABLE_FILE), record })]);
    let task = Progress::silent().task("packing", None, Unit::Bytes);
    let written = write(&tempfile::tempfile().expect("a file"), "onnx_models/model", &packed, &task);
    assert!(matches!(written, Err(WriteError::Changed(_))));
}

#[test]
fn an_existing_output_is_replaced_only_on_request() {
    let (folder, bundle) = bundle(|_| {});
    let output = folder.path().join("v1.tar.gz");
    fs::write(&output, "older").expect("write");
    // The remains of a killed process.
    fs::write(folder.path().join(".v1.tar.gz.partial"), vec![7; 100_000]).expect("write");
    let error = pack(&bundle, &output, false).expect_err("exists").to_string();
    assert!(error.contains("--force"), "{error}");
    assert_eq!(fs::read(&output).expect("read"), b"older");
    let before = fs::metadata(&output).expect("a file").ino();
    pack(&bundle, &output, true).expect("replaced");
    verify(&output).expect("verified");
    assert_ne!(fs::metadata(&output).expect("a file").ino(), before, "replaced by a rename");
    assert!(matches!(pack(&bundle, folder.path(), true), Err(PackageError::OutputIsFolder(_))));
}

#[test]
fn concurrent_writers_leave_one_intact_tarball() {
    let (folder, bundle) = bundle(|_| {});
    let output = folder.path().join("v1.tar.gz");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| pack(&bundle, &output, true).expect("a tarball"));
        }
    });
    verify(&output).expect("verified");
    assert!(!folder.path().join(".v1.tar.gz.partial").exists());
}

#[test]
fn a_tarball_truncated_or_changed_anywhere_is_rejected() {
    let (folder, bundle) = bundle(|_| {});
    let output = folder.path().join("v1.tar.gz");
    pack(&bundle, &output, false).expect("a tarball");
    let whole = fs::read(&output).expect("read");
    let rejected = |bytes: &[u8], what: &str| {
        fs::write(&output, bytes).expect("write");
        let error = verify(&output).expect_err(what).to_string();
        assert!(error.contains("v1.tar.gz is invalid"), "{what}: {error}");
    };
    for length in 0..whole.len() {
        rejected(&whole[..length], &format!("truncated to {length} bytes"));
    }
    let contents = |bytes: &[u8]| {
        let mut contents = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut contents).map(|_| contents).ok()
    };
    let expected = contents(&whole);
    let mut harmless = 0;
    // Some bytes of the gzip header do not affect the contents.
    for at in 10..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        // The same contents can be compressed in several ways, for example runs of zeros.
        if contents(&bytes) == expected {
            harmless += 1;
        } else {
            rejected(&bytes, &format!("byte {at} changed"));
        }
    }
    assert!(harmless < whole.len() / 20, "{harmless} changes had no effect");
    rejected(&[&whole[..], b"more"].concat(), "trailing data");
    rejected(&[&whole[..], &whole[..]].concat(), "two archives");
}

/// The result of verifying an archive with these entries: paths, types and contents.
fn forged(entries: &[(&str, tar::EntryType, &str)]) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(1));
    for (path, kind, contents) in entries {
        let mut header = tar::Header::new_gnu();
        // `set_path` would reject some of these paths.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(contents.len() as u64);
        header.set_cksum();
        gzip.write_all(header.as_bytes()).expect("to memory");
        gzip.write_all(contents.as_bytes()).expect("to memory");
        gzip.write_all(&vec![0; contents.len().next_multiple_of(512) - contents.len()]).expect("to memory");
    }
    gzip.write_all(&[0; 1024]).expect("to memory");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("forged.tar.gz");
    fs::write(&path, gzip.finish().expect("to memory")).expect("write");
    verify(&path).map_or_else(|error| error.to_string(), |_| "accepted".to_owned())
}

#[test]
fn an_archive_with_unexpected_contents_is_rejected() {
    use tar::EntryType::{Directory, GNULongName, Regular, Symlink, XHeader};
    let line = |name: &str| format!("{}  {name}\n", Sha256Hex::of(b"x"));
    let sums = REQUIRED.map(line).concat();
    let file = |name: &str| format!("onnx_models/m/{name}");
    let paths = REQUIRED.map(file);
    let good: Vec<_> = paths.iter().map(|path| (path.as_str(), Regular, "x")).collect();
    let with = |sums: &str, more: &[(&str, tar::EntryType, &str)]| {
        forged(&[&good[..], more, &[("onnx_models/m/SHA256SUMS", Regular, sums)]].concat())
    };
    assert_eq!(with(&sums, &[]), "accepted", "in any order");
    assert!(forged(&good).contains("SHA256SUMS is missing"));
    assert!(with(&sums, &[("onnx_models/m/more", Regular, "x")]).contains("does not list more"));
    assert!(with(&(sums.clone() + &line("more")), &[]).contains("lists more, which is missing"));
    assert!(with(&line("config.json"), &[]).contains("does not list"));
    assert!(with(&sums.replace("  ", " "), &[]).contains("is not a checksum and a file name"));
    assert!(with(&(sums.clone() + &line("../up")), &[]).contains("is not a checksum and a file name"));
    assert!(with(&sums, &[good[0]]).contains("twice"));
    for path in ["../up", "/etc/passwd", "onnx_models/m/../up", "onnx_models/m/a/b", "onnx_models/../up", "up"] {
        assert!(with(&sums, &[(path, Regular, "x")]).contains("not in a folder onnx_models/MODEL"), "{path}");
    }
    assert!(with(&sums, &[("onnx_models/n/x", Regular, "x")]).contains("same folder as the other files"));
    assert!(with(&sums, &[("onnx_models/m/link", Symlink, "")]).contains("not a regular file"));
    assert!(with(&sums, &[("onnx_models/m/folder/", Directory, "")]).contains("not a regular file"));
    let long = "x/".repeat(3000);
    assert!(with(&sums, &[("././@LongLink", GNULongName, &long)]).contains("a path has more than 4096 bytes"));
    assert!(with(&sums, &[("more", XHeader, "15 path=../up\n")]).contains("not a regular file"));
    let without = forged(&[("onnx_models/m/a", Regular, "x"), ("onnx_models/m/SHA256SUMS", Regular, &line("a"))]);
    assert!(without.contains("model_quantized.onnx is missing"), "{without}");
}

#[test]
fn a_tarball_with_a_long_model_name_can_be_verified() {
    let name = "n".repeat(200);
    let (folder, bundle) = bundle(|manifest| manifest["name"] = json!(name));
    let output = folder.path().join("v1.tar.gz");
    let package = pack(&bundle, &output, false).expect("a tarball");
    assert_eq!(package.folder, format!("onnx_models/{name}"));
    assert_eq!(verify(&output).expect("verified"), package);
}

#[test]
fn an_archive_that_expands_to_zeros_is_rejected_early() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("zeros.tar.gz");
    let mut gzip = GzEncoder::new(File::create(&path).expect("a file"), Compression::new(1));
    gzip.write_all(&vec![0; 100 << 20]).expect("zeros");
    // Cut off: if the zeros were read to their end, the error would be that the archive is truncated.
    drop(gzip.get_mut().set_len(50_000));
    drop(gzip);
    let error = verify(&path).expect_err("zeros").to_string();
    assert!(error.contains("trailing data after the end of the archive"), "{error}");
}
