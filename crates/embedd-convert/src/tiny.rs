//! Complete models with few weights, which tests modify and convert.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value, json};

use super::encoder::{Encoder, ModuleWeights};
use super::source::Source;
use super::weights::Weights;

const HIDDEN: usize = 4;
const INNER: usize = 8;
const HEADS: usize = 2;
const LAYERS: usize = 2;
const VOCABULARY: usize = 6;
const POSITIONS: usize = 10;

/// The contents of a sentence-transformers folder.
pub(super) struct Tiny {
    pub(super) config: Value,
    pub(super) modules: Value,
    pub(super) pooling: Value,
    pub(super) sentence: Value,
    pub(super) transformers: Value,
    pub(super) tokenizer: Value,
    /// Names and shapes, which determine the values. Some channels of layer norms are outliers.
    pub(super) tensors: BTreeMap<String, Vec<usize>>,
    pub(super) half_precision: bool,
}

/// Describes the encoder of a written model.
pub(super) fn with_encoder<T>(folder: &Path, then: impl FnOnce(&Encoder<'_>) -> T) -> T {
    let source = Source::read(folder).expect("a source");
    let weights = Weights::open_folder(&source.folder).expect("weights");
    then(&Encoder::describe(&source, &weights, &ModuleWeights::default()).expect("an encoder"))
}

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

impl Tiny {
    pub(super) fn mpnet() -> Self {
        Self::mpnet_of(HIDDEN, INNER)
    }

    pub(super) fn mpnet_of(hidden: usize, inner: usize) -> Self {
        let names = LayerNames {
            attention: ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"],
            attention_norm: "attention.LayerNorm",
        };
        let mut tiny = Self::new("mpnet", &names, hidden, inner);
        tiny.tensors.insert("encoder.relative_attention_bias.weight".to_owned(), vec![32, HEADS]);
        tiny
    }

    pub(super) fn bert() -> Self {
        Self::bert_of(HIDDEN, INNER)
    }

    pub(super) fn bert_of(hidden: usize, inner: usize) -> Self {
        let names = LayerNames {
            attention: ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
            attention_norm: "attention.output.LayerNorm",
        };
        let mut tiny = Self::new("bert", &names, hidden, inner);
        tiny.config["type_vocab_size"] = json!(2);
        tiny.tensors.insert("embeddings.token_type_embeddings.weight".to_owned(), vec![2, hidden]);
        tiny
    }

    pub(super) fn electra_of(width: usize, hidden: usize, inner: usize) -> Self {
        let mut tiny = Self::bert_of(hidden, inner);
        tiny.config["model_type"] = json!("electra");
        tiny.config["embedding_size"] = json!(width);
        let embeddings = tiny.tensors.iter_mut().filter(|(name, _)| name.starts_with("embeddings."));
        embeddings.for_each(|(_, shape)| *shape.last_mut().expect("a dimension") = width);
        tiny.tensors.insert("embeddings_project.weight".to_owned(), vec![hidden, width]);
        tiny.tensors.insert("embeddings_project.bias".to_owned(), vec![hidden]);
        tiny
    }

    fn new(model_type: &str, names: &LayerNames, hidden: usize, inner: usize) -> Self {
        Self {
            config: json!({
                "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS, "intermediate_size": inner, "vocab_size": VOCABULARY,
                "max_position_embeddings": POSITIONS, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
            }),
            modules: json!([
                { "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" },
                { "idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
                { "idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize" },
            ]),
            pooling: json!({ "word_embedding_dimension": hidden, "pooling_mode_mean_tokens": true }),
            sentence: json!({ "max_seq_length": 6, "do_lower_case": false }),
            transformers: json!({}),
            tokenizer: tokenizer(),
            tensors: tensors(names, hidden, inner),
            half_precision: false,
        }
    }

    pub(super) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder.join("1_Pooling")).expect("a folder");
        let files = [
            ("config.json", &self.config),
            ("modules.json", &self.modules),
            ("1_Pooling/config.json", &self.pooling),
            ("sentence_bert_config.json", &self.sentence),
            ("config_sentence_transformers.json", &self.transformers),
            ("tokenizer.json", &self.tokenizer),
        ];
        for (file, value) in files {
            fs::write(folder.join(file), value.to_string()).expect("write");
        }
        let dtype = if self.half_precision { Dtype::F16 } else { Dtype::F32 };
        let bytes = |name: &str, shape: &[usize]| -> Vec<u8> {
            let values = values(name, shape).into_iter();
            if self.half_precision {
                values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()
            } else {
                values.flat_map(f32::to_le_bytes).collect()
            }
        };
        let data: Vec<_> = self.tensors.iter().map(|(name, shape)| (name, shape, bytes(name, shape))).collect();
        let views = data
            .iter()
            .map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).expect("a view")));
        serialize_to_file(views, None, &folder.join("model.safetensors")).expect("write");
    }
}

struct LayerNames {
    /// Query, key, value, output.
    attention: [&'static str; 4],
    attention_norm: &'static str,
}

/// From -0.5 to 0.5; weights of layer norms are near 1, those of outlier channels near 12.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut state = seed | 1;
    let value = |at: usize| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let value = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        match name.ends_with("Norm.weight") {
            true if at % 17 == 2 => 12.0 + value,
            true => 1.0 + value,
            false => value,
        }
    };
    (0..shape.iter().product()).map(value).collect()
}

fn tensors(names: &LayerNames, hidden: usize, inner: usize) -> BTreeMap<String, Vec<usize>> {
    let mut tensors = BTreeMap::new();
    let mut linear = |name: String, output: usize, input: usize| {
        tensors.insert(format!("{name}.weight"), vec![output, input]);
        tensors.insert(format!("{name}.bias"), vec![output]);
    };
    for layer in 0..LAYERS {
        for part in names.attention {
            linear(format!("encoder.layer.{layer}.{part}"), hidden, hidden);
        }
        linear(format!("encoder.layer.{layer}.intermediate.dense"), inner, hidden);
        linear(format!("encoder.layer.{layer}.output.dense"), hidden, inner);
    }
    let norms = (0..LAYERS).flat_map(|layer| {
        [names.attention_norm, "output.LayerNorm"].map(|part| format!("encoder.layer.{layer}.{part}"))
    });
    for norm in norms.chain(["embeddings.LayerNorm".to_owned()]) {
        tensors.insert(format!("{norm}.weight"), vec![hidden]);
        tensors.insert(format!("{norm}.bias"), vec![hidden]);
    }
    tensors.insert("embeddings.word_embeddings.weight".to_owned(), vec![VOCABULARY, hidden]);
    tensors.insert("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, hidden]);
    tensors
}

/// A tokenizer for DNA. It ignores other letters, or rejects them if `strict`.
pub(super) fn dna_tokenizer(strict: bool) -> Value {
    let vocabulary = json!({ "<s>": 0, "<pad>": 1, "</s>": 2, "C": 3, "G": 4, "T": 5 });
    let mut tokenizer = tokenizer();
    tokenizer["model"] = match strict {
        true => json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" }),
        false => json!({ "type": "BPE", "vocab": vocabulary, "merges": [] }),
    };
    tokenizer
}

fn tokenizer() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "</s>", "type_id": 0 } },
            ],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": {
                "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] },
                "</s>": { "id": "</s>", "ids": [2], "tokens": ["</s>"] },
            },
        },
        "model": {
            "type": "WordLevel",
            "vocab": { "<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "one": 4, "two": 5 },
            "unk_token": "<unk>",
        },
    })
}
