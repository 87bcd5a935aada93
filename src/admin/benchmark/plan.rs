//! What a benchmark may be asked for.

use super::{ProbeError, Shape};
use crate::admin::filler;
use crate::embed::Embedder;
use crate::request::Violations;

/// The token counts that are measured where nobody says: 11 are those of a short prompt.
const USUAL_TOKENS: [usize; 5] = [11, 32, 64, 128, 384];
/// Requests of each shape where nobody says.
const USUAL_REQUESTS: usize = 50;
/// Values of one list.
const MOST_VALUES: usize = 16;
/// Requests under way at once: more only wait in the queue.
const MOST_AT_ONCE: usize = 64;
/// Requests of one shape.
const MOST_REQUESTS: usize = 10_000;
/// Requests of a benchmark.
const MOST_IN_ALL: usize = 100_000;
/// What of the queue a benchmark may take: one in so many places.
const SHARE: usize = 4;

/// What is asked for; empty: the usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the request")]
pub(crate) struct Asked {
    pub token_counts: Vec<u32>,
    pub batch_sizes: Vec<u32>,
    pub concurrencies: Vec<u32>,
    pub requests: Option<u32>,
}

/// What is measured: it is within the bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    tokens: Vec<usize>,
    batches: Vec<usize>,
    concurrencies: Vec<usize>,
    pub(super) requests: usize,
}

/// What a plan must keep to.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    least_tokens: usize,
    max_tokens: usize,
    max_texts: usize,
    queue: usize,
}

impl Plan {
    /// Checks what is asked for; what is wrong with it is added to `violations`.
    ///
    /// # Errors
    /// [`ProbeError`] where the tokeniser fails.
    pub(crate) fn check(
        asked: Asked,
        embedder: &Embedder,
        violations: &mut Violations,
    ) -> Result<Option<Self>, ProbeError> {
        let bounds = Bounds {
            least_tokens: filler::least_tokens(embedder)?,
            max_tokens: embedder.max_tokens(),
            max_texts: embedder.limits().max_texts.get(),
            queue: embedder.queue_stats().capacity,
        };
        Ok(Self::within(asked, bounds, violations))
    }

    fn within(asked: Asked, bounds: Bounds, violations: &mut Violations) -> Option<Self> {
        let Bounds { least_tokens, max_tokens, max_texts, queue } = bounds;
        let mut usual: Vec<usize> = USUAL_TOKENS.iter().map(|&tokens| tokens.min(max_tokens)).collect();
        usual.dedup();
        let requests = asked.requests.map(|requests| vec![requests]).unwrap_or_default();
        let tokens = list("token_counts", asked.token_counts, usual, (least_tokens, max_tokens), violations);
        let batches = list("batch_sizes", asked.batch_sizes, vec![1], (1, max_texts), violations);
        let concurrencies = list("concurrencies", asked.concurrencies, vec![1], (1, MOST_AT_ONCE), violations);
        let requests = list("requests", requests, vec![USUAL_REQUESTS], (1, MOST_REQUESTS), violations);
        let (tokens, batches, concurrencies, requests) = (tokens?, batches?, concurrencies?, *requests?.first()?);

        let at_once = batches.iter().max()? * concurrencies.iter().max()?;
        let room = (queue / SHARE).max(1);
        if at_once > room {
            let reason = format!(
                "and batch_sizes have {at_once} texts under way at once; a benchmark may have a quarter of the queue, \
                 which is {room} (--queue-requests sets its size)"
            );
            violations.add("concurrencies", reason);
            return None;
        }
        let in_all = tokens.len() * batches.len() * concurrencies.len() * requests;
        if in_all > MOST_IN_ALL {
            violations.add("requests", format!("make {in_all} for all combinations; there may be {MOST_IN_ALL}"));
            return None;
        }
        Some(Self { tokens, batches, concurrencies, requests })
    }

    /// Every combination; those of the same tokens stand together.
    pub(super) fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.tokens.iter().flat_map(move |&tokens| {
            self.batches.iter().flat_map(move |&batch| {
                self.concurrencies.iter().map(move |&concurrency| Shape { tokens, batch, concurrency })
            })
        })
    }
}

