//! The thread of a session: takes batches, runs them, replies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::Array2;

use super::queue::{Queue, Taken};
use super::{BatchLimits, Inferred, Reply};
use embedd_model::engine::{InferenceError, Session, TokenIds};

/// The token of a text that shows whether a session still works. All vocabularies have it.
pub(super) const PROBE: [u32; 1] = [0];

/// Runs until the queue is closed and empty.
pub(super) fn run(queue: &Queue, number: usize, mut session: Box<dyn Session>, limits: BatchLimits) {
    while let Some((batch, texts)) = queue.take(number, limits) {
        let batch = Batch { queue, session: number, number: batch, texts, started: Instant::now() };
        let ids: Vec<&TokenIds> = batch.texts.iter().map(|text| &text.ids).collect();
        let result = compute(session.as_mut(), &ids);
        let infer = batch.started.elapsed();
        queue.record_run(batch.texts.len(), infer);
        match &result {
            Ok(_) => tracing::debug!(batch = batch.number, texts = batch.texts.len(), ?infer, "batch"),
            Err(error) => tracing::error!(batch = batch.number, texts = batch.texts.len(), %error, "batch failed"),
        }
        // After some errors, a GPU fails everything until the process ends.
        let fails_always = result.is_err() && compute(session.as_mut(), &[&TokenIds::new(PROBE)]).is_err();
        queue.set_failing(number, fails_always);
        batch.reply(infer, &result);
    }
}

/// A panic of the session fails only this batch.
fn compute(session: &mut dyn Session, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
    let embeddings = catch_unwind(AssertUnwindSafe(|| session.infer(batch)))
        .unwrap_or_else(|_| Err(InferenceError("the engine panicked".to_owned())))?;
    if embeddings.nrows() == batch.len() {
        Ok(embeddings)
    } else {
        let embeddings = embeddings.nrows();
        Err(InferenceError(format!("the engine returned {embeddings} embeddings for {} texts", batch.len())))
    }
}

/// A batch that a session runs. If it is dropped without replies, its texts have failed.
struct Batch<'q> {
    queue: &'q Queue,
    session: usize,
    number: u64,
    texts: Vec<Taken>,
    started: Instant,
}

impl Batch<'_> {
    fn reply(mut self, infer: Duration, result: &Result<Array2<f32>, InferenceError>) {
        let batch = self.number;
        let started = self.started;
        let texts = std::mem::take(&mut self.texts);
        let batch_texts = texts.len();
        // Copied before the queue is locked.
        let replies: Vec<(_, Reply)> = texts
            .into_iter()
            .enumerate()
            .map(|(row, text)| {
                let reply = result.as_ref().map_err(Clone::clone).map(|embeddings| Inferred {
                    embedding: embeddings
                        .row(row)
                        .to_slice()
                        .map_or_else(|| embeddings.row(row).to_vec().into(), Arc::from),
                    enqueued: text.enqueued,
                    queue: started.saturating_duration_since(text.enqueued),
                    batch,
                    batch_texts,
                    infer,
                });
                (text.flight, reply)
            })
            .collect();
        self.queue.finish(self.session, replies.into_iter());
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.texts.is_empty() {
            let error = InferenceError("the session has ended".to_owned());
            let failed = self.texts.iter().map(|text| (text.flight, Err(error.clone())));
            self.queue.finish(self.session, failed);
        }
    }
}
