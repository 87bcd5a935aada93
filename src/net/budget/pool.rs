//! One kind of memory, shared by all connections. It uses neither clocks nor threads.
//!
//! A quarter of it is divided among the connections: each may always hold its **minimum**. The rest is shared. Of that, a
//! connection may hold at most three times as many bytes as it leaves free (dynamic thresholds, Choudhury and Hahne
//! 1998), and it takes at most half of the free bytes at a time. Connections that wait take turns. While the first of
//! them waits for bytes to become free, others overtake it only with messages that hardly delay it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{ByteLimits, Charge};

/// How many times as many bytes as are free a connection may hold.
const TIMES_FREE: usize = 3;
/// A connection overtakes another if it then holds at most a fourth of the free bytes.
const SMALL_SHARE: usize = 4;

#[derive(Debug)]
pub(super) struct Pool {
    limits: ByteLimits,
    shared: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The minimum of each connection.
    minimum: usize,
    per_connection: usize,
    /// Free bytes for the connections' minimums.
    free_minimum: usize,
    /// Free bytes of the shared rest.
    free: usize,
    all_shared: usize,
    /// Connections that wait, in the order of their turns.
    waiting: BTreeMap<usize, Queue>,
    last_turn: usize,
}

/// A connection's waiting messages; never empty.
#[derive(Debug)]
struct Queue {
    member: Arc<Member>,
    messages: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    granted: oneshot::Sender<Charge>,
}

/// A connection. Its numbers change only while the pool is locked.
#[derive(Debug, Default)]
pub(super) struct Member {
    held: AtomicUsize,
    /// The shared bytes among them.
    shared: AtomicUsize,
    /// The key of its queue, if it waits; 0 otherwise.
    turn: AtomicUsize,
}

/// How many bytes a connection takes, of each part.
#[derive(Clone, Copy)]
struct Parts {
    minimum: usize,
    shared: usize,
    /// The shared bytes that the connection then holds.
    held: usize,
}

impl Pool {
    pub(super) fn new(limits: ByteLimits, connections: usize) -> Arc<Self> {
        let minimum = limits.process / 4 / connections.max(1);
        let free_minimum = minimum * connections;
        let shared = limits.process - free_minimum;
        let state = State {
            minimum,
            per_connection: limits.per_connection,
            free_minimum,
            free: shared,
            all_shared: shared,
            waiting: BTreeMap::new(),
            last_turn: 0,
        };
        Arc::new(Self { limits, shared, state: Mutex::new(state) })
    }

    /// A message that is larger than a limit takes all of it: it is processed alone.
    pub(super) fn at_most_all(&self, bytes: usize) -> usize {
        bytes.min(self.limits.per_connection).min(self.shared)
    }

    /// Whether most of the memory is in use.
    pub(super) fn is_short(&self) -> bool {
        self.lock().free < self.shared / 4
    }

    /// Takes bytes if that neither needs nor causes waiting.
    pub(super) fn try_take(&self, member: &Member, bytes: usize) -> bool {
        let mut state = self.lock();
        let fits = state.may_go_ahead(member, bytes);
        if fits {
            state.take(member, bytes);
        }
        fits
    }

    /// Takes bytes, or returns a receiver that waits for them.
    pub(super) fn take_or_wait(&self, member: &Arc<Member>, bytes: usize) -> Option<oneshot::Receiver<Charge>> {
        let mut state = self.lock();
        if !member.waits() && state.may_go_ahead(member, bytes) {
            state.take(member, bytes);
            return None;
        }
        let (granted, waiting) = oneshot::channel();
        state.wait(member, Waiting { bytes, granted });
        Some(waiting)
    }

    /// Frees bytes of a connection, and gives them to those who wait.
    pub(super) fn give_back(self: &Arc<Self>, member: &Member, bytes: usize) {
        let mut state = self.lock();
        state.release(member, bytes);
        let granted = if state.waiting.is_empty() { Vec::new() } else { self.grant(&mut state) };
        drop(state);
        for (waiting, charge) in granted {
            // If the message is no longer waiting, this gives the bytes back.
            drop(waiting.send(charge));
        }
    }

