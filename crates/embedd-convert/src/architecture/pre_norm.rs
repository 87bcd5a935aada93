//! Encoders whose sublayers normalize their input. The last layer's hidden states are normalized at the end.

use embedd_kernels::{Activation, NormKind};

use super::{
    Architecture, Direction, FeedForward, NO_NORMS, NormNames, Parts, Positions, QueryKeyValue, Settings, TensorNames,
    Theta, Windows,
};

/// Warner et al. 2024.
pub(super) const MODERNBERT: Architecture = Architecture {
    model_type: "modernbert",
    settings: Settings {
        hidden_size: ("hidden_size", 768),
        layers: ("num_hidden_layers", 22),
        heads: ("num_attention_heads", 12),
        key_value_heads: None,
        head_size: None,
        intermediate_size: ("intermediate_size", 1152),
        activation: ("hidden_activation", Activation::Gelu),
        epsilon: ("norm_eps", 1e-5),
        vocab_size: 50368,
        positions: 8192,
        token_types: None,
        embedding_size: None,
        squared_divisor: None,
        unsupported: &[],
    },
    tensors: TensorNames {
        words: "embeddings.tok_embeddings.weight",
        positions: "",
        token_types: "",
        embeddings_norm: Some("embeddings.norm"),
        projection: None,
        layer: "layers",
        query_key_value: QueryKeyValue::Fused("attn.Wqkv"),
        query_key_norms: None,
        attention_output: "attn.Wo",
        attention_norms: NormNames { input: Some("attn_norm"), ..NO_NORMS },
        feed_forward: FeedForward::GateThenValues("mlp.Wi"),
        output: "mlp.Wo",
        output_norms: NormNames { input: Some("mlp_norm"), ..NO_NORMS },
        final_norm: Some("final_norm"),
        optional_biases: true,
    },
    parts: Parts {
        positions: Positions::Rotary(Theta {
            global: ("global_rope_theta", 160_000.0),
            local: ("local_rope_theta", 10_000.0),
        }),
        norm: NormKind::Layer,
        norm_plus_one: false,
        first_input_is_normalized: true,
        scaled_words: false,
        direction: Direction::Both,
        windows: Windows::AllBut { every: ("global_attn_every_n_layers", 3), window: ("local_attention", 128) },
    },
};

const DECODER_SETTINGS: Settings =
    Settings { epsilon: ("rms_norm_eps", 1e-6), activation: ("hidden_act", Activation::Silu), ..MODERNBERT.settings };

const DECODER_TENSORS: TensorNames = TensorNames {
    words: "embed_tokens.weight",
    embeddings_norm: None,
    query_key_value: QueryKeyValue::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    query_key_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
    attention_output: "self_attn.o_proj",
    attention_norms: NormNames { input: Some("input_layernorm"), ..NO_NORMS },
    feed_forward: FeedForward::Gated { gate: "mlp.gate_proj", values: "mlp.up_proj" },
    output: "mlp.down_proj",
    output_norms: NormNames { input: Some("post_attention_layernorm"), ..NO_NORMS },
    final_norm: Some("norm"),
    ..MODERNBERT.tensors
};

/// Gemma Team 2025, as EmbeddingGemma uses it.
pub(super) const GEMMA3_TEXT: Architecture = Architecture {
    model_type: "gemma3_text",
    settings: Settings {
        hidden_size: ("hidden_size", 2304),
        layers: ("num_hidden_layers", 26),
        heads: ("num_attention_heads", 8),
        key_value_heads: Some(("num_key_value_heads", 4)),
        head_size: Some(("head_dim", Some(256))),
        intermediate_size: ("intermediate_size", 9216),
        activation: ("hidden_activation", Activation::GeluTanh),
        vocab_size: 262_208,
        positions: 131_072,
        squared_divisor: Some(("query_pre_attn_scalar", 256)),
        unsupported: &["attn_logit_softcapping"],
        ..DECODER_SETTINGS
    },
    tensors: TensorNames {
        attention_norms: NormNames {
            input: Some("input_layernorm"),
            output: Some("post_attention_layernorm"),
            sum: None,
        },
        output_norms: NormNames {
            input: Some("pre_feedforward_layernorm"),
            output: Some("post_feedforward_layernorm"),
            sum: None,
        },
        ..DECODER_TENSORS
    },
    parts: Parts {
        positions: Positions::Rotary(Theta {
            global: ("rope_theta", 1_000_000.0),
            local: ("rope_local_base_freq", 10_000.0),
        }),
        norm: NormKind::Rms,
        norm_plus_one: true,
        first_input_is_normalized: false,
        scaled_words: true,
        direction: Direction::CausalUnless("use_bidirectional_attention"),
        windows: Windows::AllButLast { every: ("sliding_window_pattern", 6), window: ("sliding_window", 4096) },
    },
};

/// Qwen Team 2025.
pub(super) const QWEN3: Architecture = Architecture {
    model_type: "qwen3",
    settings: Settings {
        hidden_size: ("hidden_size", 4096),
        layers: ("num_hidden_layers", 32),
        heads: ("num_attention_heads", 32),
        key_value_heads: Some(("num_key_value_heads", 32)),
        head_size: Some(("head_dim", Some(128))),
        intermediate_size: ("intermediate_size", 22016),
        vocab_size: 151_936,
        positions: 32768,
        ..DECODER_SETTINGS
    },
    tensors: DECODER_TENSORS,
    parts: Parts {
        positions: Positions::Rotary(Theta { global: ("rope_theta", 10_000.0), local: ("rope_theta", 10_000.0) }),
        norm: NormKind::Rms,
        norm_plus_one: false,
        first_input_is_normalized: false,
        scaled_words: false,
        direction: Direction::Causal,
        windows: Windows::From {
            enabled: "use_sliding_window",
            from: ("max_window_layers", 28),
            window: ("sliding_window", 4096),
        },
    },
};
