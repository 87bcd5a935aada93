//! Quotas of a token: how many texts per second, and how many requests at the same time.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use embedd_common::jitter::jittered;

/// The retry delay of a caller with too many requests in flight: a few batches.
const IN_FLIGHT_DELAY: Duration = Duration::from_millis(100);
/// The minimum retry delay of a caller that sends too many texts.
const MIN_DELAY: Duration = Duration::from_millis(10);
/// At the very time at which the balance is zero, texts are still refused.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);
const JITTER: f64 = 0.2;

/// The limits of a quota; the words of the token file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QuotaLimits {
    pub texts_per_second: Option<NonZeroU32>,
    pub in_flight: Option<NonZeroU32>,
}

/// What is left of a quota.
#[derive(Debug)]
pub(crate) struct Quota {
    limits: QuotaLimits,
    texts: Mutex<Balance>,
    requests: Arc<Semaphore>,
}

/// Texts that the caller may send now. A request is accepted while it is positive and may make it negative, so that
/// requests of any size are possible.
#[derive(Debug)]
struct Balance {
    texts: f64,
    at: Instant,
}

/// Counts as a request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(#[allow(dead_code, reason = "released when it is dropped")] Option<OwnedSemaphorePermit>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the quota of this token is used up: {name}={limit}; try again later")]
pub(crate) struct QuotaExceeded {
    name: &'static str,
    limit: NonZeroU32,
    pub(crate) retry_after: Duration,
}

impl QuotaLimits {
    /// Reads a word such as `in_flight=8`. Returns whether it is valid.
    pub(crate) fn read(&mut self, word: &str) -> bool {
        let Some((name, number)) = word.split_once('=') else { return false };
        let limit = match name {
            "texts_per_second" => &mut self.texts_per_second,
            "in_flight" => &mut self.in_flight,
            _ => return false,
        };
        let is_first = limit.is_none();
        *limit = number.parse().ok();
        is_first && limit.is_some()
    }
}

impl Quota {
    pub(crate) fn new(limits: QuotaLimits) -> Self {
        let texts = limits.texts_per_second.map_or(0, NonZeroU32::get).into();
        let requests = limits.in_flight.map_or(0, |limit| limit.get() as usize);
        let requests = Arc::new(Semaphore::new(requests.min(Semaphore::MAX_PERMITS)));
        Self { limits, texts: Mutex::new(Balance { texts, at: Instant::now() }), requests }
    }

    /// Counts a request of this many texts.
    ///
    /// # Errors
    /// [`QuotaExceeded`].
    pub(crate) fn try_enter(&self, texts: usize) -> Result<InFlight, QuotaExceeded> {
        let permit = self.limits.in_flight.map(|limit| {
            let retry_after = jittered(IN_FLIGHT_DELAY, JITTER, fastrand::f64());
            let exceeded = QuotaExceeded { name: "in_flight", limit, retry_after };
            Arc::clone(&self.requests).try_acquire_owned().map_err(|_| exceeded)
        });
        let permit = permit.transpose()?;
        self.charge(texts)?;
        Ok(InFlight(permit))
    }

    /// Like [`try_enter`](Self::try_enter), but waits until the quota allows the request.
    pub(crate) async fn enter(&self, texts: usize) -> InFlight {
        let permit = match self.limits.in_flight {
            // The semaphore is never closed.
            Some(_) => Arc::clone(&self.requests).acquire_owned().await.ok(),
            None => None,
        };
        while let Err(exceeded) = self.charge(texts) {
            tokio::time::sleep(exceeded.retry_after).await;
        }
        InFlight(permit)
    }

    fn charge(&self, texts: usize) -> Result<(), QuotaExceeded> {
        let Some(limit) = self.limits.texts_per_second else { return Ok(()) };
        let rate = f64::from(limit.get());
        let mut balance = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Up to one second's worth of unused texts carries over.
        balance.texts = (balance.texts + rate * now.duration_since(balance.at).as_secs_f64()).min(rate);
        balance.at = now;
        if balance.texts > 0.0 {
            balance.texts -= texts as f64;
            return Ok(());
        }
        let until_positive = Duration::from_secs_f64(-balance.texts / rate) + TIMER_RESOLUTION;
        let retry_after = delayed(until_positive.max(MIN_DELAY), fastrand::f64());
        Err(QuotaExceeded { name: "texts_per_second", limit, retry_after })
    }
}

/// A time between `earliest` and 40 % more, so that callers who wait for the same quota do not return together, and none
/// returns in vain. `random` is from 0 to 1.
fn delayed(earliest: Duration, random: f64) -> Duration {
    earliest.mul_f64(1.0 + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(words: &[&str]) -> Quota {
        let mut limits = QuotaLimits::default();
        assert!(words.iter().all(|word| limits.read(word)), "{words:?}");
        Quota::new(limits)
    }

    #[test]
    fn words_are_names_with_positive_numbers_and_occur_once() {
        let mut limits = QuotaLimits::default();
        for word in ["", "in_flight", "in_flight=", "in_flight=0", "in_flight=-1", "in_flight=1.5", "texts=1", "=1"] {
            assert!(!QuotaLimits::default().read(word), "{word}");
        }
        assert!(limits.read("in_flight=8") && limits.read("texts_per_second=100") && !limits.read("in_flight=9"));
    }

    #[tokio::test(start_paused = true)]
    async fn texts_are_accepted_at_the_rate_of_the_quota() {
        let quota = quota(&["texts_per_second=100"]);
        assert!(quota.try_enter(256).is_ok(), "a second's texts are available, and a request may exceed them");
        let exceeded = quota.try_enter(1).expect_err("156 texts too many");
        assert!((1560..=2250).contains(&exceeded.retry_after.as_millis()), "{exceeded:?}");
        tokio::time::sleep(exceeded.retry_after).await;
        assert!(quota.try_enter(1).is_ok());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(quota.try_enter(100).is_ok(), "no more than a second's texts are kept");
        assert!(quota.try_enter(1).is_err());
        let started = Instant::now();
        for _ in 0..10 {
            quota.enter(100).await;
        }
        let took = started.elapsed().as_secs_f64();
        assert!((9.0..13.0).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_waits_as_asked_is_accepted() {
        assert_eq!([0.0, 0.5, 1.0].map(|random| delayed(Duration::from_secs(10), random).as_secs()), [10, 12, 14]);
        for texts in (10..2000).step_by(7) {
            let quota = quota(&["texts_per_second=10"]);
            assert!(quota.try_enter(texts).is_ok());
            let exceeded = quota.try_enter(1).expect_err("the quota is used up");
            tokio::time::sleep(exceeded.retry_after).await;
            assert!(quota.try_enter(1).is_ok(), "{texts} texts: {exceeded:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_limited_and_a_stream_waits() {
        let quota = quota(&["in_flight=2"]);
        let first = quota.try_enter(1000).expect("one");
        let _second = quota.try_enter(1000).expect("two");
        let exceeded = quota.try_enter(1).expect_err("three");
        assert_eq!(exceeded.to_string(), "the quota of this token is used up: in_flight=2; try again later");
        let mut waiting = Box::pin(quota.enter(1));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        waiting.await;
    }
}
