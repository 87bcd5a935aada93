//! Byte budgets: how much memory the messages of callers may hold, per connection and in the process.

use std::sync::Arc;

mod pool;

use pool::{Member, Pool};

/// Bytes of memory that calls may hold at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteLimits {
    /// On all connections.
    pub process: usize,
    pub per_connection: usize,
}

/// The budgets of the process, shared by all listeners.
#[derive(Debug, Clone)]
pub(crate) struct Budgets {
    /// Messages that are being received or processed.
    receive: Arc<Pool>,
    /// Replies that are being computed, or that their callers have not read yet.
    reply: Arc<Pool>,
}

/// The budgets of a connection.
#[derive(Debug)]
pub(super) struct ConnectionBudgets {
    pub(super) receive: ConnectionBudget,
    pub(super) reply: ConnectionBudget,
}

/// What a connection may take of one kind of memory.
#[derive(Debug)]
pub(super) struct ConnectionBudget {
    pool: Arc<Pool>,
    member: Arc<Member>,
}

/// Bytes of memory, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    bytes: usize,
    pool: Arc<Pool>,
    member: Arc<Member>,
}

/// Too many bytes are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is busy: too many bytes of other messages are in memory; try again later")]
pub(crate) struct Exhausted;

impl Budgets {
    /// For listeners with this number of connections.
    pub(crate) fn new(receive: ByteLimits, reply: ByteLimits, connections: usize) -> Self {
        Self { receive: Pool::new(receive, connections), reply: Pool::new(reply, connections) }
    }

    /// Whether little memory is left for replies, so that clients that do not read theirs delay others.
    pub(super) fn is_short_of_replies(&self) -> bool {
        self.reply.is_short()
    }

    pub(super) fn connection(&self) -> ConnectionBudgets {
        ConnectionBudgets { receive: ConnectionBudget::new(&self.receive), reply: ConnectionBudget::new(&self.reply) }
    }
}

impl ConnectionBudget {
    fn new(pool: &Arc<Pool>) -> Self {
        Self { pool: Arc::clone(pool), member: Arc::default() }
    }

    /// Takes bytes without waiting.
    pub(super) fn try_charge(&self, bytes: usize) -> Result<Charge, Exhausted> {
        let bytes = self.pool.at_most_all(bytes);
        if self.pool.try_take(&self.member, bytes) { Ok(self.charged(bytes)) } else { Err(Exhausted) }
    }

    /// Waits for the bytes. A connection that holds many of them delays only itself.
    pub(super) async fn charge(&self, bytes: usize) -> Result<Charge, Exhausted> {
        let bytes = self.pool.at_most_all(bytes);
        match self.pool.take_or_wait(&self.member, bytes) {
            None => Ok(self.charged(bytes)),
            Some(waiting) => waiting.await.map_err(|_| Exhausted),
        }
    }

    fn charged(&self, bytes: usize) -> Charge {
        Charge { bytes, pool: Arc::clone(&self.pool), member: Arc::clone(&self.member) }
    }
}

impl Charge {
    /// Adds the bytes of another charge of the same connection and kind.
    pub(crate) fn merge(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.member, &other.member), "a charge belongs to one connection");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.pool.give_back(&self.member, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
