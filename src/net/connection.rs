//! The state of an open connection, shared by its driver, its calls and the registry of its listener.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::budget::ConnectionBudgets;
use super::limits::CallKind;

/// No time is stored.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Connection {
    /// Unique in the process.
    pub(super) id: u64,
    /// The address of the client, without its port.
    pub(super) peer: Option<IpAddr>,
    /// SHA-256 of the client's certificate, if it has one.
    certificate: OnceLock<[u8; 32]>,
    pub(super) opened: Instant,
    pub(super) budgets: ConnectionBudgets,
    /// Cancelled to shut the connection down gracefully: no new calls, and an end after the calls in flight.
    pub(super) retire: CancellationToken,
    /// Cancelled to close the connection at once.
    pub(super) abort: CancellationToken,
    /// Whether the client has sent the beginning of its protocol.
    started: AtomicBool,
    /// Calls since the connection was opened.
    calls: AtomicU64,
    /// Calls in flight, except those that only watch.
    in_flight: AtomicUsize,
    /// Health probes in flight.
    probes: AtomicUsize,
    /// Calls that the client has cancelled since the registry last looked.
    cancelled: AtomicUsize,
    max_cancelled: usize,
    /// When the last call ended.
    idle_since: AtomicTime,
    /// When the first byte of the head of a request arrived that is not yet complete (HTTP/1).
    head_since: AtomicTime,
    /// Bytes of replies handed to the transport and not yet written.
    unsent: AtomicUsize,
    /// When bytes of replies were last written, or began to wait.
    progress: AtomicTime,
}

/// A time as the milliseconds since the connection was opened.
#[derive(Debug)]
struct AtomicTime(AtomicU64);

impl AtomicTime {
    fn never() -> Self {
        Self(AtomicU64::new(NEVER))
    }

    fn set(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_millis()).unwrap_or(NEVER - 1), Relaxed);
    }

    fn clear(&self) {
        self.0.store(NEVER, Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        let millis = self.0.load(Relaxed);
        (millis != NEVER).then(|| Duration::from_millis(millis))
    }
}

impl Connection {
    pub(super) fn new(id: u64, peer: Option<IpAddr>, budgets: ConnectionBudgets, max_cancelled: usize) -> Self {
        Self {
            id,
            peer,
            certificate: OnceLock::new(),
            opened: Instant::now(),
            budgets,
            retire: CancellationToken::new(),
            abort: CancellationToken::new(),
            started: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            max_cancelled,
            idle_since: AtomicTime(AtomicU64::new(0)),
            head_since: AtomicTime::never(),
            unsent: AtomicUsize::new(0),
            progress: AtomicTime::never(),
        }
    }

    pub(super) fn identify(&self, certificate: [u8; 32]) {
        // A connection has one handshake.
        let _ = self.certificate.set(certificate);
    }

    pub(super) fn certificate(&self) -> Option<[u8; 32]> {
        self.certificate.get().copied()
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    pub(super) fn starts(&self) {
        self.started.store(true, Relaxed);
    }

    pub(super) fn has_started(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// Bytes arrived. Without a call in flight, they belong to the head of the next request.
    pub(super) fn receives(&self) {
        if self.in_flight.load(Relaxed) == 0 && self.head_since.get().is_none() {
            self.head_since.set(self.age());
        }
    }

    pub(super) fn head_ends(&self) {
        self.head_since.clear();
    }

    /// How long the client has been sending the head of a request.
    pub(super) fn head_time(&self) -> Option<Duration> {
        self.head_since.get().map(|since| self.age().saturating_sub(since))
    }

    /// Returns the number of health probes in flight.
    pub(super) fn call_begins(&self, kind: CallKind) -> usize {
        self.calls.fetch_add(1, Relaxed);
        self.head_ends();
        if kind != CallKind::Watch {
            self.in_flight.fetch_add(1, Relaxed);
        }
        match kind {
            CallKind::Probe => self.probes.fetch_add(1, Relaxed) + 1,
            CallKind::Work | CallKind::Watch => 0,
        }
    }

    pub(super) fn call_ends(&self, kind: CallKind) {
        if kind == CallKind::Probe {
            self.probes.fetch_sub(1, Relaxed);
        }
        if kind != CallKind::Watch && self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.idle_since.set(self.age());
        }
    }

    /// Ends the connection of a client that cancels calls faster than any client needs to: each costs the server work
    /// and the client nothing (CVE-2023-44487).
    pub(super) fn call_cancelled(&self) {
        if self.cancelled.fetch_add(1, Relaxed) >= self.max_cancelled {
            self.abort.cancel();
        }
    }

    /// Called once per second.
    pub(super) fn forget_cancelled(&self) {
        self.cancelled.store(0, Relaxed);
    }

    pub(super) fn has_had_calls(&self) -> bool {
        self.calls.load(Relaxed) > 0
    }

    /// How long the connection has had no call in flight; `None` if it has one, or replies that wait for the client.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let busy = self.in_flight.load(Relaxed) > 0 || self.unsent.load(Relaxed) > 0;
        let since = self.idle_since.get().filter(|_| !busy)?;
        Some(self.age().saturating_sub(since))
    }

    /// Bytes of a reply now wait to be written.
    pub(super) fn reply_waits(&self, bytes: usize) {
        if self.unsent.fetch_add(bytes, Relaxed) == 0 {
            self.progress.set(self.age());
        }
    }

    /// Bytes of a reply have been written, or dropped.
    pub(super) fn reply_leaves(&self, bytes: usize) {
        self.unsent.fetch_sub(bytes, Relaxed);
        self.progress.set(self.age());
    }

    /// How long replies have been waiting without any progress.
    pub(super) fn stalled_time(&self) -> Option<Duration> {
        let since = self.progress.get().filter(|_| self.unsent.load(Relaxed) > 0)?;
        Some(self.age().saturating_sub(since))
    }
}
