//! Runs one step: sends requests and counts replies.
//!
//! Everything runs on one thread, so that counters need no locks and the CPUs are left to the server.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::arrivals;
use super::cpu::CpuClock;
use super::figures::StepFigures;
use super::measure::{Answered, Measure};
use super::plan::{Arrivals, Plan, Step};
use super::texts::{Draw, Texts};
use super::wire::{Caller, Reply};
use embedd_proto::EmbedRequest;

/// How long to wait for replies after a step. Requests without a reply count as DEADLINE_EXCEEDED.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a caller waits after an error. A tight loop of errors would take CPU time from the server.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// The capacity of the channel of due requests.
const MAX_DUE: usize = 1024;

/// The state that all requests of a step share.
struct Shared {
    texts: Rc<RefCell<Texts>>,
    expected: Option<Rc<[Bytes]>>,
    measure: RefCell<Measure>,
    cpu: RefCell<CpuClock>,
    request: EmbedRequest,
    texts_per_request: usize,
    begin: Instant,
    end: Instant,
}

/// The state that all steps share.
pub(crate) struct Runner<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) callers: Vec<Caller>,
    pub(crate) texts: Rc<RefCell<Texts>>,
    pub(crate) expected: Option<Rc<[Bytes]>>,
}

impl Runner<'_> {
    /// Runs a step until its end or until `stop`. Returns `None` if it was stopped before the measurement began.
    pub(crate) async fn run(&self, step: Step, stop: impl Future<Output = ()>) -> Option<StepFigures> {
        let shared = Rc::new(self.shared());
        let connections = self.plan.connections_of(&step);
        let callers = &self.callers[..connections.min(self.callers.len())];
        let mut requests = JoinSet::new();
        let stopped = tokio::select! {
            () = shared.clone().drive(step, self.plan.seed, callers, &mut requests) => false,
            () = stop => true,
        };
        let now = Instant::now();
        if !stopped {
            shared.give_up(requests.len(), now);
        }
        requests.shutdown().await;
        let measure = shared.measure.borrow();
        let end = match (step, stopped) {
            (Step::Closed { .. }, _) => now.min(shared.end),
            (Step::Open { .. }, true) => now,
            (Step::Open { .. }, false) => shared.end.max(measure.last().unwrap_or(shared.end)),
        };
        let elapsed = end.checked_duration_since(shared.begin).filter(|elapsed| !elapsed.is_zero())?;
        let mut figures = measure.figures(step, connections, elapsed, shared.expected.is_some());
        figures.client_cpu = shared.cpu.borrow().share();
        Some(figures)
    }

    fn shared(&self) -> Shared {
        let begin = Instant::now() + self.plan.warm_up;
        Shared {
            texts: self.texts.clone(),
            expected: self.expected.clone(),
            measure: RefCell::new(Measure::new()),
            cpu: RefCell::new(CpuClock::default()),
            request: request(self.plan),
            texts_per_request: self.plan.texts_per_request.get(),
            begin,
            end: begin + self.plan.duration,
        }
    }
}

/// A request without texts.
pub(crate) fn request(plan: &Plan) -> EmbedRequest {
    EmbedRequest { encoding: plan.encoding.into(), skip_cache: plan.skip_cache, ..EmbedRequest::default() }
}

impl Shared {
    async fn drive(self: Rc<Self>, step: Step, seed: u64, callers: &[Caller], requests: &mut JoinSet<()>) {
        match step {
            Step::Closed { concurrency } => {
                for number in 0..concurrency {
                    requests.spawn_local(self.clone().keep_calling(callers[number % callers.len()].clone()));
                }
            }
            Step::Open { rate, arrivals, max_in_flight } => {
                let due = pace(rate, arrivals, seed, Instant::now(), self.end);
                self.send_when_due(due, max_in_flight, callers, requests).await;
            }
        }
        let answered = async { while requests.join_next().await.is_some() {} };
        // The caller gives up on the remaining requests.
        let _ = timeout(self.end.saturating_duration_since(Instant::now()) + REPLY_TIMEOUT, answered).await;
    }

