//! The files of a sentence-transformers folder.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// The list of modules, with the folder of each.
pub(super) const MODULES: &str = "modules.json";
/// The weights in one file, as most models have them.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The files that can hold the weights, or an index of several files with weights. The first one that exists is used, as
/// in transformers. Always fetched last, so that other failures occur before the large download.
pub(super) const ALL_WEIGHTS: [&str; 4] =
    [WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
const INDEX_SUFFIX: &str = ".index.json";

/// The `modules.json` of most models. Used to list all missing files of a folder that has none.
pub(super) const USUAL_MODULES: &[u8] =
    br#"[{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "models.Pooling"}]"#;

/// The tokenizer, with its vocabulary.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Vocabularies from which conversion makes the tokenizer of a folder without `tokenizer.json`.
pub(super) const VOCABULARIES: [&str; 2] = ["vocab.txt", "sentencepiece.bpe.model"];
const REQUIRED: [&str; 2] = ["config.json", TOKENIZER];

/// Several times the weights of the largest supported architectures in float32.
const MAX_WEIGHTS_BYTES: u64 = 16 << 30;
/// The largest known tokenizers, with 250,000 tokens, have 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// For configuration files and the README.
const MAX_SMALL_BYTES: u64 = 16 << 20;
/// Of each file with weights, 2 to 10 GB are usual.
const MAX_SHARDS: usize = 64;
/// Supported models have up to three.
const MAX_MODULES: usize = 16;
/// transformers 5 does not write `special_tokens_map.json`: the special tokens are in `tokenizer.json`. Without
/// `sentence_bert_config.json`, the maximum length is in `tokenizer_config.json`.
const OPTIONAL: [&str; 6] = [
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config_sentence_transformers.json",
    "README.md",
    "vocab.txt",
];

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Path in the folder, with `/` as the separator.
    pub(super) file: String,
    /// Whether the model is unusable without it.
    pub(super) required: bool,
}

/// The relevant fields of an entry in `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The maximum size of a model's file. An origin that sends more must not fill the disk.
pub(super) fn max_bytes(file: &str) -> u64 {
    match file {
        TOKENIZER => MAX_TOKENIZER_BYTES,
        _ if file.ends_with(".safetensors") || file.ends_with(".bin") => MAX_WEIGHTS_BYTES,
        _ => MAX_SMALL_BYTES,
    }
}

/// The folder of the transformer within a model's, given the contents of its `modules.json`: often empty.
///
/// # Errors
/// Why the list of modules is invalid, or which module's path leaves the folder.
pub(super) fn transformer(modules: &[u8]) -> Result<String, String> {
    let modules: Vec<Module> = serde_json::from_slice(modules).map_err(|error| error.to_string())?;
    match modules.into_iter().find(|module| module.kind.rsplit('.').next() == Some("Transformer")) {
        Some(module) if !module.path.is_empty() && !stays_inside(&module.path) => {
            Err(format!("the module path `{}` is not a plain relative path", module.path))
        }
        module => Ok(module.map(|module| module.path).unwrap_or_default()),
    }
}

/// The files of a model except its weights, given the contents of its `modules.json`.
///
/// # Errors
/// Why the list of modules is invalid, or which module's path leaves the folder.
pub(super) fn wanted(modules: &[u8]) -> Result<Vec<Wanted>, String> {
    let modules: Vec<Module> = serde_json::from_slice(modules).map_err(|error| error.to_string())?;
    if modules.is_empty() {
        return Err("it lists no modules".to_owned());
    }
    if modules.len() > MAX_MODULES {
        return Err(format!("it lists {} modules; the maximum is {MAX_MODULES}", modules.len()));
    }
    let mut files: Vec<Wanted> = REQUIRED.map(|file| (file, true)).into_iter().map(Wanted::from).collect();
    files.extend(OPTIONAL.map(|file| (file, false)).map(Wanted::from));
    for module in modules.iter().filter(|module| !module.path.is_empty()) {
        if !stays_inside(&module.path) {
            return Err(format!("the module path `{}` is not a plain relative path", module.path));
        }
        // The result depends on the pooling configuration. `2_Normalize` and similar modules have no configuration.
        let required = module.kind.ends_with(".Pooling");
        files.push(Wanted { file: format!("{}/config.json", module.path.trim_end_matches('/')), required });
    }
    Ok(files)
}

