use std::fs;

use embedd_common::checksum::Sha256Hex;
use serde_json::{Value, json};

use embedd_kernels::Activation;
use embedd_model::bundle::Pooling;

use super::tiny::{Tiny, dna_tokenizer, folder};
use super::*;

fn convert_to(source: &Path, output: &Path, replace: bool) -> Result<Bundle, ConvertError> {
    let conversion = Conversion {
        source: source.to_owned(),
        output: output.to_owned(),
        name: "tiny".to_owned(),
        revision: Some("v1".to_owned()),
        commit: Some("c0ffee".to_owned()),
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
fn a_folder_is_checked_without_its_weights() {
    type Change = dyn Fn(&mut Tiny);
    let check = |change: &Change| {
        let dir = folder();
        let mut tiny = Tiny::bert();
        change(&mut tiny);
        tiny.write(dir.path());
        fs::remove_file(dir.path().join("model.safetensors")).expect("a removal");
        check_source(dir.path()).map_err(|error| error.to_string())
    };
    check(&|_| {}).expect("a supported model");
    let cases: [(&Change, &str); 4] = [
        (
            &|tiny| tiny.modules[2]["type"] = json!("sentence_transformers.models.LSTM"),
            "modules.json: the module chain",
        ),
        (&|tiny| tiny.config["model_type"] = json!("t5"), "config.json: model_type `t5` is not supported"),
        (&|tiny| tiny.config["vocab_size"] = json!(5), "tokenizer.json: the token `two` has the id 5"),
        (&|tiny| tiny.tokenizer["model"]["type"] = json!("Words"), "tokenizer.json"),
    ];
    for (change, part) in cases {
        assert_contains(&check(change).expect_err("an unsupported model"), &[part]);
    }
}

#[test]
fn every_kind_of_position_is_converted() {
    let mut roberta = Tiny::bert();
    roberta.config["model_type"] = json!("roberta");
    for (tiny, positions) in [(Tiny::mpnet(), 8), (Tiny::bert(), 10), (roberta, 8)] {
        let dir = folder();
        tiny.write(&dir.path().join("source"));
        let bundle = convert_to(&dir.path().join("source"), &dir.path().join("bundle"), false).expect("a bundle");
        let manifest = bundle.manifest();
        assert_eq!((manifest.dimension, manifest.max_tokens, manifest.position_limit), (4, 6, positions));
        let SourceRecord { revision, commit, .. } = &manifest.source;
        assert_eq!((revision.as_deref(), commit.as_deref()), (Some("v1"), Some("c0ffee")));
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
fn old_names_of_layer_norms_are_found_under_a_prefix() {
    let dir = folder();
    let mut tiny = Tiny::bert();
    let old =
        |name: String| name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    tiny.tensors = tiny.tensors.into_iter().map(|(name, shape)| (format!("bert.{}", old(name)), shape)).collect();
    tiny.write(&dir.path().join("source"));
    convert_to(&dir.path().join("source"), &dir.path().join("bundle"), false).expect("a bundle");
}

#[test]
fn the_manifest_records_the_index_and_all_shards() {
    let dir = folder();
    let source = dir.path().join("source");
    let tiny = Tiny::bert();
    tiny.write(&source);
    let whole = convert_to(&source, &dir.path().join("whole"), false).expect("a bundle");
    let weights = Sha256Hex::of_file(&source.join("model.safetensors")).expect("its digest");
    assert_eq!(whole.manifest().source.weights_sha256, weights);
    fs::rename(source.join("model.safetensors"), source.join("part.safetensors")).expect("rename");
    let places: serde_json::Map<_, _> =
        tiny.tensors.keys().map(|name| (name.clone(), json!("part.safetensors"))).collect();
    let index = json!({ "metadata": {}, "weight_map": places });
    fs::write(source.join("model.safetensors.index.json"), index.to_string()).expect("write");
    let sharded = convert_to(&source, &dir.path().join("sharded"), false).expect("a bundle");
    let record = &sharded.manifest().source;
    assert_eq!(record.weights_sha256, Sha256Hex::of(format!("{weights}  part.safetensors\n").as_bytes()));
    assert!(record.files.contains_key("model.safetensors.index.json") && record.files.contains_key("part.safetensors"));
    let fp32 = |bundle: &Bundle| bundle.manifest().files[FP32_FILE].sha256.clone();
    assert_eq!(fp32(&sharded), fp32(&whole));
    assert!(is_current(&sharded, &source).expect("readable"));
    fs::write(source.join("model.safetensors.index.json"), format!("{index} ")).expect("write");
    assert!(!is_current(&sharded, &source).expect("readable"));
    fs::remove_file(source.join("model.safetensors.index.json")).expect("remove");
    let error = is_current(&sharded, &source).expect_err("no weights").to_string();
    assert_contains(&error, &["has no weights", "model.safetensors.index.json", "pytorch_model.bin.index.json"]);
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
    let cases: [Case; 5] = [
        ("vocab_size", json!(99), &["word_embeddings", "[6, 4]", "[99, 4]", "vocab_size"]),
        ("hidden_size", json!(6), &["hidden_size 6"]),
        ("max_position_embeddings", json!(512), &["position_embeddings", "[10, 4]", "[512, 4]"]),
        ("num_hidden_layers", json!(1), &["num_hidden_layers is 1", "2 layers"]),
        ("num_hidden_layers", json!(3), &["encoder.layer.2."]),
    ];
    for (field, value, parts) in cases {
        assert_contains(&error_of(|tiny| tiny.config[field] = value), parts);
    }
}

#[test]
fn an_impossible_configuration_is_rejected_with_its_field() {
    type Case = (&'static str, Value, &'static [&'static str]);
    let cases: [Case; 8] = [
        ("hidden_size", json!(0), &["hidden_size is 0"]),
        ("num_attention_heads", json!(3), &["multiple of num_attention_heads (3)"]),
        ("layer_norm_eps", json!(0.0), &["layer_norm_eps is 0"]),
        ("hidden_act", json!("mish"), &["hidden_act `mish`", "`gelu`"]),
        ("model_type", Value::Null, &["model_type is missing"]),
        ("hidden_act", json!(1), &["hidden_act is 1", "a string"]),
        ("position_embedding_type", json!("relative_key"), &["relative_key", "`absolute`"]),
        ("intermediate_size", json!("many"), &["intermediate_size is \"many\"", "from 1 to 16777216"]),
    ];
    for (field, value, parts) in cases {
        assert_contains(&error_of(|tiny| tiny.config[field] = value), &[&["config.json"], parts].concat());
    }
}

#[test]
fn unsupported_modules_and_settings_are_rejected() {
    let dense = json!({ "idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense" });
    let error = error_of(|tiny| tiny.modules.as_array_mut().expect("modules").push(dense));
    assert_contains(&error, &["modules.json", "Normalize -> Dense"]);
    let error = error_of(|tiny| tiny.pooling["pooling_mode_of_tomorrow"] = json!(true));
    assert_contains(&error, &["1_Pooling", "pooling_mode_of_tomorrow"]);
    let error = error_of(|tiny| tiny.pooling["word_embedding_dimension"] = json!(5));
    assert_contains(&error, &["word_embedding_dimension is 5", "hidden_size 4"]);
    let error = error_of(|tiny| tiny.transformers = json!({ "default_prompt_name": "tag" }));
    assert_contains(&error, &["config_sentence_transformers.json", "default_prompt_name is `tag`"]);
}

#[test]
fn a_token_beyond_the_embedding_table_is_rejected() {
    let error = error_of(|tiny| tiny.tokenizer["model"]["vocab"]["extra"] = json!(77));
    assert_contains(&error, &["tokenizer.json", "77", "0 to 5"]);
}

#[test]
fn a_template_with_a_token_beyond_the_embedding_table_is_rejected() {
    let error = error_of(|tiny| {
        let tokens = &mut tiny.tokenizer["post_processor"]["special_tokens"];
        tokens["</s>"] = json!({ "id": "</s>", "ids": [6], "tokens": ["</s>"] });
    });
    assert_contains(&error, &["tokenizer.json", "`</s>`", "id 6", "0 to 5"]);
}

#[test]
fn an_added_token_beyond_the_embedding_table_is_rejected_by_name() {
    let token = json!({ "id": 6, "content": "<extra>", "special": true, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false });
    let error = error_of(|tiny| tiny.tokenizer["added_tokens"] = json!([token]));
    assert_contains(&error, &["tokenizer.json", "`<extra>`", "id 6", "0 to 5"]);
}

#[test]
fn a_tokenizer_without_letters_is_converted() {
    let dir = folder();
    let mut tiny = Tiny::mpnet();
    tiny.tokenizer = dna_tokenizer(false);
    tiny.write(&dir.path().join("source"));
    let bundle = convert_to(&dir.path().join("source"), &dir.path().join("bundle"), false).expect("a bundle");
    let tokenizer = Tokenizer::load(&bundle, None).expect("a tokenizer");
    let ids = |text: &str| tokenizer.tokenize(text, embedd_model::tokenize::Truncation::End).expect("tokens").ids;
    assert_eq!(ids("text").as_slice(), [0, 2]);
    assert_eq!(ids("GCT").as_slice(), [0, 4, 3, 5, 2]);
}

#[test]
fn the_error_for_a_missing_file_has_its_name() {
    for file in ["config.json", "1_Pooling/config.json", "model.safetensors", "tokenizer.json"] {
        let dir = folder();
        let source = dir.path().join("source");
        Tiny::mpnet().write(&source);
        fs::remove_file(source.join(file)).expect("remove");
        let error = convert_to(&source, &dir.path().join("bundle"), false).expect_err("a file is missing").to_string();
        assert_contains(&error, &[file.rsplit('/').next().expect("a name")]);
    }
}

#[test]
fn a_folder_without_modules_has_mean_pooling() {
    let dir = folder();
    let source = dir.path().join("source");
    Tiny::bert().write(&source);
    fs::remove_file(source.join("modules.json")).expect("remove");
    fs::remove_dir_all(source.join("1_Pooling")).expect("remove");
    let bundle = convert_to(&source, &dir.path().join("bundle"), false).expect("a bundle");
    assert_eq!(bundle.manifest().pooling, Pooling::mean());
}

#[test]
fn a_transformer_may_be_in_its_own_folder() {
    let dir = folder();
    let source = dir.path().join("source");
    let mut tiny = Tiny::bert();
    tiny.modules[0]["path"] = json!("0_Transformer");
    tiny.write(&source);
    fs::create_dir(source.join("0_Transformer")).expect("a folder");
    for file in ["config.json", "sentence_bert_config.json", "tokenizer.json", "model.safetensors"] {
        fs::rename(source.join(file), source.join("0_Transformer").join(file)).expect("rename");
    }
    let bundle = convert_to(&source, &dir.path().join("bundle"), false).expect("a bundle");
    assert_eq!(bundle.manifest().max_tokens, 6);
    let files = &bundle.manifest().source.files;
    assert!(files.contains_key("0_Transformer/model.safetensors") && files.contains_key("modules.json"), "{files:?}");
    assert!(is_current(&bundle, &source).expect("readable"));
}

#[test]
fn missing_settings_have_the_defaults_of_transformers() {
    let dir = folder();
    let mut tiny = Tiny::bert();
    for field in ["layer_norm_eps", "type_vocab_size", "hidden_act"] {
        tiny.config.as_object_mut().expect("an object").remove(field);
    }
    tiny.write(dir.path());
    let config = Source::read(dir.path()).expect("a source").config;
    assert_eq!((config.epsilon, config.token_types, config.activation), (1e-12, 2, Activation::Gelu));
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
