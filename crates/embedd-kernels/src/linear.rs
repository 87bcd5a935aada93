//! Quantized linear layers: quantize the input, multiply it by the packed weights, apply the activation.
#![allow(unsafe_code)]

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other architecture has tiles"))]
mod bf16;
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod matrix;
mod products;
mod quantize;
mod tile;

use std::ops::Range;

use super::activation::Activation;
use super::disjoint::Disjoint;
use super::layout::{Group, QUAD};
use super::parallel::{run_each_once, share_out};
use super::tiles::{Tile, TileKernels};
use super::{Kernels, LinearWeights, Parallel};
use products::{ByteProducts, ProductWork};

/// The number of multiplications that justifies another thread: about 10 microseconds of work, a few times the cost of
/// handing it over.
const WORTH_A_THREAD: usize = 2 << 20;
/// The number of multiplications that take as long as loading one weight from memory.
const PRODUCTS_PER_LOAD: usize = 12;
/// The number of values whose quantization justifies another thread.
const VALUES_PER_TASK: usize = 16 << 10;
/// Tasks per thread if there are enough panels and rows. With several tasks per thread, a slow thread hardly delays the
/// others.
const TASKS_PER_THREAD: usize = 4;

/// Memory for activations as products take them, reused between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    /// `[rows, width * row_bytes]`, after up to 63 bytes.
    bytes: Vec<u8>,
    /// `[rows, groups, 2]`.
    factors: Vec<f32>,
    /// Rows in bfloat16: the input, and the input of the next layer.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other architecture has tiles"))]
    tiles: [Vec<Tile>; 2],
}

/// The size and alignment of a cache line. Rows of whole cache lines are loaded fastest if they begin with one.
const CACHE_LINE: usize = 64;

/// The number of rows per task is a multiple of this: a few tiles on every instruction set.
const TILE_ROWS: usize = 24;

/// A way to multiply. It is chosen once for each product.
#[derive(Clone, Copy)]
struct ProductKernel<'a> {
    /// The number of rows per task is a multiple of this; so is the number of rows for which there is memory.
    rows: usize,
    /// Each group of a quantized row is padded with zeros to a multiple of this many integers.
    group: usize,
    /// How many bytes an integer of a quantized row takes: see [`ByteProducts::WIDTH`].
    width: usize,
    run: &'a (dyn Fn(Task<'_>) + Sync),
}

/// A linear layer and its input.
#[derive(Clone, Copy)]
struct Layer<'a> {
    kernels: Kernels,
    /// `[rows, inputs]`.
    input: &'a [f32],
    weights: &'a LinearWeights<'a>,
    activation: Option<Activation>,
}

/// The quantized input of a linear layer.
#[derive(Clone, Copy)]
struct QuantizedRows<'a> {
    /// `[rows, width * row_bytes]`.
    bytes: &'a [u8],
    row_bytes: usize,
    /// The groups of a row before it is widened.
    #[cfg_attr(
        not(any(test, all(target_arch = "x86_64", target_os = "linux"))),
        allow(dead_code, reason = "read only by kernels of matrices")
    )]
    groups: &'a [Group],
    /// `[rows, groups, 2]`: the scale, and minus the scale times the zero point.
    factors: &'a [f32],
}

/// The data that all tasks of a product share.
struct Work<'a> {
    input: QuantizedRows<'a>,
    weights: &'a LinearWeights<'a>,
    /// The groups of the packed weights.
    groups: &'a [Group],
    activation: Option<Activation>,
}

impl Kernels {
    /// Computes `W x + bias` for every row `x` of `input`, and its activation if there is one. `input` is float32
    /// `[tokens, inputs]`. `output` is float32 `[tokens, outputs]`.
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn linear(
        self,
        parallel: &dyn Parallel,
        input: &[f32],
        weights: &LinearWeights<'_>,
        activation: Option<Activation>,
        scratch: &mut Scratch,
        output: &mut [f32],
    ) {
        let layer = Layer { kernels: self, input, weights, activation };
        layer.check(output);
        if let Some(kernels) = self.tiles() {
            return layer.run_on_tiles(kernels, parallel, scratch, output);
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if matrix::amx::is_worth_using(self, layer.rows()) {
            let run = |task: Task<'_>| matrix::amx::run(self, task);
            return layer.run(parallel, matrix::kernel(&run), scratch, output);
        }
        let width = self.dispatch_products(Width);
        let run = |task: Task<'_>| self.dispatch_products(task);
        layer.run(parallel, ProductKernel { rows: TILE_ROWS, group: QUAD, width, run: &run }, scratch, output);
    }

    /// Computes the first half of `second(activation(first(x)))` for every row `x` of `input`; [`Second::linear`]
    /// computes the second half. Together they have the bits of two calls of [`Kernels::linear`]. `between` is memory for
    /// float32 `[tokens, outputs of first]`.
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn first_linear<'a>(
        self,
        parallel: &dyn Parallel,
        input: &[f32],
        [first, second]: [&'a LinearWeights<'a>; 2],
        activation: Option<Activation>,
        scratch: &'a mut Scratch,
        between: &'a mut [f32],
    ) -> Second<'a> {
        assert_eq!(first.outputs, second.layout.inputs, "the layers must fit together");
        let layer = Layer { kernels: self, input, weights: first, activation };
        let rows = match self.tiles() {
            Some(kernels) if bf16::takes_packed_rows(second) => {
                layer.check(between);
                Between::Packed(kernels, layer.run_for_next_on_tiles(second, kernels, parallel, scratch))
            }
            _ => {
                self.linear(parallel, input, first, activation, scratch, between);
                Between::Floats(between, scratch)
            }
        };
        Second { kernels: self, rows, weights: second }
    }
}

