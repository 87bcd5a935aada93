//! Builds an ONNX graph and writes it to a stream, one weight in memory at a time.

use std::collections::BTreeSet;
use std::io::{self, Write};

use prost::Message;

use super::weights::WeightsError;
use crate::onnx_proto::tensor_proto::DataType;
use crate::onnx_proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};

mod floats;
mod initializer;
mod parts;

pub(crate) use floats::Floats;
use floats::is_on_floats;
pub(crate) use initializer::WeightLocations;
use initializer::{Fill, Initializer, WeightLocation, field_start, write_field_start};
use parts::value_info;
pub(crate) use parts::{Attribute, Dim, Subgraph};

/// The first IR version for opset 17, which adds LayerNormalization.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// The version of all domains except the standard one.
const DOMAIN_OPSET: i64 = 1;
/// The domain of ONNX Runtime's fused operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";
/// Protobuf readers reject larger messages.
const MAX_MODEL_BYTES: u64 = i32::MAX as u64;

/// The number of the only field of the model that prost does not encode.
const MODEL_GRAPH: u32 = 7;

/// The unique name of a value in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value(String);

/// A graph under construction. Each method adds one element and returns its value.
#[derive(Default)]
pub(crate) struct GraphBuilder<'w> {
    graph: GraphProto,
    initializers: Vec<Initializer<'w>>,
    constants: usize,
    floats: Floats,
}

/// The graph around a body under construction.
#[must_use = "the nodes of the graph around the body would be lost"]
pub(crate) struct OuterGraph(GraphProto);

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A weight could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model exceeds the format's limit.
    #[error("the model is too large: {0} bytes; an ONNX file can have at most {MAX_MODEL_BYTES}")]
    TooLarge(u64),
    /// A weight is not in the file that it should be read from.
    #[error("{file} has no weight `{name}` of the same size")]
    NotInFile {
        /// The weight.
        name: String,
        /// The ONNX file.
        file: String,
    },
}

impl<'w> GraphBuilder<'w> {
    pub(crate) fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.to_owned(), ..Default::default() }, ..Self::default() }
    }

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

    pub(crate) fn int8_weight(
        &mut self,
        name: &str,
        dims: &[usize],
        fill: impl Fn() -> Result<Vec<i8>, WeightsError> + 'w,
    ) -> Value {
        let bytes = move || Ok(fill()?.into_iter().map(i8::cast_unsigned).collect());
        self.initializer(name, DataType::Int8, dims, size_of::<i8>(), Box::new(bytes))
    }

    /// A uint8 scalar.
    pub(crate) fn byte(&mut self, value: u8) -> Value {
        self.constants += 1;
        let name = format!("constant_{}", self.constants);
        self.initializer(&name, DataType::Uint8, &[], size_of::<u8>(), Box::new(move || Ok(vec![value])))
    }

    /// An int64 constant; a scalar if `dims` is empty.
    pub(crate) fn integers(&mut self, values: &[i64], dims: &[usize]) -> Value {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants += 1;
        let name = format!("constant_{}", self.constants);
        self.initializer(&name, DataType::Int64, dims, size_of::<i64>(), Box::new(move || Ok(bytes.clone())))
    }

    /// A standard operator with one output; `name` names both the node and its output.
    pub(crate) fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute<'_>],
    ) -> Value {
        self.node_in("", name, operator, inputs, attributes)
    }

    /// An operator of `domain` with one output.
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
        let value = Value(name.to_owned());
        if is_on_floats(domain, operator) { self.rounded(value) } else { value }
    }

    /// Starts the body of a control-flow operator: until [`finish_subgraph`](Self::finish_subgraph) is called with what
    /// this returns, nodes and inputs are added to the body.
    pub(crate) fn start_subgraph(&mut self, name: &str) -> OuterGraph {
        OuterGraph(std::mem::replace(&mut self.graph, GraphProto { name: name.to_owned(), ..Default::default() }))
    }

    /// Ends a body whose only output is `output`, of the type of the graph's floats, which one of its nodes must compute.
    pub(crate) fn finish_subgraph(&mut self, outer: OuterGraph, output: &Value, dims: &[Dim<'_>]) -> Subgraph {
        self.graph.output.push(value_info(&output.0, self.floats.data_type(), dims));
        Subgraph(std::mem::replace(&mut self.graph, outer.0))
    }

    /// The value to pass for an optional input that is omitted.
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

    /// Total size of the weights in bytes.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.initializers.iter().map(|initializer| initializer.raw_bytes).sum()
    }

    /// Writes the model and returns where its weights are. Calls `written` with the size of each written weight.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn write(
        &self,
        metadata: &[(&str, String)],
        out: &mut impl Write,
        mut written: impl FnMut(u64),
    ) -> Result<WeightLocations, WriteError> {
        // Protobuf allows any order of fields, and a nested message only requires its length in advance.
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
        let mut locations = WeightLocations::new();
        let mut end = total - graph_bytes + field_start(MODEL_GRAPH, graph_bytes).len() as u64 + nodes.len() as u64;
        for initializer in &self.initializers {
            initializer.write(out)?;
            written(initializer.raw_bytes);
            // The raw data is the last field.
            end += initializer.field_bytes();
            let location = WeightLocation { offset: end - initializer.raw_bytes, bytes: initializer.raw_bytes };
            locations.insert(initializer.header.name.clone(), location);
        }
        out.flush()?;
        Ok(locations)
    }

    /// Writes the model without its large weights. Instead, it refers to their `locations` in `file`, which must be in
    /// the same folder.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn write_without_weights(
        &self,
        metadata: &[(&str, String)],
        file: &str,
        locations: &WeightLocations,
        out: &mut impl Write,
    ) -> Result<(), WriteError> {
        let mut graph = self.graph.clone();
        for initializer in &self.initializers {
            graph.initializer.push(initializer.external(file, locations)?);
        }
        let model = ModelProto { graph: Some(graph), ..self.model_without_graph(metadata) };
        out.write_all(&model.encode_to_vec())?;
        Ok(out.flush()?)
    }

    fn model_without_graph(&self, metadata: &[(&str, String)]) -> ModelProto {
        let mut domains = BTreeSet::new();
        add_domains(&self.graph, &mut domains);
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

/// Adds the domains of all operators, including those in bodies of control-flow operators.
fn add_domains<'g>(graph: &'g GraphProto, domains: &mut BTreeSet<&'g str>) {
    for node in &graph.node {
        domains.insert(&node.domain);
        node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(|body| add_domains(body, domains));
    }
}

#[cfg(test)]
mod tests;
