use super::*;
use crate::encoder::LinearInput;
use crate::tiny::{Tiny, folder, with_encoder};

const KEY: Key = (1, LinearInput::Attention);
const CHANNELS: usize = 40;
const TOKENS: usize = 30;

/// Inputs with correlated channels, of which every fourth is large.
fn rows(channels: usize) -> Vec<f32> {
    let value = |place: usize| {
        let (token, channel) = (place / channels, place % channels);
        let shared = ((token * 29 % 17) as f32 - 8.0) * (1.0 + (channel % 5) as f32);
        let own = ((place * 37) % 101) as f32 / 100.0 - 0.5;
        if channel % 4 == 3 { 1000.0 + own } else { shared + own }
    };
    (0..TOKENS * channels).map(value).collect()
}

fn calibration(encoder: &Encoder<'_>, keep: bool) -> Calibration {
    let mut calibration = Calibration::default();
    for (layer, input) in encoder.linear_inputs() {
        let channels = encoder.linears((layer, input))[0].inputs();
        calibration.measure_channels(layer, input, channels, &rows(channels));
        if keep {
            calibration.keep(layer, input, channels, &rows(channels), TOKENS);
        }
    }
    calibration
}

fn with_weights(keep: bool, then: impl FnOnce(&Encoder<'_>, &PerTokenWeights<'_>)) {
    let dir = folder();
    Tiny::bert_of(CHANNELS, 72).write(dir.path());
    with_encoder(dir.path(), |encoder| {
        let calibration = calibration(encoder, keep);
        let weights = PerTokenWeights::round(encoder, &calibration, &Progress::silent()).expect("weights");
        then(encoder, &weights);
    });
}

/// The difference between a linear layer's weight and the exact weights, or the integers times their scales, `[inputs,
/// outputs]`.
fn errors(weights: &PerTokenWeights<'_>, linear: &Linear<'_>) -> Vec<f32> {
    let integers = weights.integers(KEY, linear);
    let scales = weights.scales(KEY, linear);
    let exact = weights.exact_weights(KEY, linear);
    let outputs = linear.outputs();
    let source = linear.weight.read().expect("values");
    let error = |place: usize| {
        let (input, output) = (place / outputs, place % outputs);
        let value = match weights.exact(KEY).binary_search(&input) {
            Ok(row) => exact[row * outputs + output],
            Err(_) => f32::from(integers[place]) * scales[output],
        };
        source[output * CHANNELS + input] - value
    };
    (0..CHANNELS * outputs).map(error).collect()
}

/// The sum of the squared errors of a linear layer's outputs.
fn output_error(weights: &PerTokenWeights<'_>, linear: &Linear<'_>) -> f64 {
    let errors = errors(weights, linear);
    let outputs = linear.outputs();
    let error = |row: &[f32], output: usize| -> f64 {
        let product = |channel: usize| f64::from(row[channel]) * f64::from(errors[channel * outputs + output]);
        (0..CHANNELS).map(product).sum()
    };
    let rows = rows(CHANNELS);
    let places = rows.chunks_exact(CHANNELS).flat_map(|row| (0..outputs).map(move |output| (row, output)));
    places.map(|(row, output)| error(row, output).powi(2)).sum()
}

#[test]
fn exact_channels_have_no_integers_and_the_others_are_near_the_weights_of_their_layer() {
    with_weights(false, |encoder, weights| {
        assert_eq!(weights.inputs(KEY), CHANNELS);
        assert_eq!(weights.exact(KEY), (0..CHANNELS).filter(|channel| channel % 4 == 3).collect::<Vec<_>>());
        let linears = encoder.linears(KEY);
        assert_eq!(linears.len(), 3);
        for linear in linears {
            let integers = weights.integers(KEY, linear);
            let scales = weights.scales(KEY, linear);
            for (place, error) in errors(weights, linear).into_iter().enumerate() {
                let (input, output) = (place / linear.outputs(), place % linear.outputs());
                if input % 4 == 3 {
                    assert_eq!((integers[place], error), (0, 0.0), "{input}, {output}");
                } else if integers[place].abs() < 127 {
                    assert!(error.abs() <= scales[output] * 0.5001, "{input}, {output}: {error}");
                }
            }
        }
    });
}

#[test]
fn correlations_of_the_inputs_reduce_the_error_of_the_outputs() {
    let error = |keep| {
        let mut sum = 0.0;
        with_weights(keep, |encoder, weights| {
            sum = encoder.linears(KEY).into_iter().map(|linear| output_error(weights, linear)).sum();
        });
        sum
    };
    let (carried, nearest): (f64, f64) = (error(true), error(false));
    assert!(carried < nearest / 2.0, "{carried} with correlations, {nearest} without");
}
