//! What this machine can do at best, and what that means for a model: `cargo bench --bench limits`.
//!
//! Embedding a text takes at least as long as reading the weights from memory and as multiplying by them; the first
//! dominates for short texts, and the second for long ones. docs/PERFORMANCE.md compares the native engine with these limits.

#[path = "kernels/peak.rs"] // next to this file, it would be a benchmark of its own
mod peak;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use embedd_kernels::{InstructionSet, PageBuffer};

/// The linear layers of all-mpnet-base-v2: a byte and, for each token, a product per weight.
const WEIGHTS: usize = 12 * (768 * 4 * 768 + 2 * 768 * 3072);
/// Bytes that each thread reads: many times what the caches hold.
const READ: usize = 256 << 20;
const PASSES: usize = 10;

fn main() -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let set = InstructionSet::best();
    println!("{set}\n");
    println!("| threads | products, GMAC/s | reading memory, GB/s |");
    println!("|---|---|---|");
    let mut limits = (0.0, 0.0);
    for threads in std::collections::BTreeSet::from([1, threads]) {
        limits = (products(set, threads)?, reading(threads)?);
        println!("| {threads} | {:.0} | {:.0} |", limits.0 / 1e9, limits.1 / 1e9);
    }
    let (products, bytes) = limits;
    println!(
        "\nThe linear layers of all-mpnet-base-v2 ({:.0} million weights), {threads} threads, in ms:\n",
        WEIGHTS as f64 / 1e6
    );
    println!("| tokens | multiplying | reading the weights | at least |");
    println!("|---|---|---|---|");
    let reading = WEIGHTS as f64 / bytes * 1e3;
    for tokens in [11, 32, 64, 128, 384, 512] {
        let multiplying = (tokens * WEIGHTS) as f64 / products * 1e3;
        println!("| {tokens} | {multiplying:.1} | {reading:.1} | {:.1} |", multiplying.max(reading));
    }
    Ok(())
}

/// The products per second of all threads together.
fn products(set: InstructionSet, threads: usize) -> anyhow::Result<f64> {
    let rate =
        || peak::peak(set).with_context(|| format!("NOTHING TO MEASURE: {set} has no instructions for products"));
    let rates: Vec<anyhow::Result<f64>> = on_threads(threads, rate);
    rates.into_iter().sum()
}

/// The bytes per second that all threads together read, in the best of several passes.
fn reading(threads: usize) -> anyhow::Result<f64> {
    let barrier = Barrier::new(threads);
    let fastest: Vec<anyhow::Result<f64>> = on_threads(threads, || {
        let mut memory = PageBuffer::zeroed(READ)?;
        // A page that was never written may not exist.
        memory.fill(1);
        let mut fastest = Duration::MAX;
        for _ in 0..PASSES {
            barrier.wait();
            let started = Instant::now();
            black_box(sum(&memory));
            fastest = fastest.min(started.elapsed());
        }
        Ok(READ as f64 / fastest.as_secs_f64())
    });
    fastest.into_iter().sum()
}

fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 8];
    for line in bytemuck::cast_slice::<u8, [u64; 8]>(bytes) {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

fn on_threads<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        running.into_iter().map(|thread| thread.join().expect("a thread that did not panic")).collect()
    })
}
