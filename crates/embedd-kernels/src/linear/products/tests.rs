use super::*;
use crate::testing::{Numbers, every_available};

/// The byte products of a tile with `ROWS` rows.
struct Products<'a, const ROWS: usize>(Operands<'a>);

impl<const ROWS: usize> ProductWork for Products<'_, ROWS> {
    type Output = Vec<Vec<f32>>;

    #[inline(always)]
    fn run<P: ByteProducts>(self, products: P) -> Self::Output {
        if ROWS > P::MAX_ROWS {
            return Vec::new();
        }
        let s = products.floats();
        let stride = P::WIDTH * self.0.stride;
        let mut rows = vec![0; ROWS * stride];
        for (bytes, memory) in self.0.bytes.chunks(self.0.stride).zip(rows.chunks_exact_mut(stride)) {
            memory[stride - bytes.len()..].copy_from_slice(bytes);
            products.widen(memory);
        }
        let products = products.byte_products::<ROWS>(Operands { bytes: &rows, stride, ..self.0 });
        let mut out = Vec::new();
        for row in products {
            let mut floats = vec![0.0; 2 * P::Floats::LANES];
            s.store(&mut floats, row[0]);
            s.store(&mut floats[P::Floats::LANES..], row[1]);
            out.push(floats);
        }
        out
    }
}

fn check_products<const ROWS: usize>(
    kernels: Kernels,
    (high_quads, quads): (usize, usize),
    bytes: &[u8],
    weights: &[i8],
) {
    let stride = 4 * quads + 8;
    let operands = Operands { bytes, stride, weights, quads, high_quads, ahead: Ahead { bytes: &[], step: 0 } };
    let found = kernels.dispatch_products(Products::<ROWS>(operands));
    for (row, found) in found.iter().enumerate() {
        for (column, &found) in found.iter().enumerate() {
            let product = |byte: usize| {
                let weight = weights[byte / 4 * 4 * PANEL + column * 4 + byte % 4];
                let factor = if byte < 4 * high_quads { 256 } else { 1 };
                factor * i32::from(bytes[row * stride + byte]) * i32::from(weight)
            };
            // Sums beyond 2^24 are rounded once, by the conversion of the integer to the nearest float.
            let expected = (0..4 * quads).map(product).sum::<i32>() as f32;
            assert_eq!(
                found, expected,
                "{kernels:?}: row {row} of {ROWS}, column {column}, {high_quads} of {quads} quads"
            );
        }
    }
}

#[test]
fn sums_of_integers_are_exact() {
    every_available(|kernels| {
        let mut numbers = Numbers::new(2);
        let sizes = (1..=40).map(|quads| (0, quads)).chain([(0, 128), (1, 2), (4, 8), (3, 40), (64, 128)]);
        for (high_quads, quads) in sizes {
            let random: Vec<u8> = (0..6 * (4 * quads + 8)).map(|_| numbers.below(256) as u8).collect();
            let weights: Vec<i8> = (0..quads * 4 * PANEL).map(|_| (numbers.below(256) as i32 - 128) as i8).collect();
            let cases = [
                (random.clone(), weights),
                // An instruction that adds in 16 bits would saturate here.
                (vec![255; random.len()], vec![127; quads * 4 * PANEL]),
                (vec![255; random.len()], vec![-128; quads * 4 * PANEL]),
            ];
            for (bytes, weights) in cases {
                check_products::<1>(kernels, (high_quads, quads), &bytes, &weights);
                check_products::<2>(kernels, (high_quads, quads), &bytes, &weights);
                check_products::<3>(kernels, (high_quads, quads), &bytes, &weights);
                check_products::<4>(kernels, (high_quads, quads), &bytes, &weights);
                check_products::<5>(kernels, (high_quads, quads), &bytes, &weights);
                check_products::<6>(kernels, (high_quads, quads), &bytes, &weights);
            }
        }
    });
}
