//! Evaluates a native graph with the plain kernels.

use prost::Message;

use super::*;
use crate::onnx_proto::{GraphProto, ModelProto};
use embedd_kernels::{InstructionSet, Kernels, Offsets, PageBuffer, Serial};
use embedd_model::native::{Batch, Buffers, Encoder as NativeEncoder, NativeWeights};

pub(super) struct Evaluator {
    encoder: NativeEncoder,
    /// The order of the output's channels among those of the operator, if the graph restores it.
    order: Option<Vec<usize>>,
}

impl Evaluator {
    pub(super) fn new(graph: &[u8], weights: &[u8]) -> Self {
        let model = ModelProto::decode(graph).expect("a model");
        let domains: Vec<_> = model.opset_import.iter().map(|opset| (opset.domain.as_str(), opset.version)).collect();
        assert_eq!(domains, [("", 17), ("embedd", 1)]);
        let graph = model.graph.expect("a graph");
        let mut file = PageBuffer::zeroed(weights.len()).expect("memory");
        file.copy_from_slice(weights);
        let weights = Arc::new(NativeWeights::parse(file).expect("weights"));
        Self { encoder: NativeEncoder::new(plan(&graph), weights).expect("an encoder"), order: order(&graph) }
    }

    pub(super) fn operators(graph: &[u8]) -> Vec<String> {
        let graph = ModelProto::decode(graph).expect("a model").graph.expect("a graph");
        graph.node.into_iter().map(|node| node.op_type).collect()
    }

    /// The pooled embedding of each text.
    pub(super) fn run(&self, texts: &[&[i64]]) -> Vec<Vec<f32>> {
        let ids = texts.concat();
        let ends = texts.iter().scan(0, |end, text| {
            *end += text.len() as i64;
            Some(*end)
        });
        let offsets: Vec<i64> = std::iter::once(0).chain(ends).collect();
        let offsets = Offsets::new(&offsets, ids.len()).expect("offsets");
        let kernels = Kernels::of(InstructionSet::Plain).expect("every CPU supports them");
        let width = self.encoder.width();
        let mut pooled = vec![f32::NAN; texts.len() * width];
        let excluded = vec![0; texts.len()];
        let batch = Batch { kernels, parallel: &Serial, ids: &ids, offsets: &offsets, excluded: &excluded };
        self.encoder.forward(&batch, &mut Buffers::default(), &mut pooled).expect("tokens of the model");
        let ordered = |row: &[f32]| match &self.order {
            Some(order) => order.iter().map(|&channel| row[channel]).collect(),
            None => row.to_vec(),
        };
        pooled.chunks(width).map(ordered).collect()
    }
}

fn plan(graph: &GraphProto) -> Plan {
    let node = graph.node.iter().find(|node| node.op_type == plan::OPERATOR).expect("the operator");
    let attribute = node.attribute.iter().find(|attribute| attribute.name == plan::PLAN).expect("its plan");
    serde_json::from_slice(&attribute.s).expect("a plan")
}

fn order(graph: &GraphProto) -> Option<Vec<usize>> {
    let gather = graph.node.iter().find(|node| node.op_type == "Gather")?;
    let order = graph.initializer.iter().find(|tensor| tensor.name == gather.input[1]).expect("there");
    let channels = order.raw_data.as_chunks().0.iter().copied().map(i64::from_le_bytes);
    Some(channels.map(|channel| usize::try_from(channel).expect("a channel")).collect())
}