/// The values, each within the bounds.
fn list(
    field: &str,
    values: Vec<u32>,
    usual: Vec<usize>,
    (least, most): (usize, usize),
    violations: &mut Violations,
) -> Option<Vec<usize>> {
    if values.is_empty() {
        return Some(usual);
    }
    if values.len() > MOST_VALUES {
        violations.add(field, format!("has {} values; there may be {MOST_VALUES}", values.len()));
        return None;
    }
    let values: Vec<usize> = values.into_iter().map(|value| value as usize).collect();
    let wrong: Vec<_> = values.iter().enumerate().filter(|(_, value)| !(least..=most).contains(value)).collect();
    for (index, value) in &wrong {
        let field = if field == "requests" { field.to_owned() } else { format!("{field}[{index}]") };
        violations.add(field, format!("is {value}; it may be {least} to {most}"));
    }
    wrong.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { least_tokens: 2, max_tokens: 256, max_texts: 32, queue: 128 };

    fn check(asked: Asked) -> Result<Plan, Vec<String>> {
        let mut violations = Violations::default();
        let plan = Plan::within(asked, BOUNDS, &mut violations);
        plan.ok_or_else(|| violations.iter().map(|violation| violation.field.clone()).collect())
    }

    #[test]
    fn without_a_word_the_usual_is_measured_as_far_as_the_model_goes() {
        let plan = check(Asked::default()).expect("within the bounds");
        assert_eq!(plan.tokens, [11, 32, 64, 128, 256]);
        assert_eq!((plan.batches.as_slice(), plan.concurrencies.as_slice(), plan.requests), (&[1][..], &[1][..], 50));
        let short = Bounds { max_tokens: 32, ..BOUNDS };
        let plan = Plan::within(Asked::default(), short, &mut Violations::default()).expect("within the bounds");
        assert_eq!(plan.tokens, [11, 32]);
    }

    #[test]
    fn every_combination_is_measured() {
        let asked =
            Asked { token_counts: vec![2, 256], batch_sizes: vec![1, 4], concurrencies: vec![3], requests: Some(1) };
        let shapes: Vec<_> = check(asked).expect("within the bounds").shapes().collect();
        let found: Vec<_> = shapes.iter().map(|shape| (shape.tokens, shape.batch, shape.concurrency)).collect();
        assert_eq!(found, [(2, 1, 3), (2, 4, 3), (256, 1, 3), (256, 4, 3)]);
    }

    #[test]
    fn everything_beyond_the_bounds_is_named() {
        let wrong = Asked {
            token_counts: vec![1, 2, 257],
            batch_sizes: vec![0, 33],
            concurrencies: vec![65],
            requests: Some(10_001),
        };
        let named = check(wrong).expect_err("beyond");
        let expected =
            ["token_counts[0]", "token_counts[2]", "batch_sizes[0]", "batch_sizes[1]", "concurrencies[0]", "requests"];
        assert_eq!(named, expected);
        let zero = Asked { requests: Some(0), ..Asked::default() };
        assert_eq!(check(zero), Err(vec!["requests".to_owned()]));
        let many = Asked { batch_sizes: vec![1; 17], ..Asked::default() };
        assert_eq!(check(many), Err(vec!["batch_sizes".to_owned()]));
    }

    #[test]
    fn a_benchmark_takes_a_quarter_of_the_queue_at_most_and_ends_some_day() {
        let at_once = |batch, concurrency| Asked {
            batch_sizes: vec![1, batch],
            concurrencies: vec![1, concurrency],
            ..Asked::default()
        };
        assert!(check(at_once(8, 4)).is_ok());
        assert_eq!(check(at_once(8, 5)), Err(vec!["concurrencies".to_owned()]));
        let long = Asked { token_counts: vec![11; 11], requests: Some(10_000), ..Asked::default() };
        assert_eq!(check(long), Err(vec!["requests".to_owned()]));
    }
}
