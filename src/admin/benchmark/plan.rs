//! The parameters of a benchmark and their limits.

use std::ops::RangeInclusive;

use super::{ProbeError, Shape};
use crate::admin::sample_texts;
use crate::embed::Embedder;
use crate::request::Violations;

/// The default token counts; a short prompt has about 11.
const DEFAULT_TOKENS: [usize; 5] = [11, 32, 64, 128, 384];
/// The default number of requests per shape.
const DEFAULT_REQUESTS: usize = 50;
/// Maximum number of values in one list.
const MAX_VALUES: usize = 16;
/// Maximum number of concurrent requests: more would only wait in the queue.
const MAX_CONCURRENCY: usize = 64;
/// Maximum number of requests per shape.
const MAX_REQUESTS: usize = 10_000;
/// Maximum number of requests in a whole benchmark.
const MAX_TOTAL_REQUESTS: usize = 100_000;
/// A benchmark may fill the queue's capacity divided by this.
const QUEUE_DIVISOR: usize = 4;

/// The parameters as requested. An empty list stands for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BenchmarkOptions {
    pub token_counts: Vec<u32>,
    pub batch_sizes: Vec<u32>,
    pub concurrencies: Vec<u32>,
    pub requests: Option<u32>,
}

/// A benchmark within the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    tokens: Vec<usize>,
    batches: Vec<usize>,
    concurrencies: Vec<usize>,
    pub(super) requests: usize,
}

/// The limits that depend on the model and the server.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    min_tokens: usize,
    max_tokens: usize,
    max_texts: usize,
    queue: usize,
}

impl Plan {
    /// Checks the parameters; every problem is added to `violations`.
    ///
    /// # Errors
    /// [`ProbeError`] if the tokenizer fails.
    pub(crate) fn check(
        options: BenchmarkOptions,
        embedder: &Embedder,
        violations: &mut Violations,
    ) -> Result<Option<Self>, ProbeError> {
        let bounds = Bounds {
            min_tokens: sample_texts::min_tokens(embedder)?,
            max_tokens: embedder.max_tokens(),
            max_texts: embedder.limits().max_texts.get(),
            queue: embedder.queue_stats().capacity,
        };
        Ok(Self::within(options, bounds, violations))
    }

    fn within(options: BenchmarkOptions, bounds: Bounds, violations: &mut Violations) -> Option<Self> {
        let Bounds { min_tokens, max_tokens, max_texts, queue } = bounds;
        let mut default_tokens: Vec<usize> = DEFAULT_TOKENS.iter().map(|&tokens| tokens.min(max_tokens)).collect();
        default_tokens.dedup();
        let requests = options.requests.map(|requests| vec![requests]).unwrap_or_default();
        let tokens = list("token_counts", options.token_counts, default_tokens, min_tokens..=max_tokens, violations);
        let batches = list("batch_sizes", options.batch_sizes, vec![1], 1..=max_texts, violations);
        let concurrencies = list("concurrencies", options.concurrencies, vec![1], 1..=MAX_CONCURRENCY, violations);
        let requests = list("requests", requests, vec![DEFAULT_REQUESTS], 1..=MAX_REQUESTS, violations);
        // All lists are checked before the first invalid one returns.
        let tokens = tokens?;
        let batches = batches?;
        let concurrencies = concurrencies?;
        let requests = *requests?.first()?;

        let in_flight = batches.iter().max()? * concurrencies.iter().max()?;
        let max_in_flight = (queue / QUEUE_DIVISOR).max(1);
        if in_flight > max_in_flight {
            let reason = format!(
                "times batch_sizes is {in_flight} texts in flight; the maximum is {max_in_flight}, a quarter of the \
                 queue (set its size with --queue-requests)"
            );
            violations.add("concurrencies", reason);
            return None;
        }
        let total = tokens.len() * batches.len() * concurrencies.len() * requests;
        if total > MAX_TOTAL_REQUESTS {
            let reason = format!("add up to {total} over all combinations; the maximum is {MAX_TOTAL_REQUESTS}");
            violations.add("requests", reason);
            return None;
        }
        Some(Self { tokens, batches, concurrencies, requests })
    }

