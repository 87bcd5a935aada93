//! A call in flight: its connection, and the memory that it holds. The driver puts it into the extensions of every
//! request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::budget::{Charge, Exhausted};
use super::connection::Connection;
use super::limits::CallKind;

/// What a call takes in memory besides its messages: its stream, its task and its headers.
const CALL_BYTES: usize = 8 * 1024;
/// Concurrent health probes on one connection, which are not charged.
const MAX_PROBES: usize = 8;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Call(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    /// One element for each message that has been received and not been taken by its handler. Messages that arrived
    /// together have one charge, that of the last.
    received: Mutex<VecDeque<Option<Charge>>>,
    /// Messages taken by the handler and not answered.
    processing: AtomicUsize,
    /// Messages being processed that have reserved memory for their replies.
    reserved: AtomicUsize,
    /// Signals changes of `processing` and `reserved`.
    changed: Notify,
    /// One reservation for each reply that has not been handed to the transport.
    replies: Mutex<Vec<Charge>>,
    kind: CallKind,
    /// Memory of the call itself.
    _base: Option<Charge>,
    is_admitted: bool,
    answered: AtomicBool,
}

/// A message that is being processed, with its memory.
#[derive(Debug)]
pub(crate) struct Processing {
    _charge: Option<Charge>,
    call: Call,
}

/// Memory for a reply that is being computed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reservation {
    charge: Option<Charge>,
    call: Call,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.call.0.reserved.fetch_sub(1, Relaxed);
    }
}

impl Drop for Processing {
    fn drop(&mut self) {
        self.call.0.processing.fetch_sub(1, Relaxed);
        self.call.0.changed.notify_waiters();
    }
}

impl Call {
    pub(super) fn begin(connection: Arc<Connection>, kind: CallKind) -> Self {
        let probes = connection.call_begins(kind);
        let base = match kind {
            CallKind::Work | CallKind::Watch => connection.budgets.receive.try_charge(CALL_BYTES).ok(),
            CallKind::Probe => None,
        };
        Self(Arc::new(Shared {
            connection,
            received: Mutex::default(),
            processing: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            changed: Notify::new(),
            replies: Mutex::default(),
            is_admitted: base.is_some() || kind == CallKind::Probe && probes <= MAX_PROBES,
            kind,
            _base: base,
            answered: AtomicBool::new(false),
        }))
    }

    /// Whether there is memory for the call. Otherwise, its service must reject it.
    pub(crate) fn is_admitted(&self) -> bool {
        self.0.is_admitted
    }

    /// The number of its connection since the start.
    pub(crate) fn connection_id(&self) -> u64 {
        self.0.connection.id
    }

    /// SHA-256 of the certificate with which the client has identified itself.
    pub(crate) fn client_certificate(&self) -> Option<[u8; 32]> {
        self.0.connection.certificate()
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    /// Charges bytes of a message that is being received.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) fn try_receive(&self, bytes: usize) -> Result<Charge, Exhausted> {
        self.0.connection.budgets.receive.try_charge(bytes)
    }

    /// Like [`try_receive`](Self::try_receive), but waits.
    pub(crate) async fn receive(&self, bytes: usize) -> Result<Charge, Exhausted> {
        self.0.connection.budgets.receive.charge(bytes).await
    }

    /// Keeps the charge of complete messages until their handler takes it, or until the reply.
    pub(crate) fn received(&self, charge: Option<Charge>, messages: usize) {
        let mut received = self.received_charges();
        received.extend((1..messages).map(|_| None));
        received.push_back(charge);
    }

    /// Whether messages of this call are being processed.
    pub(crate) fn has_received(&self) -> bool {
        self.0.processing.load(Relaxed) > 0 || !self.received_charges().is_empty()
    }

    /// The charge of the next message, for a handler that processes several at once.
    pub(crate) fn take_received(&self) -> Processing {
        self.0.processing.fetch_add(1, Relaxed);
        Processing { _charge: self.received_charges().pop_front().flatten(), call: self.clone() }
    }

    /// Called when the reply begins: a call with one message has been processed by then.
    pub(super) fn reply_begins(&self) {
        self.received_charges().clear();
    }

    /// Called at the end of the reply. A call that ends without it was cancelled.
    pub(super) fn answered(&self) {
        self.0.answered.store(true, Relaxed);
    }

    /// Reserves memory for a reply of about `bytes` before it is computed, and waits while this caller, or too many
    /// others, have not read earlier replies.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) async fn reserve_reply(&self, bytes: usize) -> Result<Reservation, Exhausted> {
        let charge = self.0.connection.budgets.reply.charge(bytes).await?;
        self.0.reserved.fetch_add(1, Relaxed);
        self.0.changed.notify_waiters();
        Ok(Reservation { charge: Some(charge), call: self.clone() })
    }

    /// Waits until every message that is being processed has memory for its reply, so that a stream does not read requests
    /// that cannot be answered yet.
    pub(crate) async fn until_reserved(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.processing.load(Relaxed) <= self.0.reserved.load(Relaxed) {
                return;
            }
            changed.await;
        }
    }

    /// Keeps the reservation of a reply until its bytes have been written.
    pub(crate) fn replies(&self, mut reservation: Reservation) {
        self.reply_charges().extend(reservation.charge.take());
    }

    /// The reservations of the replies so far. Those of a stream are released together with the reply that comes next.
    pub(super) fn take_replies(&self) -> Option<Charge> {
        let mut charges = self.reply_charges();
        let mut taken = charges.pop()?;
        charges.drain(..).for_each(|charge| taken.merge(charge));
        Some(taken)
    }

    /// No code panics while it holds a lock.
    fn received_charges(&self) -> MutexGuard<'_, VecDeque<Option<Charge>>> {
        self.0.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply_charges(&self) -> MutexGuard<'_, Vec<Charge>> {
        self.0.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.connection.call_ends(self.kind);
        if !*self.answered.get_mut() {
            self.connection.call_cancelled();
        }
    }
}
