//! The thread of a session: takes batches, runs them, replies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ndarray::Array2;

use super::queue::{Pending, Queue};
use super::{BatchLimits, Inferred};
use embedd_model::engine::{InferenceError, Session, TokenIds};

/// Runs until the queue is closed and empty.
pub(super) fn run(queue: &Queue, mut session: Box<dyn Session>, limits: BatchLimits) {
    while let Some((number, batch)) = queue.take(limits) {
        let started = Instant::now();
        let result = infer(session.as_mut(), &batch);
        let infer = started.elapsed();
        queue.record_run(batch.len(), infer);
        match &result {
            Ok(_) => tracing::debug!(batch = number, texts = batch.len(), ?infer, "batch"),
            Err(error) => tracing::error!(batch = number, texts = batch.len(), %error, "batch failed"),
        }
        reply(batch, number, started, infer, &result);
    }
}

/// A panic of the session fails only this batch.
fn infer(session: &mut dyn Session, batch: &[Pending]) -> Result<Array2<f32>, InferenceError> {
    let ids: Vec<&TokenIds> = batch.iter().map(|pending| &pending.ids).collect();
    let embeddings = catch_unwind(AssertUnwindSafe(|| session.infer(&ids)))
        .unwrap_or_else(|_| Err(InferenceError("the engine panicked".to_owned())))?;
    if embeddings.nrows() == batch.len() {
        Ok(embeddings)
    } else {
        let embeddings = embeddings.nrows();
        Err(InferenceError(format!("the engine returned {embeddings} embeddings for {} texts", batch.len())))
    }
}

fn reply(
    batch: Vec<Pending>,
    number: u64,
    started: Instant,
    infer: Duration,
    result: &Result<Array2<f32>, InferenceError>,
) {
    let batch_texts = batch.len();
    for (row, pending) in batch.into_iter().enumerate() {
        let reply = result.as_ref().map_err(Clone::clone).map(|embeddings| Inferred {
            embedding: embeddings.row(row).to_vec(),
            enqueued: pending.enqueued,
            queue: started.saturating_duration_since(pending.enqueued),
            batch: number,
            batch_texts,
            infer,
        });
        // Fails if the caller has disconnected.
        let _ = pending.reply.send(reply);
    }
}
