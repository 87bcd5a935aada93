//! Decides when a call is retried. Uses neither a clock nor sockets.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::verdict::{Hint, Verdict};

/// The amount that a successful call adds to the budget (gRPC proposal A6).
const BUDGET_PER_SUCCESS: f64 = 0.1;
/// If a server asks for a longer wait, the call fails, and it is up to the caller to retry.
const MAX_HINT: Duration = Duration::from_secs(60);
/// The fraction by which waits vary, so that calls that failed together are not retried together.
const JITTER: f64 = 0.2;

/// When calls are retried. Only unanswered calls are retried, and never past their deadline.
///
/// * A call that its connection did not accept is sent again immediately over another one.
/// * A call whose connection broke may have crashed its server, and could crash the next one. It is retried only once,
///   after a backoff.
/// * A server that replies UNAVAILABLE is skipped for a second. If another server is healthy, the call is sent there
///   immediately; otherwise it waits.
/// * The wait is the time that the server asks for (`grpc-retry-pushback-ms` or `RetryInfo`), or else the first
///   backoff. It doubles with every attempt.
/// * A server can forbid retries. RESOURCE_EXHAUSTED without a retry hint is not retried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// The maximum number of attempts; with 1, nothing is retried.
    pub attempts: u32,
    /// The first wait, if the server does not specify one.
    pub first_backoff: Duration,
    /// The maximum wait, unless the server asks for a longer one.
    pub max_backoff: Duration,
    /// The retry budget, which keeps retries from making an overload worse. All calls of a client share it. Each rejected
    /// attempt and each broken connection takes one from it, and each successful call returns a tenth. While it is
    /// empty, such calls fail instead of waiting for a retry. A rejected call that is sent to another server immediately
    /// does not count, and neither do further calls of the same broken connection. So if one of several servers crashes,
    /// its calls do not fail, no matter how many there are.
    pub budget: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, first_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(2), budget: 50 }
    }
}

impl RetryPolicy {
    /// Sends every call once.
    pub const NEVER: Self = Self { attempts: 1, first_backoff: Duration::ZERO, max_backoff: Duration::ZERO, budget: 0 };
}

/// The attempts of a call so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attempts {
    pub(crate) total: u32,
    /// Those whose connection broke.
    pub(crate) broken: u32,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Immediately,
    After(Duration),
    GiveUp,
}

/// The retry policy and budget of one client.
#[derive(Debug)]
pub(crate) struct Retries {
    policy: RetryPolicy,
    /// Rejected attempts that are still allowed.
    budget: Mutex<f64>,
}

impl Retries {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, budget: Mutex::new(f64::from(policy.budget)) }
    }

    /// Records a call that was answered.
    pub(crate) fn succeeded(&self) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        *budget = (*budget + BUDGET_PER_SUCCESS).min(f64::from(self.policy.budget));
    }

    /// Decides what to do with a call after `attempts`, the last of which ended with `verdict`. `other_healthy`: whether
    /// any server is healthy. `random` is from 0 to 1.
    pub(crate) fn next(&self, verdict: Verdict, attempts: Attempts, other_healthy: bool, random: f64) -> Next {
        // Every such attempt counts, even if the call is not retried.
        let counts = match verdict {
            Verdict::Unavailable(Hint::None) => !other_healthy,
            Verdict::Broken { first } => first,
            Verdict::Unavailable(_) | Verdict::Busy(_) => true,
            Verdict::Final | Verdict::Late | Verdict::Unprocessed { .. } | Verdict::NoServer => false,
        };
        let allowed = !counts || self.spend();
        if attempts.total >= self.policy.attempts {
            return Next::GiveUp;
        }
        match verdict {
            Verdict::Final | Verdict::Late => Next::GiveUp,
            Verdict::Unavailable(Hint::Never) | Verdict::Busy(Hint::Never | Hint::None) => Next::GiveUp,
            Verdict::Unprocessed { .. } => Next::Immediately,
            Verdict::Broken { .. } if attempts.broken > 1 => Next::GiveUp,
            // The server that rejected the call is in backoff, which bounds how often this happens.
            Verdict::Unavailable(Hint::None) if other_healthy => Next::Immediately,
            _ if !allowed => Next::GiveUp,
            Verdict::Unavailable(Hint::After(wait)) | Verdict::Busy(Hint::After(wait)) if wait > MAX_HINT => {
                Next::GiveUp
            }
            Verdict::Unavailable(Hint::After(wait)) | Verdict::Busy(Hint::After(wait)) => {
                // Never earlier than the server asks for, and longer each time, because other callers may keep
                // taking the free capacity first.
                Next::After(self.backoff(wait, attempts.total).max(wait).mul_f64(1.0 + JITTER * random))
            }
            Verdict::Unavailable(Hint::None) | Verdict::NoServer | Verdict::Broken { .. } => {
                Next::After(jittered(self.backoff(self.policy.first_backoff, attempts.total), random))
            }
        }
    }

    /// Deducts a rejected attempt from the budget. Returns whether the budget was sufficient.
    fn spend(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        *budget -= 1.0;
        let left = *budget >= 0.0;
        *budget = budget.max(0.0);
        left
    }

    /// Doubles the wait with each attempt, up to the maximum.
    fn backoff(&self, first: Duration, attempts: u32) -> Duration {
        first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.policy.max_backoff)
    }
}

