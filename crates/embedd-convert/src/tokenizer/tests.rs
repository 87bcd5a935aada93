use std::fs;

use serde::Deserialize;

use super::*;
use crate::source::limit;
use crate::tiny::folder;
use embedd_common::mutation;
use embedd_model::tokenize::{Tokenizer, Truncation};

/// Folders with PyTorch's tokens of some texts, and whether their `tokenizer.json` is used unchanged.
const FOLDERS: [(&str, bool); 25] = [
    ("bert-limit-huge", true),
    ("bert-limit-in-tokenizer", true),
    ("bert-limit-null", true),
    ("bert-lower-1", false),
    ("bert-lower-2", false),
    ("bert-lower-3", true),
    ("bert-lower-4", false),
    ("bert-no-special-tokens-map", true),
    ("bert-tokenizer-truncates", true),
    ("bert-vocab-txt", false),
    ("camembert", true),
    ("deberta-v2", true),
    ("deberta-v2-spm", false),
    ("distilbert", true),
    ("electra", true),
    ("gemma3-text", true),
    ("modernbert", true),
    ("mpnet-old", true),
    ("mpnet-vocab-txt", false),
    ("nomic-bert", true),
    ("qwen3", true),
    ("roberta", true),
    ("roberta-vocab-json", false),
    ("xlm-roberta", true),
    ("xlm-roberta-spm", false),
];

/// Texts and their ids.
#[derive(Deserialize)]
struct Expected {
    max_tokens: u32,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

/// The contents of `variants.json`.
#[derive(Deserialize)]
struct Variants {
    texts: Vec<String>,
    variants: Vec<Variant>,
}

/// A folder with changes. `make_expected.py` explains them.
#[derive(Deserialize)]
struct Variant {
    name: String,
    base: String,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    patch: Map<String, Value>,
    /// The ids of each text.
    ids: Vec<Vec<u32>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers")
}

fn json_of<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    read_optional_json(path).expect("valid JSON").unwrap_or_else(|| panic!("{} is missing", path.display()))
}

fn sentence_config(folder: &Path) -> Map<String, Value> {
    read_optional_json(&folder.join("sentence_bert_config.json")).expect("valid JSON").unwrap_or_default()
}

fn max_tokens(folder: &Path) -> u32 {
    let config: Map<String, Value> = json_of(&folder.join("config.json"));
    let positions = config["max_position_embeddings"].as_u64().expect("a number") as u32;
    let max_seq_length = sentence_config(folder).get("max_seq_length").and_then(Value::as_f64);
    limit::read(folder, max_seq_length).expect("a limit").map_or(positions, |limit| limit.min(positions))
}

fn load(folder: &Path, contents: &[u8], max_tokens: u32) -> Tokenizer {
    Tokenizer::parse(contents, &folder.join(TOKENIZER_FILE), max_tokens, false).expect("a tokenizer")
}

#[track_caller]
fn assert_ids(tokenizer: &Tokenizer, text: &str, expected: &[u32], name: &str) {
    let found = tokenizer.tokenize(text, Truncation::End).expect("tokens").ids;
    assert_eq!(found.as_slice(), expected, "{name}: {text:?}");
}

/// A merge patch as in RFC 7396.
fn merge(value: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    let Some(fields) = value.as_object_mut() else { return };
    for (field, change) in changes {
        match change {
            Value::Null => drop(fields.remove(field)),
            _ => merge(fields.entry(field).or_insert(Value::Null), change),
        }
    }
}

