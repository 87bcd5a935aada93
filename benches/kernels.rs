//! The kernels alone, with every instruction set of this CPU: `cargo bench --bench kernels`. Throughput is in elements:
//! multiplications for linear layers and attention, floats written for the others. Each linear layer is followed by its
//! share of this CPU's peak.

#[path = "kernels/peak.rs"] // next to this file, it would be a benchmark of its own
mod peak;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use embedd_kernels::{
    Activation, AttentionInput, Distances, EmbeddingTables, Heads, InstructionSet, Kernels, LinearWeights, Norm,
    NormKind, Offsets, PANEL, PageBuffer, Parallel, PoolingRule, PositionRule, Reach, RowLayout, Scratch, Serial,
};

const HEADS: usize = 12;
const SIZE: usize = 64;
const CHANNELS: usize = HEADS * SIZE;

fn available() -> impl Iterator<Item = Kernels> {
    InstructionSet::ALL.into_iter().filter_map(Kernels::of)
}

/// Pseudorandom numbers between -1 and 1.
fn floats(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn one_text(tokens: usize) -> Offsets {
    Offsets::new(&[0, tokens as i64], tokens).expect("offsets")
}

/// Starts new threads for every call, which takes about 50 microseconds. That is negligible only for long texts.
struct Scoped(usize);

impl Parallel for Scoped {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            while let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                && index < count
            {
                task(index);
            }
        };
        std::thread::scope(|scope| {
            (1..self.0).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }
}

/// A linear layer with random weights, aligned to 64 bytes like those of a model.
struct Layer {
    layout: RowLayout,
    outputs: usize,
    gelu: bool,
    weights: PageBuffer,
    scales: PageBuffer,
    bias: Vec<f32>,
}

impl Layer {
    fn random(inputs: usize, outputs: usize, split: usize, gelu: bool) -> Self {
        let layout = RowLayout { inputs, split, group: 128 };
        let columns = outputs.next_multiple_of(PANEL);
        let buffer = |values: &[u8]| {
            let mut buffer = PageBuffer::zeroed(values.len()).expect("memory");
            buffer.copy_from_slice(values);
            buffer
        };
        let weights: Vec<u8> =
            (0..(columns * layout.row_bytes()) as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let scales = floats(columns * layout.group_count() * 2);
        Self {
            layout,
            outputs,
            gelu,
            weights: buffer(&weights),
            scales: buffer(bytemuck::cast_slice(&scales)),
            bias: floats(columns),
        }
    }

    /// The four linear layers in each layer of all-mpnet-base-v2: queries, keys and values; attention output; up; down.
    fn of_mpnet() -> [Self; 4] {
        [
            Self::random(CHANNELS, 3 * CHANNELS, 16, false),
            Self::random(CHANNELS, CHANNELS, 0, false),
            Self::random(CHANNELS, 4 * CHANNELS, 16, true),
            Self::random(4 * CHANNELS, CHANNELS, 16, false),
        ]
    }

    fn weights(&self) -> LinearWeights<'_> {
        let weights = bytemuck::cast_slice(&self.weights);
        let scales = bytemuck::cast_slice(&self.scales);
        LinearWeights::new(self.layout, self.outputs, weights, scales, &self.bias).expect("shapes")
    }

    fn activation(&self) -> Option<Activation> {
        self.gelu.then_some(Activation::Gelu)
    }

    /// Multiplications per row. A 16-bit channel takes two, but counts as one.
    fn products(&self) -> usize {
        self.layout.inputs * self.outputs
    }

    fn name(&self) -> String {
        format!("{}->{}{}", self.layout.inputs, self.outputs, if self.gelu { " gelu" } else { "" })
    }
}

/// One thread, including quantization of the activations. The weights stay in the CPU's caches from call to call. In a
/// model, which has many layers, they do not, so small batches are limited by memory bandwidth. `cargo bench --bench
/// engine` measures that.
fn linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for kernels in available() {
        let peak = peak::peak(kernels.instruction_set());
        for layer in Layer::of_mpnet() {
            for rows in [1, 11, 64, 128, 384] {
                let weights = layer.weights();
                let mut scratch = Scratch::default();
                let input = floats(rows * layer.layout.inputs);
                let mut output = vec![0.0; rows * layer.outputs];
                let products = rows * layer.products();
                group.throughput(Throughput::Elements(products as u64));
                let name = BenchmarkId::new(format!("{} {}", kernels.instruction_set(), layer.name()), rows);
                let mut fastest = Duration::MAX;
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|calls| {
                        let mut total = Duration::ZERO;
                        for _ in 0..calls {
                            let started = Instant::now();
                            let output = black_box(&mut output[..]);
                            kernels.linear(&Serial, &input, &weights, layer.activation(), &mut scratch, output);
                            let elapsed = started.elapsed();
                            fastest = fastest.min(elapsed);
                            total += elapsed;
                        }
                        total
                    });
                });
                print_share(products, fastest, peak);
            }
        }
    }
    group.finish();
}

