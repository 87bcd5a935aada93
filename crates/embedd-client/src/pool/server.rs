//! One server, and the task that maintains its connection.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::Signals;
use crate::connection::{Target, open};
use crate::retry::jittered;

/// The minimum time between the starts of two connection attempts. Doubles after each failure, up to the maximum.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MAX_INTERVAL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Server {
    /// The address, for errors.
    pub(super) name: String,
    pub(super) target: Target,
    endpoint: Endpoint,
    state: Mutex<State>,
}

/// A connection, shared by its calls.
#[derive(Debug, Clone)]
pub(super) struct OpenConnection {
    pub(super) channel: Channel,
    pub(super) ended: CancellationToken,
    /// Whether a call has failed because the connection broke.
    pub(super) broke: Arc<AtomicBool>,
}

#[derive(Debug)]
enum State {
    Connecting,
    Connected {
        connection: OpenConnection,
        backoff_until: Option<Instant>,
    },
    /// The last connection attempt failed, for this reason.
    Failed(String),
}

/// The state of a server, as seen by a call.
pub(super) enum Availability {
    Healthy,
    /// Skipped until this time.
    Backoff(Instant),
    Connecting,
    Failed,
}

impl Server {
    pub(super) fn new(name: String, endpoint: Endpoint, target: Target) -> Self {
        Self { name, target, endpoint, state: Mutex::new(State::Connecting) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn availability(&self, now: Instant) -> Availability {
        match &*self.state() {
            State::Connected { connection, .. } if connection.ended.is_cancelled() => Availability::Connecting,
            State::Connected { backoff_until: Some(until), .. } if *until > now => Availability::Backoff(*until),
            State::Connected { .. } => Availability::Healthy,
            State::Connecting => Availability::Connecting,
            State::Failed(_) => Availability::Failed,
        }
    }

    pub(super) fn connection(&self) -> Option<OpenConnection> {
        match &*self.state() {
            State::Connected { connection, .. } if !connection.ended.is_cancelled() => Some(connection.clone()),
            _ => None,
        }
    }

    /// Why there is no connection.
    pub(super) fn failure(&self) -> String {
        match &*self.state() {
            State::Failed(reason) => reason.clone(),
            State::Connecting | State::Connected { .. } => "not connected yet".to_owned(),
        }
    }

    /// Skips the server until the given time; `None` ends its backoff.
    pub(super) fn set_backoff(&self, until: Option<Instant>) {
        if let State::Connected { backoff_until, .. } = &mut *self.state() {
            *backoff_until = until;
        }
    }

    /// Lets one call probe the server after its backoff. Other calls follow once it is answered, or at `then`.
    pub(super) fn probe(&self, then: Instant) {
        if let State::Connected { backoff_until: Some(until), .. } = &mut *self.state() {
            *until = then;
        }
    }
}

/// Connects to the server, and reconnects, forever.
pub(super) async fn keep_connected(server: Arc<Server>, signals: Arc<Signals>) {
    let set = |state: State| {
        *server.state() = state;
        signals.changed.send_replace(());
    };
    let mut interval = MIN_INTERVAL;
    loop {
        let started = Instant::now();
        let ended = CancellationToken::new();
        match open(&server.endpoint, &server.target, &ended).await {
            Ok(channel) => {
                interval = MIN_INTERVAL;
                let connection = OpenConnection { channel, ended: ended.clone(), broke: Arc::default() };
                set(State::Connected { connection, backoff_until: None });
                ended.cancelled().await;
                set(State::Connecting);
            }
            Err(reason) => {
                set(State::Failed(reason));
                interval = (interval * 2).min(MAX_INTERVAL);
            }
        }
        signals.failed.send_replace(());
        sleep_until(started + jittered(interval, fastrand::f64())).await;
    }
}