fn copy_folder(name: &str, to: &Path) {
    for entry in fs::read_dir(fixtures().join(name)).expect("a fixture") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// The error for a fixture with changes.
fn error_of(name: &str, change: impl FnOnce(&Path)) -> String {
    let dir = folder();
    copy_folder(name, dir.path());
    change(dir.path());
    read(dir.path(), false).expect_err("an invalid folder").to_string()
}

#[test]
fn every_folder_has_the_tokens_of_pytorch() {
    for (name, is_unchanged) in FOLDERS {
        let folder = fixtures().join(name);
        let lowercase = sentence_config(&folder).get("do_lower_case").is_some_and(|value| value == true);
        let contents = read(&folder, lowercase).expect(name);
        let file = fs::read(folder.join(TOKENIZER_FILE)).unwrap_or_default();
        assert_eq!(contents == file, is_unchanged, "{name}");
        let expected: Expected = json_of(&folder.join("expected.json"));
        assert_eq!(max_tokens(&folder), expected.max_tokens, "{name}");
        let tokenizer = load(&folder, &contents, expected.max_tokens);
        for Text { text, ids } in &expected.texts {
            assert_ids(&tokenizer, text, ids, name);
        }
        // Reading the result again changes nothing more.
        if file.is_empty() || !lowercase {
            let dir = crate::tiny::folder();
            copy_folder(name, dir.path());
            fs::write(dir.path().join(TOKENIZER_FILE), &contents).expect("a file");
            assert_eq!(read(dir.path(), lowercase).expect(name), contents, "{name}");
        }
    }
}

#[test]
fn settings_that_contradict_the_tokenizer_have_the_effect_that_they_have_in_transformers() {
    let Variants { texts, variants } = json_of(&fixtures().join("variants.json"));
    assert!(variants.len() > 25);
    for Variant { name, base, remove, patch, ids } in variants {
        let dir = folder();
        copy_folder(&base, dir.path());
        remove.iter().for_each(|file| fs::remove_file(dir.path().join(file)).expect("a removal"));
        for (file, patch) in patch {
            let path = dir.path().join(file);
            let mut value: Value = read_optional_json(&path).expect("valid JSON").unwrap_or_default();
            merge(&mut value, &patch);
            fs::write(path, value.to_string()).expect("a file");
        }
        let contents = read(dir.path(), false).expect(&name);
        let tokenizer = load(dir.path(), &contents, 1000);
        assert_eq!(texts.len(), ids.len());
        for (text, ids) in texts.iter().zip(ids) {
            assert_ids(&tokenizer, text, &ids, &name);
        }
    }
}

#[test]
fn the_tokenizers_of_known_models_are_unchanged() {
    let home = std::env::var_os("EMBEDD_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/embedd")));
    for name in ["sentence-transformers--all-mpnet-base-v2", "sentence-transformers--all-MiniLM-L6-v2"] {
        let folder = home.clone().unwrap_or_default().join("models").join(name);
        match fs::read(folder.join(TOKENIZER_FILE)) {
            Ok(file) => assert!(read(&folder, false).expect(name) == file, "{name}"),
            Err(_) => println!("NOT TESTED: {name} is not in the cache folder"),
        }
    }
}

#[test]
fn the_vocabulary_is_among_the_files_of_a_folder_without_tokenizer_json() {
    assert_eq!(files(&fixtures().join("mpnet-old")), [TOKENIZER_FILE, ADDED_TOKENS_FILE]);
    assert!(files(&fixtures().join("mpnet-vocab-txt")).contains(&WORDS_FILE));
    assert!(files(&fixtures().join("xlm-roberta-spm")).contains(&SENTENCE_PIECE_FILE));
    assert!(files(&fixtures().join("deberta-v2-spm")).contains(&DEBERTA_FILE));
    let of_roberta = files(&fixtures().join("roberta-vocab-json"));
    assert!([BPE_FILE, MERGES_FILE].iter().all(|file| of_roberta.contains(file)));
}

#[test]
fn the_error_for_a_folder_without_a_vocabulary_names_the_missing_files() {
    let error = error_of("bert-vocab-txt", |folder| fs::remove_file(folder.join(WORDS_FILE)).expect("a removal"));
    let expected = "tokenizer.json: a folder with neither this file nor vocab.txt is not supported; save the tokenizer";
    assert!(error.contains(expected), "{error}");
    for file in [BPE_FILE, MERGES_FILE] {
        let error = error_of("roberta-vocab-json", |folder| fs::remove_file(folder.join(file)).expect("a removal"));
        assert!(error.contains("neither this file nor vocab.json and merges.txt is not supported"), "{error}");
    }
    let error = error_of("deberta-v2-spm", |folder| fs::remove_file(folder.join(DEBERTA_FILE)).expect("a removal"));
    assert!(error.contains("neither this file nor spm.model is not supported"), "{error}");
    let error = error_of("qwen3", |folder| fs::remove_file(folder.join(TOKENIZER_FILE)).expect("a removal"));
    assert!(error.contains("tokenizer.json: a folder without this file is not supported"), "{error}");
}

