use std::fs;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write(folder: &Path, file: &str, text: &str) {
    fs::write(folder.join(file), text).expect("write");
}

fn index(files: &[&str]) -> String {
    let places = files.iter().enumerate().map(|(n, file)| (format!("tensor{n}"), (*file).into()));
    serde_json::json!({ "weight_map": serde_json::Value::Object(places.collect()) }).to_string()
}

fn error_of(index: &str) -> String {
    let dir = folder();
    write(dir.path(), "model.safetensors.index.json", index);
    Checkpoint::find(dir.path()).expect_err("an invalid index").to_string()
}

#[test]
fn safetensors_come_before_bin_and_one_file_before_several() {
    let dir = folder();
    let order =
        ["pytorch_model.bin.index.json", "pytorch_model.bin", "model.safetensors.index.json", "model.safetensors"];
    for file in order {
        let suffix = if file.starts_with("model") { "safetensors" } else { "bin" };
        write(dir.path(), file, &index(&[&format!("b.{suffix}"), &format!("a.{suffix}")]));
        let found = Checkpoint::find(dir.path()).expect("a checkpoint");
        let files: Vec<_> = found.files().collect();
        let expected = match file.ends_with(".json") {
            true => vec![file.to_owned(), format!("a.{suffix}"), format!("b.{suffix}")],
            false => vec![file.to_owned()],
        };
        assert_eq!(files, expected);
    }
}

#[test]
fn the_error_for_a_folder_without_weights_lists_what_was_expected() {
    let dir = folder();
    let error = Checkpoint::find(dir.path()).expect_err("no weights").to_string();
    for candidate in CANDIDATES {
        assert!(error.contains(candidate.file), "{error}");
    }
}

#[test]
fn an_index_that_leaves_the_folder_is_rejected() {
    let names = [
        "../a.safetensors",
        "/a.safetensors",
        "x/a.safetensors",
        "x\\a.safetensors",
        "..",
        "",
        "a.bin",
        ".safetensors",
    ];
    for name in names {
        let error = error_of(&index(&[name]));
        assert!(error.contains("not the plain name of a .safetensors file"), "{error}");
    }
}

#[test]
fn an_invalid_or_oversized_index_is_rejected() {
    assert!(error_of("{").contains("index of shards"));
    assert!(error_of(r#"{ "metadata": {} }"#).contains("weight_map"));
    assert!(error_of(r#"{ "weight_map": {} }"#).contains("empty"));
    let many: Vec<_> = (0..=MAX_SHARDS).map(|n| format!("{n}.safetensors")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(error_of(&index(&many)).contains("257 files; the maximum is 256"));
    let dir = folder();
    let path = dir.path().join("model.safetensors.index.json");
    let file = fs::File::create(&path).expect("create");
    file.set_len(MAX_INDEX_BYTES + 1).expect("a sparse file");
    let error = Checkpoint::find(dir.path()).expect_err("too large").to_string();
    assert!(error.contains("the maximum"), "{error}");
}

#[test]
fn one_file_is_identified_by_its_digest_and_several_by_a_list_of_digests() {
    let dir = folder();
    write(dir.path(), "pytorch_model.bin.index.json", &index(&["b.bin", "a.bin", "b.bin"]));
    let shards = Checkpoint::find(dir.path()).expect("a checkpoint");
    let record = |text: &str| FileRecord { bytes: text.len() as u64, sha256: Sha256Hex::of(text.as_bytes()) };
    let records = shards.files().map(|file| (file.to_owned(), record(file))).collect();
    // sha256sum a.bin b.bin | sha256sum
    let lines = format!("{}  a.bin\n{}  b.bin\n", Sha256Hex::of(b"a.bin"), Sha256Hex::of(b"b.bin"));
    assert_eq!(shards.sha256(&records), Sha256Hex::of(lines.as_bytes()));
    write(dir.path(), "model.safetensors", "weights");
    let whole = Checkpoint::find(dir.path()).expect("a checkpoint");
    let records = [("model.safetensors".to_owned(), record("weights"))].into();
    assert_eq!(whole.sha256(&records), Sha256Hex::of(b"weights"));
}
