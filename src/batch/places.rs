//! Admission control: which requests may wait in the queue. It uses neither clocks nor threads, and every decision costs
//! the same no matter how much is queued.
//!
//! A **place** is a text that waits, or that an admitted request may still add. Two limits apply to new requests:
//!
//! * The number of requests that are served before it. Callers take turns, so those are the caller's own requests, and
//!   of every other caller at most one more than that. A caller who floods the queue reaches the limit alone.
//! * The number of places. A caller may hold at most three times as many places as are free (dynamic thresholds,
//!   Choudhury and Hahne 1998) and never more than three quarters of all, and one request takes at most half of the free
//!   places. So one caller leaves a quarter, and n callers leave about 1/(3n + 1): there is room for others' small
//!   requests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{QueueLimits, Share};
use crate::caller::CallerId;

/// How many times as many places as are free a caller may hold.
const TIMES_FREE: usize = 3;

/// A request that has places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RequestId(u64);

/// The places of all requests.
#[derive(Debug)]
pub(super) struct Places {
    limits: QueueLimits,
    requests: HashMap<RequestId, (Share, usize)>,
    /// Requests with places, by share.
    by_share: HashMap<Share, usize>,
    /// Places, by caller.
    by_caller: HashMap<CallerId, usize>,
    /// How many shares have at least one request, two, and so on.
    shares_with: Vec<usize>,
    held: usize,
    last_request: u64,
}

impl Places {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            requests: HashMap::new(),
            by_share: HashMap::new(),
            by_caller: HashMap::new(),
            shares_with: Vec::new(),
            held: 0,
            last_request: 0,
        }
    }

    /// A new request, without places.
    pub(super) fn request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    /// Whether a new request may have this number of places.
    pub(super) fn fits(&self, share: Share, texts: usize) -> bool {
        texts == 0 || (self.has_places(share.caller, texts) && !self.has_requests_ahead(share))
    }

    fn has_places(&self, caller: CallerId, texts: usize) -> bool {
        let total = self.limits.total.get();
        let free = total.saturating_sub(self.held);
        let threshold = (total - total / (TIMES_FREE + 1)).min(free.saturating_mul(TIMES_FREE));
        let own = self.by_caller.get(&caller).copied().unwrap_or(0);
        // A single request may be larger than the queue.
        self.held == 0 || (texts <= free / 2 && own + texts <= threshold)
    }

    /// Whether the limit of requests would be served before a new one of this share.
    fn has_requests_ahead(&self, share: Share) -> bool {
        let own = self.by_share.get(&share).copied().unwrap_or(0);
        // Of a share with n requests, min(n, own + 1) are ahead: one for each k up to own + 1 with n >= k.
        let mut ahead = 0;
        self.shares_with.iter().take(own + 1).any(|shares| {
            ahead += shares;
            ahead >= self.limits.ahead.get()
        })
    }

    /// Gives the request more places.
    pub(super) fn hold(&mut self, request: RequestId, share: Share, places: usize) {
        if places == 0 {
            return;
        }
        let (_, held) = self.requests.entry(request).or_insert((share, 0));
        *held += places;
        if *held == places {
            let requests = self.by_share.entry(share).or_insert(0);
            *requests += 1;
            if self.shares_with.len() < *requests {
                self.shares_with.push(0);
            }
            self.shares_with[*requests - 1] += 1;
        }
        *self.by_caller.entry(share.caller).or_insert(0) += places;
        self.held += places;
    }

    /// Takes places back.
    pub(super) fn release(&mut self, request: RequestId, places: usize) {
        let Entry::Occupied(mut entry) = self.requests.entry(request) else { return };
        let (share, held) = entry.get_mut();
        let share = *share;
        let places = places.min(*held);
        *held -= places;
        if *held == 0 {
            entry.remove();
            let requests = subtract(&mut self.by_share, share, 1);
            self.shares_with[requests] -= 1;
            if self.shares_with[requests] == 0 {
                // Only the last count can become zero: shares with more requests are counted here, too.
                self.shares_with.truncate(requests);
            }
        }
        subtract(&mut self.by_caller, share.caller, places);
        self.held -= places;
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn limits(&self) -> QueueLimits {
        self.limits
    }
}

/// Subtracts from a count, removes it when it is zero, and returns it.
fn subtract<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: K, less: usize) -> usize {
    let Entry::Occupied(mut entry) = counts.entry(key) else { return 0 };
    *entry.get_mut() -= less;
    let left = *entry.get();
    if left == 0 {
        entry.remove();
    }
    left
}

#[cfg(test)]
mod tests;
