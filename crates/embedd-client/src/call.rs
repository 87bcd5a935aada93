//! Makes a call, with retries and a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use super::pool::{Pool, PooledConnection};
use super::retry::{Attempts, Next, Retries};
use super::verdict::{Verdict, judge};
use super::{Bearer, CallError, CallErrorKind, Connection, RetryPolicy};

/// The metadata key for the number of earlier attempts (gRPC proposal A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// When a call must be answered, and how much time it was given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<(Instant, Duration)>);

/// One attempt at a call.
pub(crate) struct Attempt {
    pub(crate) connection: Connection,
    number: u32,
    remaining: Option<Duration>,
}

/// The state that all calls of a client share.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) pool: Pool,
    bearer: Bearer,
    retries: Retries,
}

/// The progress of a call.
struct CallState {
    call: &'static str,
    attempts: Attempts,
    last: Option<CallError>,
}

impl Deadline {
    /// A deadline `time` from now.
    pub(crate) fn after(time: Option<Duration>) -> Self {
        // A deadline beyond the clock's range counts as none.
        Self(time.and_then(|time| Some((Instant::now().checked_add(time)?, time))))
    }

    fn remaining(self) -> Option<Duration> {
        self.0.map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }

    fn allows(self, wait: Duration) -> bool {
        self.remaining().is_none_or(|remaining| wait < remaining)
    }
}

impl Attempt {
    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(remaining) = self.remaining {
            request.set_timeout(remaining);
        }
        if self.number > 1 {
            request.metadata_mut().insert(PREVIOUS_ATTEMPTS, MetadataValue::from(self.number - 1));
        }
        request
    }
}

impl Caller {
    pub(crate) fn new(pool: Pool, bearer: Bearer, policy: RetryPolicy) -> Self {
        Self { pool, bearer, retries: Retries::new(policy) }
    }

    /// Calls until there is an answer, the retry policy gives up, or the deadline passes.
    pub(crate) async fn call<T, F>(
        &self,
        call: &'static str,
        deadline: Deadline,
        send: impl Fn(Attempt) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let mut state = CallState { call, attempts: Attempts::default(), last: None };
        let Some((at, given)) = deadline.0 else { return self.attempts(&mut state, deadline, send).await };
        match tokio::time::timeout_at(at, self.attempts(&mut state, deadline, send)).await {
            // The server or the transport may notice the deadline first.
            Ok(Err(error)) if !reports_deadline(&error, at) => Err(error),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(CallError::late(call, given, state.attempts.total, state.last)),
        }
    }

    async fn attempts<T, F>(
        &self,
        state: &mut CallState,
        deadline: Deadline,
        send: impl Fn(Attempt) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        loop {
            let picked = self.pool.pick().await;
            state.attempts.total += 1;
            let (verdict, error) = match picked {
                Ok(connection) => match send(self.attempt(&connection, state.attempts.total, deadline)).await {
                    Ok(response) => {
                        connection.answered();
                        self.retries.succeeded();
                        return Ok(response.into_inner());
                    }
                    Err(status) => self.failed(state, &connection, &status),
                },
                Err(reason) => (Verdict::NoServer, CallError::no_server(state.call, &reason, state.attempts.total)),
            };
            state.attempts.broken += u32::from(matches!(verdict, Verdict::Broken { .. }));
            let wait = match self.retries.next(verdict, state.attempts, self.pool.has_healthy(), fastrand::f64()) {
                Next::Immediately => Duration::ZERO,
                Next::After(wait) if deadline.allows(wait) => wait,
                Next::After(_) | Next::GiveUp => return Err(error),
            };
            state.last = Some(error);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }

    fn attempt(&self, connection: &PooledConnection, number: u32, deadline: Deadline) -> Attempt {
        let connection = InterceptedService::new(connection.channel(), self.bearer.clone());
        Attempt { connection, number, remaining: deadline.remaining() }
    }

    /// Updates the pool's state of the server according to the failure.
    fn failed(&self, state: &CallState, connection: &PooledConnection, status: &Status) -> (Verdict, CallError) {
        let mut verdict = judge(status);
        match &mut verdict {
            Verdict::Unprocessed { ended: true } => connection.ended(),
            Verdict::Broken { first } => *first = connection.broke(),
            Verdict::Unavailable(_) => connection.unavailable(),
            // A server that replies is healthy.
            Verdict::Final | Verdict::Busy(_) => connection.answered(),
            Verdict::Unprocessed { ended: false } | Verdict::Late | Verdict::NoServer => {}
        }
        (verdict, CallError::of_attempt(state.call, Some(connection.server()), state.attempts.total, status))
    }
}

/// Whether the error means that the deadline `at` has passed. tonic's servers then reply with CANCELLED, unlike embedd.
fn reports_deadline(error: &CallError, at: Instant) -> bool {
    match error.kind() {
        CallErrorKind::Late => true,
        CallErrorKind::Failed(code) => *code == "CANCELLED" && Instant::now() >= at,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_cancelled_after_its_deadline_is_late() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let error = |status| CallError::of_attempt("Embed", None, 1, &status);
        assert!(reports_deadline(&error(Status::cancelled("Timeout expired")), now));
        assert!(!reports_deadline(&error(Status::cancelled("Timeout expired")), later));
        assert!(reports_deadline(&error(Status::deadline_exceeded("")), later));
        assert!(!reports_deadline(&error(Status::internal("")), now));
    }
}
