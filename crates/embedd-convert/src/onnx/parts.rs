//! Attributes of nodes, and types of inputs and outputs.

use crate::onnx_proto::attribute_proto::AttributeType;
use crate::onnx_proto::tensor_proto::DataType;
use crate::onnx_proto::tensor_shape_proto::{Dimension, dimension};
use crate::onnx_proto::{AttributeProto, GraphProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dim<'a> {
    /// Constant.
    Fixed(usize),
    /// Varies from call to call.
    Named(&'a str),
}

pub(super) fn value_info(name: &str, data_type: DataType, dims: &[Dim<'_>]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| Dimension {
            value: Some(match dim {
                Dim::Fixed(length) => dimension::Value::DimValue(*length as i64),
                Dim::Named(name) => dimension::Value::DimParam((*name).to_owned()),
            }),
        })
        .collect();
    let tensor = type_proto::Tensor { elem_type: data_type.into(), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }),
    }
}

/// A named attribute of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attribute<'a> {
    /// A float32.
    Float(&'a str, f32),
    /// An int64.
    Int(&'a str, i64),
    /// A list of int64.
    Ints(&'a str, &'a [i64]),
    /// A string.
    Text(&'a str, &'a str),
    /// The body of a control-flow operator.
    Graph(&'a str, &'a Subgraph),
}

/// The body of a control-flow operator. It can use the values of the graphs around it, to which its weights belong.
#[derive(Debug)]
pub(crate) struct Subgraph(pub(super) GraphProto);

impl Attribute<'_> {
    pub(super) fn to_proto(self) -> AttributeProto {
        let proto = |name: &str, kind: AttributeType| AttributeProto {
            name: name.to_owned(),
            r#type: kind.into(),
            ..Default::default()
        };
        match self {
            Self::Float(name, f) => AttributeProto { f, ..proto(name, AttributeType::Float) },
            Self::Int(name, i) => AttributeProto { i, ..proto(name, AttributeType::Int) },
            Self::Text(name, text) => {
                AttributeProto { s: text.as_bytes().to_vec().into(), ..proto(name, AttributeType::String) }
            }
            Self::Graph(name, body) => AttributeProto { g: Some(body.0.clone()), ..proto(name, AttributeType::Graph) },
            Self::Ints(name, ints) => AttributeProto { ints: ints.to_vec(), ..proto(name, AttributeType::Ints) },
        }
    }
}