#[test]
fn truncation_on_the_left_is_rejected_by_name() {
    let error = error_of("bert-lower-3", |folder| {
        fs::write(folder.join(TOKENIZER_CONFIG_FILE), r#"{ "truncation_side": "left" }"#).expect("a file");
    });
    assert!(error.contains("tokenizer_config.json: truncation on the left side is not supported"), "{error}");
    let error = error_of("bert-tokenizer-truncates", |folder| {
        let mut file: Value = json_of(&folder.join(TOKENIZER_FILE));
        file["truncation"]["direction"] = json!("Left");
        fs::write(folder.join(TOKENIZER_FILE), file.to_string()).expect("a file");
    });
    assert!(error.contains("tokenizer.json: truncation on the left side is not supported"), "{error}");
}

#[test]
fn damaged_files_are_rejected_with_their_names() {
    let damage = |name: &str, file: &str, contents: &[u8]| {
        error_of(name, |folder| fs::write(folder.join(file), contents).expect("a file"))
    };
    let error = damage("bert-vocab-txt", WORDS_FILE, b"[PAD]\n\xff\n");
    assert!(error.contains("vocab.txt: the encoding is not UTF-8"), "{error}");
    for (contents, part) in
        [(&b"\xff"[..], "the encoding is not UTF-8"), (b"#version: 0.2\na b\n\nc d", "line 3 is \"\", but")]
    {
        let error = damage("roberta-vocab-json", MERGES_FILE, contents);
        assert!(error.contains(&format!("merges.txt: {part}")), "{error}");
    }
    let error = damage("roberta-vocab-json", MERGES_FILE, "a b c".repeat(100).as_bytes());
    assert!(error.len() < 300 && error.contains("it must be two tokens"), "{error}");
    let error = damage("roberta-vocab-json", BPE_FILE, b"[]");
    assert!(error.contains("vocab.json: invalid type: sequence, expected a map"), "{error}");
    for contents in [&b"[]"[..], b"null", b"{", b"7"] {
        let error = damage("modernbert", TOKENIZER_FILE, contents);
        assert!(error.contains("tokenizer.json: "), "{error}");
    }
    let error = damage("modernbert", TOKENIZER_FILE, br#"{ "added_tokens": [{ "id": 1 }] }"#);
    assert!(error.contains("tokenizer.json: missing field `content`"), "{error}");
    let error = damage("bert-vocab-txt", TOKENIZER_CONFIG_FILE, br#"{ "added_tokens_decoder": { "x": {} } }"#);
    assert!(error.contains("tokenizer_config.json: "), "{error}");
}

#[test]
fn damaged_sentencepiece_models_are_rejected_or_can_be_used() {
    damage_sentencepiece("xlm-roberta-spm", SENTENCE_PIECE_FILE);
    damage_sentencepiece("deberta-v2-spm", DEBERTA_FILE);
}

fn damage_sentencepiece(name: &str, file: &str) {
    let dir = folder();
    copy_folder(name, dir.path());
    let path = dir.path().join(file);
    let valid = fs::read(&path).expect("a model");
    for contents in [&b""[..], &valid[..1000], b"\x0a\xff\xff\xff\xff\x0f"] {
        fs::write(&path, contents).expect("a file");
        let error = read(dir.path(), false).expect_err("a damaged model").to_string();
        assert!(error.contains(&format!("{file}: the SentencePiece model is ")), "{error}");
    }
    let expected: Expected = json_of(&dir.path().join("expected.json"));
    mutation::check(&[&valid], 500, |contents| {
        fs::write(&path, contents).expect("a file");
        let Ok(contents) = read(dir.path(), false) else { return };
        let Ok(tokenizer) = Tokenizer::parse(&contents, &path, 40, false) else { return };
        for Text { text, .. } in &expected.texts {
            // It may fail, but must not panic.
            let _ = tokenizer.tokenize(text, Truncation::End);
        }
    });
}
