use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::tiny::{Tiny, folder};
use embedd_kernels::Activation;
use embedd_model::bundle::PoolingMode;

/// Reads the configuration of a model of hidden size 4 after `change`.
fn read(change: impl FnOnce(&mut Tiny)) -> Result<Source, String> {
    let dir = folder();
    let mut tiny = Tiny::bert();
    change(&mut tiny);
    tiny.write(dir.path());
    Source::read(dir.path()).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_error(found: Result<Source, String>, parts: &[&str]) {
    let error = found.expect_err("the configuration is invalid");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn the_pooling_mode_is_read_from_every_layout() {
    let old = |cls: bool, mean: bool| {
        json!({ "word_embedding_dimension": 4, "pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": mean,
            "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false })
    };
    let new = |mode: Value| json!({ "embedding_dimension": 4, "pooling_mode": mode, "include_prompt": true });
    let mut both = old(true, true);
    both["pooling_mode"] = json!("mean");
    both["embedding_dimension"] = json!(4);
    let cases = [
        (old(false, true), vec![PoolingMode::Mean]),
        (old(true, false), vec![PoolingMode::Cls]),
        (old(true, true), vec![PoolingMode::Cls, PoolingMode::Mean]),
        (new(json!("mean")), vec![PoolingMode::Mean]),
        (new(json!(["cls"])), vec![PoolingMode::Cls]),
        // Switches have an order of their own; a list keeps its order.
        (new(json!(["mean", "max"])), vec![PoolingMode::Mean, PoolingMode::Max]),
        // Files that name no mode, or name it twice, as sentence-transformers reads them.
        (both, vec![PoolingMode::Mean]),
        (old(false, false), vec![PoolingMode::Mean]),
        (json!({ "embedding_dimension": 4 }), vec![PoolingMode::Mean]),
    ];
    let every = PoolingMode::ALL.map(|mode| (new(json!(mode.name())), vec![mode]));
    let cases = cases.into_iter().chain(every);
    for (pooling, expected) in cases {
        let source = read(|tiny| tiny.pooling = pooling.clone()).unwrap_or_else(|error| panic!("{pooling}: {error}"));
        assert_eq!(source.pooling.modes(), expected, "{pooling}");
    }
}

#[test]
fn unsupported_pooling_modes_are_rejected_by_name() {
    let error = |pooling: Value| read(|tiny| tiny.pooling = pooling);
    let new = |mode: Value| error(json!({ "embedding_dimension": 4, "pooling_mode": mode }));
    let supported = "is not supported; the supported modes are `mean`, ";
    for mode in ["median", "Mean", ""] {
        let expected = format!("pooling_mode `{mode}` {supported}");
        assert_error(new(json!(mode)), &["1_Pooling/config.json: ", &expected]);
    }
    assert_error(new(json!(["mean", "median"])), &["pooling_mode `median`", supported]);
    assert_error(new(json!([])), &["a pooling_mode with 0 names", supported]);
    assert_error(new(json!(vec!["mean"; 7])), &["a pooling_mode with 7 names", supported]);
    assert_error(new(json!(1)), &["1_Pooling/config.json", "pooling_mode must be a name or a list of names"]);
    let switch = "pooling_mode_of_tomorrow";
    assert_error(error(json!({ "word_embedding_dimension": 4, switch: true })), &[switch, supported]);
}

#[test]
fn the_pooling_dimension_must_be_the_hidden_size() {
    let error = |pooling: Value| read(|tiny| tiny.pooling = pooling);
    let expected = "but config.json has hidden_size 4";
    for field in ["embedding_dimension", "word_embedding_dimension"] {
        assert_error(error(json!({ field: 5 })), &["1_Pooling/config.json", &format!(": {field} is 5, {expected}")]);
    }
    let missing = error(json!({ "pooling_mode": "mean" }));
    assert_error(
        missing,
        &["1_Pooling/config.json: embedding_dimension is missing, but config.json has hidden_size 4"],
    );
}

#[test]
fn modules_are_recognized_by_the_last_component_of_their_type() {
    let types = [
        "sentence_transformers.base.modules.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.base.modules.normalize.Normalize",
    ];
    let rename = |tiny: &mut Tiny, types: [&str; 3]| {
        for (index, kind) in types.into_iter().enumerate() {
            tiny.modules[index]["type"] = json!(kind);
        }
    };
    read(|tiny| rename(tiny, types)).expect("the types of sentence-transformers 6");
    let router = "sentence_transformers.base.modules.router.Router";
    let found = read(|tiny| rename(tiny, [types[0], types[1], router]));
    assert_error(found, &["modules.json: the module chain Transformer -> Pooling -> Router is not supported"]);
    let normalize = types[2];
    let found = read(|tiny| rename(tiny, [types[0], normalize, types[1]]));
    assert_error(found, &["the module chain Transformer -> Normalize -> Pooling is not supported"]);
}

/// Reads a model with a Dense module between the pooling and the normalization.
fn read_dense(config: &Value) -> Result<Source, String> {
    let dir = folder();
    let mut tiny = Tiny::bert();
    let module = json!({ "idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense" });
    tiny.modules.as_array_mut().expect("modules").insert(2, module);
    tiny.write(dir.path());
    fs::create_dir(dir.path().join("2_Dense")).expect("a folder");
    fs::write(dir.path().join("2_Dense/config.json"), config.to_string()).expect("write");
    Source::read(dir.path()).map_err(|error| error.to_string())
}

#[test]
fn dense_modules_are_read_with_the_defaults_of_sentence_transformers() {
    let with = |field: &str, value: Value| {
        let mut config = json!({ "in_features": 4, "out_features": 6 });
        config[field] = value;
        read_dense(&config)
    };
    let dense = |bias, activation| ModuleKind::Dense { inputs: 4, outputs: 6, bias, activation };
    let tanh = Some(Activation::Tanh);
    for (field, value, expected) in [
        ("bias", json!(true), dense(true, tanh)),
        ("bias", json!(false), dense(false, tanh)),
        ("activation_function", json!("torch.nn.modules.linear.Identity"), dense(true, None)),
        ("activation_function", json!("torch.nn.modules.activation.ReLU"), dense(true, Some(Activation::Relu))),
        ("module_input_name", json!("sentence_embedding"), dense(true, tanh)),
    ] {
        let source = with(field, value).expect("a model");
        let [module] = &source.modules[..] else { panic!("{:?}", source.modules) };
        assert_eq!((&module.kind, module.file.as_str()), (&expected, "2_Dense/config.json"));
        assert!(source.module_files.contains(&module.file));
    }
    for (field, value, expected) in [
        ("in_features", json!(5), "in_features is 5, but its input has 4 components"),
        ("out_features", json!(0), "out_features is 0, but it must be from 1 to 65536"),
        ("activation_function", json!("torch.nn.Softmax"), "activation_function `torch.nn.Softmax` is not supported"),
        ("module_input_name", json!("token_embeddings"), "module_input_name `token_embeddings` is not supported"),
        ("use_residual", json!(true), "use_residual is not supported"),
    ] {
        assert_error(with(field, value), &["2_Dense/config.json", expected]);
    }
}

#[test]
fn embeddings_are_cut_to_truncate_dim() {
    let truncation = |settings: Value| read(|tiny| tiny.transformers = settings).map(|source| source.truncation);
    assert_eq!(truncation(json!({ "truncate_dim": 3 })), Ok(Some(3)));
    for whole in [json!({ "truncate_dim": 4 }), json!({ "truncate_dim": 5 }), json!({ "truncate_dim": null })] {
        assert_eq!(truncation(whole), Ok(None));
    }
    let error = truncation(json!({ "truncate_dim": 0 })).expect_err("no components");
    assert!(error.contains("truncate_dim is 0, but it must be at least 1"), "{error}");
}

/// The maximum number of tokens with these two files. `None` removes the file.
fn limit(sentence: Option<&Value>, tokenizer: Option<&str>) -> Result<Option<u32>, String> {
    let dir = folder();
    Tiny::bert().write(dir.path());
    let path = dir.path().join(SENTENCE_FILE);
    match sentence {
        Some(sentence) => fs::write(path, sentence.to_string()),
        None => fs::remove_file(path),
    }
    .expect("the file is changed");
    if let Some(tokenizer) = tokenizer {
        fs::write(dir.path().join(TOKENIZER_CONFIG_FILE), tokenizer).expect("the file is written");
    }
    Source::read(dir.path()).map(|source| source.max_tokens).map_err(|error| error.to_string())
}

#[test]
fn the_maximum_length_is_the_one_that_sentence_transformers_uses() {
    let without = json!({ "transformer_task": "feature-extraction" });
    let null = json!({ "max_seq_length": null, "do_lower_case": false });
    let cases: [(Option<&Value>, Option<&str>, Option<u32>); 12] = [
        (None, None, None),
        (None, Some("{}"), None),
        (None, Some(r#"{ "model_max_length": 7 }"#), Some(7)),
        (None, Some(r#"{ "model_max_length": 7.0 }"#), Some(7)),
        (None, Some(r#"{ "model_max_length": null }"#), None),
        (None, Some(r#"{ "max_len": 7 }"#), Some(7)),
        // Python's 1e30, as an integer and as a float.
        (None, Some(r#"{ "model_max_length": 1000000000000000019884624838656 }"#), None),
        (None, Some(r#"{ "model_max_length": 1e30 }"#), None),
        (Some(&without), Some(r#"{ "model_max_length": 7 }"#), Some(7)),
        (Some(&null), Some(r#"{ "model_max_length": 7 }"#), Some(7)),
        (Some(&null), None, None),
        (Some(&json!({ "max_seq_length": 5.0 })), None, Some(5)),
    ];
    for (sentence, tokenizer, expected) in cases {
        assert_eq!(limit(sentence, tokenizer), Ok(expected), "{sentence:?}, {tokenizer:?}");
    }
}

#[test]
fn max_seq_length_overrides_the_limit_of_the_tokenizer() {
    let sentence = json!({ "max_seq_length": 6 });
    for of_tokenizer in ["512", "5", "1e30", "null"] {
        let tokenizer = format!(r#"{{ "model_max_length": {of_tokenizer} }}"#);
        assert_eq!(limit(Some(&sentence), Some(&tokenizer)), Ok(Some(6)), "{of_tokenizer}");
    }
}

#[test]
fn an_impossible_maximum_length_is_rejected_with_its_file_and_field() {
    let expected = "but it must be a whole number of at least 1";
    for value in ["0", "-1", "7.5"] {
        let file = format!(r#"{{ "model_max_length": {value} }}"#);
        let error = limit(None, Some(&file)).expect_err(value);
        let part = format!("tokenizer_config.json: model_max_length is {value}, {expected}");
        assert!(error.contains(&part), "{error}");
    }
    let error = limit(Some(&json!({ "max_seq_length": 0 })), None).expect_err("no token fits");
    assert!(error.contains("sentence_bert_config.json: max_seq_length is 0, but"), "{error}");
    let error = limit(None, Some(r#"{ "model_max_length": "512" }"#)).expect_err("a string");
    assert!(error.contains("tokenizer_config.json: invalid type: string \"512\""), "{error}");
}

#[test]
fn settings_that_would_change_the_embeddings_are_rejected_by_name() {
    let file = "config_sentence_transformers.json: ";
    let error = |settings: Value| read(|tiny| tiny.transformers = settings);
    assert_error(error(json!({ "default_prompt_name": "tag" })), &[file, "default_prompt_name is `tag`, but"]);
    error(json!({ "default_prompt_name": null, "prompts": {} })).expect("no prompt");

    let file = "sentence_bert_config.json: ";
    let error = |settings: Value| read(|tiny| tiny.sentence = settings);
    let parts = [file, "transformer_task `fill-mask`", "`feature-extraction` is"];
    assert_error(error(json!({ "transformer_task": "fill-mask" })), &parts);
    let parts = [file, "module_output_name `logits`", "`token_embeddings` is"];
    assert_error(error(json!({ "module_output_name": "logits" })), &parts);
    let limit = json!({ "processing_kwargs": { "text": { "max_length": 3 } } });
    assert_error(error(limit), &[file, "processing_kwargs (`text`) is not supported"]);
    let usual = json!({ "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
        "modality_config": { "text": { "method": "forward", "method_output_name": "last_hidden_state" } },
        "processing_kwargs": {} });
    error(usual).expect("the settings that sentence-transformers 6 writes");
}

#[test]
fn a_pooling_outside_the_folder_is_rejected() {
    for path in ["../other", "/etc", "1_Pooling/../.."] {
        let found = read(|tiny| tiny.modules[1]["path"] = json!(path));
        assert_error(found, &["modules.json: a pooling in the folder", path, "stay inside"]);
    }
}

#[test]
fn a_link_to_a_device_is_rejected() {
    let dir = folder();
    Tiny::bert().write(dir.path());
    let path = dir.path().join("config.json");
    fs::remove_file(&path).expect("a removal");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    let error = Source::read(dir.path()).expect_err("a device").to_string();
    assert!(error.contains("config.json: it is not a regular file"), "{error}");
}
