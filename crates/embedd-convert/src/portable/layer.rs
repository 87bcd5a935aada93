//! One layer.

use super::copy;
use super::operators::{activate, norm_weights, normalized};
use super::product::{Prepared, Product};
use super::shared::Attention;
use crate::encoder::{Encoder, Layer, Linear, LinearInput, Norms};
use crate::onnx::{Attribute, MICROSOFT, Value};
use crate::weights::{Tensor, WeightsError};
use embedd_kernels::{Activation, NormKind};

/// The lowering of one layer. The names of its nodes and weights start with `prefix`.
pub(super) struct Lowering<'g, 'w> {
    pub(super) product: Product<'g, 'w>,
    pub(super) encoder: &'w Encoder<'w>,
    pub(super) attention: &'g Attention,
    pub(super) prefix: String,
}

impl<'w> Lowering<'_, 'w> {
    pub(super) fn layer(&mut self, layer: &'w Layer<'w>, states: &Value) -> Result<Value, WeightsError> {
        let input = self.input("attention", &layer.attention_norms, states);
        let input = self.product.prepare(LinearInput::Attention, &input);
        let attended = self.attend(layer, &input)?;
        let (kind, norms) = (LinearInput::AttentionOutput, &layer.attention_norms);
        let states = self.linear_and_sum(kind, &layer.attention_output, norms, &attended, states)?;

        let input = self.input("intermediate", &layer.output_norms, &states);
        let input = self.product.prepare(LinearInput::Intermediate, &input);
        let inner = self.feed_forward(layer, &input)?;
        self.linear_and_sum(LinearInput::Output, &layer.output, &layer.output_norms, &inner, &states)
    }

    /// The input of a sublayer, normalized if it has such a norm.
    fn input(&mut self, part: &str, norms: &'w Norms<'w>, states: &Value) -> Value {
        let Some(norm) = &norms.input else { return states.clone() };
        let name = self.name(&format!("{part}/input_norm"));
        normalized(self.product.graph, &name, norm, states)
    }

    /// The output of a sublayer's last linear layer, normalized if it has such a norm, added to `states`, and the sum
    /// normalized if there is such a norm.
    fn linear_and_sum(
        &mut self,
        kind: LinearInput,
        linear: &'w Linear<'w>,
        norms: &'w Norms<'w>,
        input: &Value,
        states: &Value,
    ) -> Result<Value, WeightsError> {
        let part = kind.part();
        let prepared = self.product.prepare(kind, input);
        let product = self.product.compute(part, linear, &prepared)?;
        if let (None, Some(norm), Some(bias)) = (&norms.output, &norms.sum, &linear.bias)
            && norm.kind == NormKind::Layer
        {
            let bias = self.copy(&format!("{part}/bias"), bias);
            let name = self.name(&format!("{part}/norm"));
            let graph = &mut *self.product.graph;
            let (scale, shift) = norm_weights(graph, &name, norm);
            let epsilon = [Attribute::Float("epsilon", norm.epsilon)];
            let inputs = [&product, states, &scale, &shift, &bias];
            return Ok(graph.node_in(MICROSOFT, &name, "SkipLayerNormalization", &inputs, &epsilon));
        }
        let mut output = self.add_bias(part, linear, product);
        let names = ["output_norm", "sum", "norm"].map(|name| self.name(&format!("{part}/{name}")));
        let graph = &mut *self.product.graph;
        if let Some(norm) = &norms.output {
            output = normalized(graph, &names[0], norm, &output);
        }
        let sum = graph.float_node(&names[1], "Add", &[&output, states]);
        Ok(match &norms.sum {
            Some(norm) => normalized(graph, &names[2], norm, &sum),
            None => sum,
        })
    }

    fn feed_forward(&mut self, layer: &'w Layer<'w>, input: &Prepared<'w>) -> Result<Value, WeightsError> {
        let inner = self.product.compute("intermediate", &layer.intermediate, input)?;
        let activation = self.encoder.activation;
        let name = self.name("intermediate/activation");
        if let Some(gate) = &layer.gate {
            let product = self.product.compute("gate", gate, input)?;
            let gate = self.add_bias("gate", gate, product);
            let values = self.add_bias("intermediate", &layer.intermediate, inner);
            let gated = self.name("intermediate/gated");
            let graph = &mut *self.product.graph;
            let gate = activate(graph, &name, activation, &gate);
            return Ok(graph.float_node(&gated, "Mul", &[&gate, &values]));
        }
        let fused = match activation {
            Activation::Gelu => Some("BiasGelu"),
            Activation::GeluTanh => Some("FastGelu"),
            Activation::Relu | Activation::Silu | Activation::Tanh => None,
        };
        if let (Some(operator), Some(bias)) = (fused, &layer.intermediate.bias) {
            let bias = self.copy("intermediate/bias", bias);
            return Ok(self.product.graph.node_in(MICROSOFT, &name, operator, &[&inner, &bias], &[]));
        }
        let inner = self.add_bias("intermediate", &layer.intermediate, inner);
        Ok(activate(self.product.graph, &name, activation, &inner))
    }

    /// Adds the bias of a linear layer, if it has one, to its product.
    pub(super) fn add_bias(&mut self, part: &str, linear: &'w Linear<'w>, product: Value) -> Value {
        let Some(bias) = &linear.bias else { return product };
        let bias = self.copy(&format!("{part}/bias"), bias);
        let name = self.name(&format!("{part}/biased"));
        self.product.graph.float_node(&name, "Add", &[&product, &bias])
    }

    fn copy(&mut self, part: &str, tensor: &'w Tensor<'w>) -> Value {
        let name = self.name(part);
        copy(self.product.graph, &name, tensor)
    }

    pub(super) fn name(&self, part: &str) -> String {
        format!("{}/{part}", self.prefix)
    }
}
