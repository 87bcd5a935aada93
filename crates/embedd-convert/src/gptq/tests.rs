use half::f16;

use super::*;

const INPUTS: usize = 150;
const OUTPUTS: usize = 70;
const TOKENS: usize = 700;

/// Pseudo-random numbers from -1 to 1 that are the same in every run.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Input rows with correlated channels: each channel is a mix of a few common causes and some noise.
fn correlated() -> Vec<f16> {
    const CAUSES: usize = 12;
    let (causes, mixing, own) = (noise(TOKENS * CAUSES, 1), noise(CAUSES * INPUTS, 2), noise(TOKENS * INPUTS, 3));
    let value = |place: usize| {
        let (token, channel) = (place / INPUTS, place % INPUTS);
        let shared: f32 =
            (0..CAUSES).map(|cause| causes[token * CAUSES + cause] * mixing[cause * INPUTS + channel]).sum();
        f16::from_f32(shared * (1.0 + channel as f32 / 50.0) + 0.2 * own[place])
    };
    (0..TOKENS * INPUTS).map(value).collect()
}

fn groups() -> Vec<Range<usize>> {
    vec![0..6, 6..140, 140..INPUTS]
}

fn order() -> Vec<usize> {
    (0..INPUTS).map(|place| place * 7 % INPUTS).collect()
}

/// `|X W - X Q|^2` in float64, with the inputs in `order`.
fn output_error(rows: &[f16], order: &[usize], weight: &[f32], rounded: &Rounded, groups: &[Range<usize>]) -> f64 {
    let group = |input: usize| groups.iter().position(|group| group.contains(&input));
    let back = |input: usize, output: usize| match group(input) {
        Some(group) => f32::from(rounded.integers[input * OUTPUTS + output]) * rounded.scales[group * OUTPUTS + output],
        None => rounded.exact[input * OUTPUTS + output - rounded.integers.len()],
    };
    let wrong: Vec<f64> =
        (0..INPUTS * OUTPUTS).map(|place| f64::from(weight[place] - back(place / OUTPUTS, place % OUTPUTS))).collect();
    let error = |row: &[f16], output: usize| -> f64 {
        order.iter().zip(wrong.iter().skip(output).step_by(OUTPUTS)).map(|(&c, wrong)| row[c].to_f64() * wrong).sum()
    };
    rows.chunks_exact(INPUTS)
        .flat_map(|row| (0..OUTPUTS).map(move |output| (row, output)))
        .map(|(row, output)| error(row, output).powi(2))
        .sum()
}

#[test]
fn output_error_is_less_than_half_of_that_of_independent_rounding() {
    let (rows, weight) = (correlated(), noise(INPUTS * OUTPUTS, 4));
    for order in [order(), (0..INPUTS).collect()] {
        let hessian = Hessian::of(Rows { values: &rows, channels: INPUTS }, &order, INPUTS);
        assert!(hessian.is_factored());
        for clip in [false, true] {
            let error = |hessian: &Hessian| {
                let rounded = round(weight.clone(), OUTPUTS, &groups(), hessian, clip);
                output_error(&rows, &order, &weight, &rounded, &groups())
            };
            let (carried, plain) = (error(&hessian), error(&Hessian::unknown(INPUTS)));
            println!("clip {clip}: output error {carried}, rounded independently {plain}");
            assert!(carried < plain / 2.0, "clip {clip}: output error {carried}, rounded independently {plain}");
        }
    }
}

#[test]
fn uncorrelated_channels_are_rounded_independently() {
    let mut rows = vec![f16::ZERO; INPUTS * INPUTS];
    (0..INPUTS).for_each(|channel| rows[channel * INPUTS + channel] = f16::ONE);
    let hessian = Hessian::of(Rows { values: &rows, channels: INPUTS }, &order(), INPUTS);
    let weight = noise(INPUTS * OUTPUTS, 5);
    let carried = round(weight.clone(), OUTPUTS, &groups(), &hessian, true);
    assert_eq!(carried, round(weight, OUTPUTS, &groups(), &Hessian::unknown(INPUTS), true));
}

