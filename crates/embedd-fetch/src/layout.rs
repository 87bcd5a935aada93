//! The files of a sentence-transformers folder.

use serde::Deserialize;

/// The list of modules, with the folder of each.
pub(super) const MODULES: &str = "modules.json";
/// The weights. Always fetched last, so that other failures occur before the large download.
pub(super) const WEIGHTS: &str = "model.safetensors";

/// The `modules.json` of most models. Used to list all missing files of a folder that has none.
pub(super) const USUAL_MODULES: &[u8] =
    br#"[{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "models.Pooling"}]"#;

/// The tokenizer, with its vocabulary.
const TOKENIZER: &str = "tokenizer.json";
const REQUIRED: [&str; 2] = ["config.json", TOKENIZER];

/// Several times the weights of the largest supported architectures in float32.
const MAX_WEIGHTS_BYTES: u64 = 16 << 30;
/// The largest known tokenizers, with 250,000 tokens, have 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// For configuration files and the README.
const MAX_SMALL_BYTES: u64 = 16 << 20;
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
        WEIGHTS => MAX_WEIGHTS_BYTES,
        TOKENIZER => MAX_TOKENIZER_BYTES,
        _ => MAX_SMALL_BYTES,
    }
}

/// The files of a model, given the contents of its `modules.json`. The weights come last.
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
    files.push(Wanted::from((WEIGHTS, true)));
    Ok(files)
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
    fn each_module_has_a_configuration_and_the_weights_come_last() {
        let modules = br#"[
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize/", "type": "sentence_transformers.models.Normalize"}]"#;
        let files = wanted(modules).expect("a list of modules");
        assert!(files.contains(&Wanted::from(("1_Pooling/config.json", true))));
        assert!(files.contains(&Wanted::from(("2_Normalize/config.json", false))));
        assert_eq!(files.last(), Some(&Wanted::from((WEIGHTS, true))));
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
