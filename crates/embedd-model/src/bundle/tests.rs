use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::*;

fn manifest() -> Manifest {
    let file = |contents: &[u8]| FileRecord { sha256: Sha256Hex::of(contents), bytes: contents.len() as u64 };
    Manifest {
        format: FORMAT,
        created_by: "test".to_owned(),
        name: "org/model".to_owned(),
        architecture: "mpnet".to_owned(),
        source: SourceRecord {
            weights_sha256: Sha256Hex::of(b"weights"),
            revision: None,
            commit: None,
            files: BTreeMap::new(),
        },
        dimension: 4,
        max_tokens: 6,
        position_limit: 8,
        pooling: Pooling::mean(),
        lowercase: false,
        prompts: BTreeMap::new(),
        default_prompt: None,
        exclude_prompt: false,
        models: BTreeMap::from([(
            Variant::Fp32,
            ModelRecord {
                file: FP32_FILE.to_owned(),
                weights: None,
                quantization: "none".to_owned(),
                accuracy: None,
                accuracy_bf16: None,
            },
        )]),
        files: BTreeMap::from([(FP32_FILE.to_owned(), file(b"model")), (TOKENIZER_FILE.to_owned(), file(b"{}"))]),
    }
}

fn write(manifest: &Manifest) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = serde_json::to_vec(manifest).expect("JSON");
    fs::write(folder.path().join(MANIFEST_FILE), json).expect("write");
    fs::write(folder.path().join(FP32_FILE), "model").expect("write");
    fs::write(folder.path().join(TOKENIZER_FILE), "{}").expect("write");
    folder
}

fn error_of(change: impl FnOnce(&mut Manifest)) -> String {
    let mut manifest = manifest();
    change(&mut manifest);
    let folder = write(&manifest);
    Bundle::open(folder.path()).expect_err("an invalid manifest").to_string()
}

#[test]
fn a_manifest_is_read_back_as_written() {
    let folder = write(&manifest());
    let bundle = Bundle::open(folder.path()).expect("a bundle");
    assert_eq!(bundle.manifest(), &manifest());
    assert_eq!(bundle.model(Variant::Fp32).expect("a model").file, FP32_FILE);
    assert_eq!(bundle.verify(FP32_FILE).expect("unchanged"), folder.path().join(FP32_FILE));
}

#[test]
fn the_revision_of_the_source_is_optional() {
    let mut manifest = manifest();
    let json = serde_json::to_string(&manifest).expect("JSON");
    assert!(!json.contains("commit") && !json.contains("revision"), "{json}");
    manifest.source.revision = Some("refs/pr/1".to_owned());
    manifest.source.commit = Some("c0ffee".to_owned());
    let bundle = Bundle::open(write(&manifest).path()).expect("a bundle");
    assert_eq!(bundle.manifest(), &manifest);
}

#[test]
fn the_error_for_a_missing_damaged_or_outdated_manifest_has_advice() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let error = Bundle::open(folder.path()).expect_err("not a bundle").to_string();
    assert!(error.contains("embedd convert"), "{error}");
    let error = error_of(|manifest| manifest.format = FORMAT + 1);
    assert!(error.contains("--force"), "{error}");
    fs::write(folder.path().join(MANIFEST_FILE), "{").expect("write");
    let error = Bundle::open(folder.path()).expect_err("damaged").to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn an_inconsistent_manifest_is_rejected() {
    assert!(error_of(|manifest| manifest.dimension = 0).contains("dimension"));
    assert!(error_of(|manifest| manifest.max_tokens = 9).contains("max_tokens is 9"));
    assert!(error_of(|manifest| drop(manifest.files.remove(FP32_FILE))).contains("not listed in `files`"));
    let error = error_of(|manifest| {
        let record = manifest.models[&Variant::Fp32].clone();
        manifest.models.insert(Variant::Native, record);
    });
    assert!(error.contains("the native model has no `weights`"), "{error}");
}

#[test]
fn a_manifest_cannot_name_files_outside_its_folder() {
    for name in ["../tokenizer.json", "a/b", "/etc/passwd", ".hidden", ""] {
        let error = error_of(|manifest| {
            let record = manifest.files[FP32_FILE].clone();
            manifest.files.insert(name.to_owned(), record);
        });
        assert!(error.contains("is not a valid file name in a bundle"), "{name}: {error}");
    }
}

