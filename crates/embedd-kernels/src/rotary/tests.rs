//! Compares with the definition in float64.

use super::*;
use crate::testing::{Numbers, Shuffled, every_available};
use crate::{NormKind, Serial};

const HEADS: Heads = Heads { query: 4, key: 2, size: 24 };
const THETA: f32 = 10_000.0;

fn rotations(positions: usize) -> Rotations {
    let mut rotations = Rotations::new(THETA, HEADS.size);
    rotations.extend_to(positions);
    rotations
}

fn transform(rotations: &Rotations) -> HeadTransform<'_> {
    HeadTransform { heads: HEADS, norms: None, rotations: Some(rotations) }
}

#[test]
fn queries_and_keys_are_rotated_by_their_position() {
    let offsets = Offsets::new(&[0, 5, 7], 7).expect("offsets");
    let values = Numbers::new(1).floats(7 * HEADS.row());
    let rotations = rotations(5);
    every_available(|kernels| {
        let mut found = values.clone();
        kernels.transform_heads(&Serial, &transform(&rotations), &offsets, &mut found);
        for (token, position) in [0, 1, 2, 3, 4, 0, 1].into_iter().enumerate() {
            for head in 0..HEADS.query + 2 * HEADS.key {
                let start = token * HEADS.row() + head * HEADS.size;
                for pair in 0..HEADS.size / 2 {
                    let (x, y) = (f64::from(values[start + pair]), f64::from(values[start + pair + HEADS.size / 2]));
                    let angle = f64::from(position) / f64::from(THETA).powf(2.0 * pair as f64 / HEADS.size as f64);
                    let angle = if head < HEADS.query + HEADS.key { angle } else { 0.0 };
                    let expected = [x * angle.cos() - y * angle.sin(), y * angle.cos() + x * angle.sin()];
                    for (at, expected) in [pair, pair + HEADS.size / 2].into_iter().zip(expected) {
                        let error = (f64::from(found[start + at]) - expected).abs();
                        assert!(error < 1e-6, "token {token}, head {head}, channel {at}: {error}");
                    }
                }
            }
        }
    });
}

#[test]
fn queries_and_keys_are_normalized_by_head() {
    let mut numbers = Numbers::new(2);
    let weights = [numbers.floats(HEADS.size), numbers.floats(HEADS.size)];
    let bias = vec![0.0; HEADS.size];
    let norms = weights.each_ref().map(|weight| Norm { kind: NormKind::Rms, weight, bias: &bias, epsilon: 1e-6 });
    let offsets = Offsets::new(&[0, 3], 3).expect("offsets");
    let values = numbers.floats(3 * HEADS.row());
    every_available(|kernels| {
        let mut found = values.clone();
        let transform = HeadTransform { heads: HEADS, norms: Some(norms), rotations: None };
        kernels.transform_heads(&Serial, &transform, &offsets, &mut found);
        for (index, (found, values)) in found.chunks(HEADS.size).zip(values.chunks(HEADS.size)).enumerate() {
            let head = index % (HEADS.query + 2 * HEADS.key);
            let mut expected = values.to_vec();
            if head < HEADS.query + HEADS.key {
                let norm = norms[usize::from(head >= HEADS.query)];
                kernels.norm_in_place(&Serial, norm, &mut expected);
            }
            assert_eq!(found, expected, "head {head}");
        }
    });
}

#[test]
fn a_row_has_the_same_bits_for_any_number_of_threads_and_positions() {
    let offsets = Offsets::new(&[0, 150, 400], 400).expect("offsets");
    let values = Numbers::new(3).floats(400 * HEADS.row());
    let (short, long) = (rotations(250), rotations(1000));
    every_available(|kernels| {
        let mut alone = values.clone();
        kernels.transform_heads(&Serial, &transform(&short), &offsets, &mut alone);
        let mut shared = values.clone();
        kernels.transform_heads(&Shuffled { threads: 3, seed: 1 }, &transform(&long), &offsets, &mut shared);
        assert!(alone.iter().zip(&shared).all(|(a, b)| a.to_bits() == b.to_bits()));
    });
}

#[test]
fn positions_are_added_to_those_that_exist() {
    let mut grown = rotations(3);
    grown.extend_to(10);
    grown.extend_to(5);
    assert_eq!(grown, rotations(10));
}
