//! Long texts, whose attention ONNX graphs compute for a block of queries at a time.

use std::fs;
use std::path::{Path, PathBuf};

use embedd_convert::{LongAttention, write_graph};
use embedd_model::accuracy::cosine;
use embedd_model::bundle::{Bundle, ReferenceKind, Variant};
use embedd_model::engine::{Session, SessionOptions, TokenIds};
use embedd_model::reference::ReferenceSet;
use ndarray::Array2;

use crate::support::copy_folder;
use crate::support::models::runtime;
use crate::support::reference::portable_sums_are_exact;
use crate::support::server::{command, temporary_folder};

/// Only the order of additions is different.
const MIN_COSINE: f64 = 0.999_999;

/// No text is long.
const AT_ONCE: LongAttention = LongAttention { over: usize::MAX, block: 8 };

/// With and without biases, windows and causal attention, shared keys, rotations, biases by distance, and embeddings of
/// distances.
const ARCHITECTURES: [&str; 9] = [
    "bert-mean",
    "mpnet",
    "roberta",
    "deberta-v2",
    "nomic-bert",
    "jina-embeddings-v3",
    "modernbert",
    "gemma3-text",
    "qwen3",
];

#[test]
fn blocks_of_queries_give_the_embeddings_of_all_queries_at_once() {
    // Below, at and above multiples of the block.
    let texts: Vec<_> = [64, 9, 33, 40, 17, 8, 1].into_iter().map(text).collect();
    for model in ARCHITECTURES {
        let by_blocks = Model::of(&models().join(model), LongAttention { over: 8, block: 8 });
        let at_once = Model::of(&models().join(model), AT_ONCE);
        assert_same(model, by_blocks, at_once, &texts);
    }
}

#[test]
fn texts_of_more_than_1024_tokens_have_the_same_embeddings_by_blocks() {
    let (_folder, folder) = temporary_folder();
    for model in ["modernbert", "qwen3"] {
        let copy = folder.join(model);
        copy_with_positions(model, &copy, 1300);
        let texts: Vec<_> = [1300, 1025, 1024, 12].into_iter().map(text).collect();
        let by_blocks = Model::of(&copy, LongAttention::default());
        assert_same(model, by_blocks, Model::of(&copy, AT_ONCE), &texts);
    }
}

#[test]
fn texts_of_up_to_4096_tokens_have_the_embeddings_of_pytorch() {
    let (_folder, folder) = temporary_folder();
    let exact = portable_sums_are_exact();
    for model in ["modernbert", "gemma3-text", "qwen3"] {
        let [copy, bundle] = ["copy", "bundle"].map(|part| folder.join(format!("{model}-{part}")));
        copy_with_positions(model, &copy, 4096);
        let reference = models().join(format!("{model}.long.safetensors"));
        let tokens: Vec<u32> =
            ReferenceSet::read(&reference).expect("a set").texts.iter().map(|text| text.token_count).collect();
        assert!(tokens.contains(&4096) && tokens.iter().any(|tokens| (1025..1100).contains(tokens)), "{tokens:?}");
        let mut convert = command();
        convert.args(["convert", "--no-report", "--device", "cuda", "--precision", "int8", "--reference"]);
        convert.arg(&reference).arg("--model").arg(&copy).arg("--output").arg(&bundle);
        if !exact {
            convert.arg("--allow-inaccurate");
        }
        let output = convert.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(0), "{model}: {}", String::from_utf8_lossy(&output.stderr));
        for (engine, record) in &Bundle::open(&bundle).expect("a bundle").manifest().models {
            let least = match engine {
                Variant::Fp32 => 0.99999,
                Variant::Fp16 => 0.9999,
                // Saturated sums cost models with random weights much of their accuracy.
                Variant::Portable if !exact => 0.9,
                // As in shorter texts of models with random weights.
                Variant::Portable | Variant::Native => 0.99,
            };
            let accuracy = record.accuracy.expect("it was measured");
            assert_eq!((accuracy.reference, accuracy.texts as usize), (ReferenceKind::PyTorch, tokens.len()));
            assert!(accuracy.min_cosine >= least, "{model}, {engine}: {accuracy:?}");
        }
    }
}

/// A graph in ONNX Runtime.
struct Model(Box<dyn Session>);

impl Model {
    fn of(source: &Path, long: LongAttention) -> Self {
        let (_folder, folder) = temporary_folder();
        let graph = folder.join("graph.onnx");
        write_graph(source, &graph, long).expect("a graph");
        let options = SessionOptions { threads: std::num::NonZeroUsize::MIN };
        Self(runtime().session(&graph, options).expect("a session"))
    }

    fn embed(&mut self, texts: &[&TokenIds]) -> Array2<f32> {
        self.0.infer(texts).expect("embeddings")
    }
}

/// Compares the embeddings of each text, alone and in a batch.
#[track_caller]
fn assert_same(name: &str, mut by_blocks: Model, mut at_once: Model, texts: &[TokenIds]) {
    let batch: Vec<_> = texts.iter().collect();
    let batches = [by_blocks.embed(&batch), at_once.embed(&batch)];
    for (index, text) in texts.iter().enumerate() {
        let alone = [by_blocks.embed(&[text]), at_once.embed(&[text])];
        for (how, [found, expected]) in [
            ("alone", alone.each_ref().map(|one| one.row(0))),
            ("in a batch", batches.each_ref().map(|batch| batch.row(index))),
        ] {
            let cosine = cosine(&found.to_vec(), &expected.to_vec());
            assert!(cosine >= MIN_COSINE, "{name}: {} tokens {how}: {cosine}", text.len());
        }
    }
}

fn text(tokens: usize) -> TokenIds {
    TokenIds::new((0..tokens).map(|place| 4 + ((place * 7919 + tokens) % 239) as u32).collect::<Vec<_>>())
}

/// A copy of a model that accepts texts of this many tokens.
fn copy_with_positions(model: &str, copy: &Path, positions: usize) {
    copy_folder(&models().join(model), copy);
    let path = copy.join("config.json");
    let config = fs::read_to_string(&path).expect("a file");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["max_position_embeddings"] = positions.into();
    fs::write(&path, config.to_string()).expect("a file");
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}