    /// Lets the connections that wait have turns until none of them can take more.
    fn grant(self: &Arc<Self>, state: &mut State) -> Vec<(oneshot::Sender<Charge>, Charge)> {
        let mut granted = Vec::new();
        loop {
            let before = granted.len();
            let mut is_first = true;
            let turns: Vec<usize> = state.waiting.keys().copied().collect();
            for turn in turns {
                let Some((member, bytes)) = state.next(turn) else { continue };
                if (is_first && state.fits(&member, bytes)) || state.is_small(&member, bytes) {
                    state.take(&member, bytes);
                    let charge = Charge { bytes, pool: Arc::clone(self), member };
                    granted.extend(state.pop(turn).map(|waiting| (waiting.granted, charge)));
                } else if state.is_fair(&member, bytes) {
                    is_first = false;
                }
            }
            if granted.len() == before {
                return granted;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn parts(&self, member: &Member, bytes: usize) -> Parts {
        let held = member.held();
        let minimum = bytes.min(self.minimum.saturating_sub(held)).min(self.free_minimum);
        let shared = bytes - minimum;
        Parts { minimum, shared, held: member.shared.load(Relaxed) + shared }
    }

    fn may_go_ahead(&self, member: &Member, bytes: usize) -> bool {
        (self.waiting.is_empty() && self.fits(member, bytes)) || self.is_small(member, bytes)
    }

    fn fits(&self, member: &Member, bytes: usize) -> bool {
        let Parts { shared, .. } = self.parts(member, bytes);
        let is_alone = self.free == self.all_shared;
        shared <= self.free && (is_alone || shared <= self.free / 2) && self.is_fair(member, bytes)
    }

    /// Whether the connection would hold no more than its share. If not, it waits for itself, and nobody waits for it.
    fn is_fair(&self, member: &Member, bytes: usize) -> bool {
        let Parts { shared, held, .. } = self.parts(member, bytes);
        let left = self.free.saturating_sub(shared);
        self.is_within_limit(member, bytes) && (held == shared || held <= left.saturating_mul(TIMES_FREE))
    }

    /// Whether the message hardly delays others.
    fn is_small(&self, member: &Member, bytes: usize) -> bool {
        let Parts { shared, held, .. } = self.parts(member, bytes);
        self.is_within_limit(member, bytes) && (shared == 0 || held <= self.free / SMALL_SHARE)
    }

    fn is_within_limit(&self, member: &Member, bytes: usize) -> bool {
        member.held() + bytes <= self.per_connection
    }

    fn take(&mut self, member: &Member, bytes: usize) {
        let Parts { minimum, shared, held } = self.parts(member, bytes);
        self.free_minimum -= minimum;
        self.free -= shared;
        member.held.fetch_add(bytes, Relaxed);
        member.shared.store(held, Relaxed);
    }

    /// Frees shared bytes first.
    fn release(&mut self, member: &Member, bytes: usize) {
        let shared = bytes.min(member.shared.load(Relaxed));
        self.free += shared;
        self.free_minimum += bytes - shared;
        member.shared.fetch_sub(shared, Relaxed);
        member.held.fetch_sub(bytes, Relaxed);
    }

    fn wait(&mut self, member: &Arc<Member>, message: Waiting) {
        if let Some(queue) = self.waiting.get_mut(&member.turn.load(Relaxed)) {
            while queue.messages.back().is_some_and(|last| last.granted.is_closed()) {
                queue.messages.pop_back();
            }
            queue.messages.push_back(message);
            return;
        }
        self.line_up(Queue { member: Arc::clone(member), messages: VecDeque::from([message]) });
    }

    /// Gives a connection the last turn.
    fn line_up(&mut self, queue: Queue) {
        self.last_turn += 1;
        queue.member.turn.store(self.last_turn, Relaxed);
        self.waiting.insert(self.last_turn, queue);
    }

    /// The next message of the connection with this turn.
    fn next(&mut self, turn: usize) -> Option<(Arc<Member>, usize)> {
        let queue = self.waiting.get_mut(&turn)?;
        while queue.messages.front().is_some_and(|message| message.granted.is_closed()) {
            queue.messages.pop_front();
        }
        if let Some(message) = queue.messages.front() {
            return Some((Arc::clone(&queue.member), message.bytes));
        }
        queue.member.turn.store(0, Relaxed);
        self.waiting.remove(&turn);
        None
    }

    /// Removes that message. The connection's further messages get the last turn.
    fn pop(&mut self, turn: usize) -> Option<Waiting> {
        let mut queue = self.waiting.remove(&turn)?;
        queue.member.turn.store(0, Relaxed);
        let message = queue.messages.pop_front();
        if !queue.messages.is_empty() {
            self.line_up(queue);
        }
        message
    }
}

impl Member {
    fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn waits(&self) -> bool {
        self.turn.load(Relaxed) != 0
    }
}
