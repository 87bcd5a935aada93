//! One call: sent, and sent again where the rules say so.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use super::pool::{Pool, Taken};
use super::retry::{Next, Retries};
use super::verdict::{Verdict, judge};
use super::{Bearer, CallError, CallErrorKind, Connection, RetryPolicy};

/// How often a call was sent before (gRPC's retry design, A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// When a call must have its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<(Instant, Duration)>);

/// One sending of a call.
pub(super) struct Attempt {
    pub(super) connection: Connection,
    number: u32,
    left: Option<Duration>,
}

/// What all calls of a client share.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) pool: Pool,
    bearer: Bearer,
    retries: Retries,
}

/// How far a call has come.
struct Course {
    call: &'static str,
    attempts: u32,
    last: Option<CallError>,
}

impl Deadline {
    /// From now on.
    pub(super) fn after(time: Option<Duration>) -> Self {
        // A time beyond what the clock can tell is no deadline.
        Self(time.and_then(|time| Some((Instant::now().checked_add(time)?, time))))
    }

    fn left(self) -> Option<Duration> {
        self.0.map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }

    fn allows(self, wait: Duration) -> bool {
        self.left().is_none_or(|left| wait < left)
    }
}

impl Attempt {
    pub(super) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(left) = self.left {
            request.set_timeout(left);
        }
        if self.number > 1 {
            request.metadata_mut().insert(PREVIOUS_ATTEMPTS, MetadataValue::from(self.number - 1));
        }
        request
    }
}

impl Caller {
    pub(super) fn new(pool: Pool, bearer: Bearer, policy: RetryPolicy) -> Self {
        Self { pool, bearer, retries: Retries::new(policy) }
    }

    /// The answer, by the deadline.
    pub(super) async fn call<T, F>(
        &self,
        call: &'static str,
        deadline: Deadline,
        send: impl Fn(Attempt) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let mut course = Course { call, attempts: 0, last: None };
        let Some((at, given)) = deadline.0 else { return self.attempts(&mut course, deadline, send).await };
        match tokio::time::timeout_at(at, self.attempts(&mut course, deadline, send)).await {
            // The server and the transport may notice first.
            Ok(Err(error)) if *error.kind() != CallErrorKind::Late => Err(error),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(CallError::late(call, given, course.attempts, course.last)),
        }
    }

    async fn attempts<T, F>(
        &self,
        course: &mut Course,
        deadline: Deadline,
        send: impl Fn(Attempt) -> F + Send,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        loop {
            let taken = self.pool.take().await;
            course.attempts += 1;
            let (verdict, error) = match taken {
                Ok(taken) => match send(self.attempt(&taken, course.attempts, deadline)).await {
                    Ok(response) => {
                        taken.answered();
                        self.retries.succeeded();
                        return Ok(response.into_inner());
                    }
                    Err(status) => self.failed(course, &taken, &status),
                },
                Err(reason) => (Verdict::Nowhere, CallError::nowhere(course.call, &reason, course.attempts)),
            };
            let wait = match self.retries.next(verdict, course.attempts, self.pool.has_awake(), fastrand::f64()) {
                Next::AtOnce => Duration::ZERO,
                Next::After(wait) if deadline.allows(wait) => wait,
                Next::After(_) | Next::GiveUp => return Err(error),
            };
            course.last = Some(error);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }

    fn attempt(&self, taken: &Taken, number: u32, deadline: Deadline) -> Attempt {
        let connection = InterceptedService::new(taken.channel.clone(), self.bearer.clone());
        Attempt { connection, number, left: deadline.left() }
    }

    /// Notes what the failure says of the server.
    fn failed(&self, course: &Course, taken: &Taken, status: &Status) -> (Verdict, CallError) {
        let verdict = judge(status);
        match verdict {
            Verdict::Lost { ended: true } => taken.ended(),
            Verdict::Away(_) => taken.refused(),
            // It serves.
            Verdict::Final | Verdict::Busy(_) => taken.answered(),
            Verdict::Lost { ended: false } | Verdict::Late | Verdict::Nowhere => {}
        }
        (verdict, CallError::of_status(course.call, taken.server(), course.attempts, status))
    }
}
