//! Activations and norms as operators.

use crate::encoder::Norm;
use crate::onnx::{Attribute, GraphBuilder, MICROSOFT, Value};
use embedd_kernels::{Activation, NormKind};

/// The activation of each value.
pub(super) fn activate(graph: &mut GraphBuilder<'_>, name: &str, activation: Activation, value: &Value) -> Value {
    match activation {
        Activation::Gelu => graph.node_in(MICROSOFT, name, "Gelu", &[value], &[]),
        Activation::GeluTanh => graph.node_in(MICROSOFT, name, "FastGelu", &[value], &[]),
        Activation::Relu => graph.node(name, "Relu", &[value], &[]),
        Activation::Tanh => graph.node(name, "Tanh", &[value], &[]),
        Activation::Silu => {
            let sigmoid = graph.node(&format!("{name}/sigmoid"), "Sigmoid", &[value], &[]);
            graph.float_node(name, "Mul", &[value, &sigmoid])
        }
    }
}

/// `value`, normalized over its last dimension.
pub(super) fn normalized<'w>(graph: &mut GraphBuilder<'w>, name: &str, norm: &'w Norm<'w>, value: &Value) -> Value {
    let attributes = [Attribute::Int("axis", -1), Attribute::Float("epsilon", norm.epsilon)];
    match norm.kind {
        NormKind::Layer => {
            let (scale, bias) = norm_weights(graph, &format!("{name}/norm"), norm);
            graph.node(name, "LayerNormalization", &[value, &scale, &bias], &attributes)
        }
        NormKind::Rms => {
            let scale = graph.weight(&format!("{name}/norm/weight"), &[norm.channels()], move || norm.weights());
            graph.node(name, "SimplifiedLayerNormalization", &[value, &scale], &attributes)
        }
    }
}

pub(super) fn norm_weights<'w>(graph: &mut GraphBuilder<'w>, name: &str, norm: &'w Norm<'w>) -> (Value, Value) {
    let shape = [norm.channels()];
    let weight = graph.weight(&format!("{name}/weight"), &shape, move || norm.weights());
    (weight, graph.weight(&format!("{name}/bias"), &shape, move || norm.biases()))
}