/// The relevant field of an index.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Whether one of [`ALL_WEIGHTS`] is an index.
pub(super) fn is_index(file: &str) -> bool {
    file.ends_with(INDEX_SUFFIX)
}

/// The files that an index names, in alphabetical order. They have the extension of the index.
///
/// # Errors
/// Why the index is invalid, or which file would replace another one or leave the folder.
pub(super) fn shards(index: &str, contents: &[u8]) -> Result<BTreeSet<String>, String> {
    let extension = index.trim_end_matches(INDEX_SUFFIX).rsplit('.').next().unwrap_or_default();
    let parsed: Index = serde_json::from_slice(contents).map_err(|error| error.to_string())?;
    let files: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let is_valid = |file: &&String| {
        let has_extension = file.rsplit_once('.').is_some_and(|(_, found)| found == extension);
        has_extension && !file.contains('/') && stays_inside(file)
    };
    if let Some(file) = files.iter().find(|file| !is_valid(file)) {
        return Err(format!("{file:?} is not the plain name of a .{extension} file"));
    }
    match files.len() {
        1..=MAX_SHARDS => Ok(files),
        count => Err(format!("it names {count} files; from 1 to {MAX_SHARDS} are possible")),
    }
}

impl From<(&str, bool)> for Wanted {
    fn from((file, required): (&str, bool)) -> Self {
        Self { file: file.to_owned(), required }
    }
}

/// Module paths are untrusted: they must not leave the folder, and must mean the same file on every system.
fn stays_inside(path: &str) -> bool {
    path.trim_end_matches('/').split('/').all(|part| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_has_a_configuration() {
        let modules = br#"[
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize/", "type": "sentence_transformers.models.Normalize"}]"#;
        let files = wanted(modules).expect("a list of modules");
        assert!(files.contains(&Wanted::from(("1_Pooling/config.json", true))));
        assert!(files.contains(&Wanted::from(("2_Normalize/config.json", false))));
    }

    #[test]
    fn an_index_names_plain_files_of_its_own_format() {
        let index = |file: &str| serde_json::json!({"weight_map": {"a": file, "b": file}}).to_string();
        let of_safetensors = |file: &str| shards("model.safetensors.index.json", index(file).as_bytes());
        assert_eq!(of_safetensors("part-1.safetensors"), Ok(["part-1.safetensors".to_owned()].into()));
        let bin = shards("pytorch_model.bin.index.json", index("part.bin").as_bytes());
        assert_eq!(bin, Ok(["part.bin".to_owned()].into()));
        for file in
            ["../a.safetensors", "x/a.safetensors", "/a.safetensors", "config.json", "a.bin", ".safetensors", ""]
        {
            let error = of_safetensors(file).expect_err("an invalid name");
            assert!(error.contains("not the plain name of a .safetensors file"), "{error}");
        }
        for text in ["", "{}", r#"{"weight_map": {}}"#, r#"{"weight_map": ["a.safetensors"]}"#] {
            assert!(shards("model.safetensors.index.json", text.as_bytes()).is_err(), "{text}");
        }
        let many: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), format!("{n}.bin").into())).collect();
        let many = serde_json::json!({ "weight_map": many }).to_string();
        let error = shards("pytorch_model.bin.index.json", many.as_bytes()).expect_err("too many");
        assert_eq!(error, "it names 65 files; from 1 to 64 are possible");
    }

    #[test]
    fn module_paths_outside_the_folder_are_rejected() {
        for path in ["../up", "/etc", "a/../../b", "a//b", "C:\\x", ".git", "a b", "/"] {
            let modules = serde_json::json!([{"path": path, "type": "x.Pooling"}]).to_string();
            assert!(wanted(modules.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn invalid_lists_of_modules_are_rejected() {
        for text in ["", "{}", "[]", "[{}]", "<html>"] {
            assert!(wanted(text.as_bytes()).is_err(), "{text:?}");
        }
        let many = vec![serde_json::json!({"path": "", "type": "x.Dense"}); MAX_MODULES + 1];
        let error = wanted(serde_json::json!(many).to_string().as_bytes()).expect_err("too many");
        assert_eq!(error, "it lists 17 modules; the maximum is 16");
    }
}
