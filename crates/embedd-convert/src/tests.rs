use std::fs;

use serde_json::{Value, json};

use super::tiny::{Tiny, folder};
use super::*;

fn convert_to(source: &Path, output: &Path, replace: bool) -> Result<Bundle, ConvertError> {
    let conversion = Conversion {
        source: source.to_owned(),
        output: output.to_owned(),
        name: "tiny".to_owned(),
        replace,
        proof: None,
    };
    convert(&conversion, &Progress::silent())
}

/// Converts a model that `change` has edited, and returns the error. Asserts that no files remain.
fn error_of(change: impl FnOnce(&mut Tiny)) -> String {
    let dir = folder();
    let mut tiny = Tiny::mpnet();
    change(&mut tiny);
    tiny.write(&dir.path().join("source"));
    let output = dir.path().join("out/bundle");
    let error = convert_to(&dir.path().join("source"), &output, false).expect_err("an invalid model").to_string();
    let left: Vec<_> = fs::read_dir(dir.path().join("out"))
        .expect("the parent")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name != ".bundle.lock")
        .collect();
    assert!(left.is_empty(), "{left:?} remain");
    error
}

fn assert_contains(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn both_architectures_are_converted() {
    for (tiny, positions) in [(Tiny::mpnet(), 8), (Tiny::bert(), 10)] {
        let dir = folder();
        tiny.write(&dir.path().join("source"));
        let bundle = convert_to(&dir.path().join("source"), &dir.path().join("bundle"), false).expect("a bundle");
        let manifest = bundle.manifest();
        assert_eq!((manifest.dimension, manifest.max_tokens, manifest.position_limit), (4, 6, positions));
        for file in manifest.files.keys() {
            bundle.verify(file).expect("its checksum is right");
        }
        assert!(bundle.verify(FP32_FILE).is_ok());
    }
}

#[test]
fn the_maximum_length_is_capped_at_the_number_of_positions() {
    let dir = folder();
    let mut tiny = Tiny::mpnet();
    tiny.sentence["max_seq_length"] = json!(512);
    tiny.write(&dir.path().join("source"));
    let bundle = convert_to(&dir.path().join("source"), &dir.path().join("bundle"), false).expect("a bundle");
    assert_eq!(bundle.manifest().max_tokens, 8);
}

#[test]
fn the_tokenizers_limit_applies_if_no_other_is_set() {
    let dir = folder();
    let source = dir.path().join("source");
    Tiny::bert().write(&source);
    fs::remove_file(source.join("sentence_bert_config.json")).expect("remove");
    for (limit, expected) in [("7", 7), ("1e30", 10)] {
        fs::write(source.join("tokenizer_config.json"), format!(r#"{{ "model_max_length": {limit} }}"#))
            .expect("write");
        let bundle = convert_to(&source, &dir.path().join("bundle"), true).expect("a bundle");
        assert_eq!(bundle.manifest().max_tokens, expected, "{limit}");
    }
}

#[test]
fn weights_under_a_prefix_and_in_half_precision_are_found() {
    let dir = folder();
    let mut tiny = Tiny::bert();
    tiny.tensors = tiny.tensors.into_iter().map(|(name, shape)| (format!("bert.{name}"), shape)).collect();
    tiny.half_precision = true;
    tiny.write(&dir.path().join("source"));
    convert_to(&dir.path().join("source"), &dir.path().join("bundle"), false).expect("a bundle");
}

#[test]
fn the_error_for_an_unknown_architecture_lists_the_supported_ones() {
    let error = error_of(|tiny| tiny.config["model_type"] = json!("xlnet"));
    assert_contains(&error, &["config.json", "xlnet", "mpnet, bert"]);
}

#[test]
fn the_error_for_a_missing_tensor_has_its_name_and_shape() {
    let name = "encoder.layer.1.intermediate.dense.weight";
    let error = error_of(|tiny| drop(tiny.tensors.remove(name)));
    assert_contains(&error, &["model.safetensors", name, "[8, 4]"]);
}

#[test]
fn the_error_for_a_wrong_shape_has_both_shapes() {
    let name = "encoder.layer.0.attention.attn.q.weight";
    let error = error_of(|tiny| drop(tiny.tensors.insert(name.to_owned(), vec![4, 5])));
    assert_contains(&error, &["model.safetensors", name, "[4, 5]", "[4, 4]"]);
}

#[test]
fn a_configuration_that_disagrees_with_the_weights_is_rejected() {
    type Case = (&'static str, Value, &'static [&'static str]);
    let cases: [Case; 6] = [
        ("vocab_size", json!(99), &["word_embeddings", "[6, 4]", "[99, 4]", "vocab_size"]),
        ("hidden_size", json!(6), &["hidden_size 6"]),
        ("max_position_embeddings", json!(512), &["position_embeddings", "[10, 4]", "[512, 4]"]),
        ("num_hidden_layers", json!(1), &["num_hidden_layers is 1", "2 layers"]),
        ("num_hidden_layers", json!(3), &["encoder.layer.2."]),
        ("relative_attention_num_buckets", json!(64), &["relative_attention_bias", "[32, 2]", "[64, 2]"]),
    ];
    for (field, value, parts) in cases {
        assert_contains(&error_of(|tiny| tiny.config[field] = value), parts);
    }
}

#[test]
fn an_impossible_configuration_is_rejected_with_its_field() {
    type Case = (&'static str, Value, &'static [&'static str]);
    let cases: [Case; 6] = [
        ("hidden_size", json!(0), &["hidden_size is 0"]),
        ("num_attention_heads", json!(3), &["multiple of num_attention_heads (3)"]),
        ("layer_norm_eps", json!(0.0), &["layer_norm_eps is 0"]),
        ("hidden_act", json!("swish"), &["hidden_act `swish`", "`gelu`"]),
        ("position_embedding_type", json!("relative_key"), &["relative_key", "`absolute`"]),
        ("intermediate_size", json!("many"), &["config.json", "line"]),
    ];
    for (field, value, parts) in cases {
        assert_contains(&error_of(|tiny| tiny.config[field] = value), &[&["config.json"], parts].concat());
    }
}

#[test]
fn unsupported_modules_and_settings_are_rejected() {
    let dense = json!({ "idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense" });
    let error = error_of(|tiny| tiny.modules.as_array_mut().expect("modules").push(dense));
    assert_contains(&error, &["modules.json", "Dense"]);
    let error = error_of(|tiny| tiny.pooling["pooling_mode_max_tokens"] = json!(true));
    assert_contains(&error, &["1_Pooling", "pooling_mode_max_tokens"]);
    let error = error_of(|tiny| tiny.pooling["word_embedding_dimension"] = json!(5));
    assert_contains(&error, &["word_embedding_dimension is 5", "hidden_size 4"]);
    let error = error_of(|tiny| tiny.transformers = json!({ "default_prompt_name": "query" }));
    assert_contains(&error, &["config_sentence_transformers.json", "query"]);
}

#[test]
fn a_token_beyond_the_embedding_table_is_rejected() {
    let error = error_of(|tiny| tiny.tokenizer["model"]["vocab"]["extra"] = json!(77));
    assert_contains(&error, &["tokenizer.json", "77", "0 to 5"]);
}

#[test]
fn the_error_for_a_missing_file_has_its_name() {
    for file in ["config.json", "modules.json", "1_Pooling/config.json", "model.safetensors", "tokenizer.json"] {
        let dir = folder();
        let source = dir.path().join("source");
        Tiny::mpnet().write(&source);
        fs::remove_file(source.join(file)).expect("remove");
        let error = convert_to(&source, &dir.path().join("bundle"), false).expect_err("a file is missing").to_string();
        assert_contains(&error, &[file.rsplit('/').next().expect("a name")]);
    }
}

#[test]
fn truncated_weights_are_rejected() {
    let dir = folder();
    let source = dir.path().join("source");
    Tiny::mpnet().write(&source);
    let weights = source.join("model.safetensors");
    let bytes = fs::read(&weights).expect("read");
    fs::write(&weights, &bytes[..bytes.len() - 4]).expect("write");
    let error = convert_to(&source, &dir.path().join("bundle"), false).expect_err("truncated weights").to_string();
    assert_contains(&error, &["model.safetensors", "truncated"]);
}

#[test]
fn a_bundle_is_current_until_its_source_changes() {
    let dir = folder();
    let source = dir.path().join("source");
    let output = dir.path().join("bundle");
    let mut tiny = Tiny::mpnet();
    tiny.write(&source);
    let bundle = convert_to(&source, &output, false).expect("a bundle");
    assert!(is_current(&bundle, &source).expect("readable"));
    tiny.sentence["max_seq_length"] = json!(5);
    tiny.write(&source);
    assert!(!is_current(&bundle, &source).expect("readable"));
    let bundle = convert_to(&source, &output, true).expect("a bundle");
    assert!(is_current(&bundle, &source).expect("readable"));
    fs::write(source.join("special_tokens_map.json"), "{}").expect("write");
    assert!(!is_current(&bundle, &source).expect("readable"));
}

#[test]
fn an_existing_bundle_is_unchanged_after_a_failed_conversion() {
    let dir = folder();
    let source = dir.path().join("source");
    let output = dir.path().join("bundle");
    Tiny::mpnet().write(&source);
    let before = convert_to(&source, &output, false).expect("a bundle").fingerprint().clone();
    fs::remove_file(source.join("model.safetensors")).expect("remove");
    convert_to(&source, &output, true).expect_err("no weights");
    assert_eq!(Bundle::open(&output).expect("the old bundle").fingerprint(), &before);
}

#[test]
fn a_conversion_removes_the_files_of_one_that_was_killed() {
    let dir = folder();
    let source = dir.path().join("source");
    let output = dir.path().join("bundle");
    Tiny::mpnet().write(&source);
    let stale = dir.path().join(".bundle.converting");
    fs::create_dir(&stale).expect("create");
    fs::write(stale.join("model.onnx"), "half a model").expect("write");
    convert_to(&source, &output, false).expect("a bundle");
    assert!(!stale.exists());
}

#[test]
fn concurrent_conversions_to_one_output_leave_one_intact_bundle() {
    let dir = folder();
    let source = dir.path().join("source");
    let output = dir.path().join("bundle");
    Tiny::mpnet().write(&source);
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| convert_to(&source, &output, false))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, ConvertError::Write(WriterError::OutputExists(_))), "{error}");
    }
    Bundle::open(&output).expect("a bundle").verify(FP32_FILE).expect("an intact file");
}