    /// Every combination, grouped by token count.
    pub(super) fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.tokens.iter().flat_map(move |&tokens| {
            self.batches.iter().flat_map(move |&batch| {
                self.concurrencies.iter().map(move |&concurrency| Shape { tokens, batch, concurrency })
            })
        })
    }
}

/// The values of a field, or its default; `None` if one of them is out of bounds.
fn list(
    field: &str,
    values: Vec<u32>,
    default: Vec<usize>,
    bounds: RangeInclusive<usize>,
    violations: &mut Violations,
) -> Option<Vec<usize>> {
    if values.is_empty() {
        return Some(default);
    }
    if values.len() > MAX_VALUES {
        violations.add(field, format!("has {} values; the maximum is {MAX_VALUES}", values.len()));
        return None;
    }
    let values: Vec<usize> = values.into_iter().map(|value| value as usize).collect();
    let invalid: Vec<_> = values.iter().enumerate().filter(|(_, value)| !bounds.contains(value)).collect();
    for (index, value) in &invalid {
        let field = if field == "requests" { field.to_owned() } else { format!("{field}[{index}]") };
        violations.add(field, format!("is {value}; must be from {} to {}", bounds.start(), bounds.end()));
    }
    invalid.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min_tokens: 2, max_tokens: 256, max_texts: 32, queue: 128 };

    fn check(options: BenchmarkOptions) -> Result<Plan, Vec<String>> {
        let mut violations = Violations::default();
        let plan = Plan::within(options, BOUNDS, &mut violations);
        plan.ok_or_else(|| violations.iter().map(|violation| violation.field.clone()).collect())
    }

    #[test]
    fn default_token_counts_end_at_the_maximum_of_the_model() {
        let plan = check(BenchmarkOptions::default()).expect("within the bounds");
        assert_eq!(plan.tokens, [11, 32, 64, 128, 256]);
        assert_eq!((plan.batches.as_slice(), plan.concurrencies.as_slice(), plan.requests), (&[1][..], &[1][..], 50));
        let short = Bounds { max_tokens: 32, ..BOUNDS };
        let plan = Plan::within(BenchmarkOptions::default(), short, &mut Violations::default());
        let plan = plan.expect("within the bounds");
        assert_eq!(plan.tokens, [11, 32]);
    }

    #[test]
    fn every_combination_is_measured() {
        let options = BenchmarkOptions {
            token_counts: vec![2, 256],
            batch_sizes: vec![1, 4],
            concurrencies: vec![3],
            requests: Some(1),
        };
        let shapes: Vec<_> = check(options).expect("within the bounds").shapes().collect();
        let found: Vec<_> = shapes.iter().map(|shape| (shape.tokens, shape.batch, shape.concurrency)).collect();
        assert_eq!(found, [(2, 1, 3), (2, 4, 3), (256, 1, 3), (256, 4, 3)]);
    }

    #[test]
    fn every_value_out_of_bounds_is_reported() {
        let invalid = BenchmarkOptions {
            token_counts: vec![1, 2, 257],
            batch_sizes: vec![0, 33],
            concurrencies: vec![65],
            requests: Some(10_001),
        };
        let reported = check(invalid).expect_err("out of bounds");
        let expected =
            ["token_counts[0]", "token_counts[2]", "batch_sizes[0]", "batch_sizes[1]", "concurrencies[0]", "requests"];
        assert_eq!(reported, expected);
        let zero = BenchmarkOptions { requests: Some(0), ..BenchmarkOptions::default() };
        assert_eq!(check(zero), Err(vec!["requests".to_owned()]));
        let many = BenchmarkOptions { batch_sizes: vec![1; 17], ..BenchmarkOptions::default() };
        assert_eq!(check(many), Err(vec!["batch_sizes".to_owned()]));
    }

    #[test]
    fn texts_in_flight_and_total_requests_are_limited() {
        let options = |batch, concurrency| BenchmarkOptions {
            batch_sizes: vec![1, batch],
            concurrencies: vec![1, concurrency],
            ..BenchmarkOptions::default()
        };
        assert!(check(options(8, 4)).is_ok());
        assert_eq!(check(options(8, 5)), Err(vec!["concurrencies".to_owned()]));
        let long =
            BenchmarkOptions { token_counts: vec![11; 11], requests: Some(10_000), ..BenchmarkOptions::default() };
        assert_eq!(check(long), Err(vec!["requests".to_owned()]));
    }
}