    /// A caller of a closed loop.
    async fn keep_calling(self: Rc<Self>, mut caller: Caller) {
        while Instant::now() < self.end {
            let (draw, message) = self.next();
            let sent_bytes = message.encoded_len();
            let sent = Instant::now();
            let result = caller.embed(message).await;
            let now = Instant::now();
            let failed = result.is_err();
            if now >= self.begin && now < self.end {
                self.count(&draw, sent_bytes, &result, now - sent, now - sent, now);
            }
            if failed {
                sleep(ERROR_PAUSE).await;
            }
        }
    }

    async fn send_when_due(
        self: &Rc<Self>,
        mut due: mpsc::Receiver<Instant>,
        max_in_flight: usize,
        callers: &[Caller],
        requests: &mut JoinSet<()>,
    ) {
        let mut number = 0;
        while let Some(at) = due.recv().await {
            while requests.try_join_next().is_some() {}
            if requests.len() < max_in_flight {
                requests.spawn_local(self.clone().call(callers[number % callers.len()].clone(), at));
                number += 1;
            } else if at >= self.begin {
                self.measure.borrow_mut().not_sent();
            }
        }
    }

    /// A request of an open loop. Its latency counts from when it was due, because delays in the load generator or the
    /// connection are delays for the caller, too.
    async fn call(self: Rc<Self>, mut caller: Caller, due: Instant) {
        let (draw, message) = self.next();
        let sent_bytes = message.encoded_len();
        let sent = Instant::now();
        let result = caller.embed(message).await;
        let now = Instant::now();
        if due >= self.begin {
            self.count(&draw, sent_bytes, &result, now - due, now - sent, now);
        }
    }

    fn give_up(&self, requests: usize, now: Instant) {
        for _ in 0..requests {
            let status = Status::deadline_exceeded(format!("no reply within {REPLY_TIMEOUT:?} after the step"));
            self.measure.borrow_mut().failed(&status, REPLY_TIMEOUT, now);
        }
    }

    fn next(&self) -> (Draw, EmbedRequest) {
        let mut draw = self.texts.borrow_mut().draw(self.texts_per_request);
        let texts = std::mem::take(&mut draw.texts);
        (draw, EmbedRequest { texts, ..self.request.clone() })
    }

    fn count(
        &self,
        draw: &Draw,
        sent_bytes: usize,
        result: &Result<Reply, Status>,
        latency: Duration,
        elapsed: Duration,
        at: Instant,
    ) {
        self.cpu.borrow_mut().tick(at);
        let mut measure = self.measure.borrow_mut();
        match result {
            Ok(reply) if reply.embeddings.len() == self.texts_per_request => {
                let received_bytes = reply.encoded_len();
                let answered = Answered { draw, sent_bytes, reply, received_bytes, latency, elapsed, at };
                measure.answered(&answered, self.expected.as_deref());
            }
            Ok(reply) => {
                let received = reply.embeddings.len();
                let expected = self.texts_per_request;
                let status =
                    Status::data_loss(format!("the server returned {received} embeddings for {expected} texts"));
                measure.failed(&status, elapsed, at);
            }
            Err(status) => measure.failed(status, elapsed, at),
        }
    }
}

/// Sends the time of each request when it is due. Uses a separate thread because the runtime's timers have a
/// resolution of a millisecond.
fn pace(rate: f64, arrivals: Arrivals, seed: u64, start: Instant, end: Instant) -> mpsc::Receiver<Instant> {
    let (sender, due) = mpsc::channel(MAX_DUE);
    std::thread::spawn(move || {
        for after in arrivals::times(rate, arrivals, seed) {
            let Some(at) = start.checked_add(after).filter(|at| *at < end) else { break };
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if sender.blocking_send(at).is_err() {
                break;
            }
        }
    });
    due
}
