//! Widens weights to bfloat16, multiplied by their scales.

use std::ops::Range;

use super::rows::PackedLayout;
use super::{STRIPS, Widened, Work};
use crate::layout::{PANEL, QUAD};
use crate::simd::Simd as _;
use crate::simd::bf16::{self, Bf16};
use crate::tiles::{SIDE, STEP};

/// Weights of a quad in a panel.
const QUAD_WEIGHTS: usize = PANEL * QUAD;
/// Quads of a step.
const STEP_QUADS: usize = STEP / QUAD;
/// How many bytes ahead weights are prefetched.
const PREFETCH: usize = 2048;

/// The widening of some steps of a panel, a few quads at a time.
pub(super) struct Widening<'a, B: Bf16> {
    bf16: B,
    layout: &'a PackedLayout,
    /// Of the panel: `[quads, 32, 4]`.
    weights: &'a [i8],
    /// Of the panel: `[groups, 2, 32]`.
    scales: &'a [f32],
    /// The next quad in a packed row, and the end.
    quads: Range<usize>,
    /// The group of the next quad, unless it is padding.
    group: usize,
    group_scales: [B::Scales; STRIPS],
    /// The first quad of `to`.
    first: usize,
    to: &'a mut Widened,
}

impl<'a, B: Bf16> Widening<'a, B> {
    #[inline(always)]
    pub(super) fn new(bf16: B, work: &Work<'a>, panel: usize, steps: Range<usize>, to: &'a mut Widened) -> Self {
        let layout = work.rows.layout;
        let weights = work.weights;
        let row_bytes = weights.layout.row_bytes();
        let quads = steps.start * STEP_QUADS..steps.end * STEP_QUADS;
        let group = layout.groups.partition_point(|group| group.quads.end <= quads.start);
        let row_scales = 2 * PANEL * layout.groups.len();
        let none = bf16.scales(&[0.0; bf16::COLUMNS]);
        let mut widening = Self {
            bf16,
            layout,
            weights: &weights.weights[panel * PANEL * row_bytes..][..PANEL * row_bytes],
            scales: &weights.scales[panel * row_scales..][..row_scales],
            first: quads.start,
            quads,
            group,
            group_scales: [none; STRIPS],
            to,
        };
        widening.load_scales();
        widening
    }

    /// The number of quads that are left.
    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.quads.len()
    }

    #[inline(always)]
    fn load_scales(&mut self) {
        if self.left() > 0 && self.group < self.layout.groups.len() {
            let scales = &self.scales[self.group * 2 * PANEL..][..PANEL];
            self.group_scales = [self.bf16.scales(scales), self.bf16.scales(&scales[SIDE..])];
        }
    }

    /// Widens up to `count` quads.
    #[inline(always)]
    pub(super) fn advance(&mut self, count: usize) {
        for _ in 0..count.min(self.left()) {
            let quad = self.quads.start;
            self.quads.start += 1;
            let within = quad - self.first;
            let tiles = &mut self.to[within / STEP_QUADS * STRIPS..][..STRIPS];
            let at = within % STEP_QUADS * 2 * STEP;
            let Some(group) = self.layout.groups.get(self.group) else {
                tiles.iter_mut().for_each(|tile| tile.0[at..][..2 * STEP].fill(0));
                continue;
            };
            let first_weight = (group.first_weight + quad - group.quads.start) * QUAD_WEIGHTS;
            let weights = &self.weights[first_weight..][..QUAD_WEIGHTS];
            for strip in 0..STRIPS {
                let weights = &weights[strip * QUAD_WEIGHTS / STRIPS..];
                self.bf16.simd().prefetch(weights.as_ptr().wrapping_add(PREFETCH));
                self.bf16.widen(weights, self.group_scales[strip], &mut tiles[strip].0[at..]);
            }
            if quad + 1 == group.quads.end {
                self.group += 1;
                self.load_scales();
            }
        }
    }
}
