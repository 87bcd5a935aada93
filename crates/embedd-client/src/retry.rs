//! When a call is repeated: rules without clocks and sockets.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::verdict::{Hint, Verdict};

/// What a success gives back to the budget (gRPC's retry design, A6).
const PER_SUCCESS: f64 = 0.1;
/// A server that asks for more patience is asked again by the caller, not by the client.
const LONGEST_HINT: Duration = Duration::from_secs(60);
/// Backoffs are up to this part of them shorter or longer, so that those who failed together do not come again together.
const JITTER: f64 = 0.2;

/// When calls are repeated: only those that no server has answered, and never past their deadline.
///
/// A call that its connection lost is sent again at once over another one; it has cost no server anything, or no server
/// knows. A server that says UNAVAILABLE is passed over for a second, and the call goes to another one at once where
/// there is one. All else waits: as long as the server says (`grpc-retry-pushback-ms`, or `RetryInfo`), or for the first
/// backoff, and each time twice as long. A server may say that a call is not to be repeated. RESOURCE_EXHAUSTED without a
/// word of when to come again is no matter of time, and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// How often a call is sent at most; 1: nothing is repeated.
    pub attempts: u32,
    /// What is waited for the first time, where the server does not say.
    pub first_backoff: Duration,
    /// What is waited at most, where the server does not say more.
    pub longest_backoff: Duration,
    /// How many refusals in a row all calls of the client together may have before they wait for nothing any more, so
    /// that repetitions do not make an overload worse. Ten calls that succeed make up for one refusal.
    pub budget: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(2),
            budget: 50,
        }
    }
}

impl RetryPolicy {
    /// Every call is sent once.
    pub const NEVER: Self =
        Self { attempts: 1, first_backoff: Duration::ZERO, longest_backoff: Duration::ZERO, budget: 0 };
}

/// What comes after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    AtOnce,
    After(Duration),
    GiveUp,
}

/// The rules of one client.
#[derive(Debug)]
pub(super) struct Retries {
    policy: RetryPolicy,
    /// Refusals that may yet come.
    budget: Mutex<f64>,
}

impl Retries {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, budget: Mutex::new(f64::from(policy.budget)) }
    }

    /// A call has been answered.
    pub(super) fn succeeded(&self) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        *budget = (*budget + PER_SUCCESS).min(f64::from(self.policy.budget));
    }

    /// What becomes of a call of which so many attempts have failed, the last of them like this. `elsewhere`: whether
    /// another server takes calls. `random` is from 0 to 1.
    pub(super) fn next(&self, verdict: Verdict, attempts: u32, elsewhere: bool, random: f64) -> Next {
        // Every refusal counts, that of a call which is not repeated, too.
        let allowed = !matches!(verdict, Verdict::Away(_) | Verdict::Busy(_)) || self.refused();
        if attempts >= self.policy.attempts {
            return Next::GiveUp;
        }
        match verdict {
            Verdict::Final | Verdict::Late => Next::GiveUp,
            Verdict::Away(Hint::Never) | Verdict::Busy(Hint::Never | Hint::None) => Next::GiveUp,
            Verdict::Lost { .. } => Next::AtOnce,
            // The one that refused is passed over, which bounds how often this happens.
            Verdict::Away(Hint::None) if elsewhere => Next::AtOnce,
            _ if !allowed => Next::GiveUp,
            Verdict::Away(Hint::After(wait)) | Verdict::Busy(Hint::After(wait)) if wait > LONGEST_HINT => Next::GiveUp,
            Verdict::Away(Hint::After(wait)) | Verdict::Busy(Hint::After(wait)) => {
                // Never earlier than the server says. What is free then may go to others, time and again.
                Next::After(self.doubled(wait, attempts).max(wait).mul_f64(1.0 + JITTER * random))
            }
            Verdict::Away(Hint::None) | Verdict::Nowhere => {
                Next::After(spread(self.doubled(self.policy.first_backoff, attempts), random))
            }
        }
    }

    /// Whether there is something left to repeat a refused call with.
    fn refused(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        *budget -= 1.0;
        let left = *budget >= 0.0;
        *budget = budget.max(0.0);
        left
    }

    /// Twice as long after each attempt, up to the longest.
    fn doubled(&self, first: Duration, attempts: u32) -> Duration {
        first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.policy.longest_backoff)
    }
}

