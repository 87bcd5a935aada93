//! The order of the queued texts: fair across requests, so that a short one is not stuck behind a large one.
//!
//! This is start-time fair queueing (Goyal, Vin and Cheng 1996) with served tokens as virtual time. Each request is a
//! flow. Its first text gets the current virtual time as start tag. Each further text gets the previous text's tag plus
//! the previous text's tokens, as if the request had the sessions to itself. Texts are taken in the order of their
//! start tags, so a short request that arrives while a large one is being served goes ahead of most of it. No text
//! starves: virtual time advances with every token served, and once it has passed a text's tag, new requests go after
//! that text.

use std::collections::{BTreeMap, HashSet};

/// A text's position in the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct StartTag {
    virtual_time: u64,
    /// Breaks ties.
    arrival: u64,
}

/// The queued texts in the order of service.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    queued: BTreeMap<StartTag, Queued<T>>,
    /// Tokens served so far.
    virtual_time: u64,
    arrivals: u64,
    requests: u64,
}

#[derive(Debug)]
struct Queued<T> {
    request: u64,
    tokens: usize,
    text: T,
}

/// A request in the schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    request: u64,
    /// The virtual time of the next text's start tag.
    next: u64,
}

impl<T> Schedule<T> {
    pub(super) fn new() -> Self {
        Self { queued: BTreeMap::new(), virtual_time: 0, arrivals: 0, requests: 0 }
    }

    /// Starts the flow of a new request.
    pub(super) fn start_flow(&mut self) -> Flow {
        self.requests += 1;
        Flow { request: self.requests, next: self.virtual_time }
    }

    /// Adds a request's next text.
    pub(super) fn push(&mut self, flow: &mut Flow, tokens: usize, text: T) {
        let tag = StartTag { virtual_time: flow.next, arrival: self.arrivals };
        self.queued.insert(tag, Queued { request: flow.request, tokens, text });
        self.arrivals += 1;
        flow.next += tokens as u64;
    }

    /// Whether texts of at least `count` requests would be served before the first text of a request that starts now.
    pub(super) fn has_requests_ahead(&self, count: usize) -> bool {
        let ahead = self.queued.iter().take_while(|(tag, _)| tag.virtual_time <= self.virtual_time);
        let mut requests = HashSet::with_capacity(count.min(self.queued.len()));
        count == 0
            || ahead
                .map(|(_, queued)| queued.request)
                .any(|request| requests.insert(request) && requests.len() >= count)
    }

    /// The tokens of each queued text, in the order of service.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> + Clone {
        self.queued.values().map(|queued| queued.tokens)
    }

    /// Takes the next `count` texts, or all if there are fewer.
    pub(super) fn take(&mut self, count: usize) -> Vec<T> {
        let mut texts = Vec::with_capacity(count);
        while texts.len() < count {
            let Some((_, queued)) = self.queued.pop_first() else { break };
            self.virtual_time += queued.tokens as u64;
            texts.push(queued.text);
        }
        texts
    }

    /// Drops the texts for which `keep` is false.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.queued.retain(|_, queued| keep(&queued.text));
    }

    pub(super) fn len(&self) -> usize {
        self.queued.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves one text per step. Before each, the `arrivals` of that step are queued, each a request of its own.
    fn served(first: &[(&'static str, usize)], arrivals: &[(usize, &'static str, usize)]) -> Vec<&'static str> {
        let mut schedule = Schedule::new();
        let mut flow = schedule.start_flow();
        for &(name, tokens) in first {
            schedule.push(&mut flow, tokens, name);
        }
        let mut order = Vec::new();
        for step in 0.. {
            for &(_, name, tokens) in arrivals.iter().filter(|arrival| arrival.0 == step) {
                let mut flow = schedule.start_flow();
                schedule.push(&mut flow, tokens, name);
            }
            match schedule.take(1).pop() {
                Some(name) => order.push(name),
                None => break,
            }
        }
        order
    }

    #[test]
    fn requests_of_one_text_are_served_in_order_of_arrival() {
        assert_eq!(served(&[("a", 9)], &[(0, "b", 2), (0, "c", 5), (1, "d", 1)]), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_short_request_does_not_wait_for_all_of_a_large_one() {
        let large = [("1", 10), ("2", 10), ("3", 10), ("4", 10), ("5", 10)];
        assert_eq!(served(&large, &[(0, "small", 10)]), ["1", "small", "2", "3", "4", "5"]);
        assert_eq!(served(&large, &[(2, "small", 10)]), ["1", "2", "3", "small", "4", "5"]);
    }

    #[test]
    fn a_large_request_makes_progress_while_small_ones_keep_arriving() {
        let large = [("L1", 10), ("L2", 10), ("L3", 10)];
        let small: Vec<_> = (0..20).map(|step| (step, "s", 10)).collect();
        let order = served(&large, &small);
        let last = order.iter().rposition(|name| name.starts_with('L')).expect("the large request is served");
        assert!(last <= 8, "the start tag of its third text is 20 tokens: {order:?}");
    }

    #[test]
    fn only_texts_whose_start_tag_has_passed_are_ahead_of_a_new_request() {
        let mut schedule = Schedule::new();
        let mut flow = schedule.start_flow();
        for _ in 0..100 {
            schedule.push(&mut flow, 10, ());
        }
        assert!(schedule.has_requests_ahead(0) && schedule.has_requests_ahead(1) && !schedule.has_requests_ahead(2));
        for _ in 0..5 {
            let mut flow = schedule.start_flow();
            schedule.push(&mut flow, 10, ());
        }
        assert!(schedule.has_requests_ahead(6) && !schedule.has_requests_ahead(7));
        schedule.take(6);
        assert!(
            schedule.has_requests_ahead(1) && !schedule.has_requests_ahead(2),
            "texts of the large request count as one"
        );
        assert_eq!(schedule.len(), 99);
    }

    #[test]
    fn dropped_texts_are_not_served() {
        let mut schedule = Schedule::new();
        let mut flow = schedule.start_flow();
        for text in 0..6 {
            schedule.push(&mut flow, 1, text);
        }
        schedule.retain(|text| text % 2 == 1);
        assert_eq!(schedule.take(10), [1, 3, 5]);
        assert!(schedule.is_empty());
    }
}
