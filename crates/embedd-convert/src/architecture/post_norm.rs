//! BERT and its descendants: the sum of a sublayer's input and output is normalized.

use embedd_kernels::{Activation, NormKind};

use super::{
    Architecture, Direction, FeedForward, FirstPosition, NO_NORMS, NormNames, Parts, Positions, QueryKeyValue,
    Settings, TensorNames, Theta, Windows,
};

const SETTINGS: Settings = Settings {
    hidden_size: ("hidden_size", 768),
    layers: ("num_hidden_layers", 12),
    heads: ("num_attention_heads", 12),
    key_value_heads: None,
    head_size: None,
    intermediate_size: ("intermediate_size", 3072),
    activation: ("hidden_act", Activation::Gelu),
    epsilon: ("layer_norm_eps", 1e-12),
    vocab_size: 30522,
    positions: 512,
    token_types: Some(2),
    embedding_size: None,
    squared_divisor: None,
    unsupported: &[],
};

const TENSORS: TensorNames = TensorNames {
    words: "embeddings.word_embeddings.weight",
    positions: "embeddings.position_embeddings.weight",
    token_types: "embeddings.token_type_embeddings.weight",
    embeddings_norm: Some("embeddings.LayerNorm"),
    projection: None,
    layer: "encoder.layer",
    query_key_value: QueryKeyValue::Separate(["attention.self.query", "attention.self.key", "attention.self.value"]),
    query_key_norms: None,
    attention_output: "attention.output.dense",
    attention_norms: sum("attention.output.LayerNorm"),
    feed_forward: FeedForward::Plain("intermediate.dense"),
    output: "output.dense",
    output_norms: sum("output.LayerNorm"),
    final_norm: None,
    optional_biases: false,
};

const PARTS: Parts = Parts {
    positions: Positions::Table(FirstPosition::Zero),
    norm: NormKind::Layer,
    norm_plus_one: false,
    first_input_is_normalized: false,
    scaled_words: false,
    direction: Direction::Both,
    windows: Windows::None,
};

const fn sum(name: &'static str) -> NormNames {
    NormNames { sum: Some(name), ..NO_NORMS }
}

const fn rotary(theta: f32) -> Parts {
    let theta = ("rope_theta", theta);
    Parts { positions: Positions::Rotary(Theta { global: theta, local: theta }), ..PARTS }
}

/// Devlin et al. 2018.
pub(super) const BERT: Architecture =
    Architecture { model_type: "bert", settings: SETTINGS, tensors: TENSORS, parts: PARTS };

/// Liu et al. 2019; Conneau et al. 2019; Martin et al. 2019.
pub(super) const fn roberta(model_type: &'static str, vocab_size: usize) -> Architecture {
    let first = FirstPosition::AfterPadding { padding: 1, configurable: true };
    Architecture {
        model_type,
        settings: Settings { vocab_size, ..SETTINGS },
        tensors: TENSORS,
        parts: Parts { positions: Positions::Table(first), ..PARTS },
    }
}

/// Song et al. 2020.
pub(super) const MPNET: Architecture = Architecture {
    model_type: "mpnet",
    settings: Settings { vocab_size: 30527, token_types: None, ..SETTINGS },
    tensors: TensorNames {
        query_key_value: QueryKeyValue::Separate(["attention.attn.q", "attention.attn.k", "attention.attn.v"]),
        attention_output: "attention.attn.o",
        attention_norms: sum("attention.LayerNorm"),
        ..TENSORS
    },
    parts: Parts {
        positions: Positions::TableAndBias(
            // The original implementation ignores `pad_token_id` here.
            FirstPosition::AfterPadding { padding: 1, configurable: false },
            "encoder.relative_attention_bias.weight",
        ),
        ..PARTS
    },
};

