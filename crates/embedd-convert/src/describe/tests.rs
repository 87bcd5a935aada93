use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::ConvertError;
use crate::tiny::{Tiny, folder};
use embedd_kernels::Heads;

/// The description of a model in the fixtures of the workspace.
fn described(model: &str) -> ModelDescription {
    describe(&models().join(model)).unwrap_or_else(|error| panic!("{model}: {error}"))
}

fn describe(folder: &Path) -> Result<ModelDescription, ConvertError> {
    let origin = ModelOrigin::Folder { folder: "models/x".into() };
    crate::describe_source(folder, "x".to_owned(), origin)
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models")
}

fn json(description: &ModelDescription) -> Value {
    // By its text, so that numbers are those that users see.
    let text = serde_json::to_string(description).expect("JSON");
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn assert_text(model: &str, expected: &str) {
    assert_eq!(described(model).to_string(), expected, "{model}");
}

#[test]
fn bert_is_described() {
    assert_text(
        "bert-mean",
        r#"x

  source        models/x
  architecture  bert: 3 layers, hidden size 32
  embeddings    300 tokens, token types: 2
  positions     a table of 64 rows, starting at row 0
  attention     4 heads, head size 8, in both directions
  feed-forward  size 64, GELU
  norms         LayerNorm, epsilon 1e-12
                of embeddings, sums after attention, sums after feed-forward
  pooling       mean
  modules       none
  embedding     32 components
  tokens        64 by default, at most 64
  prompts       document: ""
                query: ""
  tokenizer     WordPiece, 300 tokens, lowercases texts
  weights       model.safetensors
"#,
    );
}

#[test]
fn embedding_gemma_is_described() {
    assert_text(
        "gemma3-text",
        r#"x

  source        models/x
  architecture  gemma3_text: 4 layers, hidden size 32
  embeddings    456 tokens, multiplied by the square root of their width
  positions     rotary, theta 1000000, theta 100 in layers with windows
  attention     4 heads for queries, 2 for keys and values, head size 16, in both directions
                scores divided by the square root of 24
                layers 0-1, 3: windows of 8 tokens back, 8 ahead
  feed-forward  size 64, tanh GELU, gated
  norms         RMSNorm, epsilon 1e-6, 1 + weight
                of attention inputs, queries and keys, attention outputs,
                feed-forward inputs, feed-forward outputs, the last hidden states
  pooling       mean
  modules       Dense in 2_Dense: 32 -> 48, no bias
                Dense in 3_Dense: 48 -> 32, no bias
  embedding     32 components
  tokens        64 by default, at most 256
  prompts       document: "title: none | text: "
                query: "task: search result | query: "
  tokenizer     BPE, 456 tokens, keeps the case of texts
  weights       model.safetensors
                2_Dense/model.safetensors
                3_Dense/model.safetensors
"#,
    );
}

#[test]
fn json_has_every_part_of_modernbert() {
    let found = json(&described("modernbert"));
    let expected = json!({
        "layers": 4,
        "hidden_size": 32,
        "embeddings": { "vocab_size": 341, "token_types": 0, "width": 32, "scaled": false },
        "positions": {
            "table": null, "distance_bias": false, "rotary": { "theta": 160_000.0, "window_theta": 100.0 },
            "disentangled": null,
        },
        "attention": {
            "heads": { "query": 2, "key": 2, "size": 16 }, "squared_divisor": 16, "causal": false,
            "windows": [{ "layers": [1, 2], "back": 8, "ahead": 8 }],
        },
        "feed_forward": { "size": 48, "activation": "gelu", "gated": true },
        "norms": {
            "kind": "layer", "epsilon": 1e-5, "plus_one": false,
            "of": ["embeddings", "attention_input_except_first", "feed_forward_input", "last_layer"],
        },
    });
    assert_eq!(found["encoder"], expected);
    assert_eq!((&found["name"], &found["source"]), (&json!("x"), &json!({ "folder": "models/x" })));
    assert_eq!(found["tokenizer"], json!({ "model": "BPE", "vocab_size": 341, "lowercase": false }));
}

#[test]
fn causal_attention_and_the_last_token_are_described() {
    let found = described("qwen3");
    assert!(found.encoder.attention.causal && found.encoder.attention.windows.is_empty());
    assert_eq!(found.encoder.attention.heads, Heads { query: 4, key: 2, size: 8 });
    assert_eq!(found.encoder.feed_forward.activation, Activation::Silu);
    assert_eq!(found.pooling.to_string(), "lasttoken");
    assert!(found.to_string().contains("only to earlier tokens (causal)"), "{found}");
}

#[test]
fn a_causal_window_reaches_back_only() {
    let windows = |attention: &Value| -> Value { attention["windows"].clone() };
    let dir = copy_without_weights("qwen3");
    let config = dir.path().join("config.json");
    let mut fields: Value = serde_json::from_slice(&fs::read(&config).expect("a file")).expect("JSON");
    fields["layer_types"] = json!(["full_attention", "sliding_attention", "sliding_attention"]);
    fields["use_sliding_window"] = json!(true);
    fields["sliding_window"] = json!(4);
    fs::write(&config, fields.to_string()).expect("a file");
    let found = json(&describe(dir.path()).expect("a description"));
    assert_eq!(windows(&found["encoder"]["attention"]), json!([{ "layers": [1, 2], "back": 3, "ahead": 0 }]));
    assert_eq!(found["encoder"]["attention"]["causal"], true);
}

#[test]
fn positions_of_other_architectures_are_described() {
    let table = |rows, first_row| Some(PositionTable { rows, first_row });
    let none = PositionsDescription { table: None, distance_bias: false, rotary: None, disentangled: None };
    let deberta = DisentangledConfig {
        span: 16,
        logarithmic_to: Some(64),
        content_to_position: true,
        position_to_content: true,
        shared_weights: true,
        normalized: true,
    };
    for (model, expected) in [
        ("mpnet", PositionsDescription { table: table(66, 2), distance_bias: true, ..none.clone() }),
        ("deberta-v2", PositionsDescription { disentangled: Some(deberta), ..none }),
    ] {
        assert_eq!(described(model).encoder.positions, expected, "{model}");
    }
    let deberta = described("deberta-v2").to_string();
    let line = "disentangled, content to position, position to content, shared weights, normalized, span 16, logarithmic \
                up to 64";
    assert!(deberta.contains(line), "{deberta}");
}

#[test]
fn what_follows_the_encoder_is_described() {
    let dense = described("bert-dense-bin");
    let module = ModuleDescription::Dense {
        folder: "2_Dense".into(),
        in_features: 32,
        out_features: 48,
        bias: true,
        activation: Some(Activation::Tanh),
    };
    assert_eq!((dense.modules.as_slice(), dense.dimension), (&[module][..], 48));
    assert_eq!(dense.pooling.to_string(), "cls");
    let files = dense.weights.iter().flat_map(|weights| &weights.files).collect::<Vec<_>>();
    assert_eq!(files, ["model.safetensors", "2_Dense/pytorch_model.bin"]);
    let norm = ModuleDescription::LayerNorm { folder: "2_LayerNorm".into(), dimension: 32 };
    assert_eq!(described("bert-layer-norm").modules, [norm]);

    let cut = described("bert-truncate-dim");
    assert_eq!((cut.truncate_dim, cut.dimension), (Some(16), 16));
    assert!(cut.to_string().contains("16 components, the first ones (truncate_dim)"), "{cut}");

    let prompts = described("bert-default-prompt");
    assert_eq!(prompts.default_prompt.as_deref(), Some("tag"));
    assert!(prompts.to_string().contains(r#"tag: "<mask> fi: " (default)"#), "{prompts}");
    assert!(described("bert-prompt-excluded").exclude_prompt);
}

#[test]
fn every_fixture_is_described() {
    let mut models: Vec<_> =
        fs::read_dir(models()).expect("the fixtures").map(|entry| entry.expect("one").path()).collect();
    models.retain(|path| path.is_dir());
    assert!(models.len() > 25, "{models:?}");
    for model in models {
        let found = describe(&model).unwrap_or_else(|error| panic!("{}: {error}", model.display()));
        assert!(found.weights.iter().all(|weights| weights.found), "{found}");
    }
}

/// A model's files except its weights.
fn copy_without_weights(model: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let path = entry.expect("an entry").path();
            let to = to.join(path.file_name().expect("a name"));
            let is_weights = path.extension().is_some_and(|end| end == "safetensors" || end == "bin");
            match path.is_dir() {
                true => copy(&path, &to),
                false if is_weights => {}
                false => drop(fs::copy(&path, &to).expect("a file")),
            }
        }
    }
    let dir = folder();
    copy(&models().join(model), dir.path());
    dir
}

#[test]
fn weights_need_not_exist() {
    let dir = copy_without_weights("gemma3-text");
    let found = describe(dir.path()).expect("a description");
    let expected = WeightFiles {
        files: [
            "2_Dense/model.safetensors",
            "2_Dense/model.safetensors.index.json",
            "2_Dense/pytorch_model.bin",
            "2_Dense/pytorch_model.bin.index.json",
        ]
        .map(str::to_owned)
        .to_vec(),
        found: false,
    };
    assert_eq!((found.weights.len(), &found.weights[1]), (3, &expected));
    assert_eq!(ModelDescription { weights: described("gemma3-text").weights, ..found }, described("gemma3-text"));
}

#[test]
fn weights_are_not_read_and_an_index_names_its_files() {
    let dir = copy_without_weights("bert-mean");
    let index = json!({ "weight_map": { "a": "model-2.safetensors", "b": "model-1.safetensors" } });
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).expect("a file");
    let weights = describe(dir.path()).expect("the shards do not exist").weights;
    let files = ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"];
    assert_eq!(weights, [WeightFiles { files: files.map(str::to_owned).to_vec(), found: true }]);
}

#[test]
fn an_unsupported_model_gets_the_error_of_a_conversion() {
    let dir = folder();
    let mut tiny = Tiny::bert();
    tiny.config["model_type"] = json!("t5");
    tiny.write(dir.path());
    let error = describe(dir.path()).expect_err("an unsupported model").to_string();
    assert!(error.contains("model_type `t5` is not supported"), "{error}");
    assert_eq!(crate::check_source(dir.path()).expect_err("the same").to_string(), error);
}
