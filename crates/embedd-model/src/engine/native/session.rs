//! A session of a native graph. The texts of a batch are concatenated, not padded.

use ndarray::{Array2, Ix2};
use ort::environment::Environment;
use ort::session::Session as OrtSession;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::operator::{Shared, domain};
use crate::bundle::graph_io;
use crate::engine::{InferenceError, Session, TokenIds};

/// A key of ONNX Runtime's session configuration.
const STOP_SPINNING_AFTER_RUN: &str = "session.force_spinning_stop";

pub(super) struct NativeSession {
    session: OrtSession,
    /// The ids of the current batch. The vector is reused to save allocations, like `offsets`.
    ids: Vec<i64>,
    offsets: Vec<i64>,
    /// The number of tokens of each text that are not pooled.
    excluded: Vec<i64>,
}

impl NativeSession {
    pub(super) fn load(environment: &Environment, graph: &[u8], shared: &Shared) -> ort::Result<Self> {
        let session = OrtSession::builder(environment)?
            // The graph is already optimal; searching for optimizations takes longer than the rest of loading.
            .with_optimization_level(GraphOptimizationLevel::Disable)?
            // Every batch has a different shape.
            .with_memory_pattern(false)?
            .with_intra_threads(shared.threads.get())?
            // A run has about sixty short parallel sections. Threads that sleep between them would wake too late for
            // most of them, so the threads sleep only at the end of a run.
            .with_intra_op_spinning(true)?
            .with_config_entry(STOP_SPINNING_AFTER_RUN, "1")?
            .with_operators(domain(shared)?)?
            .commit_from_memory(graph)?;
        Ok(Self { session, ids: Vec::new(), offsets: Vec::new(), excluded: Vec::new() })
    }

    fn concatenate(&mut self, batch: &[&TokenIds]) {
        self.ids.clear();
        self.offsets.clear();
        self.excluded.clear();
        self.offsets.push(0);
        for text in batch {
            self.ids.extend(text.as_slice().iter().map(|&id| i64::from(id)));
            self.offsets.push(self.ids.len() as i64);
            self.excluded.push(text.excluded() as i64);
        }
    }

    fn run(&mut self) -> ort::Result<Array2<f32>> {
        let inputs = ort::inputs![
            graph_io::INPUT_IDS => TensorRef::from_array_view(([self.ids.len()], self.ids.as_slice()))?,
            graph_io::EXCLUDED_TOKENS => TensorRef::from_array_view(([self.excluded.len()], self.excluded.as_slice()))?,
            graph_io::TEXT_OFFSETS => TensorRef::from_array_view(([self.offsets.len()], self.offsets.as_slice()))?,
        ];
        let outputs = self.session.run(inputs)?;
        let pooled = outputs[graph_io::POOLED_EMBEDDING].try_extract_array::<f32>()?;
        pooled.into_dimensionality::<Ix2>().map(|pooled| pooled.to_owned()).map_err(ort::Error::wrap)
    }
}

impl Session for NativeSession {
    fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
        self.concatenate(batch);
        self.run().map_err(|error| InferenceError(error.to_string()))
    }
}
