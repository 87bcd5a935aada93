//! Measures latency. The engines take turns in one process, so that any slowdown of the machine affects all of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use embedd_common::percentile::{mean, quantile, sorted};
use embedd_common::progress::{Progress, Unit};
use embedd_common::sample_texts::text_of_tokens;
use embedd_model::engine::{InferenceError, Session, TokenIds};
use embedd_model::tokenize::Truncation;
use embedd_model::tokenize::{TokenizeError, Tokenizer};

/// Default token counts of short texts; 11 is a short prompt.
pub const SHORT_LENGTHS: [usize; 5] = [11, 32, 64, 128, 384];
/// The default lengths of long texts start here and double.
const FIRST_LONG_LENGTH: usize = 512;
/// The maximum of the default lengths. Longer texts can take minutes.
pub const MAX_DEFAULT_LENGTH: usize = 8192;
/// Default number of timed runs of each shape.
pub const DEFAULT_RUNS: usize = 40;
/// The default of [`Plan::max_time`].
pub const DEFAULT_MAX_TIME: Duration = Duration::from_secs(10);
/// The minimum number of timed runs, unless the plan asks for fewer.
pub const MIN_RUNS: usize = 3;
/// The number of untimed runs at the start. The first runs also allocate memory and raise the CPU's clock frequency.
const WARM_UP: usize = 6;
/// The warm-up may take the maximum time of a measurement divided by this.
const WARM_UP_DIVISOR: u32 = 10;

/// What to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tokens per text, including special tokens.
    pub lengths: Vec<usize>,
    /// Texts per batch.
    pub batches: Vec<usize>,
    /// Timed runs of each engine for each length and batch size.
    pub runs: usize,
    /// A measurement whose runs have taken this long ends early, after at least [`MIN_RUNS`] runs.
    pub max_time: Option<Duration>,
}

/// An engine to time.
pub struct Engine {
    /// Its name in the results.
    pub name: String,
    /// The session that is timed.
    pub session: Box<dyn Session>,
}

/// Latency of one engine for one input shape. Times cover inference only: token ids in, embeddings out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The engine's name.
    pub engine: String,
    /// Tokens per text, including special tokens.
    pub tokens: usize,
    /// Texts per batch.
    pub batch: usize,
    /// Timed runs.
    pub runs: usize,
    /// The mean.
    pub mean_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// The 95th percentile.
    pub p95_ms: f64,
    /// The 99th percentile; with fewer than 100 runs, interpolated between the slowest two.
    pub p99_ms: f64,
    /// The fastest run.
    pub min_ms: f64,
    /// Throughput, from the mean.
    pub texts_per_s: f64,
    /// Throughput, from the mean.
    pub tokens_per_s: f64,
}

/// Why a benchmark failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    /// A length outside the model's range.
    #[error("cannot time texts of {asked} tokens: the model accepts {min} to {max}; set other --lengths")]
    Length {
        /// The requested length.
        asked: usize,
        /// The number of special tokens plus one.
        min: usize,
        /// The tokenizer's maximum.
        max: usize,
    },
    /// The plan is empty.
    #[error("nothing to time: at least one engine, length, batch size and run are required")]
    Nothing,
    /// The benchmark text cannot be tokenized.
    #[error("the benchmark text {0}")]
    Tokenize(#[from] TokenizeError),
    /// An engine failed.
    #[error("{engine}, {batch} texts of {tokens} tokens: {source}")]
    Inference {
        /// The engine.
        engine: String,
        /// Texts per batch.
        batch: usize,
        /// Tokens per text.
        tokens: usize,
        /// The cause.
        source: InferenceError,
    },
}

/// The default lengths of short texts. Lengths above the model's maximum are replaced by the maximum.
pub fn short_lengths(max_tokens: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = SHORT_LENGTHS.iter().map(|&length| length.min(max_tokens)).collect();
    lengths.dedup();
    lengths
}

/// The default lengths: those of short texts, then from 512 tokens doubled up to the model's maximum, or 8192.
pub fn default_lengths(max_tokens: usize) -> Vec<usize> {
    let mut lengths = short_lengths(max_tokens);
    let longest = max_tokens.min(MAX_DEFAULT_LENGTH);
    if longest >= FIRST_LONG_LENGTH {
        let doubled = std::iter::successors(Some(FIRST_LONG_LENGTH), |length| Some(2 * length));
        lengths.extend(doubled.take_while(|&length| length < longest));
        lengths.push(longest);
    }
    lengths
}

