//! Sums and products of values at the same place.

use crate::activation::Activation;
use crate::simd::{Simd, Vectorized};

/// Adds `input` to `values`.
pub(super) struct AddRows<'a> {
    pub(super) input: &'a [f32],
    pub(super) values: &'a mut [f32],
}

impl Vectorized for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (to, from) in self.values.chunks_mut(S::LANES).zip(self.input.chunks(S::LANES)) {
            s.store_part(to, s.add(s.load_part(to), s.load_part(from)));
        }
    }
}

/// Computes `activation(x) * y`: a row of `input` has `channels` values `x`, then `channels` values `y`.
pub(super) struct GateRows<'a> {
    pub(super) activation: Activation,
    pub(super) input: &'a [f32],
    pub(super) channels: usize,
    pub(super) rows: &'a mut [f32],
}

impl Vectorized for GateRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.rows.chunks_exact_mut(self.channels).zip(self.input.chunks_exact(2 * self.channels));
        for (row, input) in rows {
            let (gate, values) = input.split_at(self.channels);
            let sources = gate.chunks(S::LANES).zip(values.chunks(S::LANES));
            for (to, (gate, values)) in row.chunks_mut(S::LANES).zip(sources) {
                let gate = self.activation.apply(s, s.load_part(gate));
                s.store_part(to, s.mul(gate, s.load_part(values)));
            }
        }
    }
}

/// Applies `activation` to `values`.
pub(super) struct Activate<'a> {
    pub(super) activation: Activation,
    pub(super) values: &'a mut [f32],
}

impl Vectorized for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for values in self.values.chunks_mut(S::LANES) {
            s.store_part(values, self.activation.apply(s, s.load_part(values)));
        }
    }
}