/// The second of two linear layers, with its input; see [`Kernels::first_linear`].
#[must_use]
pub struct Second<'a> {
    kernels: Kernels,
    rows: Between<'a>,
    weights: &'a LinearWeights<'a>,
}

/// What is between two linear layers.
enum Between<'a> {
    Floats(&'a [f32], &'a mut Scratch),
    Packed(TileKernels, bf16::Packed<'a>),
}

impl Second<'_> {
    /// Computes the product. `output` is float32 `[tokens, outputs]`.
    ///
    /// # Panics
    /// If the output does not have its documented shape.
    pub fn linear(self, parallel: &dyn Parallel, output: &mut [f32]) {
        match self.rows {
            Between::Floats(input, scratch) => {
                self.kernels.linear(parallel, input, self.weights, None, scratch, output);
            }
            Between::Packed(kernels, rows) => rows.multiply(kernels, parallel, self.weights, output),
        }
    }
}

impl Layer<'_> {
    fn rows(&self) -> usize {
        self.input.len() / self.weights.layout.inputs
    }

    fn check(&self, output: &[f32]) {
        let rows = self.rows();
        assert_eq!(self.input.len(), rows * self.weights.layout.inputs, "the input must be [tokens, inputs]");
        assert_eq!(output.len(), rows * self.weights.outputs, "the output must be [tokens, outputs]");
    }

    fn run(self, parallel: &dyn Parallel, kernel: ProductKernel<'_>, scratch: &mut Scratch, output: &mut [f32]) {
        let Self { weights, activation, .. } = self;
        let rows = self.rows();
        let groups = weights.layout.groups();
        let padded_groups = (kernel.group != QUAD).then(|| weights.layout.padded_groups(kernel.group));
        let row_groups = padded_groups.as_deref().unwrap_or(&groups);
        let input = self.quantize(parallel, row_groups, kernel, scratch);
        let work = Work { input, weights, groups: &groups, activation };
        let partition = Partition::of(rows, kernel.rows, weights, parallel.threads());
        let output = Disjoint::new(output);
        run_each_once(parallel, partition.tasks(), &|task| {
            let (panels, rows) = partition.task(task);
            (kernel.run)(Task { work: &work, panels, rows, output: &output });
        });
    }

    fn quantize<'s>(
        &self,
        parallel: &dyn Parallel,
        groups: &'s [Group],
        kernel: ProductKernel<'_>,
        scratch: &'s mut Scratch,
    ) -> QuantizedRows<'s> {
        let inputs = self.weights.layout.inputs;
        let rows = self.rows();
        let row_bytes = groups.last().map_or(0, |group| group.bytes.end);
        let row_factors = 2 * groups.len();
        let padded_rows = rows.next_multiple_of(kernel.rows);
        let stride = kernel.width * row_bytes;
        let bytes = grow_to(&mut scratch.bytes, padded_rows * stride + CACHE_LINE);
        let start = bytes.as_ptr().align_offset(CACHE_LINE);
        let bytes = &mut bytes[start..][..padded_rows * stride];
        let factors = grow_to(&mut scratch.factors, padded_rows * row_factors);
        let rows_per_task = (VALUES_PER_TASK / inputs).max(rows.div_ceil(parallel.threads())).max(1);
        let parts = self
            .input
            .chunks(rows_per_task * inputs)
            .zip(bytes.chunks_mut(rows_per_task * stride))
            .zip(factors.chunks_mut(rows_per_task * row_factors));
        share_out(parallel, parts, &|_, ((input, bytes), factors)| {
            self.kernels.dispatch(quantize::Rows { input, inputs, groups, bytes, stride, factors });
            if kernel.width > 1 {
                self.kernels.dispatch_products(WidenRows { rows: &mut bytes[..input.len() / inputs * stride], stride });
            }
        });
        QuantizedRows { bytes, row_bytes, groups, factors }
    }
}

