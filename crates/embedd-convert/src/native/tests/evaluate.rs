//! Evaluates a native graph node by node with the plain kernels.

use std::collections::BTreeMap;

use prost::Message;

use super::*;
use crate::onnx_proto::{ModelProto, NodeProto};
use embedd_kernels::{
    AttentionInput, DistanceBias, EmbeddingTables, Epilogue, InstructionSet, Kernels, LayerNorm as Norm, LinearWeights,
    Offsets, PoolingRule, PositionRule, Scratch, Serial,
};
use embedd_model::bundle::native_io::pooling;

pub(super) struct Evaluator<'f> {
    model: ModelProto,
    tensors: SafeTensors<'f>,
    kernels: Kernels,
}

struct Attributes<'n>(&'n NodeProto);

impl Attributes<'_> {
    fn int(&self, name: &str) -> Option<usize> {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name)?;
        Some(usize::try_from(found.i).expect("not negative"))
    }

    fn number(&self, name: &str) -> usize {
        self.int(name).unwrap_or_else(|| panic!("{} has no attribute {name}", self.0.name))
    }

    fn float(&self, name: &str) -> f32 {
        self.0.attribute.iter().find(|attribute| attribute.name == name).expect(name).f
    }

    fn text(&self, name: &str) -> String {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name).expect(name);
        String::from_utf8(found.s.to_vec()).expect("text")
    }
}

impl<'f> Evaluator<'f> {
    pub(super) fn new(graph: &[u8], weights: &'f [u8]) -> Self {
        let model = ModelProto::decode(graph).expect("a model");
        let domains: Vec<_> = model.opset_import.iter().map(|opset| (opset.domain.as_str(), opset.version)).collect();
        assert_eq!(domains, [("", 17), ("embedd", 1)]);
        let tensors = SafeTensors::deserialize(weights).expect("a safetensors file");
        Self { model, tensors, kernels: Kernels::of(InstructionSet::Plain).expect("every CPU supports them") }
    }

    pub(super) fn operators(graph: &[u8]) -> Vec<String> {
        let graph = ModelProto::decode(graph).expect("a model").graph.expect("a graph");
        graph.node.into_iter().map(|node| node.op_type).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.tensor(name).expect(name);
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        tensor.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()
    }

    fn integers(&self, name: &str) -> Vec<i8> {
        let tensor = self.tensors.tensor(name).expect(name);
        assert_eq!(tensor.dtype(), Dtype::I8, "{name}");
        tensor.data().iter().map(|byte| byte.cast_signed()).collect()
    }

    /// The weight and bias of the layer norm that follows the operator `prefix`.
    fn norm(&self, prefix: &str) -> [Vec<f32>; 2] {
        [tensor::NORM_WEIGHT, tensor::NORM_BIAS].map(|part| self.floats(&tensor::of(prefix, part)))
    }

    /// The pooled embedding of each text.
    pub(super) fn run(&mut self, texts: &[&[i64]]) -> Vec<Vec<f32>> {
        let ids = texts.concat();
        let ends = texts.iter().scan(0, |end, text| {
            *end += text.len() as i64;
            Some(*end)
        });
        let offsets: Vec<i64> = std::iter::once(0).chain(ends).collect();
        let offsets = Offsets::new(&offsets, ids.len()).expect("offsets");
        let graph = self.model.graph.as_ref().expect("a graph");
        let mut values: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        for node in &graph.node {
            let attributes = Attributes(node);
            let inputs: Vec<&[f32]> =
                node.input.iter().filter_map(|name| values.get(name.as_str()).map(Vec::as_slice)).collect();
            let output = match node.op_type.as_str() {
                operator::EMBED => self.embed(&attributes, &ids, &offsets),
                operator::QUANTIZED_LINEAR => self.linear(&attributes, &inputs),
                operator::ATTENTION => self.attention(&attributes, inputs[0], &offsets),
                operator::POOL => self.pool(&attributes, inputs[0], &offsets),
                "Gather" => {
                    let positions =
                        &graph.initializer.iter().find(|tensor| tensor.name == node.input[1]).expect("there");
                    let positions: Vec<i64> =
                        positions.raw_data.as_chunks().0.iter().copied().map(i64::from_le_bytes).collect();
                    let rows = inputs[0].chunks(positions.len());
                    rows.flat_map(|row| positions.iter().map(|&at| row[usize::try_from(at).expect("a position")]))
                        .collect()
                }
                "Identity" => inputs[0].to_vec(),
                other => panic!("unknown operator {other}"),
            };
            values.insert(&node.output[0], output);
        }
        let pooled = &values[graph_io::POOLED_EMBEDDING];
        pooled.chunks(pooled.len() / texts.len()).map(<[f32]>::to_vec).collect()
    }