/// Varies a time by up to [`JITTER`]. `random` is from 0 to 1.
pub(crate) fn jittered(time: Duration, random: f64) -> Duration {
    time.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNAVAILABLE: Verdict = Verdict::Unavailable(Hint::None);
    const UNPROCESSED: Verdict = Verdict::Unprocessed { ended: true };

    fn attempts(total: u32) -> Attempts {
        Attempts { total, broken: 0 }
    }

    fn busy(ms: u64) -> Verdict {
        Verdict::Busy(Hint::After(Duration::from_millis(ms)))
    }

    fn after(ms: u64) -> Next {
        Next::After(Duration::from_millis(ms))
    }

    /// The decision after a first attempt, without jitter.
    fn first(verdict: Verdict, other_healthy: bool) -> Next {
        Retries::new(RetryPolicy::default()).next(verdict, attempts(1), other_healthy, 0.5)
    }

    #[test]
    fn answered_calls_are_not_retried_and_unprocessed_calls_are() {
        assert_eq!(first(Verdict::Final, true), Next::GiveUp);
        assert_eq!([false, true].map(|other| first(UNPROCESSED, other)), [Next::Immediately; 2]);
        assert_eq!((first(UNAVAILABLE, true), first(UNAVAILABLE, false)), (Next::Immediately, after(100)));
        assert_eq!(first(Verdict::NoServer, false), after(100));
    }

    #[test]
    fn the_server_decides_when_to_retry_and_whether_to() {
        assert_eq!((first(busy(50), true), first(busy(0), true)), (after(55), after(0)));
        assert_eq!(first(Verdict::Unavailable(Hint::After(Duration::from_millis(50))), true), after(55));
        assert_eq!(
            Retries::new(RetryPolicy::default()).next(busy(50), attempts(1), true, 0.0),
            after(50),
            "not earlier"
        );
        for verdict in [Verdict::Busy(Hint::Never), Verdict::Unavailable(Hint::Never), Verdict::Busy(Hint::None)] {
            assert_eq!(first(verdict, true), Next::GiveUp, "{verdict:?}");
        }
        assert_eq!(first(busy(3_600_000), true), Next::GiveUp, "waiting for an hour is up to the caller");
        let retries = Retries::new(RetryPolicy::default());
        let waits = [2, 4].map(|total| retries.next(busy(100), attempts(total), false, 0.0));
        assert_eq!(waits, [200, 800].map(after), "the wait doubles");
        assert_eq!(retries.next(busy(10_000), attempts(4), false, 0.0), after(10_000));
    }

    #[test]
    fn waits_double_up_to_the_maximum_and_have_jitter() {
        let policy = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
        let retries = Retries::new(policy);
        let waits = [1, 2, 3, 5, 6, 50].map(|total| retries.next(Verdict::NoServer, attempts(total), false, 0.5));
        assert_eq!(waits, [100, 200, 400, 1600, 2000, 2000].map(after));
        assert_eq!(
            [0.0, 1.0].map(|random| retries.next(Verdict::NoServer, attempts(1), false, random)),
            [after(80), after(120)]
        );
    }

    #[test]
    fn the_number_of_attempts_is_limited() {
        let retries = Retries::new(RetryPolicy::default());
        let next = |total| retries.next(UNPROCESSED, attempts(total), true, 0.5);
        assert_eq!([4, 5].map(next), [Next::Immediately, Next::GiveUp]);
        assert_eq!(Retries::new(RetryPolicy::NEVER).next(UNPROCESSED, attempts(1), true, 0.5), Next::GiveUp);
    }

    #[test]
    fn a_call_that_may_have_crashed_its_server_is_retried_once_after_a_backoff_and_within_the_budget() {
        let retries = Retries::new(RetryPolicy { budget: 3, ..RetryPolicy::default() });
        let broken =
            |first, total, broken| retries.next(Verdict::Broken { first }, Attempts { total, broken }, true, 0.5);
        assert_eq!([broken(true, 1, 1), broken(true, 3, 1)], [after(100), after(400)]);
        assert_eq!(broken(true, 2, 2), Next::GiveUp);
        assert_eq!(broken(true, 1, 1), Next::GiveUp, "the budget is used up");
        assert_eq!(broken(false, 1, 1), after(100), "the connection has been counted");
        assert_eq!(broken(false, 2, 2), Next::GiveUp);
    }

    #[test]
    fn rejected_attempts_use_up_the_budget_and_successful_calls_fill_it() {
        let retries = Retries::new(RetryPolicy { budget: 3, ..RetryPolicy::default() });
        let waits = || retries.next(busy(0), attempts(1), false, 0.5) == after(0);
        assert_eq!([waits(), waits(), waits(), waits(), waits()], [true, true, true, false, false]);
        let next = |verdict, other_healthy| retries.next(verdict, attempts(1), other_healthy, 0.5);
        assert_eq!(next(UNAVAILABLE, true), Next::Immediately, "another server may accept the call");
        assert_eq!(next(UNPROCESSED, false), Next::Immediately, "an unprocessed call does not count");
        assert_eq!(next(UNAVAILABLE, false), Next::GiveUp, "it would have to wait");
        (0..11).for_each(|_| retries.succeeded());
        assert_eq!(next(UNAVAILABLE, true), Next::Immediately);
        assert_eq!([waits(), waits()], [true, false], "a call that another server takes does not count");
        (0..1000).for_each(|_| retries.succeeded());
        assert_eq!([waits(), waits(), waits(), waits()], [true, true, true, false], "at most the initial budget");
    }
}
