//! The native engine, from token ids to embeddings, on all CPUs of this machine: `cargo bench --bench engine`.
//! Throughput is in tokens. `embedd bench` compares the engines of a bundle with each other and with other programs.

use std::env;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use embedd_common::progress::Progress;
use embedd_fetch::home::{HOME_VARIABLE, Home};
use embedd_fetch::model_ref::ModelRef;
use embedd_fetch::{Fetcher, RuntimeBuild};
use embedd_model::bundle::{Bundle, Variant};
use embedd_model::engine::{OnnxRuntime, Session, SessionOptions, TokenIds};

/// The path of a bundle to measure instead of the default model's in the cache folder. It lacks the prefix `EMBEDD_`
/// because the program rejects unknown variables with that prefix.
const BUNDLE_VARIABLE: &str = "BENCH_BUNDLE";
const DEFAULT_MODEL: &str = "sentence-transformers/all-mpnet-base-v2";

fn main() -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()?;
    let mut session = session(threads)?;
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    by_length(&mut criterion, session.as_mut(), threads);
    by_batch(&mut criterion, session.as_mut(), threads);
    criterion.final_summary();
    Ok(())
}

fn session(threads: NonZeroUsize) -> anyhow::Result<Box<dyn Session>> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = Home::find(set(HOME_VARIABLE))?;
    let model: ModelRef = DEFAULT_MODEL.parse()?;
    let folder = set(BUNDLE_VARIABLE).unwrap_or_else(|| home.bundles_dir().join(model.as_file_name()));
    let runtime = OnnxRuntime::load(&Fetcher::from_env(home, Progress::plain()).runtime(RuntimeBuild::Cpu)?.path)?;
    let load = || -> anyhow::Result<_> {
        let options = SessionOptions { threads };
        Ok(runtime.one_session(&Bundle::open(&folder)?, Variant::Native, options)?)
    };
    let session = load().with_context(|| {
        format!(
            "NOTHING TO MEASURE: no native engine in {}. Run `cargo run --release -- convert --force`, which converts \
             {DEFAULT_MODEL} into the cache folder, or name a bundle with {BUNDLE_VARIABLE}",
            folder.display()
        )
    })?;
    let set = runtime.kernels().instruction_set();
    println!("{}, {set}, {threads} threads", folder.display());
    Ok(session)
}

fn by_length(criterion: &mut Criterion, session: &mut dyn Session, threads: NonZeroUsize) {
    let mut group = criterion.benchmark_group(format!("engine/{threads} threads/one text, by tokens"));
    for tokens in [11, 32, 64, 128, 384] {
        measure(&mut group, BenchmarkId::from_parameter(tokens), session, tokens, 1);
    }
    group.finish();
}

fn by_batch(criterion: &mut Criterion, session: &mut dyn Session, threads: NonZeroUsize) {
    for tokens in [11, 64] {
        let mut group = criterion.benchmark_group(format!("engine/{threads} threads/{tokens} tokens, by texts"));
        for texts in [1, 2, 4, 8, 16] {
            measure(&mut group, BenchmarkId::from_parameter(texts), session, tokens, texts);
        }
        group.finish();
    }
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: BenchmarkId,
    session: &mut dyn Session,
    tokens: usize,
    texts: usize,
) {
    let batch: Vec<TokenIds> = (0..texts).map(|text| ids(text, tokens)).collect();
    let batch: Vec<&TokenIds> = batch.iter().collect();
    group.throughput(Throughput::Elements((texts * tokens) as u64));
    group.bench_function(name, |bencher| bencher.iter(|| session.infer(black_box(&batch)).expect("embeddings")));
}

/// Ids spread over a vocabulary of about 30,000 words, so that embedding lookups miss the CPU's caches, as they do with
/// real texts.
fn ids(text: usize, tokens: usize) -> TokenIds {
    let id = |token: usize| 1000 + ((text * 384 + token) as u32).wrapping_mul(2_654_435_761) % 28_000;
    TokenIds::new((0..tokens).map(id).collect::<Vec<_>>())
}
