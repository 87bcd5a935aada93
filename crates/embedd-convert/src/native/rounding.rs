//! Rounds the weights of the native model.

use super::order::Orders;
use super::recipe::NativeRecipe;
use crate::calibrate::Calibration;
use crate::encoder::Encoder;
use crate::rounding::{InputPlan, Key, RoundedLayers, Rounding};
use crate::weights::WeightsError;
use embedd_common::progress::Progress;

/// The rounded weights of all linear layers. Their inputs are in the order given by `orders`, their outputs in the order
/// of the source.
pub(crate) struct NativeWeights {
    pub(super) orders: Orders,
    pub(super) rounded: RoundedLayers,
}

/// Rounds the weights of an encoder.
///
/// # Errors
/// [`WeightsError`] if weights cannot be read.
pub(crate) fn round(
    encoder: &Encoder<'_>,
    calibration: &Calibration,
    recipe: &NativeRecipe,
    progress: &Progress,
) -> Result<NativeWeights, WeightsError> {
    let orders = Orders::of(calibration, encoder);
    let rounding = Rounding { model: "native", encoder, calibration, progress };
    let rounded = rounding.round(plan(encoder, &orders, recipe))?;
    Ok(NativeWeights { orders, rounded })
}

/// All channels, in the order and the groups in which they are packed.
pub(super) fn plan(encoder: &Encoder<'_>, orders: &Orders, recipe: &NativeRecipe) -> impl Fn(Key) -> InputPlan + Sync {
    |key: Key| {
        let inputs = encoder.linears(key)[0].inputs();
        let recipe = recipe.input(key.1);
        InputPlan {
            order: orders.of_input(key.0, key.1).channels(inputs),
            groups: recipe.layout(inputs).groups().into_iter().map(|group| group.channels).collect(),
            clip: recipe.clip,
        }
    }
}
