use std::fs;

use serde_json::{Value, json};

use super::*;
use embedd_kernels::Reach;

fn read(config: &Value) -> Result<ModelConfig, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    fs::write(&path, config.to_string()).expect("write");
    ModelConfig::read(&path).map_err(|error| error.to_string())
}

fn layers(config: &Value) -> Vec<LayerConfig> {
    read(config).unwrap_or_else(|error| panic!("{config}: {error}")).layers
}

fn both(tokens: usize) -> Reach {
    Reach { back: Some(tokens), ahead: Some(tokens) }
}

fn layer(reach: Reach, theta: f32) -> LayerConfig {
    LayerConfig { reach, theta: Some(theta) }
}

#[test]
fn the_layers_of_modernbert_are_read_from_files_of_both_major_versions() {
    let base = json!({ "model_type": "modernbert", "hidden_size": 32, "num_attention_heads": 2,
        "num_hidden_layers": 4, "local_attention": 16 });
    let expected =
        [layer(Reach::WHOLE_TEXT, 5e4), layer(both(8), 1e2), layer(both(8), 1e2), layer(Reach::WHOLE_TEXT, 5e4)];
    let mut old = base.clone();
    old["global_rope_theta"] = json!(50000);
    old["local_rope_theta"] = json!(100.0);
    old["global_attn_every_n_layers"] = json!(3);
    assert_eq!(layers(&old), expected);
    let mut new = base.clone();
    new["layer_types"] = json!(["full_attention", "sliding_attention", "sliding_attention", "full_attention"]);
    new["rope_parameters"] = json!({ "full_attention": { "rope_theta": 50000.0, "rope_type": "default" },
        "sliding_attention": { "rope_theta": 100.0 } });
    assert_eq!(layers(&new), expected);
    assert_eq!(layers(&base)[..2], [layer(Reach::WHOLE_TEXT, 160_000.0), layer(both(8), 10_000.0)]);
}

#[test]
fn the_layers_of_gemma_attend_in_both_directions_only_if_the_setting_says_so() {
    let base = json!({ "model_type": "gemma3_text", "hidden_size": 32, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "num_hidden_layers": 3, "sliding_window": 16,
        "sliding_window_pattern": 2, "rope_theta": 5e5, "rope_local_base_freq": 100.0 });
    let causal = |back| Reach { back, ahead: Some(0) };
    assert_eq!(layers(&base), [layer(causal(Some(15)), 1e2), layer(causal(None), 5e5), layer(causal(Some(15)), 1e2)]);
    let mut bidirectional = base.clone();
    bidirectional["use_bidirectional_attention"] = json!(true);
    assert_eq!(layers(&bidirectional), [layer(both(8), 1e2), layer(Reach::WHOLE_TEXT, 5e5), layer(both(8), 1e2)]);
    let config = read(&base).expect("a configuration");
    assert_eq!(config.heads, Heads { query: 4, key: 2, size: 16 });
    assert_eq!((config.squared_divisor, config.positions, config.has_position_table), (256, 131_072, false));
}

#[test]
fn qwen_has_windows_only_if_they_are_enabled() {
    let mut config = json!({ "model_type": "qwen3", "num_hidden_layers": 3, "hidden_size": 32, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_window_layers": 1, "sliding_window": 4,
        "rope_parameters": { "rope_theta": 1e6, "rope_type": "default" } });
    let causal = |back| layer(Reach { back, ahead: Some(0) }, 1e6);
    assert_eq!(layers(&config), [causal(None); 3]);
    config["use_sliding_window"] = json!(true);
    assert_eq!(layers(&config), [causal(None), causal(Some(3)), causal(Some(3))]);
}

#[test]
fn disentangled_attention_is_read_from_files_of_both_major_versions() {
    let mut config = json!({ "model_type": "deberta-v2", "hidden_size": 32, "num_attention_heads": 2,
        "max_position_embeddings": 64, "relative_attention": true, "position_buckets": 16, "share_att_key": true,
        "max_relative_positions": -1, "norm_rel_ebd": "layer_norm", "position_biased_input": false });
    let expected = DisentangledConfig {
        span: 16,
        logarithmic_to: Some(64),
        content_to_position: true,
        position_to_content: true,
        shared_weights: true,
        normalized: true,
    };
    for types in [json!("p2c|c2p"), json!(["p2c", "c2p"])] {
        config["pos_att_type"] = types;
        let read = read(&config).expect("a configuration");
        assert_eq!(read.disentangled, Some(expected));
        assert_eq!((read.squared_divisor, read.has_position_table), (48, false));
    }
    config["pos_att_type"] = json!(["c2p"]);
    config["position_buckets"] = json!(-1);
    let read = read(&config).expect("a configuration");
    let unshared = DisentangledConfig { span: 64, logarithmic_to: None, position_to_content: false, ..expected };
    assert_eq!((read.disentangled, read.squared_divisor), (Some(unshared), 32));
}

#[test]
fn settings_that_are_not_supported_or_contradict_each_other_are_rejected_by_name() {
    let config = |model: &str, field: &str, value: Value| {
        let mut config = json!({ "model_type": model, "hidden_size": 32, "num_attention_heads": 2, "head_dim": 16,
            "num_hidden_layers": 2, "num_key_value_heads": 2 });
        config[field] = value;
        read(&config).expect_err("an invalid configuration")
    };
    for (model, field, value, expected) in [
        ("gemma3_text", "attn_logit_softcapping", json!(50.0), "attn_logit_softcapping `50.0` is not supported"),
        ("gemma3_text", "rope_scaling", json!({ "rope_type": "linear" }), "rope_type `linear` is not supported"),
        ("qwen3", "rope_parameters", json!({ "partial_rotary_factor": 0.5 }), "partial_rotary_factor `0.5`"),
        ("qwen3", "rope_parameters", json!({ "rope_theta": 0 }), "rope_theta is 0, but it must be at least 1"),
        ("qwen3", "rope_parameters", json!(3), "rope_parameters is 3, but it must be an object"),
        ("qwen3", "num_key_value_heads", json!(3), "num_key_value_heads is 3, but num_attention_heads (2) must be"),
        ("qwen3", "head_dim", json!(15), "head_dim is 15, but rotary positions need heads with an even size"),
        ("qwen3", "num_hidden_layers", json!(4096), "num_hidden_layers is 4096, but the maximum is 1024"),
        ("modernbert", "layer_types", json!(["full_attention"]), "for each of the 2 layers"),
        ("modernbert", "layer_types", json!(["full_attention", "linear"]), "layer_types is \"linear\", but it must"),
        ("deberta-v2", "conv_kernel_size", json!(3), "conv_kernel_size `3` is not supported"),
    ] {
        let error = config(model, field, value);
        assert!(error.contains(expected), "{error}");
    }
    let deberta = |field: &str, value: Value| {
        let mut config = json!({ "model_type": "deberta-v2", "hidden_size": 32, "num_attention_heads": 2,
            "relative_attention": true, "max_position_embeddings": 64 });
        config[field] = value;
        read(&config).expect_err("an invalid configuration")
    };
    assert!(deberta("pos_att_type", json!("c2c")).contains("it must be a list of `c2p` and `p2c`"));
    assert!(deberta("position_buckets", json!(500)).contains("position_buckets is 500"));
}
