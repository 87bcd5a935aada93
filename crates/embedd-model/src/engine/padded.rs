//! Sessions of float32 and portable graphs, which take the texts of a batch padded to the same length.

use std::borrow::Cow;
use std::path::Path;

use ndarray::{Array2, Ix2};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session as OrtSession, SessionInputValue};
use ort::value::TensorRef;

use super::{Gpu, InferenceError, Session, SessionOptions, TokenIds};
use crate::bundle::graph_io;

/// Where a graph with its weights is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Graph<'g> {
    /// An ONNX file, which may refer to other files.
    File(&'g Path),
    /// The contents of an ONNX file.
    Memory(&'g [u8]),
}

/// A session that pads every text of a batch to the longest.
pub(super) struct PaddedSession {
    session: OrtSession,
    pooled_only: RunOptions<HasSelectedOutputs>,
}

impl PaddedSession {
    /// On the GPU, if there is one.
    pub(super) fn load(
        environment: &Environment,
        graph: Graph<'_>,
        gpu: Option<&Gpu>,
        options: SessionOptions,
    ) -> ort::Result<Self> {
        let session = load_session(environment, graph, gpu, options)?;
        let output = OutputSelector::no_default().with(graph_io::POOLED_EMBEDDING);
        let pooled_only = RunOptions::new()?.with_outputs(output);
        Ok(Self { session, pooled_only })
    }

    fn run(&mut self, batch: &[&TokenIds]) -> ort::Result<Array2<f32>> {
        let padded = Padded::of(batch);
        let inputs = padded.inputs(&self.session)?;
        let outputs = self.session.run_with_options(inputs, &self.pooled_only)?;
        let pooled = outputs[graph_io::POOLED_EMBEDDING].try_extract_array::<f32>()?;
        pooled.into_dimensionality::<Ix2>().map(|pooled| pooled.to_owned()).map_err(ort::Error::wrap)
    }
}

impl Session for PaddedSession {
    fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
        self.run(batch).map_err(|error| InferenceError(error.to_string()))
    }
}

/// A session that returns intermediate float32 outputs, one text at a time.
pub struct Observer {
    session: OrtSession,
    names: Vec<String>,
}

impl Observer {
    pub(super) fn load(
        environment: &Environment,
        model: &Path,
        outputs: Vec<String>,
        options: SessionOptions,
    ) -> ort::Result<Self> {
        Ok(Self { session: load_session(environment, Graph::File(model), None, options)?, names: outputs })
    }

    /// Computes the outputs for one text, each row-major, in the order in which they were named.
    ///
    /// # Errors
    /// [`InferenceError`].
    pub fn observe(&mut self, text: &TokenIds) -> Result<Vec<Vec<f32>>, InferenceError> {
        self.run(text).map_err(|error| InferenceError(error.to_string()))
    }

    fn run(&mut self, text: &TokenIds) -> ort::Result<Vec<Vec<f32>>> {
        let padded = Padded::of(&[text]);
        let inputs = padded.inputs(&self.session)?;
        let outputs = self.session.run(inputs)?;
        self.names.iter().map(|name| Ok(outputs[name.as_str()].try_extract_tensor::<f32>()?.1.to_vec())).collect()
    }
}

fn load_session(
    environment: &Environment,
    graph: Graph<'_>,
    gpu: Option<&Gpu>,
    options: SessionOptions,
) -> ort::Result<OrtSession> {
    let mut builder = OrtSession::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads.get())?
        // A spinning thread competes with the server's other threads and wastes CPU time when idle.
        .with_intra_op_spinning(false)?;
    if let Some(gpu) = gpu {
        builder = gpu.add_to(builder)?;
    }
    match graph {
        Graph::File(path) => builder.commit_from_file(path),
        Graph::Memory(contents) => builder.commit_from_memory(contents),
    }
}

/// The inputs of a batch, each `[texts, longest text]`. The mask excludes padding, so the id used for padding does not
/// matter.
struct Padded {
    ids: Array2<i64>,
    mask: Array2<i64>,
    pooled: Array2<i64>,
}

impl Padded {
    fn of(batch: &[&TokenIds]) -> Self {
        let longest = batch.iter().map(|text| text.len()).max().unwrap_or(0);
        let [mut ids, mut mask, mut pooled] = [(); 3].map(|()| Array2::zeros((batch.len(), longest)));
        for (row, text) in batch.iter().enumerate() {
            // A text of which nothing else is left is pooled as a whole.
            let excluded = if text.excluded() < text.len() { text.excluded() } else { 0 };
            for (column, &id) in text.as_slice().iter().enumerate() {
                ids[[row, column]] = i64::from(id);
                mask[[row, column]] = 1;
                pooled[[row, column]] = i64::from(column >= excluded);
            }
        }
        Self { ids, mask, pooled }
    }

    /// The inputs that the session's graph has.
    fn inputs(&self, session: &OrtSession) -> ort::Result<Vec<(Cow<'static, str>, SessionInputValue<'_>)>> {
        let mut inputs = ort::inputs![
            graph_io::INPUT_IDS => TensorRef::from_array_view(&self.ids)?,
            graph_io::ATTENTION_MASK => TensorRef::from_array_view(&self.mask)?,
        ];
        if session.inputs().iter().any(|input| input.name() == graph_io::POOLING_MASK) {
            inputs.extend(ort::inputs![graph_io::POOLING_MASK => TensorRef::from_array_view(&self.pooled)?]);
        }
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_padded_to_the_longest_in_the_batch() {
        let short = TokenIds::new([5, 6]).with_excluded(1);
        let long = TokenIds::new([1, 2, 3]);
        let all = TokenIds::new([7]).with_excluded(1);
        let Padded { ids, mask, pooled } = Padded::of(&[&short, &long, &all]);
        assert_eq!(ids, ndarray::array![[5, 6, 0], [1, 2, 3], [7, 0, 0]]);
        assert_eq!(mask, ndarray::array![[1, 1, 0], [1, 1, 1], [1, 0, 0]]);
        assert_eq!(pooled, ndarray::array![[0, 1, 0], [1, 1, 1], [1, 0, 0]]);
    }
}