#[test]
fn the_error_for_a_changed_file_has_the_expected_and_actual_values() {
    let folder = write(&manifest());
    let bundle = Bundle::open(folder.path()).expect("a bundle");
    fs::write(folder.path().join(FP32_FILE), "m0del").expect("write");
    let error = bundle.verify(FP32_FILE).expect_err("changed").to_string();
    assert!(error.contains("sha256") && error.contains(FP32_FILE), "{error}");
    fs::write(folder.path().join(FP32_FILE), "longer model").expect("write");
    let error = bundle.verify(FP32_FILE).expect_err("changed").to_string();
    assert!(error.contains("5 bytes") && error.contains("12 bytes"), "{error}");
    assert!(matches!(bundle.check_lengths(), Err(BundleError::Changed { .. })));
    fs::remove_file(folder.path().join(FP32_FILE)).expect("remove");
    bundle.check_lengths().expect("a file that is not needed may be missing");
    assert!(matches!(bundle.verify(FP32_FILE), Err(BundleError::Io { .. })));
}

#[test]
fn names_and_sizes_beyond_every_model_are_rejected() {
    assert!(error_of(|manifest| manifest.dimension = 1 << 31).contains("dimension is 2147483648"));
    assert!(error_of(|manifest| manifest.position_limit = u32::MAX).contains("position_limit is 4294967295"));
    for name in ["x".repeat(513), "a\nb".to_owned(), "\u{1b}[2J".to_owned()] {
        let error = error_of(|manifest| manifest.name = name);
        assert!(error.contains("name is not a name of at most 512 bytes"), "{error}");
    }
    let error = error_of(|manifest| {
        let record = manifest.files[FP32_FILE].clone();
        manifest.files.extend((0..100).map(|number| (format!("file-{number}"), record.clone())));
    });
    assert!(error.contains("it lists 102 files; the maximum is 100"), "{error}");
    let error = error_of(|manifest| manifest.created_by = "x".repeat(1 << 20));
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn prompts_are_bounded_and_the_default_is_one_of_them() {
    let prompts = |entries: &[(&str, usize)]| -> BTreeMap<String, String> {
        entries.iter().map(|(name, bytes)| ((*name).to_owned(), "x".repeat(*bytes))).collect()
    };
    let mut valid = manifest();
    valid.prompts = prompts(&[("document", 0), ("query", MAX_PROMPT_BYTES)]);
    valid.default_prompt = Some("query".to_owned());
    assert_eq!(valid.check(), Ok(()));
    let error = error_of(|manifest| manifest.prompts = prompts(&[("tag", MAX_PROMPT_BYTES + 1)]));
    assert!(error.contains("the prompt `tag` has more than 4096 bytes"), "{error}");
    for name in ["", "a\nb", &"x".repeat(MAX_PROMPT_NAME_BYTES + 1)] {
        let error = error_of(|manifest| manifest.prompts = prompts(&[(name, 1)]));
        assert!(error.contains("is not a valid name of a prompt"), "{error}");
    }
    let many = (0..=MAX_PROMPTS).map(|number| (number.to_string(), String::new())).collect();
    let error = error_of(|manifest| manifest.prompts = many);
    assert!(error.contains("it has 65 prompts; the maximum is 64"), "{error}");
    let error = error_of(|manifest| manifest.default_prompt = Some("query".to_owned()));
    assert!(error.contains("default_prompt is `query`, which is not in `prompts`"), "{error}");
}

#[test]
fn pipes_and_devices_are_rejected_without_waiting() {
    let folder = write(&manifest());
    let bundle = Bundle::open(folder.path()).expect("a bundle");
    let replace = |name: &str| {
        let path = folder.path().join(name);
        fs::remove_file(&path).expect("remove");
        path
    };
    assert!(Command::new("mkfifo").arg(replace(TOKENIZER_FILE)).status().expect("mkfifo runs").success());
    for error in [bundle.verify(TOKENIZER_FILE).map(drop), bundle.read_small(TOKENIZER_FILE).map(drop)] {
        let error = error.expect_err("a pipe").to_string();
        assert!(error.contains("it is not a regular file"), "{error}");
    }
    let error = bundle.check_lengths().expect_err("a pipe").to_string();
    assert!(error.contains("tokenizer.json") && error.contains("it is not a regular file"), "{error}");
    std::os::unix::fs::symlink("/dev/zero", replace(MANIFEST_FILE)).expect("a link");
    let error = Bundle::open(folder.path()).expect_err("a device").to_string();
    assert!(error.contains("it is not a regular file"), "{error}");
}

#[test]
fn a_file_that_is_replaced_after_it_was_read_does_not_change_what_was_read() {
    let folder = write(&manifest());
    let bundle = Bundle::open(folder.path()).expect("a bundle");
    let contents = bundle.read_small(FP32_FILE).expect("unchanged");
    fs::write(folder.path().join(FP32_FILE), "m0del").expect("write");
    assert_eq!(contents, b"model");
    assert!(matches!(bundle.read_small(FP32_FILE), Err(BundleError::Changed { .. })));
}
