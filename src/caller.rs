//! Who sent a request, and how urgent it is: the queue shares its capacity between callers, and among the requests of
//! each caller.

use std::sync::Arc;

use http::{Extensions, HeaderMap};
use tokio::sync::{Mutex, MutexGuard};

use crate::net::{Call, Exhausted, Reservation};
use crate::quota::{InFlight, Quota, QuotaExceeded};
use crate::request::{Violations, quoted};

/// The header, in gRPC the metadata, that sets the priority of a call.
pub(crate) const PRIORITY_HEADER: &str = "embedd-priority";

/// What a call is authenticated by; without authentication, its connection. Kept in the extensions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CallerId {
    /// SHA-256 of the bearer token.
    Token([u8; 32]),
    /// SHA-256 of the client certificate. Only connections with TLS have one.
    Certificate([u8; 32]),
    /// The number of the connection since the start, for callers without both.
    Connection(u64),
    /// The server itself, for admin operations.
    Server,
}

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody waits for the reply.
    Interactive,
    /// Work that may take longer, such as filling an index.
    Bulk,
}

/// The caller of a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub id: CallerId,
    pub priority: Priority,
    /// Its call, for the memory of the reply.
    pub call: Option<Call>,
    /// The quota of its token.
    pub quota: Option<Arc<Quota>>,
    /// Set for the requests of a stream: while the queue is full, they wait instead of being refused.
    pub turns: Option<Turns>,
}

/// Lets the requests of one stream be admitted one at a time, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<()>>);

impl Turns {
    /// Waits for the earlier requests of the stream. The turn ends when the guard is dropped.
    pub(crate) async fn next(&self) -> MutexGuard<'_, ()> {
        self.0.lock().await
    }
}

impl Priority {
    /// Every priority with its name.
    pub(crate) const NAMES: [(&str, Self); 2] = [("interactive", Self::Interactive), ("bulk", Self::Bulk)];
}

impl CallerId {
    /// The caller of the request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let token: Option<Self> = extensions.get().copied();
        let call: Option<&Call> = extensions.get();
        token.or_else(|| call?.client_certificate().map(Self::Certificate)).unwrap_or_else(|| {
            // Requests without a connection are those of tests.
            Self::Connection(call.map_or(0, Call::connection_id))
        })
    }
}

impl CallerId {
    /// What separates the cache entries of this caller from those of others, if they must not share any.
    pub(crate) fn cache_scope(&self) -> Option<(u8, &[u8; 32])> {
        match self {
            Self::Token(digest) => Some((1, digest)),
            Self::Certificate(digest) => Some((2, digest)),
            Self::Connection(_) | Self::Server => None,
        }
    }
}

impl Caller {
    /// The caller of a request with these extensions and headers. `default` is the priority of requests that set none.
    ///
    /// # Errors
    /// If the priority is unknown.
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap, default: Priority) -> Result<Self, Violations> {
        let priority = headers.get(PRIORITY_HEADER).map_or(Ok(default), |value| {
            let name = value.to_str().unwrap_or_default();
            let found = Priority::NAMES.into_iter().find(|(known, _)| *known == name);
            found.map(|(_, priority)| priority).ok_or_else(|| unknown_priority(name))
        })?;
        let call = extensions.get().cloned();
        let quota = extensions.get().cloned();
        Ok(Self { id: CallerId::of(extensions), priority, call, quota, turns: None })
    }

    /// Counts a request of this many texts. Requests of a stream wait until the quota allows them.
    ///
    /// # Errors
    /// [`QuotaExceeded`].
    pub(crate) async fn use_quota(&self, texts: usize) -> Result<Option<InFlight>, QuotaExceeded> {
        match (&self.quota, &self.turns) {
            (None, _) => Ok(None),
            (Some(quota), None) => quota.try_enter(texts).map(Some),
            (Some(quota), Some(turns)) => {
                let _turn = turns.next().await;
                Ok(Some(quota.enter(texts).await))
            }
        }
    }

    /// Reserves memory for a reply of about `bytes` before it is computed; waits while there is none.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) async fn reserve_reply(&self, bytes: usize) -> Result<Option<Reservation>, Exhausted> {
        match &self.call {
            Some(call) => call.reserve_reply(bytes).await.map(Some),
            None => Ok(None),
        }
    }

    /// Keeps the reservation of a computed reply until the caller has read it.
    pub(crate) fn replies(&self, reservation: Option<Reservation>) {
        if let (Some(call), Some(reservation)) = (&self.call, reservation) {
            call.replies(reservation);
        }
    }

    /// The server itself. Its requests go after those of callers.
    pub(crate) fn server() -> Self {
        Self { id: CallerId::Server, priority: Priority::Bulk, call: None, quota: None, turns: None }
    }

    /// The caller for the requests of one stream.
    pub(crate) fn of_stream(self) -> Self {
        Self { turns: Some(Turns::default()), ..self }
    }
}

fn unknown_priority(name: &str) -> Violations {
    let known = Priority::NAMES.map(|(name, _)| format!("`{name}`")).join(" or ");
    let mut violations = Violations::default();
    violations.add(PRIORITY_HEADER, format!("is {}; must be {known}", quoted(name)));
    violations
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn caller(priority: Option<&'static str>, default: Priority) -> Result<(CallerId, Priority), String> {
        let mut extensions = Extensions::new();
        extensions.insert(CallerId::Connection(7));
        let mut headers = HeaderMap::new();
        if let Some(name) = priority {
            headers.insert(PRIORITY_HEADER, HeaderValue::from_static(name));
        }
        let caller = Caller::of(&extensions, &headers, default).map_err(|violations| violations.to_string())?;
        Ok((caller.id, caller.priority))
    }

    #[test]
    fn the_header_sets_the_priority_and_the_setting_that_of_requests_without_one() {
        for default in [Priority::Interactive, Priority::Bulk] {
            for (header, expected) in
                [(None, default), (Some("interactive"), Priority::Interactive), (Some("bulk"), Priority::Bulk)]
            {
                assert_eq!(caller(header, default), Ok((CallerId::Connection(7), expected)));
            }
        }
    }

    #[test]
    fn an_unknown_priority_is_rejected_with_the_known_ones() {
        for name in ["", "Bulk", "high", "bulk,bulk"] {
            let error = caller(Some(name), Priority::Bulk).expect_err(name);
            assert_eq!(error, format!("embedd-priority is `{name}`; must be `interactive` or `bulk`"));
        }
    }
}