    fn embed(&self, attributes: &Attributes<'_>, ids: &[i64], offsets: &Offsets) -> Vec<f32> {
        let [weight, bias] = self.norm(tensor::EMBEDDINGS);
        let mut output = vec![f32::NAN; ids.len() * weight.len()];
        let tables = EmbeddingTables {
            words: &self.integers(tensor::WORD_EMBEDDINGS),
            word_scales: &self.floats(tensor::WORD_SCALES),
            word_group: attributes.number(attribute::WORD_GROUP),
            positions: &self.floats(tensor::POSITION_EMBEDDINGS),
            position_rule: attributes
                .int(attribute::PADDING)
                .map_or(PositionRule::Sequential, |padding| PositionRule::SkippingPadding { padding }),
            norm: Norm { weight: &weight, bias: &bias, epsilon: attributes.float(attribute::EPSILON) },
        };
        self.kernels.embed(&Serial, ids, offsets, &tables, &mut output).expect("tokens of the model");
        output
    }

    fn linear(&self, attributes: &Attributes<'_>, inputs: &[&[f32]]) -> Vec<f32> {
        let prefix = attributes.text(attribute::WEIGHTS);
        let [inputs_count, outputs, split, group] =
            [attribute::INPUTS, attribute::OUTPUTS, attribute::SPLIT, attribute::GROUP]
                .map(|name| attributes.number(name));
        let layout = RowLayout { inputs: inputs_count, split, group };
        let weights = self.integers(&tensor::of(&prefix, tensor::WEIGHT));
        let [scales, bias] = [tensor::SCALE, tensor::BIAS].map(|part| self.floats(&tensor::of(&prefix, part)));
        let weights = LinearWeights::new(layout, outputs, &weights, &scales, &bias).expect("shapes that fit");
        let norm = inputs.get(1).map(|_| self.norm(&prefix));
        let epilogue = match (&norm, attributes.text(attribute::ACTIVATION).as_str()) {
            (Some([weight, bias]), activation::NONE) => {
                let norm = Norm { weight, bias, epsilon: attributes.float(attribute::EPSILON) };
                Epilogue::ResidualNorm { residual: inputs[1], norm }
            }
            (None, activation::NONE) => Epilogue::None,
            (None, activation::GELU) => Epilogue::Gelu,
            (_, other) => panic!("unexpected activation {other}"),
        };
        let mut output = vec![f32::NAN; inputs[0].len() / inputs_count * outputs];
        self.kernels.linear(&Serial, inputs[0], &weights, epilogue, &mut Scratch::default(), &mut output);
        output
    }

    fn attention(&self, attributes: &Attributes<'_>, qkv: &[f32], offsets: &Offsets) -> Vec<f32> {
        let mut output = vec![f32::NAN; qkv.len() / 3];
        let table = attributes.int(attribute::FARTHEST);
        let table = table.map(|farthest| (self.floats(tensor::RELATIVE_ATTENTION_BIAS), farthest));
        let bias = table.as_ref().map(|(table, farthest)| DistanceBias { table, farthest: *farthest });
        let input = AttentionInput { qkv, heads: attributes.number(attribute::HEADS), bias };
        self.kernels.attention(&Serial, &input, offsets, &mut output);
        output
    }

    fn pool(&self, attributes: &Attributes<'_>, states: &[f32], offsets: &Offsets) -> Vec<f32> {
        let rule = match attributes.text(attribute::POOLING).as_str() {
            pooling::MEAN => PoolingRule::Mean,
            pooling::CLS => PoolingRule::First,
            other => panic!("unknown pooling {other}"),
        };
        let mut output = vec![f32::NAN; states.len() / offsets.tokens() * offsets.texts().len()];
        self.kernels.pool(states, offsets, rule, &mut output);
        output
    }
}
