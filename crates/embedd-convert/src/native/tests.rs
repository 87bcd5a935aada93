use safetensors::SafeTensors;

use super::recipe::InputRecipe;
use super::*;
use crate::calibrate::Calibration;
use crate::tiny::{Tiny, folder, with_encoder};
use embedd_common::progress::Progress;
use embedd_model::accuracy::cosine;
use embedd_model::bundle::PoolingMode;

mod evaluate;
mod oracle;

use evaluate::Evaluator;

/// Texts with special tokens, with the padding token, and with only one token.
const TEXTS: [&[i64]; 4] = [&[0, 4, 5, 2], &[0, 5, 1, 4, 4, 2], &[3], &[0, 5, 4, 2]];

/// One channel per group: nearly exact except for the word embeddings.
fn finest() -> NativeRecipe {
    let input = InputRecipe { split: 0, group: 1, clip: false };
    let inputs = NativeRecipe { attention: input, attention_output: input, ..NativeRecipe::default() };
    NativeRecipe { intermediate: input, output: input, ..inputs }
}

/// Groups that are smaller than the tiny models' layers.
fn small_groups() -> NativeRecipe {
    let input = InputRecipe { split: 3, group: 16, clip: true };
    let whole = InputRecipe { split: 0, group: 20, clip: false };
    NativeRecipe { attention: input, attention_output: whole, intermediate: input, ..NativeRecipe::default() }
}

/// A native model, and the embeddings of the texts by the float64 oracle.
struct Converted {
    graph: Vec<u8>,
    weights: Vec<u8>,
    expected: Vec<Vec<f32>>,
}

fn convert(tiny: &Tiny, recipe: &NativeRecipe) -> Converted {
    convert_with(tiny, recipe, |_| {})
}

/// Like [`convert`], but `change` edits the calibration first.
fn convert_with(tiny: &Tiny, recipe: &NativeRecipe, change: impl FnOnce(&mut Calibration)) -> Converted {
    let dir = folder();
    tiny.write(dir.path());
    with_encoder(dir.path(), |encoder| {
        let mut oracle = oracle::Oracle::run(encoder, &TEXTS);
        change(&mut oracle.calibration);
        let rounded = round(encoder, &oracle.calibration, recipe, &Progress::silent()).expect("weights");
        let native = lower(encoder, &rounded, recipe);
        let mut graph = Vec::new();
        let mut weights = Vec::new();
        native.graph.write(&[], &mut graph, |_| {}).expect("to memory");
        native.weights.write(&mut weights, |_| {}).expect("to memory");
        Converted { graph, weights, expected: oracle.pooled }
    })
}

#[test]
fn the_native_model_agrees_with_the_oracle() {
    let mut cls = Tiny::bert_of(40, 72);
    cls.pooling["pooling_mode_mean_tokens"] = false.into();
    cls.pooling["pooling_mode_cls_token"] = true.into();
    let mut pooled = Tiny::bert_of(40, 72);
    pooled.pooling["pooling_mode"] = serde_json::json!(PoolingMode::ALL.map(PoolingMode::name));
    pooled.config["hidden_act"] = "gelu_new".into();
    let mut relu = Tiny::electra_of(24, 40, 72);
    relu.config["hidden_act"] = "relu".into();
    for (name, tiny) in [
        ("mpnet", Tiny::mpnet_of(40, 72)),
        ("bert", Tiny::bert_of(64, 128)),
        ("cls", cls),
        ("tiny", Tiny::mpnet()),
        ("every pooling, tanh GELU", pooled),
        ("electra, ReLU", relu),
    ] {
        for (recipe, min) in [(NativeRecipe::default(), 0.99), (small_groups(), 0.99), (finest(), 0.9995)] {
            let Converted { graph, weights, expected } = convert(&tiny, &recipe);
            let evaluator = Evaluator::new(&graph, &weights);
            let together = evaluator.run(&TEXTS);
            for (index, (found, expected)) in together.iter().zip(&expected).enumerate() {
                let cosine = cosine(found, expected);
                println!("{name}, text {index}, minimum {min}: {cosine}");
                assert!(cosine > min, "{name}, text {index}: {cosine}\n{found:?}\n{expected:?}");
                assert_eq!(*found, evaluator.run(&TEXTS[index..=index])[0], "{name}, text {index} alone");
            }
        }
    }
}

#[test]
fn the_channel_order_of_the_source_needs_no_gather() {
    let tiny = Tiny::mpnet_of(40, 72);
    let recipe = small_groups();
    // All channels of the hidden states are equally large.
    let even = convert_with(&tiny, &recipe, |calibration| {
        for (layer, input) in [0, 1].into_iter().flat_map(|layer| LinearInput::OF_LAYER.map(|input| (layer, input))) {
            let channels = calibration.width(layer, input);
            calibration.measure_channels(layer, input, channels, &vec![1e6; channels]);
        }
    });
    assert_eq!(Evaluator::operators(&even.graph), ["Encoder", "Identity"]);
    assert_eq!(Evaluator::operators(&convert(&tiny, &recipe).graph), ["Encoder", "Gather", "Identity"]);
}

#[test]
fn the_weights_file_is_a_safetensors_file_with_aligned_tensors() {
    let Converted { weights, .. } = convert(&Tiny::mpnet_of(64, 128), &small_groups());
    let tensors = SafeTensors::deserialize(&weights).expect("a safetensors file");
    let shape = |name: &str| {
        let tensor = tensors.tensor(name).expect(name);
        (tensor.dtype(), tensor.shape().to_vec())
    };
    assert_eq!(shape("word_embeddings"), (Dtype::I8, vec![6, 64]));
    assert_eq!(shape("word_embeddings/scale"), (Dtype::F32, vec![6, 1]));
    assert_eq!(shape("position_embeddings"), (Dtype::F32, vec![10, 64]));
    assert_eq!(shape("relative_attention_bias"), (Dtype::F32, vec![2, 15]));
    assert_eq!(shape("embeddings/norm/weight"), (Dtype::F32, vec![64]));
    // A group of 3 channels in 2 x 4 bytes, and 61 channels in groups of 16; the last group has 13 channels in 16 bytes.
    assert_eq!(shape("layer.1/attention/qkv/weight"), (Dtype::I8, vec![6, 18, 32, 4]));
    assert_eq!(shape("layer.1/attention/qkv/scale"), (Dtype::F32, vec![6, 5, 2, 32]));
    assert_eq!(shape("layer.1/attention/qkv/bias"), (Dtype::F32, vec![6, 32]));
    assert_eq!(shape("layer.0/attention_output/norm/bias"), (Dtype::F32, vec![64]));
    assert_eq!(shape("layer.0/output/norm/weight"), (Dtype::F32, vec![64]));
    assert_eq!(tensors.len(), 3 + 1 + 2 + 2 * (4 * 3 + 2 * 2));
    for (name, tensor) in tensors.tensors() {
        let offset = tensor.data().as_ptr() as usize - weights.as_ptr() as usize;
        let alignment = if name.starts_with("layer.") { 64 } else { 4 };
        assert!(offset.is_multiple_of(alignment), "{name} starts at {offset}");
    }
}