/// A time, shorter or longer by up to the jitter; `random` is from 0 to 1.
pub(super) fn spread(time: Duration, random: f64) -> Duration {
    time.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Verdict = Verdict::Away(Hint::None);
    const LOST: Verdict = Verdict::Lost { ended: true };

    fn busy(ms: u64) -> Verdict {
        Verdict::Busy(Hint::After(Duration::from_millis(ms)))
    }

    fn after(ms: u64) -> Next {
        Next::After(Duration::from_millis(ms))
    }

    /// What comes after a first attempt, the middle of the jitter.
    fn first(verdict: Verdict, elsewhere: bool) -> Next {
        Retries::new(RetryPolicy::default()).next(verdict, 1, elsewhere, 0.5)
    }

    #[test]
    fn what_was_answered_is_not_repeated_and_what_was_not_taken_is() {
        assert_eq!(first(Verdict::Final, true), Next::GiveUp);
        assert_eq!((first(LOST, false), first(LOST, true)), (Next::AtOnce, Next::AtOnce));
        assert_eq!((first(AWAY, true), first(AWAY, false)), (Next::AtOnce, after(100)));
        assert_eq!(first(Verdict::Nowhere, false), after(100));
    }

    #[test]
    fn a_server_is_obeyed_when_it_says_when_to_come_again_or_not_to() {
        assert_eq!((first(busy(50), true), first(busy(0), true)), (after(55), after(0)));
        assert_eq!(first(Verdict::Away(Hint::After(Duration::from_millis(50))), true), after(55));
        assert_eq!(Retries::new(RetryPolicy::default()).next(busy(50), 1, true, 0.0), after(50), "not earlier");
        for verdict in [Verdict::Busy(Hint::Never), Verdict::Away(Hint::Never), Verdict::Busy(Hint::None)] {
            assert_eq!(first(verdict, true), Next::GiveUp, "{verdict:?}");
        }
        assert_eq!(first(busy(3_600_000), true), Next::GiveUp, "an hour is the caller's to wait");
        let retries = Retries::new(RetryPolicy::default());
        let waits = [2, 4].map(|attempts| retries.next(busy(100), attempts, false, 0.0));
        assert_eq!(waits, [200, 800].map(after), "what was free went to others");
        assert_eq!(retries.next(busy(10_000), 4, false, 0.0), after(10_000));
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let policy = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
        let retries = Retries::new(policy);
        let waits = [1, 2, 3, 5, 6, 50].map(|attempts| retries.next(Verdict::Nowhere, attempts, false, 0.5));
        assert_eq!(waits, [100, 200, 400, 1600, 2000, 2000].map(after));
        assert_eq!([0.0, 1.0].map(|random| retries.next(Verdict::Nowhere, 1, false, random)), [after(80), after(120)]);
    }

    #[test]
    fn there_are_only_so_many_attempts() {
        let retries = Retries::new(RetryPolicy::default());
        assert_eq!([4, 5].map(|attempts| retries.next(LOST, attempts, true, 0.5)), [Next::AtOnce, Next::GiveUp]);
        assert_eq!(Retries::new(RetryPolicy::NEVER).next(LOST, 1, true, 0.5), Next::GiveUp);
    }

    #[test]
    fn refusals_use_up_the_budget_and_successes_fill_it() {
        let retries = Retries::new(RetryPolicy { budget: 3, ..RetryPolicy::default() });
        let waits = || retries.next(busy(0), 1, false, 0.5) == after(0);
        assert_eq!([waits(), waits(), waits(), waits(), waits()], [true, true, true, false, false]);
        assert_eq!(retries.next(AWAY, 1, true, 0.5), Next::AtOnce, "another server is not the one that refused");
        assert_eq!(retries.next(LOST, 1, false, 0.5), Next::AtOnce, "a connection is no refusal");
        (0..11).for_each(|_| retries.succeeded());
        assert_eq!([waits(), waits()], [true, false]);
        (0..1000).for_each(|_| retries.succeeded());
        assert_eq!([waits(), waits(), waits(), waits()], [true, true, true, false], "no more than at the beginning");
    }
}
