use super::*;
use crate::tiny::{Tiny, folder, with_encoder};

/// Inputs of all linear layers, with correlated channels.
fn calibration(encoder: &Encoder<'_>) -> Calibration {
    let mut calibration = Calibration::default();
    for (layer, input) in encoder.linear_inputs() {
        let inputs = encoder.linears((layer, input))[0].inputs();
        let value = |place: usize| (place % 13) as f32 - 6.0 + ((place * 37 + place / inputs) % 101) as f32 / 50.0;
        let rows: Vec<f32> = (0..60 * inputs).map(value).collect();
        calibration.measure_channels(layer, input, inputs, &rows);
        calibration.keep(layer, input, inputs, &rows, 60);
    }
    calibration
}

#[test]
fn the_number_of_threads_does_not_affect_the_weights() {
    let dir = folder();
    Tiny::mpnet_of(64, 128).write(dir.path());
    with_encoder(dir.path(), |encoder| {
        let progress = Progress::silent();
        let calibration = calibration(encoder);
        let rounding = Rounding { model: "tiny", encoder, calibration: &calibration, progress: &progress };
        let two_groups = |key| {
            let inputs = encoder.linears(key)[0].inputs();
            InputPlan { order: (0..inputs).rev().collect(), groups: vec![0..9, 9..inputs], clip: true }
        };
        let some_exact = |key| {
            let inputs = encoder.linears(key)[0].inputs();
            InputPlan { order: (0..inputs).collect(), groups: vec![0..9, 9..inputs - 5], clip: false }
        };
        let plans: [&(dyn Fn(Key) -> InputPlan + Sync); 2] = [&two_groups, &some_exact];
        for plan in plans {
            let weights = |threads| rounding.round_with(threads, plan).expect("weights");
            let one = weights(1);
            assert_eq!(one.len(), 4 * encoder.layers.len());
            assert!([2, 3, 8].into_iter().all(|threads| weights(threads) == one));
        }
    });
}
