//! The order of the requests of one share, so that a short request need not wait for a large one.
//!
//! Each request is a flow, with served tokens as virtual time. Its first text gets the current virtual time as start
//! tag. Each further text gets the previous text's tag plus the previous text's tokens, as if the request had the
//! sessions to itself. So a short request that arrives while a large one is being served goes ahead of most of it. No
//! text starves: virtual time advances with every token served, and once it has passed a text's tag, new requests go
//! after that text.

use std::collections::BTreeMap;

/// A text's position in the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StartTag {
    virtual_time: u64,
    /// Breaks ties.
    arrival: u64,
}

/// A request in the schedule: the virtual time of its next text's start tag.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::batch) struct Flow(u64);

/// The queued texts of one share.
#[derive(Debug)]
pub(super) struct Flows<T> {
    queued: BTreeMap<StartTag, (usize, T)>,
    virtual_time: u64,
}

impl<T> Flows<T> {
    pub(super) fn starting_at(virtual_time: u64) -> Self {
        Self { queued: BTreeMap::new(), virtual_time }
    }

    /// Adds a request's next text.
    pub(super) fn push(&mut self, flow: &mut Flow, arrival: u64, tokens: usize, text: T) -> StartTag {
        let tag = StartTag { virtual_time: flow.0.max(self.virtual_time), arrival };
        self.queued.insert(tag, (tokens, text));
        flow.0 = tag.virtual_time + tokens as u64;
        tag
    }

    pub(super) fn next_tokens(&self) -> Option<usize> {
        self.queued.first_key_value().map(|(_, (tokens, _))| *tokens)
    }

    /// Takes the next text, with its tokens.
    pub(super) fn pop(&mut self) -> Option<(usize, T)> {
        let (_, (tokens, text)) = self.queued.pop_first()?;
        self.virtual_time += tokens as u64;
        Some((tokens, text))
    }

    pub(super) fn remove(&mut self, tag: StartTag) -> Option<(usize, T)> {
        self.queued.remove(&tag)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}
