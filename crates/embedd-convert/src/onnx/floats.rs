//! The floats of a graph: float32, float16, or float16 emulated on CPUs.

use half::f16;

use super::{Attribute, GraphBuilder, MICROSOFT, Value};
use crate::onnx_proto::tensor_proto::DataType;
use crate::weights::WeightsError;

/// The type of a graph's floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Floats {
    #[default]
    Float32,
    Float16,
    /// float32, rounded to float16 after every operator. On CPUs, ONNX Runtime computes float16 graphs in float32, without
    /// rounding, and would hide that a value exceeds the range of float16.
    EmulatedFloat16,
}

/// The standard operators of an encoder whose output always is of the type of the graph's floats.
const FLOAT_OPERATORS: [&str; 6] =
    ["LayerNormalization", "MatMul", "Relu", "Sigmoid", "SimplifiedLayerNormalization", "Tanh"];

/// Whether the output of an operator always is of the type of the graph's floats.
pub(super) fn is_on_floats(domain: &str, operator: &str) -> bool {
    domain == MICROSOFT || FLOAT_OPERATORS.contains(&operator)
}

impl Floats {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Float32 | Self::EmulatedFloat16 => DataType::Float,
            Self::Float16 => DataType::Float16,
        }
    }
}

impl<'w> GraphBuilder<'w> {
    /// Sets the type of the weights, constants and casts that are added from now on, and returns the previous one.
    pub(crate) fn set_floats(&mut self, floats: Floats) -> Floats {
        std::mem::replace(&mut self.floats, floats)
    }

    /// `value`, whose type is `from`, as the type of the graph's floats.
    pub(crate) fn converted(&mut self, name: &str, value: &Value, from: Floats) -> Value {
        let is_same = from.data_type() == self.floats.data_type();
        let value = if is_same { value.clone() } else { self.cast_to_floats(name, value) };
        self.rounded(value)
    }

    /// Numbers as the type of the graph's floats.
    pub(crate) fn cast_to_floats(&mut self, name: &str, numbers: &Value) -> Value {
        self.cast(name, numbers, self.floats.data_type())
    }

    fn cast(&mut self, name: &str, value: &Value, to: DataType) -> Value {
        self.node(name, "Cast", &[value], &[Attribute::Int("to", to as i64)])
    }

    /// The output of an operator on floats, with the precision of the graph's floats.
    pub(super) fn rounded(&mut self, value: Value) -> Value {
        if self.floats != Floats::EmulatedFloat16 {
            return value;
        }
        let half = self.cast(&format!("{}/as_half", value.0), &value, DataType::Float16);
        self.cast(&format!("{}/rounded", value.0), &half, DataType::Float)
    }

    /// As [`node`](Self::node), for operators that also exist for integers, with floats.
    pub(crate) fn float_node(&mut self, name: &str, operator: &str, inputs: &[&Value]) -> Value {
        let value = self.node(name, operator, inputs, &[]);
        self.rounded(value)
    }

    /// A weight of the type of the graph's floats. `fill` is called when the weight is written.
    pub(crate) fn weight(
        &mut self,
        name: &str,
        dims: &[usize],
        fill: impl Fn() -> Result<Vec<f32>, WeightsError> + 'w,
    ) -> Value {
        match self.floats {
            Floats::Float32 => {
                let bytes = move || Ok(fill()?.iter().flat_map(|value| value.to_le_bytes()).collect());
                self.initializer(name, DataType::Float, dims, size_of::<f32>(), Box::new(bytes))
            }
            Floats::Float16 => self.stored_half(name, dims, fill),
            Floats::EmulatedFloat16 => self.half_weight(name, dims, fill),
        }
    }

    fn stored_half(
        &mut self,
        name: &str,
        dims: &[usize],
        fill: impl Fn() -> Result<Vec<f32>, WeightsError> + 'w,
    ) -> Value {
        let bytes = move || Ok(fill()?.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect());
        self.initializer(name, DataType::Float16, dims, size_of::<f16>(), Box::new(bytes))
    }

    /// A weight that is stored in half precision and used in float32. ONNX Runtime converts it once, when it loads the
    /// model.
    pub(crate) fn half_weight(
        &mut self,
        name: &str,
        dims: &[usize],
        fill: impl Fn() -> Result<Vec<f32>, WeightsError> + 'w,
    ) -> Value {
        let half = self.stored_half(&format!("{name}/half"), dims, fill);
        self.cast(name, &half, DataType::Float)
    }

    /// A scalar of the type of the graph's floats.
    pub(crate) fn float(&mut self, value: f32) -> Value {
        self.constants += 1;
        let name = format!("constant_{}", self.constants);
        self.weight(&name, &[], move || Ok(vec![value]))
    }
}
