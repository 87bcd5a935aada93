//! `QuantizedLinear`: a linear layer with INT8 weights and the operation that follows it.

use ort::operator::{ComputeContext, OperatorInput};
use ort::{Error, Result};

use super::{HIDDEN_STATES, Node, Operation, RESIDUAL, Shared, failed, input, output, rows};
use crate::bundle::native_io::{activation, attribute, operator, tensor};
use crate::engine::native::weights::{NativeWeights, Tensor};
use embedd_kernels::{Epilogue, LayerNorm, LinearWeights, RowLayout};

pub(super) struct QuantizedLinear {
    layout: RowLayout,
    outputs: usize,
    weight: Tensor<i8>,
    scale: Tensor<f32>,
    bias: Tensor<f32>,
    follow_up: FollowUp,
}

enum FollowUp {
    None,
    Gelu,
    ResidualNorm { weight: Tensor<f32>, bias: Tensor<f32>, epsilon: f32 },
}

impl QuantizedLinear {
    fn weights<'w>(&self, weights: &'w NativeWeights) -> Result<LinearWeights<'w>> {
        let integers = weights.get(&self.weight);
        let scale = weights.get(&self.scale);
        let bias = weights.get(&self.bias);
        LinearWeights::new(self.layout, self.outputs, integers, scale, bias).map_err(failed)
    }
}

impl Operation for QuantizedLinear {
    const NAME: &'static str = operator::QUANTIZED_LINEAR;

    fn inputs() -> Vec<OperatorInput> {
        vec![HIDDEN_STATES, RESIDUAL]
    }

    fn create(node: &Node<'_>, weights: &NativeWeights) -> Result<Self> {
        let layout = RowLayout {
            inputs: node.count(attribute::INPUTS)?,
            split: node.count(attribute::SPLIT)?,
            group: node.count(attribute::GROUP)?,
        };
        let outputs = node.count(attribute::OUTPUTS)?;
        if layout.inputs == 0 || outputs == 0 || layout.group == 0 || layout.split > layout.inputs {
            return Err(node.error(format!("invalid linear layer with {outputs} outputs and {layout:?}")));
        }
        let prefix: String = node.attribute(attribute::WEIGHTS)?;
        let name = |part: &str| tensor::of(&prefix, part);
        let follow_up =
            match (node.find::<f32>(attribute::EPSILON), node.find::<String>(attribute::ACTIVATION).as_deref()) {
                (Some(epsilon), None | Some(activation::NONE)) => FollowUp::ResidualNorm {
                    weight: weights.expect(&name(tensor::NORM_WEIGHT), &[outputs]).map_err(failed)?,
                    bias: weights.expect(&name(tensor::NORM_BIAS), &[outputs]).map_err(failed)?,
                    epsilon,
                },
                (None, None | Some(activation::NONE)) => FollowUp::None,
                (None, Some(activation::GELU)) => FollowUp::Gelu,
                (epsilon, Some(other)) => {
                    let residual = if epsilon.is_some() { " with a residual" } else { "" };
                    return Err(node.error(format!("unsupported activation `{other}`{residual}")));
                }
            };
        let shapes = layout.packed_shapes(outputs);
        let layer = Self {
            weight: weights.expect(&name(tensor::WEIGHT), &shapes.weights).map_err(failed)?,
            scale: weights.expect(&name(tensor::SCALE), &shapes.scales).map_err(failed)?,
            bias: weights.expect(&name(tensor::BIAS), &shapes.bias).map_err(failed)?,
            layout,
            outputs,
            follow_up,
        };
        layer.weights(weights)?;
        Ok(layer)
    }

    fn compute(&self, shared: &Shared, context: &ComputeContext) -> Result<()> {
        let value = input(context, 0)?;
        let residual = context.input(1)?;
        let x = rows(&value, self.layout.inputs)?;
        let epilogue = match (&self.follow_up, &residual) {
            (FollowUp::None, None) => Epilogue::None,
            (FollowUp::Gelu, None) => Epilogue::Gelu,
            (FollowUp::ResidualNorm { weight, bias, epsilon }, Some(residual)) => {
                let weight = shared.weights.get(weight);
                let bias = shared.weights.get(bias);
                let norm = LayerNorm { weight, bias, epsilon: *epsilon };
                Epilogue::ResidualNorm { residual: rows(residual, self.outputs)?, norm }
            }
            _ => return Err(Error::new("a residual requires the attribute `epsilon`, and vice versa")),
        };
        let weights = self.weights(&shared.weights)?;
        output(context, x.len() / self.layout.inputs, self.outputs, |y| {
            let workers = shared.workers(context);
            shared.kernels.linear(&workers, x, &weights, epilogue, &mut shared.scratch(), y);
            Ok(())
        })
    }
}