/// Times each engine for each length and batch size.
///
/// # Errors
/// [`BenchmarkError`].
pub fn benchmark(
    engines: &mut [Engine],
    tokenizer: &Tokenizer,
    plan: &Plan,
    progress: &Progress,
) -> Result<Vec<Measurement>, BenchmarkError> {
    let shapes = plan.lengths.len() * plan.batches.len();
    if engines.is_empty() || shapes == 0 || plan.runs == 0 || plan.batches.contains(&0) {
        return Err(BenchmarkError::Nothing);
    }
    let texts = plan.lengths.iter().map(|&length| text_of(tokenizer, length)).collect::<Result<Vec<_>, _>>()?;
    let runs = shapes * engines.len() * (WARM_UP + plan.runs);
    let task = progress.task("timing", Some(runs as u64), Unit::Steps);
    let mut measured = Vec::new();
    for text in &texts {
        for &batch in &plan.batches {
            let times = time_in_turn(engines, &vec![text; batch], plan, || task.advance(1))?;
            let named = engines.iter().zip(&times);
            measured.extend(named.map(|(engine, times)| Measurement::of(&engine.name, text.len(), batch, times)));
        }
    }
    task.finish();
    Ok(measured)
}

fn time_in_turn(
    engines: &mut [Engine],
    batch: &[&TokenIds],
    plan: &Plan,
    mut done: impl FnMut(),
) -> Result<Vec<Vec<Duration>>, BenchmarkError> {
    let mut warm_up = vec![Vec::new(); engines.len()];
    let mut times = vec![Vec::with_capacity(plan.runs); engines.len()];
    for run in 0..WARM_UP + plan.runs {
        let is_warm_up = run < WARM_UP;
        let times = if is_warm_up { &mut warm_up } else { &mut times };
        for (engine, times) in engines.iter_mut().zip(times) {
            if !plan.is_enough(is_warm_up, times) {
                times.push(time(engine, batch)?);
            }
            done();
        }
    }
    Ok(times)
}

fn time(engine: &mut Engine, batch: &[&TokenIds]) -> Result<Duration, BenchmarkError> {
    let started = Instant::now();
    let result = engine.session.infer(batch);
    let elapsed = started.elapsed();
    result.map(|_| elapsed).map_err(|source| {
        let engine = engine.name.clone();
        let tokens = batch.first().map_or(0, |text| text.len());
        BenchmarkError::Inference { engine, batch: batch.len(), tokens, source }
    })
}

impl Plan {
    /// Whether a measurement ends early because its runs have taken too long.
    fn is_enough(&self, is_warm_up: bool, times: &[Duration]) -> bool {
        let Some(max_time) = self.max_time else { return false };
        let (min_runs, max_time) = if is_warm_up { (1, max_time / WARM_UP_DIVISOR) } else { (MIN_RUNS, max_time) };
        times.len() >= min_runs && times.iter().sum::<Duration>() >= max_time
    }
}

impl Measurement {
    fn of(engine: &str, tokens: usize, batch: usize, times: &[Duration]) -> Self {
        let ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let mean_ms = mean(&ms);
        let sorted = sorted(&ms);
        let texts_per_s = batch as f64 * 1e3 / mean_ms;
        Self {
            engine: engine.to_owned(),
            tokens,
            batch,
            runs: ms.len(),
            mean_ms,
            p50_ms: quantile(&sorted, 0.5),
            p95_ms: quantile(&sorted, 0.95),
            p99_ms: quantile(&sorted, 0.99),
            min_ms: quantile(&sorted, 0.0),
            texts_per_s,
            tokens_per_s: texts_per_s * tokens as f64,
        }
    }
}

