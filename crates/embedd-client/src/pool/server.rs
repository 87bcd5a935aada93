//! One server, and the task that keeps a connection to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::Signals;
use crate::connection::{Target, open};
use crate::retry::spread;

/// From the beginning of one connection to that of the next, at least; twice as long after each that was not taken.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Server {
    /// For people.
    pub(super) name: String,
    pub(super) target: Target,
    endpoint: Endpoint,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Not known whether it takes connections.
    Connecting,
    Connected {
        channel: Channel,
        ended: CancellationToken,
        number: u64,
        rests_until: Option<Instant>,
    },
    /// It did not take the last one.
    Failed(String),
}

/// A server as a call sees it.
pub(super) enum Look {
    Awake,
    Resting(Instant),
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

    pub(super) fn look(&self, now: Instant) -> Look {
        match &*self.state() {
            State::Connected { ended, .. } if ended.is_cancelled() => Look::Connecting,
            State::Connected { rests_until: Some(until), .. } if *until > now => Look::Resting(*until),
            State::Connected { .. } => Look::Awake,
            State::Connecting => Look::Connecting,
            State::Failed(_) => Look::Failed,
        }
    }

    /// The connection and its number.
    pub(super) fn connection(&self) -> Option<(Channel, u64)> {
        match &*self.state() {
            State::Connected { channel, ended, number, .. } if !ended.is_cancelled() => {
                Some((channel.clone(), *number))
            }
            _ => None,
        }
    }

    /// Why there is no connection.
    pub(super) fn trouble(&self) -> String {
        match &*self.state() {
            State::Failed(reason) => reason.clone(),
            State::Connecting | State::Connected { .. } => "not connected yet".to_owned(),
        }
    }

    /// Passed over until then, or no more.
    pub(super) fn rest(&self, until: Option<Instant>) {
        if let State::Connected { rests_until, .. } = &mut *self.state() {
            *rests_until = until;
        }
    }

    /// At the end of a rest one call goes ahead of the others, which come when it was answered, or then.
    pub(super) fn probe(&self, then: Instant) {
        if let State::Connected { rests_until: Some(until), .. } = &mut *self.state() {
            *until = then;
        }
    }

    /// The connection of that number takes no more calls.
    pub(super) fn end(&self, of: u64) {
        if let State::Connected { ended, number, .. } = &*self.state()
            && *number == of
        {
            ended.cancel();
        }
    }
}

/// Keeps a connection to the server, for ever.
pub(super) async fn keep(server: Arc<Server>, signals: Arc<Signals>) {
    let set = |state: State| {
        *server.state() = state;
        signals.changed.send_replace(());
    };
    let (mut pause, mut number) = (FIRST_PAUSE, 0);
    loop {
        let begun = Instant::now();
        let ended = CancellationToken::new();
        match open(&server.endpoint, &server.target, &ended).await {
            Ok(channel) => {
                (pause, number) = (FIRST_PAUSE, number + 1);
                set(State::Connected { channel, ended: ended.clone(), number, rests_until: None });
                ended.cancelled().await;
                set(State::Connecting);
            }
            Err(reason) => {
                set(State::Failed(reason));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        signals.trouble.send_replace(());
        sleep_until(begun + spread(pause, fastrand::f64())).await;
    }
}
