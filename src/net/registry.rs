//! The open connections of a listener: how many there are, which one gives way to a new one, and which ones have kept
//! the server waiting for too long.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use super::limits::ListenerConfig;
use super::protocols::Protocols;

/// How long a client may take for the TLS handshake, and again to begin to speak HTTP/2.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP/1 client may take to send the head of a request, from the first byte or, for the first request,
/// from the beginning of the connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long replies may wait for a client that reads nothing while others wait for memory.
const SHORT_REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that has been idle for less time may be about to send a request.
const MIN_IDLE: Duration = Duration::from_millis(100);
/// The number of cancelled calls per second and stream that end a connection. A client whose calls share a deadline
/// cancels all of them at once; none does so several times a second.
const CANCELLED_PER_STREAM: usize = 4;

/// Connections that have given way to others, but may not have been closed yet, by listener.
const MAX_LEAVING: usize = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    config: Arc<ListenerConfig>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    connections: HashMap<u64, Arc<Connection>>,
    /// Connections that no longer count because others have taken their place.
    leaving: HashMap<u64, Arc<Connection>>,
}

/// An open connection. Dropping it removes the connection.
#[derive(Debug)]
pub(super) struct Entry {
    registry: Registry,
    pub(super) connection: Arc<Connection>,
}

impl Registry {
    pub(super) fn new(config: Arc<ListenerConfig>) -> Self {
        Self { config, open: Arc::default() }
    }

    /// Adds a connection; `None` if there is no room for it and no idle connection to give way.
    pub(super) fn add(&self, peer: Option<IpAddr>) -> Option<Entry> {
        let mut open = self.lock();
        if open.connections.len() >= self.config.max_connections.count && !open.make_room(peer) {
            return None;
        }
        let id = NEXT_ID.fetch_add(1, Relaxed);
        let max_cancelled = CANCELLED_PER_STREAM * self.config.limits.max_concurrent_streams.max(64) as usize;
        let connection = Arc::new(Connection::new(id, peer, self.config.budgets.connection(), max_cancelled));
        open.connections.insert(id, Arc::clone(&connection));
        drop(open);
        Some(Entry { registry: self.clone(), connection })
    }

    /// Closes an idle connection, to free its file descriptor.
    pub(super) fn close_an_idle_one(&self) {
        self.lock().make_room(None);
    }

    /// Ends the connections whose clients take too long. Called about once per second.
    pub(super) fn sweep(&self) {
        for connection in self.lock().connections.values() {
            connection.forget_cancelled();
            if self.is_too_slow(connection) {
                connection.abort.cancel();
            } else if self.has_expired(connection) {
                connection.retire.cancel();
            }
        }
    }

    fn is_too_slow(&self, connection: &Connection) -> bool {
        let exceeds = |time: Option<Duration>, max| time.is_some_and(|time| time > max);
        let silent = !connection.has_started();
        let begin = match self.config.protocols {
            Protocols::Http2 => HANDSHAKE_TIMEOUT,
            Protocols::Http1OrHttp2 => HEAD_TIMEOUT,
        };
        silent && connection.age() > begin
            || exceeds(connection.head_time(), HEAD_TIMEOUT)
            || exceeds(connection.stalled_time(), self.config.limits.reply_timeout)
            || exceeds(connection.stalled_time(), SHORT_REPLY_TIMEOUT) && self.config.budgets.is_short_of_replies()
    }

    fn has_expired(&self, connection: &Connection) -> bool {
        let limits = &self.config.limits;
        limits.idle_timeout.is_some_and(|max| connection.idle_time().is_some_and(|idle| idle > max))
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Makes a connection give way to a new one of `peer`. Returns whether there was one.
    fn make_room(&mut self, peer: Option<IpAddr>) -> bool {
        if self.leaving.len() >= MAX_LEAVING {
            return false;
        }
        let by_peer = self.count_by_peer();
        let count = |peer| by_peer.get(&peer).copied().unwrap_or(0);
        let idle = self.connections.values().filter_map(|connection| Some((connection, connection.idle_time()?)));
        let idle = idle.filter(|(_, time)| *time >= MIN_IDLE);
        // Clients with many connections give way first; of their connections, those that never had a call.
        let first = idle.max_by_key(|(connection, time)| (count(connection.peer), !connection.has_had_calls(), *time));
        let Some(victim) = first.map(|(connection, _)| connection.id).or_else(|| self.busy_victim(peer, &by_peer))
        else {
            return false;
        };
        if let Some(connection) = self.connections.remove(&victim) {
            connection.retire.cancel();
            self.leaving.insert(victim, connection);
        }
        true
    }

    /// Without idle connections, a client that has more than half of all connections gives one up to another client.
    fn busy_victim(&self, peer: Option<IpAddr>, by_peer: &HashMap<Option<IpAddr>, usize>) -> Option<u64> {
        let (largest, count) = by_peer.iter().max_by_key(|(_, count)| **count)?;
        if *largest == peer || peer.is_none() || 2 * count <= self.connections.len() {
            return None;
        }
        let theirs = self.connections.values().filter(|connection| connection.peer == *largest);
        theirs.max_by_key(|connection| connection.age()).map(|connection| connection.id)
    }

    fn count_by_peer(&self) -> HashMap<Option<IpAddr>, usize> {
        let mut counts = HashMap::new();
        for connection in self.connections.values() {
            *counts.entry(connection.peer).or_default() += 1;
        }
        counts
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.registry.lock();
        open.connections.remove(&self.connection.id);
        open.leaving.remove(&self.connection.id);
    }
}
