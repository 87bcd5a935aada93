//! Rounds the weights of all linear layers in parallel.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use super::order::Orders;
use super::recipe::NativeRecipe;
use crate::calibrate::Calibration;
use crate::encoder::{Encoder, LinearInput};
use crate::gptq::{self, Hessian, Rounded};
use crate::weights::WeightsError;
use embedd_common::progress::{Progress, Unit};

/// Maximum number of threads: each needs about 150 MB for the largest layer of a model like all-mpnet-base-v2.
const MAX_THREADS: usize = 4;

/// The linear layers that share an input in one encoder layer.
type Key = (usize, LinearInput);

/// The rounded weights of all linear layers. Their inputs are in the order given by `orders`, their outputs in the order
/// of the source.
pub(crate) struct RoundedLayers {
    pub(super) orders: Orders,
    pub(super) weights: BTreeMap<Key, Rounded>,
}

/// The data that all threads read.
struct Work<'a> {
    encoder: &'a Encoder<'a>,
    calibration: &'a Calibration,
    recipe: &'a NativeRecipe,
    orders: &'a Orders,
    progress: &'a Progress,
}

/// Rounds the weights of an encoder. The result does not depend on the number of threads.
///
/// # Errors
/// [`WeightsError`] if weights cannot be read.
pub(crate) fn round(
    encoder: &Encoder<'_>,
    calibration: &Calibration,
    recipe: &NativeRecipe,
    progress: &Progress,
) -> Result<RoundedLayers, WeightsError> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    round_with(threads.min(MAX_THREADS), encoder, calibration, recipe, progress)
}

pub(super) fn round_with(
    threads: usize,
    encoder: &Encoder<'_>,
    calibration: &Calibration,
    recipe: &NativeRecipe,
    progress: &Progress,
) -> Result<RoundedLayers, WeightsError> {
    let orders = Orders::of(calibration, encoder);
    let mut keys = encoder.linear_inputs();
    // `pop` takes the last key, so the largest layers come first and the threads finish at about the same time.
    keys.sort_by_key(|&(layer, input)| calibration.width(layer, input));
    let task = progress.task("rounding the native model's weights", Some(keys.len() as u64), Unit::Steps);
    let work = Work { encoder, calibration, recipe, orders: &orders, progress };
    let keys = Mutex::new(keys);
    let rounded = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        let run = || {
            while let Some(key) = lock(&keys).pop() {
                let weights = work.round(key);
                lock(&rounded).insert(key, weights);
                task.advance(1);
            }
        };
        (1..threads).for_each(|_| drop(scope.spawn(run)));
        run();
    });
    task.finish();
    let rounded = rounded.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let weights = rounded.into_iter().map(|(key, weights)| Ok((key, weights?))).collect::<Result<_, _>>()?;
    Ok(RoundedLayers { orders, weights })
}

/// Ignores poisoning: the protected data is always consistent, and the scope propagates the panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Work<'_> {
    fn round(&self, (layer, input): Key) -> Result<Rounded, WeightsError> {
        let linears = self.encoder.linears((layer, input));
        let inputs = linears[0].inputs();
        let order = self.orders.of_input(layer, input).channels(inputs);
        let recipe = self.recipe.input(input);
        let groups: Vec<_> = recipe.layout(inputs).groups().into_iter().map(|group| group.channels).collect();
        let rows: Vec<f32> = linears.iter().map(|linear| linear.weight.read()).collect::<Result<Vec<_>, _>>()?.concat();
        let outputs = rows.len() / inputs;
        let weight = order.iter().flat_map(|&channel| rows.iter().skip(channel).step_by(inputs).copied()).collect();
        let hessian = self.hessian(layer, input, &order);
        Ok(gptq::round(weight, outputs, &groups, &hessian, recipe.clip))
    }

    fn hessian(&self, layer: usize, input: LinearInput, order: &[usize]) -> Hessian {
        let rows = self.calibration.rows(layer, input);
        if rows.channels != order.len() {
            return Hessian::unknown(order.len());
        }
        let hessian = Hessian::of(rows, order);
        if !hessian.is_factored() {
            let part = input.part();
            self.progress.note(&format!(
                "layer {layer}, {part}: Hessian is not positive definite; falling back to round-to-nearest"
            ));
        }
        hessian
    }
}
