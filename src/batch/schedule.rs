//! The order of the queued texts: fair between callers, and then between the requests of one caller.
//!
//! This is start-time fair queueing (Goyal, Vin and Cheng 1996) in two levels. The outer flows are the shares of the
//! callers. The next text of a share gets a start tag: where the share's last text ended, or the current virtual time
//! if the share was idle, whichever is later. The share with the smallest start tag is served, and its start tag is the
//! virtual time from then on. So over any time in which two shares have queued texts, the tokens that each of them was
//! served differ by at most two texts, no matter how many requests each of them sends. A caller gains nothing from
//! having been idle, and owes nothing for having used an idle server.
//!
//! Within a share, the requests are flows in the same way ([`flow`]).
//!
//! The schedule uses neither clocks nor threads.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::Share;
use crate::caller::Priority;

mod flow;

pub(super) use flow::Flow;
use flow::{Flows, StartTag};

/// How many times faster an interactive token is served than a bulk token, while both are queued. Bulk work gets a
/// ninth of the throughput beside one busy interactive caller: it progresses, and is hardly noticed.
const INTERACTIVE_WEIGHT: u64 = 8;
/// The maximum number of idle shares whose last finish tag is remembered. Only shares that were served within the last
/// few batches have one.
const MAX_REMEMBERED: usize = 4096;

/// The start tag of a share, with a number that breaks ties in order of arrival.
type ShareTag = (u64, u64);

/// The position of a queued text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    share: Share,
    tag: StartTag,
}

/// The queued texts in the order of service.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    shares: HashMap<Share, ShareState<T>>,
    /// Shares with queued texts, by the start tag of their next text.
    ready: BTreeMap<ShareTag, Share>,
    /// Shares without queued texts, by their finish tag, which is later than the virtual time.
    idle: BTreeMap<ShareTag, Share>,
    /// In tokens of interactive requests.
    virtual_time: u64,
    /// Numbers for breaking ties.
    ties: u64,
    /// Tokens served so far.
    served: u64,
    texts: usize,
    tokens: usize,
}

#[derive(Debug)]
struct ShareState<T> {
    flows: Flows<T>,
    /// In `ready` if texts are queued, otherwise in `idle`.
    tag: ShareTag,
}

impl Share {
    /// How far serving this number of tokens advances the share.
    fn cost(self, tokens: usize) -> u64 {
        match self.priority {
            Priority::Interactive => tokens as u64,
            Priority::Bulk => tokens as u64 * INTERACTIVE_WEIGHT,
        }
    }
}

impl<T> Schedule<T> {
    pub(super) fn new() -> Self {
        Self {
            shares: HashMap::new(),
            ready: BTreeMap::new(),
            idle: BTreeMap::new(),
            virtual_time: 0,
            ties: 0,
            served: 0,
            texts: 0,
            tokens: 0,
        }
    }

    /// Adds the next text of a request.
    pub(super) fn push(&mut self, share: Share, flow: &mut Flow, tokens: usize, text: T) -> Position {
        self.ties += 1;
        let tie = self.ties;
        let state = self.shares.entry(share).or_insert_with(|| ShareState {
            // Later than the flows of all requests of this share from before it was forgotten.
            flows: Flows::starting_at(self.served),
            tag: (0, 0),
        });
        if state.flows.is_empty() {
            self.idle.remove(&state.tag);
            state.tag = (self.virtual_time.max(state.tag.0), tie);
            self.ready.insert(state.tag, share);
        }
        let tag = state.flows.push(flow, tie, tokens, text);
        self.texts += 1;
        self.tokens += tokens;
        Position { share, tag }
    }

    /// The tokens of the next text.
    pub(super) fn next_tokens(&self) -> Option<usize> {
        let (_, share) = self.ready.first_key_value()?;
        self.shares.get(share)?.flows.next_tokens()
    }

    /// Takes the next text.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (tag, share) = self.ready.pop_first()?;
        self.virtual_time = tag.0;
        let state = self.shares.get_mut(&share)?;
        let (tokens, text) = state.flows.pop()?;
        self.served += tokens as u64;
        self.texts -= 1;
        self.tokens -= tokens;
        self.ties += 1;
        state.tag = (tag.0 + share.cost(tokens), self.ties);
        let place = if state.flows.is_empty() { &mut self.idle } else { &mut self.ready };
        place.insert(state.tag, share);
        self.forget();
        Some(text)
    }

    /// Removes a text that is still queued.
    pub(super) fn remove(&mut self, position: Position) -> Option<T> {
        let Position { share, tag } = position;
        let state = self.shares.get_mut(&share)?;
        let (tokens, text) = state.flows.remove(tag)?;
        self.texts -= 1;
        self.tokens -= tokens;
        if state.flows.is_empty() {
            self.ready.remove(&state.tag);
            self.idle.insert(state.tag, share);
            self.forget();
        }
        Some(text)
    }

    /// Forgets the shares that could not be distinguished from new ones.
    fn forget(&mut self) {
        if self.ready.is_empty() {
            // The end of a busy period: all shares start again at the same time.
            self.virtual_time =
                self.idle.last_key_value().map_or(self.virtual_time, |(tag, _)| tag.0.max(self.virtual_time));
        }
        while let Some((tag, share)) = self.idle.first_key_value() {
            if tag.0 > self.virtual_time && self.idle.len() <= MAX_REMEMBERED {
                break;
            }
            self.shares.remove(share);
            self.idle.pop_first();
        }
    }

    /// The number of queued texts.
    pub(super) fn len(&self) -> usize {
        self.texts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts == 0
    }

    /// The tokens of all queued texts.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }
}

#[cfg(test)]
mod tests;
