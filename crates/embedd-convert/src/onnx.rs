//! Builds an ONNX graph and writes it to a stream, one weight in memory at a time.

use std::collections::BTreeSet;
use std::io::{self, Write};

use half::f16;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::weights::WeightsError;
use crate::onnx_proto::tensor_proto::DataType;
use crate::onnx_proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};

mod parts;

use parts::value_info;
pub(crate) use parts::{Attribute, Dim};

/// IR version 8 is the first that knows opset 17, whose LayerNormalization is the newest thing needed.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// The version of every domain but the standard one.
const DOMAIN_OPSET: i64 = 1;
/// The domain of ONNX Runtime's own fused operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";
/// Protobuf readers refuse messages from here on.
const MAX_MODEL_BYTES: u64 = i32::MAX as u64;

/// Field numbers of the format, for what is written by hand.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// A value in the graph, by its unique name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value(String);

/// A weight's values, made when it is written.
pub(crate) type Fill<'w> = Box<dyn Fn() -> Result<Vec<u8>, WeightsError> + 'w>;

/// A weight of the graph.
struct Initializer<'w> {
    /// Without `raw_data`.
    header: TensorProto,
    raw_bytes: u64,
    fill: Fill<'w>,
}

/// A graph under construction: every method adds one thing and gives back the value that it makes.
#[derive(Default)]
pub(crate) struct GraphBuilder<'w> {
    graph: GraphProto,
    initializers: Vec<Initializer<'w>>,
    constants: usize,
}

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A weight could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The format has a limit.
    #[error("the model would take {0} bytes, and an ONNX file may have {MAX_MODEL_BYTES} at most")]
    TooLarge(u64),
}