#[test]
fn the_factor_matches_the_inverse_of_the_damped_hessian() {
    let rows = correlated();
    let order = order();
    let hessian = Hessian::of(Rows { values: &rows, channels: INPUTS }, &order, INPUTS);
    let factor = hessian.factor().expect("a factor");
    let product = |a: usize, b: usize| -> f64 {
        rows.chunks_exact(INPUTS).map(|row| row[order[a]].to_f64() * row[order[b]].to_f64()).sum()
    };
    let mut damped = vec![0.0; INPUTS * INPUTS];
    (0..INPUTS * INPUTS).for_each(|place| damped[place] = product(place / INPUTS, place % INPUTS));
    let mean = (0..INPUTS).map(|channel| damped[channel * INPUTS + channel]).sum::<f64>() / INPUTS as f64;
    (0..INPUTS).for_each(|channel| damped[channel * INPUTS + channel] += f64::from(hessian::DAMPING[0]) * mean);
    // U H U^T = I
    let upper = |row: usize, column: usize| f64::from(factor[(row, column)]);
    for row in [0, 1, 77, INPUTS - 1] {
        let left: Vec<f64> = (0..INPUTS)
            .map(|column| (row..INPUTS).map(|k| upper(row, k) * damped[k * INPUTS + column]).sum())
            .collect();
        for other in 0..INPUTS {
            let found: f64 = (other..INPUTS).map(|k| left[k] * upper(other, k)).sum();
            let expected = f64::from(u8::from(row == other));
            assert!((found - expected).abs() < 1e-3, "{row}, {other}: {found}");
        }
        assert!((0..row).all(|column| upper(row, column) == 0.0), "upper triangular");
    }
}

#[test]
fn channels_of_zeros_and_invalid_inputs_still_give_valid_weights() {
    let weight = noise(INPUTS * OUTPUTS, 6);
    let plain = round(weight.clone(), OUTPUTS, &groups(), &Hessian::unknown(INPUTS), false);
    let order: Vec<usize> = (0..INPUTS).collect();
    let with = |rows: &[f16]| {
        let hessian = Hessian::of(Rows { values: rows, channels: INPUTS }, &order, INPUTS);
        (hessian.is_factored(), round(weight.clone(), OUTPUTS, &groups(), &hessian, false))
    };
    let mut rows = correlated();
    rows.iter_mut().skip(3).step_by(INPUTS).for_each(|value| *value = f16::ZERO);
    let (factored, rounded) = with(&rows);
    assert!(factored && rounded.scales.iter().all(|scale| scale.is_finite() && *scale > 0.0));
    for rows in [vec![], vec![f16::ZERO; INPUTS * 5], vec![f16::NAN; INPUTS * 5]] {
        assert_eq!(with(&rows), (false, plain.clone()));
    }
}

#[test]
fn exact_channels_compensate_for_the_errors_of_the_others() {
    const ROUNDED: usize = 140;
    let rows = correlated();
    let order = order();
    let weight = noise(INPUTS * OUTPUTS, 7);
    let groups = vec![0..6, 6..ROUNDED];
    let hessian = Hessian::of(Rows { values: &rows, channels: INPUTS }, &order, ROUNDED);
    let round = |hessian: &Hessian| round(weight.clone(), OUTPUTS, &groups, hessian, true);
    let unchanged = &weight[ROUNDED * OUTPUTS..];
    let plain = round(&Hessian::unknown(INPUTS));
    assert_eq!((plain.integers.len(), &plain.exact[..]), (ROUNDED * OUTPUTS, unchanged));

    let carried = round(&hessian);
    let with_exact = output_error(&rows, &order, &weight, &carried, &groups);
    let without = Rounded { exact: unchanged.to_vec(), ..carried };
    let without = output_error(&rows, &order, &weight, &without, &groups);
    assert!(with_exact < 0.9 * without, "{with_exact} with compensation, {without} without");
}