/// The first `length` elements of `memory`, which grows if necessary. Existing elements are not cleared.
fn grow_to<T: Copy + Default>(memory: &mut Vec<T>, length: usize) -> &mut [T] {
    if memory.len() < length {
        memory.resize(length, T::default());
    }
    &mut memory[..length]
}

/// The width of an integer of a row.
struct Width;

impl ProductWork for Width {
    type Output = usize;

    #[inline(always)]
    fn run<P: ByteProducts>(self, _products: P) -> usize {
        P::WIDTH
    }
}

/// Widens rows of `stride` bytes.
struct WidenRows<'a> {
    rows: &'a mut [u8],
    stride: usize,
}

impl ProductWork for WidenRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ByteProducts>(self, products: P) {
        for row in self.rows.chunks_exact_mut(self.stride) {
            products.widen(row);
        }
    }
}

/// The product of a range of rows with a range of panels.
struct Task<'a> {
    work: &'a Work<'a>,
    panels: Range<usize>,
    rows: Range<usize>,
    output: &'a Disjoint<'a, f32>,
}

impl ProductWork for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<P: ByteProducts>(self, products: P) {
        for panel in self.panels.clone() {
            let next = Some(panel + 1).filter(|next| self.panels.contains(next));
            // SAFETY: each pair of a row and a panel belongs to exactly one task.
            unsafe { tile::panel(products, self.work, panel, next, self.rows.clone(), self.output) };
        }
    }
}

#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
impl Task<'_> {
    #[inline(always)]
    fn run_on_matrices<S: matrix::FromSums, M: matrix::Matrices>(self, s: S, registers: M) {
        let mut kernel = matrix::MatrixKernel::new(s, registers, self.work);
        for panel in self.panels {
            // SAFETY: each pair of a row and a panel belongs to exactly one task.
            unsafe { kernel.panel(panel, self.rows.clone(), self.output) };
        }
    }
}

/// How a product is divided into tasks: a single task, or a few for each thread. If there are few panels, each task
/// computes only part of the rows.
///
/// The panels of a task are adjacent. Hardware prefetchers read past the end of what a thread uses: if another thread's
/// panel follows, the cores compete for its cache lines, which costs up to a third of the speed.
struct Partition {
    panels: usize,
    /// Threads that share the panels.
    workers: usize,
    rows: usize,
    rows_per_task: usize,
}

/// The eighths of the panels that are divided among the threads by the end of each round. A thread that is delayed in
/// the first round does less in the second.
const ROUNDS: [usize; 3] = [0, 6, 8];

impl Partition {
    /// The rows of each task are a multiple of `block`.
    fn of(rows: usize, block: usize, weights: &LinearWeights<'_>, threads: usize) -> Self {
        let panels = weights.panels();
        let products = (rows + PRODUCTS_PER_LOAD) * weights.layout.row_bytes() * weights.outputs;
        let workers = (products / WORTH_A_THREAD).clamp(1, threads);
        if workers == 1 {
            return Self { panels, workers, rows, rows_per_task: rows.max(1) };
        }
        let row_parts = (workers * TASKS_PER_THREAD).div_ceil(panels).min(rows.div_ceil(block)).max(1);
        let rows_per_task = rows.div_ceil(row_parts).next_multiple_of(block);
        Self { panels, workers, rows, rows_per_task }
    }

    fn panel_parts(&self) -> usize {
        if self.workers == 1 { 1 } else { self.workers * (ROUNDS.len() - 1) }
    }

    fn tasks(&self) -> usize {
        self.panel_parts() * self.rows.div_ceil(self.rows_per_task)
    }

    fn task(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let row_part = task / self.panel_parts();
        let rows = row_part * self.rows_per_task..((row_part + 1) * self.rows_per_task).min(self.rows);
        (self.panels_of(task % self.panel_parts()), rows)
    }

    fn panels_of(&self, part: usize) -> Range<usize> {
        if self.workers == 1 {
            return 0..self.panels;
        }
        let round = part / self.workers;
        let [first, last] = [ROUNDS[round], ROUNDS[round + 1]];
        let start = |worker: usize| self.panels * (first * self.workers + worker * (last - first)) / (8 * self.workers);
        let worker = part % self.workers;
        start(worker)..start(worker + 1)
    }
}

#[cfg(test)]
mod tests;
