//! The phase of the server, set in one place and read by all health endpoints.

use std::fmt;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first model is not loaded yet.
    Loading,
    /// The server accepts requests.
    Ready,
    /// A session does not work. It ends when the session works again, or with a restart.
    Faulty,
    /// The server is shutting down.
    Stopping,
}

/// The current phase, shared by all clones.
#[derive(Debug, Clone)]
pub(crate) struct Readiness(watch::Sender<Phase>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Loading))
    }
}

impl Readiness {
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Enters the phase `to` if the current one is `from`. Returns whether it was.
    pub(crate) fn enter_from(&self, from: Phase, to: Phase) -> bool {
        self.0.send_if_modified(|phase| {
            let is_from = *phase == from;
            if is_from {
                *phase = to;
            }
            is_from
        })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loading => "the model is being loaded",
            Self::Ready => "ready",
            Self::Faulty => "a session does not work",
            Self::Stopping => "the server is stopping",
        })
    }
}
