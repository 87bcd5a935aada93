//! Byte budgets: how much memory the messages of callers may hold, per connection and in the process.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    receive: Budget,
    /// Replies that are being computed, or that their callers have not read yet.
    reply: Budget,
}

/// One kind of memory. Every semaphore counts bytes.
#[derive(Debug, Clone)]
struct Budget {
    limits: ByteLimits,
    process: Arc<Semaphore>,
}

/// The budgets of a connection.
#[derive(Debug)]
pub(super) struct ConnectionBudgets {
    pub(super) receive: ConnectionBudget,
    pub(super) reply: ConnectionBudget,
}

#[derive(Debug)]
pub(super) struct ConnectionBudget {
    total: Budget,
    connection: Arc<Semaphore>,
}

/// Bytes of both budgets, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Charge {
    connection: OwnedSemaphorePermit,
    process: OwnedSemaphorePermit,
}

/// Too many bytes are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is busy: too many bytes of other messages are in memory; try again later")]
pub(crate) struct Exhausted;

impl Budgets {
    pub(crate) fn new(receive: ByteLimits, reply: ByteLimits) -> Self {
        Self { receive: Budget::new(receive), reply: Budget::new(reply) }
    }

    /// Whether little memory is left for replies, so that clients that do not read theirs delay others.
    pub(super) fn is_short_of_replies(&self) -> bool {
        self.reply.process.available_permits() < self.reply.limits.process / 8
    }

    pub(super) fn connection(&self) -> ConnectionBudgets {
        ConnectionBudgets { receive: self.receive.connection(), reply: self.reply.connection() }
    }
}

impl Budget {
    fn new(limits: ByteLimits) -> Self {
        Self { limits, process: semaphore(limits.process) }
    }

    fn connection(&self) -> ConnectionBudget {
        ConnectionBudget { total: self.clone(), connection: semaphore(self.limits.per_connection) }
    }
}

impl ConnectionBudget {
    /// Takes bytes from both budgets without waiting.
    pub(super) fn try_charge(&self, bytes: usize) -> Result<Charge, Exhausted> {
        let bytes = self.at_most_all(bytes);
        let connection = Arc::clone(&self.connection).try_acquire_many_owned(bytes).map_err(|_| Exhausted)?;
        let process = Arc::clone(&self.total.process).try_acquire_many_owned(bytes).map_err(|_| Exhausted)?;
        Ok(Charge { connection, process })
    }

    /// Waits for the bytes. First the connection's own: a connection that holds too many delays only itself.
    pub(super) async fn charge(&self, bytes: usize) -> Result<Charge, Exhausted> {
        let bytes = self.at_most_all(bytes);
        let connection = Arc::clone(&self.connection).acquire_many_owned(bytes).await.map_err(|_| Exhausted)?;
        let process = Arc::clone(&self.total.process).acquire_many_owned(bytes).await.map_err(|_| Exhausted)?;
        Ok(Charge { connection, process })
    }

    /// A message that is larger than a budget takes all of it: it is processed alone.
    fn at_most_all(&self, bytes: usize) -> u32 {
        let limits = self.total.limits;
        u32::try_from(bytes.min(limits.per_connection).min(limits.process)).unwrap_or(u32::MAX)
    }
}

impl Charge {
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.process.num_permits()
    }

    /// Adds the bytes of another charge of the same connection and kind.
    pub(crate) fn merge(&mut self, other: Self) {
        self.connection.merge(other.connection);
        self.process.merge(other.process);
    }
}

fn semaphore(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ByteLimits = ByteLimits { process: 100, per_connection: 60 };

    fn connections() -> [ConnectionBudget; 2] {
        let budget = Budget::new(LIMITS);
        [budget.connection(), budget.connection()]
    }

    #[test]
    fn a_connection_cannot_take_more_than_its_share_nor_all_of_them_more_than_the_total() {
        let [first, second] = connections();
        let held = first.try_charge(60).expect("its share");
        assert_eq!(first.try_charge(1).err(), Some(Exhausted));
        let other = second.try_charge(40).expect("the rest");
        assert_eq!(second.try_charge(1).err(), Some(Exhausted), "the total is used up");
        drop(held);
        drop(second.try_charge(20).expect("free again"));
        assert_eq!(other.bytes(), 40);
    }

    #[test]
    fn a_failed_charge_takes_nothing() {
        let [first, second] = connections();
        let held = first.try_charge(60).expect("its share");
        assert_eq!(second.try_charge(50).err(), Some(Exhausted));
        drop(held);
        drop(second.try_charge(60).expect("all of its share"));
    }

    #[test]
    fn a_message_larger_than_the_budget_takes_all_of_it() {
        let [first, _] = connections();
        let held = first.try_charge(1000).expect("alone");
        assert_eq!(held.bytes(), 60);
        assert_eq!(first.try_charge(1).err(), Some(Exhausted));
    }

    #[tokio::test]
    async fn waiting_charges_are_served_in_order() {
        let [first, second] = connections();
        let held = first.try_charge(60).expect("its share");
        let waiting = first.charge(10);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(second.charge(40).await.expect("another connection is not delayed"));
        drop(held);
        assert_eq!(waiting.await.expect("free").bytes(), 10);
    }
}
