//! One step: requests sent and counted.
//!
//! Everything runs on one thread, so that what is counted needs no locks and the server keeps its CPUs.

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

/// What is not answered so long after a step is given up, and counted as late.
const PATIENCE: Duration = Duration::from_secs(30);
/// A caller that was refused waits so long: one that asks again at once takes the CPU that it wants from the server.
const PAUSE: Duration = Duration::from_millis(10);
/// Arrivals that may wait for this side to take note of them.
const DUE: usize = 1024;

/// What the requests of a step share.
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

/// What all steps run with.
pub(super) struct Runner<'p> {
    pub(super) plan: &'p Plan,
    pub(super) callers: Vec<Caller>,
    pub(super) texts: Rc<RefCell<Texts>>,
    pub(super) expected: Option<Rc<[Bytes]>>,
}

impl Runner<'_> {
    /// Runs a step until its end, or until `stop`; none where that came before anything could be measured.
    pub(super) async fn run(&self, step: Step, stop: impl Future<Output = ()>) -> Option<StepFigures> {
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
pub(super) fn request(plan: &Plan) -> EmbedRequest {
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
        // What is still out then is given up by the caller of this function.
        let _ = timeout(self.end.saturating_duration_since(Instant::now()) + PATIENCE, answered).await;
    }

    /// A caller of a closed loop.
    async fn keep_calling(self: Rc<Self>, mut caller: Caller) {
        while Instant::now() < self.end {
            let (draw, message) = self.next();
            let sent_bytes = message.encoded_len();
            let sent = Instant::now();
            let result = caller.embed(message).await;
            let now = Instant::now();
            let refused = result.is_err();
            if now >= self.begin && now < self.end {
                self.count(&draw, sent_bytes, &result, now - sent, now - sent, now);
            }
            if refused {
                sleep(PAUSE).await;
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

    /// A request of an open loop. Its latency counts from when it was due: what this side or the connection made it wait
    /// is part of what a caller would have waited.
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
            let status = Status::deadline_exceeded(format!("no reply {PATIENCE:?} after the step"));
            self.measure.borrow_mut().failed(&status, PATIENCE, now);
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
        taken: Duration,
        at: Instant,
    ) {
        self.cpu.borrow_mut().tick(at);
        let mut measure = self.measure.borrow_mut();
        match result {
            Ok(reply) if reply.embeddings.len() == self.texts_per_request => {
                let received_bytes = reply.encoded_len();
                let answered = Answered { draw, sent_bytes, reply, received_bytes, latency, taken, at };
                measure.answered(&answered, self.expected.as_deref());
            }
            Ok(reply) => {
                let (given, asked) = (reply.embeddings.len(), self.texts_per_request);
                measure.failed(&Status::data_loss(format!("{given} embeddings for {asked} texts")), taken, at);
            }
            Err(status) => measure.failed(status, taken, at),
        }
    }
}

/// Tells when requests are due, from a thread of its own: the runtime's clock has whole milliseconds only.
fn pace(rate: f64, arrivals: Arrivals, seed: u64, start: Instant, end: Instant) -> mpsc::Receiver<Instant> {
    let (sender, due) = mpsc::channel(DUE);
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