/// Sanh et al. 2019.
pub(super) const DISTILBERT: Architecture = Architecture {
    model_type: "distilbert",
    settings: Settings {
        hidden_size: ("dim", 768),
        layers: ("n_layers", 6),
        heads: ("n_heads", 12),
        intermediate_size: ("hidden_dim", 3072),
        activation: ("activation", Activation::Gelu),
        token_types: None,
        ..SETTINGS
    },
    tensors: TensorNames {
        layer: "transformer.layer",
        query_key_value: QueryKeyValue::Separate(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
        attention_output: "attention.out_lin",
        attention_norms: sum("sa_layer_norm"),
        feed_forward: FeedForward::Plain("ffn.lin1"),
        output: "ffn.lin2",
        output_norms: sum("output_layer_norm"),
        ..TENSORS
    },
    parts: PARTS,
};

/// Clark et al. 2020.
pub(super) const ELECTRA: Architecture = Architecture {
    model_type: "electra",
    settings: Settings {
        hidden_size: ("hidden_size", 256),
        heads: ("num_attention_heads", 4),
        intermediate_size: ("intermediate_size", 1024),
        embedding_size: Some(128),
        ..SETTINGS
    },
    tensors: TensorNames { projection: Some("embeddings_project"), ..TENSORS },
    parts: PARTS,
};

/// He et al. 2020; He, Gao and Chen 2021.
pub(super) const DEBERTA_V2: Architecture = Architecture {
    model_type: "deberta-v2",
    settings: Settings {
        hidden_size: ("hidden_size", 1536),
        layers: ("num_hidden_layers", 24),
        heads: ("num_attention_heads", 24),
        intermediate_size: ("intermediate_size", 6144),
        epsilon: ("layer_norm_eps", 1e-7),
        vocab_size: 128_100,
        token_types: Some(0),
        unsupported: &["conv_kernel_size", "attention_head_size"],
        ..SETTINGS
    },
    tensors: TensorNames {
        query_key_value: QueryKeyValue::Separate([
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
        ]),
        ..TENSORS
    },
    parts: Parts { positions: Positions::Disentangled, ..PARTS },
};

/// Nussbaum et al. 2024.
pub(super) const NOMIC_BERT: Architecture = Architecture {
    model_type: "nomic_bert",
    settings: Settings {
        activation: ("hidden_act", Activation::Silu),
        head_size: Some(("head_dim", None)),
        vocab_size: 30528,
        positions: 2048,
        ..SETTINGS
    },
    tensors: TensorNames {
        embeddings_norm: Some("emb_ln"),
        layer: "encoder.layers",
        query_key_value: QueryKeyValue::Fused("attn.Wqkv"),
        attention_output: "attn.out_proj",
        attention_norms: sum("norm1"),
        feed_forward: FeedForward::Gated { gate: "mlp.fc12", values: "mlp.fc11" },
        output: "mlp.fc2",
        output_norms: sum("norm2"),
        optional_biases: true,
        ..TENSORS
    },
    parts: rotary(1000.0),
};

/// Zhang et al. 2024.
pub(super) const GTE: Architecture = Architecture {
    model_type: "gte",
    settings: Settings { vocab_size: 250_048, positions: 8192, token_types: Some(1), ..SETTINGS },
    tensors: TensorNames {
        query_key_value: QueryKeyValue::Fused("attention.qkv_proj"),
        attention_output: "attention.o_proj",
        attention_norms: sum("attn_ln"),
        feed_forward: FeedForward::ValuesThenGate("mlp.up_gate_proj"),
        output: "mlp.down_proj",
        output_norms: sum("mlp_ln"),
        optional_biases: true,
        ..TENSORS
    },
    parts: rotary(160_000.0),
};

/// Sturua et al. 2024, without adapters.
pub(super) const JINA_EMBEDDINGS_V3: Architecture = Architecture {
    model_type: "jina_embeddings_v3",
    settings: Settings {
        hidden_size: ("hidden_size", 1024),
        layers: ("num_hidden_layers", 24),
        heads: ("num_attention_heads", 16),
        intermediate_size: ("intermediate_size", 4096),
        epsilon: ("layer_norm_eps", 1e-5),
        vocab_size: 250_002,
        positions: 8194,
        token_types: Some(1),
        ..SETTINGS
    },
    tensors: TensorNames {
        embeddings_norm: Some("emb_ln"),
        layer: "encoder.layers",
        query_key_value: QueryKeyValue::Fused("mixer.Wqkv"),
        attention_output: "mixer.out_proj",
        attention_norms: sum("norm1"),
        feed_forward: FeedForward::Plain("mlp.fc1"),
        output: "mlp.fc2",
        output_norms: sum("norm2"),
        optional_biases: true,
        ..TENSORS
    },
    parts: rotary(20_000.0),
};
