//! Rounds the weights of all linear layers in parallel.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

use super::calibrate::Calibration;
use super::encoder::{Encoder, LinearInput};
use super::gptq::{self, Hessian, Rounded};
use super::weights::WeightsError;
use embedd_common::progress::{Progress, Unit};

/// Maximum number of threads: each needs about 150 MB for the largest layer of a model like all-mpnet-base-v2.
const MAX_THREADS: usize = 4;

/// The linear layers that share an input: the number of their encoder layer or module, and the input.
pub(crate) type Key = (usize, LinearInput);

/// The rounded weights of the linear layers with each input. Their outputs are concatenated.
pub(crate) type RoundedLayers = BTreeMap<Key, Rounded>;

/// How to round the weights for one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputPlan {
    /// All input channels. They are rounded in this order.
    pub(crate) order: Vec<usize>,
    /// Consecutive ranges of `order` that share a scale. The channels after the last one stay exact.
    pub(crate) groups: Vec<Range<usize>>,
    /// Whether to clip weights where that reduces the total error.
    pub(crate) clip: bool,
}

impl InputPlan {
    /// The number of channels that are rounded.
    fn rounded(&self) -> usize {
        self.groups.last().map_or(0, |group| group.end)
    }
}

/// The data that all threads read.
pub(crate) struct Rounding<'a> {
    /// The model for which weights are rounded, in progress reports.
    pub(crate) model: &'static str,
    pub(crate) encoder: &'a Encoder<'a>,
    pub(crate) calibration: &'a Calibration,
    pub(crate) progress: &'a Progress,
}

impl Rounding<'_> {
    /// Rounds the weights of an encoder. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`WeightsError`] if weights cannot be read.
    pub(crate) fn round(&self, plan: impl Fn(Key) -> InputPlan + Sync) -> Result<RoundedLayers, WeightsError> {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.round_with(threads.min(MAX_THREADS), plan)
    }

    fn round_with(
        &self,
        threads: usize,
        plan: impl Fn(Key) -> InputPlan + Sync,
    ) -> Result<RoundedLayers, WeightsError> {
        let mut keys = self.encoder.linear_inputs();
        // `pop` takes the last key, so the largest layers come first and the threads finish at about the same time.
        keys.sort_by_key(|&(layer, input)| self.calibration.width(layer, input));
        let what = format!("rounding the {} model's weights", self.model);
        let task = self.progress.task(&what, Some(keys.len() as u64), Unit::Steps);
        let keys = Mutex::new(keys);
        let rounded = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            let run = || {
                while let Some(key) = lock(&keys).pop() {
                    let weights = self.round_input(key, &plan(key));
                    lock(&rounded).insert(key, weights);
                    task.advance(1);
                }
            };
            (1..threads).for_each(|_| drop(scope.spawn(run)));
            run();
        });
        task.finish();
        let rounded = rounded.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        rounded.into_iter().map(|(key, weights)| Ok((key, weights?))).collect()
    }

    fn round_input(&self, key: Key, plan: &InputPlan) -> Result<Rounded, WeightsError> {
        let linears = self.encoder.linears(key);
        let inputs = linears[0].inputs();
        let rows: Vec<f32> = linears.iter().map(|linear| linear.weight.read()).collect::<Result<Vec<_>, _>>()?.concat();
        let outputs = rows.len() / inputs;
        let column = |&channel: &usize| rows.iter().skip(channel).step_by(inputs).copied();
        let weight = plan.order.iter().flat_map(column).collect();
        drop(rows);
        let hessian = self.hessian(key, inputs, plan);
        Ok(gptq::round(weight, outputs, &plan.groups, &hessian, plan.clip))
    }

    fn hessian(&self, (layer, input): Key, inputs: usize, plan: &InputPlan) -> Hessian {
        let rows = self.calibration.rows(layer, input);
        if rows.channels != inputs {
            return Hessian::unknown(inputs);
        }
        let hessian = Hessian::of(rows, &plan.order, plan.rounded());
        if !hessian.is_factored() {
            self.progress.note(&format!(
                "{} model, layer {layer}, {}: Hessian is not positive definite; falling back to round-to-nearest",
                self.model,
                input.part()
            ));
        }
        hessian
    }
}

/// Ignores poisoning: the protected data is always consistent, and the scope propagates the panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
