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
/// The files that can hold the weights of another module.
const MODULE_WEIGHTS: [&str; 2] = [WEIGHTS, "pytorch_model.bin"];
const INDEX_SUFFIX: &str = ".index.json";

/// The `modules.json` of most models. Used to list all missing files of a folder that has none.
pub(super) const USUAL_MODULES: &[u8] =
    br#"[{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "models.Pooling"}]"#;

pub(super) const CONFIG: &str = "config.json";
/// The tokenizer, with its vocabulary.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The files from which transformers makes the tokenizer of a folder without `tokenizer.json`. Which of them can be used
/// is for the conversion to decide.
pub(super) const VOCABULARIES: [&str; 7] = [
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
];

/// Several times the weights of the largest supported architectures in float32.
const MAX_WEIGHTS_BYTES: u64 = 16 << 30;
/// The largest known tokenizers, with 250,000 tokens, have 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// For configuration files, vocabularies and the README.
const MAX_SMALL_BYTES: u64 = 16 << 20;
/// Of each file with weights, 2 to 10 GB are usual.
const MAX_SHARDS: usize = 64;
/// Supported models have up to five.
const MAX_MODULES: usize = 16;
/// transformers 5 does not write `special_tokens_map.json`: the special tokens are in `tokenizer.json`. Without
/// `sentence_bert_config.json`, the maximum length is in `tokenizer_config.json`.
const OF_TRANSFORMER: [&str; 4] =
    ["sentence_bert_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
const OF_MODEL: [&str; 2] = ["config_sentence_transformers.json", "README.md"];

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

impl Module {
    /// The class, without its Python module, which depends on the version.
    fn class(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }

    /// Whether the class always has a configuration. `2_Normalize` and similar folders are empty.
    fn has_configuration(&self) -> bool {
        matches!(self.class(), "Pooling" | "Dense" | "LayerNorm")
    }

    fn has_weights(&self) -> bool {
        matches!(self.class(), "Dense" | "LayerNorm")
    }
}

/// The modules of a model, and where their files are.
#[derive(Debug)]
pub(super) struct Layout {
    /// The transformer's folder; often empty. `None` if the model has no transformer.
    transformer: Option<String>,
    /// The others that have a folder.
    modules: Vec<Module>,
}

impl Layout {
    /// The layout of a transformer alone, without `modules.json`: sentence-transformers uses the mean of its outputs.
    pub(super) fn plain() -> Self {
        Self { transformer: Some(String::new()), modules: Vec::new() }
    }

    /// Reads the contents of `modules.json`.
    ///
    /// # Errors
    /// Why the list of modules is invalid, or which module's path leaves the folder.
    pub(super) fn parse(modules: &[u8]) -> Result<Self, String> {
        let mut modules: Vec<Module> = serde_json::from_slice(modules).map_err(|error| error.to_string())?;
        if modules.is_empty() {
            return Err("it lists no modules".to_owned());
        }
        if modules.len() > MAX_MODULES {
            return Err(format!("it lists {} modules; the maximum is {MAX_MODULES}", modules.len()));
        }
        for module in modules.iter_mut().filter(|module| !module.path.is_empty()) {
            if !stays_inside(&module.path) {
                return Err(format!("the module path `{}` is not a plain relative path", module.path));
            }
            module.path.truncate(module.path.trim_end_matches('/').len());
        }
        let transformer = modules.iter().position(|module| module.class() == "Transformer");
        let transformer = transformer.map(|index| modules.remove(index).path);
        modules.retain(|module| !module.path.is_empty());
        Ok(Self { transformer, modules })
    }

    /// The path of one of the transformer's files in the model's folder.
    pub(super) fn of_transformer(&self, file: &str) -> String {
        join(self.transformer.as_deref().unwrap_or_default(), file)
    }

    /// The configuration files.
    pub(super) fn configuration(&self) -> Vec<Wanted> {
        // Without a transformer, it is the kind of model that is not supported, not a file that is missing.
        let config = Wanted { file: self.of_transformer(CONFIG), required: self.transformer.is_some() };
        let optional = OF_TRANSFORMER.iter().map(|file| self.of_transformer(file));
        let optional = optional.chain(OF_MODEL.map(str::to_owned));
        let optional = optional.map(|file| Wanted { file, required: false });
        let modules = self
            .modules
            .iter()
            .map(|module| Wanted { file: join(&module.path, CONFIG), required: module.has_configuration() });
        std::iter::once(config).chain(optional).chain(modules).collect()
    }

    pub(super) fn has_transformer(&self) -> bool {
        self.transformer.is_some()
    }

    /// The files that can hold the weights of each further module that has some. The first one that exists is used.
    pub(super) fn module_weights(&self) -> impl Iterator<Item = [String; 2]> {
        let with_weights = self.modules.iter().filter(|module| module.has_weights());
        with_weights.map(|module| MODULE_WEIGHTS.map(|file| join(&module.path, file)))
    }
}

/// The maximum size of a model's file. An origin that sends more must not fill the disk.
pub(super) fn max_bytes(file: &str) -> u64 {
    match file.rsplit('/').next() {
        Some(TOKENIZER) => MAX_TOKENIZER_BYTES,
        _ if file.ends_with(".safetensors") || file.ends_with(".bin") => MAX_WEIGHTS_BYTES,
        _ => MAX_SMALL_BYTES,
    }
}

fn join(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
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

    fn wanted(file: &str, required: bool) -> Wanted {
        Wanted { file: file.to_owned(), required }
    }

    #[test]
    fn each_module_has_a_configuration() {
        let modules = br#"[
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
            {"idx": 3, "name": "3", "path": "3_Normalize/", "type": "sentence_transformers.models.Normalize"}]"#;
        let layout = Layout::parse(modules).expect("a list of modules");
        let files = layout.configuration();
        for (file, required) in [
            ("config.json", true),
            ("tokenizer_config.json", false),
            ("1_Pooling/config.json", true),
            ("2_Dense/config.json", true),
            ("3_Normalize/config.json", false),
        ] {
            assert!(files.contains(&wanted(file, required)), "{file}");
        }
        let weights: Vec<_> = layout.module_weights().collect();
        assert_eq!(weights, [["2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"]]);
    }

    #[test]
    fn the_transformer_may_have_a_folder() {
        let modules = br#"[{"path": "0_Transformer/", "type": "a.Transformer"}, {"path": "1", "type": "b.Pooling"}]"#;
        let layout = Layout::parse(modules).expect("a list of modules");
        assert_eq!(layout.of_transformer(WEIGHTS), "0_Transformer/model.safetensors");
        let files = layout.configuration();
        assert!(files.contains(&wanted("0_Transformer/config.json", true)));
        assert!(files.contains(&wanted("0_Transformer/tokenizer_config.json", false)));
        assert!(files.contains(&wanted("config_sentence_transformers.json", false)));
        assert_eq!(max_bytes("0_Transformer/tokenizer.json"), MAX_TOKENIZER_BYTES);
    }

    #[test]
    fn a_model_without_a_transformer_requires_no_configuration() {
        let modules = br#"[{"path": "0_StaticEmbedding", "type": "x.StaticEmbedding"}]"#;
        let layout = Layout::parse(modules).expect("a list of modules");
        assert!(!layout.has_transformer());
        assert!(layout.configuration().iter().all(|wanted| !wanted.required));
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
            assert!(Layout::parse(modules.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn invalid_lists_of_modules_are_rejected() {
        for text in ["", "{}", "[]", "[{}]", "<html>"] {
            assert!(Layout::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let many = vec![serde_json::json!({"path": "", "type": "x.Dense"}); MAX_MODULES + 1];
        let error = Layout::parse(serde_json::json!(many).to_string().as_bytes()).expect_err("too many");
        assert_eq!(error, "it lists 17 modules; the maximum is 16");
    }
}