/// The ids of a text of `length` tokens, including special tokens; any ids if the tokenizer has no tokens for words.
fn text_of(tokenizer: &Tokenizer, length: usize) -> Result<TokenIds, BenchmarkError> {
    let min = tokenizer.special_count() + 1;
    let max = tokenizer.max_tokens();
    if !(min..=max).contains(&length) {
        return Err(BenchmarkError::Length { asked: length, min, max });
    }
    // Tokenizers for something other than language, such as DNA, ignore the letters or reject them.
    match text_of_tokens(length, 0, |text| tokenizer.count(text)) {
        Ok(Some(text)) => Ok(tokenizer.tokenize(&text, Truncation::End)?.ids),
        _ => Ok(tokenizer.sample_ids(length, 0)),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::tiny;

    struct Constant;

    impl Session for Constant {
        fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
            Ok(Array2::ones((batch.len(), 2)))
        }
    }

    #[test]
    fn statistics_are_computed_from_the_times() {
        let times: Vec<Duration> = (1..=101).map(Duration::from_millis).collect();
        let figures = Measurement::of("a", 10, 2, &times);
        assert_eq!((figures.runs, figures.tokens, figures.batch), (101, 10, 2));
        for (found, expected) in [
            (figures.mean_ms, 51.0),
            (figures.p50_ms, 51.0),
            (figures.p95_ms, 96.0),
            (figures.p99_ms, 100.0),
            (figures.min_ms, 1.0),
            (figures.texts_per_s, 2000.0 / 51.0),
            (figures.tokens_per_s, 20_000.0 / 51.0),
        ] {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn texts_have_exactly_the_length_that_is_timed() {
        let folder = tiny::folder();
        tiny::Tiny::mpnet().write(folder.path());
        let tokenizer = Tokenizer::read(&folder.path().join("tokenizer.json"), 6, false).expect("a tokenizer");
        for length in 3..=6 {
            let ids = text_of(&tokenizer, length).expect("a text");
            assert_eq!((ids.len(), ids.as_slice()[0], ids.as_slice()[length - 1]), (length, 0, 2));
        }
        for length in [0, 2, 7] {
            let error = text_of(&tokenizer, length).expect_err("out of range").to_string();
            assert!(error.contains("3 to 6"), "{error}");
        }
    }

    #[test]
    fn tokenizers_without_words_are_timed_with_other_ids() {
        let folder = tiny::folder();
        let mut model = tiny::Tiny::mpnet();
        for strict in [false, true] {
            model.tokenizer = tiny::dna_tokenizer(strict);
            model.write(folder.path());
            let tokenizer = Tokenizer::read(&folder.path().join("tokenizer.json"), 20, false).expect("a tokenizer");
            for length in 3..=20 {
                let ids = text_of(&tokenizer, length).expect("ids");
                assert_eq!((ids.len(), ids.as_slice()[0], ids.as_slice()[length - 1]), (length, 0, 2));
                assert!(ids.as_slice().iter().all(|id| *id < 6));
            }
        }
    }

    #[test]
    fn default_lengths_end_at_the_models_maximum() {
        assert_eq!(default_lengths(384), SHORT_LENGTHS);
        assert_eq!(default_lengths(256), [11, 32, 64, 128, 256]);
        assert_eq!(default_lengths(64), [11, 32, 64]);
        assert_eq!(default_lengths(512), [11, 32, 64, 128, 384, 512]);
        assert_eq!(default_lengths(2000), [11, 32, 64, 128, 384, 512, 1024, 2000]);
        let longest = [11, 32, 64, 128, 384, 512, 1024, 2048, 4096, 8192];
        assert_eq!(default_lengths(8192), longest);
        assert_eq!(default_lengths(32_768), longest);
        assert_eq!(short_lengths(8192), SHORT_LENGTHS);
    }

    #[test]
    fn warm_up_is_not_timed_and_all_engines_run_equally_often() {
        let (times, turns) = times_of_two(None);
        assert_eq!(times.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5]);
        assert_eq!(turns, 2 * (5 + WARM_UP));
    }

    #[test]
    fn slow_measurements_end_early_but_not_before_three_runs() {
        let (times, turns) = times_of_two(Some(Duration::ZERO));
        assert_eq!(times.iter().map(Vec::len).collect::<Vec<_>>(), [MIN_RUNS, MIN_RUNS]);
        assert_eq!(turns, 2 * (5 + WARM_UP), "the progress is complete");
        let (times, _) = times_of_two(Some(Duration::MAX));
        assert_eq!(times.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5]);
    }

    /// The times of five runs of two engines, and how often progress was reported.
    fn times_of_two(max_time: Option<Duration>) -> (Vec<Vec<Duration>>, usize) {
        let engine = |name: &str| Engine { name: name.to_owned(), session: Box::new(Constant) };
        let mut engines = [engine("a"), engine("b")];
        let text = TokenIds::new([0, 1, 2]);
        let plan = Plan { lengths: vec![3], batches: vec![1], runs: 5, max_time };
        let mut turns = 0;
        let times = time_in_turn(&mut engines, &[&text], &plan, || turns += 1).expect("it runs");
        (times, turns)
    }
}
