//! The kernels by themselves, for every instruction set of this CPU: `cargo bench --bench kernels`. Throughput is told
//! in elements: multiplications for attention, floats written for the others.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use embedd::kernels::{
    AttentionInput, DistanceBias, EmbeddingTables, InstructionSet, Kernels, LayerNorm, Offsets, Parallel, PoolingRule,
    PositionRule, Serial,
};

const HEADS: usize = 12;
const SIZE: usize = 64;
const CHANNELS: usize = HEADS * SIZE;

fn available() -> impl Iterator<Item = Kernels> {
    InstructionSet::ALL.into_iter().filter_map(Kernels::of)
}

/// Numbers between -1 and 1 that look random.
fn floats(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn one_text(tokens: usize) -> Offsets {
    Offsets::new(&[0, tokens as i64], tokens).expect("offsets")
}

/// Starts its threads anew for every call: some 50 microseconds, which only long texts forgive.
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

fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    let farthest = 511;
    let table = floats(HEADS * (2 * farthest + 1));
    let bias = Some(DistanceBias { table: &table, farthest });
    for kernels in available() {
        for tokens in [11, 64, 128, 384] {
            let qkv = floats(tokens * 3 * CHANNELS);
            let mut output = vec![0.0; tokens * CHANNELS];
            let input = AttentionInput { qkv: &qkv, heads: HEADS, bias };
            group.throughput(Throughput::Elements(2 * (tokens * tokens * CHANNELS) as u64));
            let two_threads: &[usize] = if tokens > 100 { &[1, 2] } else { &[1] };
            for &threads in two_threads {
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

fn gelu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gelu");
    for kernels in available() {
        let values: Vec<f32> = floats(4096).iter().map(|x| x * 4.0).collect();
        let mut output = values.clone();
        group.throughput(Throughput::Elements(values.len() as u64));
        group.bench_function(kernels.instruction_set().name(), |bencher| {
            bencher.iter(|| {
                output.copy_from_slice(&values);
                kernels.gelu(black_box(&mut output));
            });
        });
    }
    group.finish();
}

fn residual_norm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("residual_norm");
    let (weight, bias) = (floats(CHANNELS), floats(CHANNELS));
    let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-5 };
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
    let (weight, bias) = (floats(CHANNELS), floats(CHANNELS));
    let words: Vec<i8> = (0..1000 * CHANNELS).map(|i| (i % 255) as i8).collect();
    let (word_scales, positions) = (floats(1000), floats(514 * CHANNELS));
    let tables = EmbeddingTables {
        words: &words,
        word_scales: &word_scales,
        positions: &positions,
        position_rule: PositionRule::SkippingPadding { padding: 1 },
        norm: LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-5 },
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
                bencher.iter(|| kernels.pool(&states, &offsets, PoolingRule::Mean, black_box(&mut output)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, attention, gelu, residual_norm, embed, pool);
criterion_main!(benches);