/// Compares the fastest call with the peak, which is also a best case. Prints nothing if no benchmark ran.
fn print_share(products: usize, fastest: Duration, peak: Option<f64>) {
    let giga = products as f64 / fastest.as_secs_f64() / 1e9;
    match peak.map(|peak| peak / 1e9) {
        _ if fastest == Duration::MAX => {}
        Some(peak) => println!("    at best {giga:.1} GMAC/s, {:.0} % of {peak:.0}", 100.0 * giga / peak),
        None => println!("    at best {giga:.1} GMAC/s"),
    }
}

fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    let farthest = 511;
    let table = floats(HEADS * (2 * farthest + 1));
    let distances = Distances::Bias { table: &table, farthest };
    let heads = Heads { query: HEADS, key: HEADS, size: SIZE };
    for kernels in available() {
        for tokens in [11, 64, 128, 384] {
            let qkv = floats(tokens * 3 * CHANNELS);
            let mut output = vec![0.0; tokens * CHANNELS];
            let squared_divisor = SIZE as f32;
            let input = AttentionInput { qkv: &qkv, heads, squared_divisor, reach: Reach::WHOLE_TEXT, distances };
            group.throughput(Throughput::Elements(2 * (tokens * tokens * CHANNELS) as u64));
            let thread_counts: &[usize] = if tokens > 100 { &[1, 2] } else { &[1] };
            for &threads in thread_counts {
                let name = format!("{}/{threads} threads", kernels.instruction_set());
                let parallel: &dyn Parallel = if threads == 1 { &Serial } else { &Scoped(threads) };
                group.bench_function(BenchmarkId::new(name, tokens), |bencher| {
                    bencher.iter(|| kernels.attention(parallel, &input, &one_text(tokens), black_box(&mut output)));
                });
            }
        }
    }
    group.finish();
}

fn residual_norm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("residual_norm");
    let weight = floats(CHANNELS);
    let bias = floats(CHANNELS);
    let norm = Norm { kind: NormKind::Layer, weight: &weight, bias: &bias, epsilon: 1e-5 };
    for kernels in available() {
        for tokens in [11, 384] {
            let residual = floats(tokens * CHANNELS);
            let mut output = floats(tokens * CHANNELS);
            group.throughput(Throughput::Elements(output.len() as u64));
            group.bench_function(BenchmarkId::new(kernels.instruction_set().name(), tokens), |bencher| {
                bencher.iter(|| kernels.residual_norm(&Serial, &residual, norm, black_box(&mut output)));
            });
        }
    }
    group.finish();
}

fn embed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("embed");
    let weight = floats(CHANNELS);
    let bias = floats(CHANNELS);
    let words: Vec<i8> = (0..1000 * CHANNELS).map(|i| (i % 255) as i8).collect();
    let word_scales = floats(1000 * CHANNELS / 64);
    let positions = floats(514 * CHANNELS);
    let tables = EmbeddingTables {
        words: &words,
        word_scales: &word_scales,
        word_group: 64,
        positions: &positions,
        position_rule: PositionRule::SkippingPadding { padding: 1 },
        channels: CHANNELS,
        norm: Some(Norm { kind: NormKind::Layer, weight: &weight, bias: &bias, epsilon: 1e-5 }),
    };
    for kernels in available() {
        for tokens in [11, 384] {
            let ids: Vec<i64> = (0..tokens as i64).map(|i| i * 37 % 1000).collect();
            let mut output = vec![0.0; tokens * CHANNELS];
            group.throughput(Throughput::Elements(output.len() as u64));
            group.bench_function(BenchmarkId::new(kernels.instruction_set().name(), tokens), |bencher| {
                bencher.iter(|| kernels.embed(&Serial, &ids, &one_text(tokens), &tables, black_box(&mut output)));
            });
        }
    }
    group.finish();
}

fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    for kernels in available() {
        for tokens in [11, 384] {
            let states = floats(tokens * CHANNELS);
            let mut output = vec![0.0; CHANNELS];
            group.throughput(Throughput::Elements(states.len() as u64));
            group.bench_function(BenchmarkId::new(kernels.instruction_set().name(), tokens), |bencher| {
                let offsets = one_text(tokens);
                bencher.iter(|| kernels.pool(&states, &offsets, &[0], &[PoolingRule::Mean], black_box(&mut output)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, linear, attention, residual_norm, embed, pool);
criterion_main!(benches);