impl<'w> GraphBuilder<'w> {
    /// An empty graph.
    pub(crate) fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.to_owned(), ..Default::default() }, ..Self::default() }
    }

    /// An input; [`Dim::Named`] stands for a dimension that varies.
    pub(crate) fn input(&mut self, name: &str, data_type: DataType, dims: &[Dim<'_>]) -> Value {
        self.graph.input.push(value_info(name, data_type, dims));
        Value(name.to_owned())
    }

    /// Makes `value` an output under `name`.
    pub(crate) fn output(&mut self, name: &str, value: &Value, data_type: DataType, dims: &[Dim<'_>]) {
        let node = NodeProto {
            input: vec![value.0.clone()],
            output: vec![name.to_owned()],
            name: format!("{name}/output"),
            op_type: "Identity".to_owned(),
            ..Default::default()
        };
        self.graph.node.push(node);
        self.graph.output.push(value_info(name, data_type, dims));
    }

    /// A float32 weight whose values `fill` makes when they are written.
    pub(crate) fn weight(
        &mut self,
        name: &str,
        dims: &[usize],
        fill: impl Fn() -> Result<Vec<f32>, WeightsError> + 'w,
    ) -> Value {
        let bytes = move || Ok(fill()?.iter().flat_map(|value| value.to_le_bytes()).collect());
        self.initializer(name, DataType::Float, dims, size_of::<f32>(), Box::new(bytes))
    }

    /// A weight in half precision, as the graph reads it: widened to float32, which ONNX Runtime does once, on loading.
    pub(crate) fn half_weight(
        &mut self,
        name: &str,
        dims: &[usize],
        fill: impl Fn() -> Result<Vec<f32>, WeightsError> + 'w,
    ) -> Value {
        let bytes = move || Ok(fill()?.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect());
        let half = format!("{name}/half");
        let half = self.initializer(&half, DataType::Float16, dims, size_of::<f16>(), Box::new(bytes));
        self.node(name, "Cast", &[&half], &[Attribute::Int("to", DataType::Float as i64)])
    }

    /// An INT8 weight.
    pub(crate) fn int8_weight(&mut self, name: &str, dims: &[usize], values: Vec<i8>) -> Value {
        let bytes = move || Ok(values.iter().map(|value| value.cast_unsigned()).collect());
        self.initializer(name, DataType::Int8, dims, size_of::<i8>(), Box::new(bytes))
    }

    /// An unsigned 8-bit scalar.
    pub(crate) fn byte(&mut self, value: u8) -> Value {
        self.constants += 1;
        let name = format!("constant_{}", self.constants);
        self.initializer(&name, DataType::Uint8, &[], size_of::<u8>(), Box::new(move || Ok(vec![value])))
    }

    /// An int64 constant, a scalar where `dims` is empty.
    pub(crate) fn integers(&mut self, values: &[i64], dims: &[usize]) -> Value {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants += 1;
        let name = format!("constant_{}", self.constants);
        self.initializer(&name, DataType::Int64, dims, size_of::<i64>(), Box::new(move || Ok(bytes.clone())))
    }

    /// A float32 scalar.
    pub(crate) fn float(&mut self, value: f32) -> Value {
        self.constants += 1;
        let name = format!("constant_{}", self.constants);
        self.weight(&name, &[], move || Ok(vec![value]))
    }

    /// A standard operator with one output, which is also the node's name.
    pub(crate) fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute<'_>],
    ) -> Value {
        self.node_in("", name, operator, inputs, attributes)
    }

    /// An operator of a domain with one output.
    pub(crate) fn node_in(
        &mut self,
        domain: &str,
        name: &str,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute<'_>],
    ) -> Value {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes.iter().copied().map(Attribute::to_proto).collect(),
            domain: domain.to_owned(),
        });
        Value(name.to_owned())
    }

    /// An input that an operator may have and that is left out.
    pub(crate) fn absent() -> Value {
        Value(String::new())
    }

    fn initializer(
        &mut self,
        name: &str,
        data_type: DataType,
        dims: &[usize],
        element_bytes: usize,
        fill: Fill<'w>,
    ) -> Value {
        let header = TensorProto {
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            data_type: data_type.into(),
            name: name.to_owned(),
            ..Default::default()
        };
        let raw_bytes = (dims.iter().product::<usize>() * element_bytes) as u64;
        self.initializers.push(Initializer { header, raw_bytes, fill });
        Value(name.to_owned())
    }

    /// Bytes of all weights together.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.initializers.iter().map(|initializer| initializer.raw_bytes).sum()
    }

    /// Writes the model. `written` is told the bytes of each weight as it is written.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn write(
        &self,
        metadata: &[(&str, String)],
        out: &mut impl Write,
        mut written: impl FnMut(u64),
    ) -> Result<(), WriteError> {
        // Protobuf lets a message's fields come in any order, and a nested message only needs its length beforehand.
        let model = self.model_without_graph(metadata).encode_to_vec();
        let nodes = self.graph.encode_to_vec();
        let graph_bytes = nodes.len() as u64 + self.initializers.iter().map(Initializer::field_bytes).sum::<u64>();
        let total = model.len() as u64 + graph_bytes;
        if total > MAX_MODEL_BYTES {
            return Err(WriteError::TooLarge(total));
        }
        out.write_all(&model)?;
        write_field_start(MODEL_GRAPH, graph_bytes, out)?;
        out.write_all(&nodes)?;
        for initializer in &self.initializers {
            initializer.write(out)?;
            written(initializer.raw_bytes);
        }
        Ok(out.flush()?)
    }

    fn model_without_graph(&self, metadata: &[(&str, String)]) -> ModelProto {
        let domains: BTreeSet<&str> = self.graph.node.iter().map(|node| node.domain.as_str()).collect();
        let opset = |domain: &str| OperatorSetIdProto {
            domain: domain.to_owned(),
            version: if domain.is_empty() { OPSET } else { DOMAIN_OPSET },
        };
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "embedd".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: None,
            opset_import: domains.into_iter().map(opset).collect(),
            metadata_props: metadata
                .iter()
                .map(|(key, value)| StringStringEntryProto { key: (*key).to_owned(), value: value.clone() })
                .collect(),
        }
    }
}

impl Initializer<'_> {
    /// Bytes of the TensorProto.
    fn message_bytes(&self) -> u64 {
        self.header.encoded_len() as u64 + field_bytes(TENSOR_RAW_DATA, self.raw_bytes)
    }

    /// Bytes of the TensorProto as a field of the graph.
    fn field_bytes(&self) -> u64 {
        field_bytes(GRAPH_INITIALIZER, self.message_bytes())
    }

    fn write(&self, out: &mut impl Write) -> Result<(), WriteError> {
        write_field_start(GRAPH_INITIALIZER, self.message_bytes(), out)?;
        out.write_all(&self.header.encode_to_vec())?;
        write_field_start(TENSOR_RAW_DATA, self.raw_bytes, out)?;
        let raw = (self.fill)()?;
        if raw.len() as u64 != self.raw_bytes {
            let what = format!("`{}` has {} bytes instead of {}", self.header.name, raw.len(), self.raw_bytes);
            return Err(WriteError::Io(io::Error::other(what)));
        }
        Ok(out.write_all(&raw)?)
    }
}

/// Bytes of a length-delimited field whose contents take `length` bytes.
fn field_bytes(field: u32, length: u64) -> u64 {
    (key_len(field) + encoded_len_varint(length)) as u64 + length
}

fn write_field_start(field: u32, length: u64, out: &mut impl Write) -> io::Result<()> {
    let mut start = Vec::with_capacity(16);
    encode_key(field, WireType::LengthDelimited, &mut start);
    encode_varint(length, &mut start);
    out.write_all(&start)
}

#[cfg(test)]
mod tests;
