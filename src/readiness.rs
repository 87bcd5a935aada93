//! Whether requests are welcome: told in one place, read by all who tell others.

use std::fmt;

use tokio::sync::watch;

/// What the server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No session has answered yet.
    Loading,
    /// Requests are welcome.
    Ready,
    /// The server has been told to end.
    Stopping,
}

/// The phase of now; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Readiness(watch::Sender<Phase>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Loading))
    }
}

impl Readiness {
    /// What the server is doing now.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// The next phase begins.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loading => "the model is being loaded",
            Self::Ready => "ready",
            Self::Stopping => "the server is stopping",
        })
    }
}
