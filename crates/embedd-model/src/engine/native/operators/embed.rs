//! `Embed`: turns token ids into the hidden states for the first layer.

use ort::Result;
use ort::operator::{ComputeContext, OperatorInput};

use super::{Node, Operation, Shared, TOKENS, failed, input, offsets, output};
use crate::bundle::native_io::{attribute, operator, tensor};
use crate::engine::native::weights::{NativeWeights, Tensor};
use embedd_kernels::{EmbeddingTables, LayerNorm, PositionRule};

pub(super) struct Embed {
    words: Tensor<i8>,
    word_scales: Tensor<f32>,
    word_group: usize,
    positions: Tensor<f32>,
    position_rule: PositionRule,
    norm_weight: Tensor<f32>,
    norm_bias: Tensor<f32>,
    epsilon: f32,
    hidden: usize,
}

impl Operation for Embed {
    const NAME: &'static str = operator::EMBED;

    fn inputs() -> Vec<OperatorInput> {
        vec![TOKENS, TOKENS]
    }

    fn create(node: &Node<'_>, weights: &NativeWeights) -> Result<Self> {
        let words = weights.matrix(tensor::WORD_EMBEDDINGS, None).map_err(failed)?;
        let vocabulary = words.shape()[0];
        let hidden = words.shape()[1];
        let word_group = node.count(attribute::WORD_GROUP)?;
        if word_group == 0 {
            return Err(node.error("attribute `word_group` must not be 0"));
        }
        let groups = hidden.div_ceil(word_group);
        let position_rule = match node.find::<i64>(attribute::PADDING) {
            Some(_) => PositionRule::SkippingPadding { padding: node.count(attribute::PADDING)? },
            None => PositionRule::Sequential,
        };
        let norm = |part| weights.expect(&tensor::of(tensor::EMBEDDINGS, part), &[hidden]).map_err(failed);
        Ok(Self {
            words,
            word_scales: weights.expect(tensor::WORD_SCALES, &[vocabulary, groups]).map_err(failed)?,
            word_group,
            positions: weights.matrix(tensor::POSITION_EMBEDDINGS, Some(hidden)).map_err(failed)?,
            position_rule,
            norm_weight: norm(tensor::NORM_WEIGHT)?,
            norm_bias: norm(tensor::NORM_BIAS)?,
            epsilon: node.attribute(attribute::EPSILON)?,
            hidden,
        })
    }

    fn compute(&self, shared: &Shared, context: &ComputeContext) -> Result<()> {
        let ids = input(context, 0)?;
        let offsets_value = input(context, 1)?;
        let ids = ids.try_extract_tensor::<i64>()?.1;
        let offsets = offsets(&offsets_value, ids.len())?;
        let weights = &shared.weights;
        let weight = weights.get(&self.norm_weight);
        let bias = weights.get(&self.norm_bias);
        let tables = EmbeddingTables {
            words: weights.get(&self.words),
            word_scales: weights.get(&self.word_scales),
            word_group: self.word_group,
            positions: weights.get(&self.positions),
            position_rule: self.position_rule,
            norm: LayerNorm { weight, bias, epsilon: self.epsilon },
        };
        output(context, ids.len(), self.hidden, |states| {
            shared.kernels.embed(&shared.workers(context), ids, &offsets, &tables, states).map_err(failed)
        })
    }
}
