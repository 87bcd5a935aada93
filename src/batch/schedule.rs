//! Which of the waiting texts is next: shares for requests, so that none waits behind all of a large one.
//!
//! The clock counts the tokens that have been taken so far. A request begins at the clock's reading, and each of its
//! texts is due as many tokens later as the request's earlier texts have: as if the request had the sessions for
//! itself. Texts are taken in the order in which they are due (start-time fair queueing, Goyal, Vin and Cheng 1996,
//! with the served work as virtual time). A text that arrives while a large request is being served is due before most
//! of its texts; and since the clock goes on with whatever is served, every text is due before all that arrive after
//! the clock has passed it: none starves.

use std::collections::{BTreeMap, HashSet};

/// When a text is due: tokens on the clock, and its place among those due at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    clock: u64,
    arrival: u64,
}

/// The waiting texts, in the order in which they are due.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    waiting: BTreeMap<Due, Waiting<T>>,
    /// Tokens taken so far.
    clock: u64,
    arrivals: u64,
    requests: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    request: u64,
    tokens: usize,
    text: T,
}

/// A request's place in the schedule: where its next text comes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    request: u64,
    next: u64,
}

impl<T> Schedule<T> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), clock: 0, arrivals: 0, requests: 0 }
    }

    /// A request that begins now.
    pub(super) fn lane(&mut self) -> Lane {
        self.requests += 1;
        Lane { request: self.requests, next: self.clock }
    }

    /// Adds a request's next text.
    pub(super) fn push(&mut self, lane: &mut Lane, tokens: usize, text: T) {
        let due = Due { clock: lane.next, arrival: self.arrivals };
        self.waiting.insert(due, Waiting { request: lane.request, tokens, text });
        self.arrivals += 1;
        lane.next += tokens as u64;
    }

    /// Whether texts of at least `count` requests would be taken before the first text of a request that begins now.
    pub(super) fn has_ahead(&self, count: usize) -> bool {
        let due = self.waiting.iter().take_while(|(due, _)| due.clock <= self.clock);
        let mut requests = HashSet::with_capacity(count.min(self.waiting.len()));
        count == 0
            || due
                .map(|(_, waiting)| waiting.request)
                .any(|request| requests.insert(request) && requests.len() >= count)
    }

    /// The tokens of each waiting text, in the order in which they are due.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> + Clone {
        self.waiting.values().map(|waiting| waiting.tokens)
    }

    /// Takes the texts that are due first.
    pub(super) fn take(&mut self, count: usize) -> Vec<T> {
        let mut texts = Vec::with_capacity(count);
        while texts.len() < count {
            let Some((_, waiting)) = self.waiting.pop_first() else { break };
            self.clock += waiting.tokens as u64;
            texts.push(waiting.text);
        }
        texts
    }

    /// Drops the texts that are not worth keeping.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.waiting.retain(|_, waiting| keep(&waiting.text));
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one text after the other; before each, the texts of `arrivals` for that step come, each a request.
    fn served(first: &[(&'static str, usize)], arrivals: &[(usize, &'static str, usize)]) -> Vec<&'static str> {
        let mut schedule = Schedule::new();
        let mut lane = schedule.lane();
        for &(name, tokens) in first {
            schedule.push(&mut lane, tokens, name);
        }
        let mut order = Vec::new();
        for step in 0.. {
            for &(_, name, tokens) in arrivals.iter().filter(|arrival| arrival.0 == step) {
                let mut lane = schedule.lane();
                schedule.push(&mut lane, tokens, name);
            }
            match schedule.take(1).pop() {
                Some(name) => order.push(name),
                None => break,
            }
        }
        order
    }

    #[test]
    fn requests_of_one_text_are_served_as_they_come() {
        assert_eq!(served(&[("a", 9)], &[(0, "b", 2), (0, "c", 5), (1, "d", 1)]), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_text_waits_for_what_is_due_of_a_large_request_and_not_for_all_of_it() {
        let large = [("1", 10), ("2", 10), ("3", 10), ("4", 10), ("5", 10)];
        assert_eq!(served(&large, &[(0, "small", 10)]), ["1", "small", "2", "3", "4", "5"]);
        assert_eq!(served(&large, &[(2, "small", 10)]), ["1", "2", "3", "small", "4", "5"]);
    }

    #[test]
    fn a_large_request_goes_on_while_small_ones_keep_coming() {
        let large = [("L1", 10), ("L2", 10), ("L3", 10)];
        let small: Vec<_> = (0..20).map(|step| (step, "s", 10)).collect();
        let order = served(&large, &small);
        let last = order.iter().rposition(|name| name.starts_with('L')).expect("it is served");
        assert!(last <= 8, "its third text is due after 20 tokens: {order:?}");
    }

    #[test]
    fn what_is_ahead_of_a_new_request_is_what_is_due_now() {
        let mut schedule = Schedule::new();
        let mut lane = schedule.lane();
        for _ in 0..100 {
            schedule.push(&mut lane, 10, ());
        }
        assert!(schedule.has_ahead(0) && schedule.has_ahead(1) && !schedule.has_ahead(2));
        for _ in 0..5 {
            let mut lane = schedule.lane();
            schedule.push(&mut lane, 10, ());
        }
        assert!(schedule.has_ahead(6) && !schedule.has_ahead(7));
        schedule.take(6);
        assert!(schedule.has_ahead(1) && !schedule.has_ahead(2), "texts of the large request, which count as one");
        assert_eq!(schedule.len(), 99);
    }

    #[test]
    fn texts_that_are_dropped_are_not_served() {
        let mut schedule = Schedule::new();
        let mut lane = schedule.lane();
        for text in 0..6 {
            schedule.push(&mut lane, 1, text);
        }
        schedule.retain(|text| text % 2 == 1);
        assert_eq!(schedule.take(10), [1, 3, 5]);
        assert!(schedule.is_empty());
    }
}
