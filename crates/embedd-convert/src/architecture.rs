//! The supported architectures: how each names its settings and tensors, and what transformers assumes if a setting is
//! missing.
//!
//! They share one structure (`encoder.rs`). A new architecture with that structure is a new row of [`ALL`].

/// An architecture, by its `model_type`.
#[derive(Debug)]
pub(crate) struct Architecture {
    pub(crate) model_type: &'static str,
    pub(crate) settings: Settings,
    pub(crate) tensors: TensorNames,
    pub(crate) positions: FirstPosition,
}

/// The names of settings that differ between architectures, and the default of each setting.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) hidden_size: (&'static str, usize),
    pub(crate) layers: (&'static str, usize),
    pub(crate) heads: (&'static str, usize),
    pub(crate) intermediate_size: (&'static str, usize),
    pub(crate) activation: &'static str,
    pub(crate) vocab_size: usize,
    /// 0 if there are no token types.
    pub(crate) token_types: usize,
    /// `None`: embeddings are as wide as the hidden states.
    pub(crate) embedding_size: Option<usize>,
}

/// The names of tensors, without the prefix of the whole encoder. Linear layers and norms have a weight and a bias.
#[derive(Debug)]
pub(crate) struct TensorNames {
    pub(crate) token_types: Option<&'static str>,
    /// A linear layer from the embeddings to the hidden states, if their sizes differ.
    pub(crate) projection: Option<&'static str>,
    /// The table of the attention bias.
    pub(crate) relative_bias: Option<&'static str>,
    /// The prefix of a layer, before its index.
    pub(crate) layer: &'static str,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) attention_output: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) intermediate: &'static str,
    pub(crate) output: &'static str,
    pub(crate) output_norm: &'static str,
}

/// The row of the position table for the first token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstPosition {
    /// Row 0.
    Zero,
    /// The row after the padding token's id, which is this one or `pad_token_id` in the configuration. Padding tokens
    /// take no position.
    AfterPadding { padding: usize, configurable: bool },
}

const AFTER_PADDING: FirstPosition = FirstPosition::AfterPadding { padding: 1, configurable: true };

const BERT_SETTINGS: Settings = Settings {
    hidden_size: ("hidden_size", 768),
    layers: ("num_hidden_layers", 12),
    heads: ("num_attention_heads", 12),
    intermediate_size: ("intermediate_size", 3072),
    activation: "hidden_act",
    vocab_size: 30522,
    token_types: 2,
    embedding_size: None,
};

const BERT_TENSORS: TensorNames = TensorNames {
    token_types: Some("embeddings.token_type_embeddings.weight"),
    projection: None,
    relative_bias: None,
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

const fn roberta(model_type: &'static str, vocab_size: usize) -> Architecture {
    Architecture {
        model_type,
        settings: Settings { vocab_size, ..BERT_SETTINGS },
        tensors: BERT_TENSORS,
        positions: AFTER_PADDING,
    }
}

/// All supported architectures.
pub(crate) static ALL: [Architecture; 7] = [
    // Song et al. 2020.
    Architecture {
        model_type: "mpnet",
        settings: Settings { vocab_size: 30527, token_types: 0, ..BERT_SETTINGS },
        tensors: TensorNames {
            token_types: None,
            relative_bias: Some("encoder.relative_attention_bias.weight"),
            query: "attention.attn.q",
            key: "attention.attn.k",
            value: "attention.attn.v",
            attention_output: "attention.attn.o",
            attention_norm: "attention.LayerNorm",
            ..BERT_TENSORS
        },
        // The original implementation ignores `pad_token_id` here.
        positions: FirstPosition::AfterPadding { padding: 1, configurable: false },
    },
    // Devlin et al. 2018.
    Architecture { model_type: "bert", settings: BERT_SETTINGS, tensors: BERT_TENSORS, positions: FirstPosition::Zero },
    // Liu et al. 2019; Conneau et al. 2019; Martin et al. 2019.
    roberta("roberta", 50265),
    roberta("xlm-roberta", 30522),
    roberta("camembert", 30522),
    // Sanh et al. 2019.
    Architecture {
        model_type: "distilbert",
        settings: Settings {
            hidden_size: ("dim", 768),
            layers: ("n_layers", 6),
            heads: ("n_heads", 12),
            intermediate_size: ("hidden_dim", 3072),
            activation: "activation",
            token_types: 0,
            ..BERT_SETTINGS
        },
        tensors: TensorNames {
            token_types: None,
            layer: "transformer.layer",
            query: "attention.q_lin",
            key: "attention.k_lin",
            value: "attention.v_lin",
            attention_output: "attention.out_lin",
            attention_norm: "sa_layer_norm",
            intermediate: "ffn.lin1",
            output: "ffn.lin2",
            output_norm: "output_layer_norm",
            ..BERT_TENSORS
        },
        positions: FirstPosition::Zero,
    },
    // Clark et al. 2020.
    Architecture {
        model_type: "electra",
        settings: Settings {
            hidden_size: ("hidden_size", 256),
            heads: ("num_attention_heads", 4),
            intermediate_size: ("intermediate_size", 1024),
            embedding_size: Some(128),
            ..BERT_SETTINGS
        },
        tensors: TensorNames { projection: Some("embeddings_project"), ..BERT_TENSORS },
        positions: FirstPosition::Zero,
    },
];

/// The architecture with this `model_type`.
pub(crate) fn find(model_type: &str) -> Option<&'static Architecture> {
    ALL.iter().find(|architecture| architecture.model_type == model_type)
}

/// The supported values of `model_type`, for errors.
pub(crate) fn names() -> String {
    ALL.each_ref().map(|architecture| architecture.model_type).join(", ")
}
