//! Which files make a sentence-transformers folder.

use serde::Deserialize;

/// The list of the modules; it names the folders of the others.
pub(super) const MODULES: &str = "modules.json";
/// The weights. Last of all files everywhere: a fetch that fails early fails before the large one.
pub(super) const WEIGHTS: &str = "model.safetensors";

/// What `modules.json` says of most models; for telling everything that a folder without one lacks.
pub(super) const USUAL_MODULES: &[u8] =
    br#"[{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "models.Pooling"}]"#;

const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// transformers 5 writes no `special_tokens_map.json`: the special tokens are in `tokenizer.json`. Without
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
    /// Path within the folder, with `/`.
    pub(super) file: String,
    /// Whether a model without it cannot be used.
    pub(super) required: bool,
}

/// The part of an entry of `modules.json` that says where the module's files are.
#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The files of a model beside `modules.json`, whose contents these are; the weights come last.
///
/// # Errors
/// Why it is no list of modules, or which module's path leaves the folder.
pub(super) fn wanted(modules: &[u8]) -> Result<Vec<Wanted>, String> {
    let modules: Vec<Module> = serde_json::from_slice(modules).map_err(|error| error.to_string())?;
    if modules.is_empty() {
        return Err("it lists no modules".to_owned());
    }
    let mut files: Vec<Wanted> = REQUIRED.map(|file| (file, true)).into_iter().map(Wanted::from).collect();
    files.extend(OPTIONAL.map(|file| (file, false)).map(Wanted::from));
    for module in modules.iter().filter(|module| !module.path.is_empty()) {
        if !stays_inside(&module.path) {
            return Err(format!("the path `{}` of a module is no plain relative path", module.path));
        }
        // Pooling decides what an embedding is; `2_Normalize` and the like have no configuration.
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

/// Module paths come from outside: one must neither leave the folder nor mean another file on another system.
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
    fn modules_name_their_configurations_and_the_weights_come_last() {
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
    fn a_module_cannot_name_files_outside_its_folder() {
        for path in ["../up", "/etc", "a/../../b", "a//b", "C:\\x", ".git", "a b", "/"] {
            let modules = serde_json::json!([{"path": path, "type": "x.Pooling"}]).to_string();
            assert!(wanted(modules.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_modules_is_told() {
        for text in ["", "{}", "[]", "[{}]", "<html>"] {
            assert!(wanted(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
