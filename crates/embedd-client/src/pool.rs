//! The servers of a client: each with a connection that is kept, calls going round among those that take them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};

use super::address::Address;
use super::connection::Target;

mod names;
mod server;

pub(super) use names::resolve;
use names::{Resolve, follow};
use server::{Look, Server, keep};

/// A server that does not serve now is passed over for so long.
const REST: Duration = Duration::from_secs(1);

/// An address and how it is connected to.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    pub(super) address: Address,
    pub(super) endpoint: Endpoint,
}

/// The servers, and the tasks that keep their connections for as long as the pool lives.
#[derive(Debug)]
pub(super) struct Pool {
    seats: Arc<Seats>,
    /// Those that follow names.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// A connection for one attempt.
#[derive(Debug)]
pub(super) struct Taken {
    server: Arc<Server>,
    pub(super) channel: Channel,
    number: u64,
}

#[derive(Debug)]
struct Seats {
    table: Mutex<Table>,
    turn: AtomicUsize,
    signals: Arc<Signals>,
}

/// What the tasks and the calls tell each other.
#[derive(Debug, Default)]
struct Signals {
    /// A server, or what is known of a name, has changed.
    changed: watch::Sender<()>,
    /// A connection was not taken, or ended: the name may have other addresses by now.
    trouble: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Table {
    seats: Vec<Seat>,
    /// By the place of their names among the client's addresses.
    names: Vec<Name>,
}

#[derive(Debug)]
struct Seat {
    server: Arc<Server>,
    /// Of which name it is an address; none: it was given itself.
    name: Option<usize>,
    _keeper: AbortOnDropHandle<()>,
}

/// What is known of a name.
#[derive(Debug)]
enum Name {
    /// Nothing yet.
    Asked,
    Known,
    Failed(String),
}

enum Choice {
    Take(Taken),
    /// One may yet take calls.
    Wait,
    /// None does: why.
    None(String),
}

impl Choice {
    fn of(server: &Arc<Server>) -> Self {
        match server.connection() {
            Some((channel, number)) => Self::Take(Taken { server: Arc::clone(server), channel, number }),
            // It has ended since.
            None => Self::Wait,
        }
    }
}

impl Pool {
    /// Connects to all servers, in the background. Wants a tokio runtime.
    pub(super) fn start(servers: Vec<Servers>, resolve: &impl Resolve) -> Self {
        let seats = Arc::new(Seats { table: Mutex::default(), turn: AtomicUsize::new(0), signals: Arc::default() });
        let mut tasks = Vec::new();
        for servers in servers {
            let mut table = seats.table();
            if servers.address.every {
                table.names.push(Name::Asked);
                let follow = follow(Arc::clone(&seats), table.names.len() - 1, servers, resolve.clone());
                tasks.push(AbortOnDropHandle::new(tokio::spawn(follow)));
            } else {
                let Servers { address, endpoint } = servers;
                let target = Target::Name(address.host().to_owned(), address.port());
                table.seats.push(seats.seat(Server::new(address.to_string(), endpoint, target), None));
            }
        }
        Self { seats, _tasks: tasks }
    }

    /// A connection of the server whose turn it is; waits while one may yet be made.
    ///
    /// # Errors
    /// Why no server takes connections.
    pub(super) async fn take(&self) -> Result<Taken, String> {
        let mut changed = self.seats.signals.changed.subscribe();
        loop {
            match self.seats.choose() {
                Choice::Take(taken) => return Ok(taken),
                Choice::None(reason) => return Err(reason),
                // The sender lives as long as the pool.
                Choice::Wait => drop(changed.changed().await),
            }
        }
    }

    /// Whether a server takes calls that has not refused one just now.
    pub(super) fn has_awake(&self) -> bool {
        let now = Instant::now();
        self.seats.table().seats.iter().any(|seat| matches!(seat.server.look(now), Look::Awake))
    }

    /// Every server by its address, with its connection or why there is none.
    pub(super) fn all(&self) -> Vec<(String, Result<Channel, String>)> {
        let of = |server: &Server| match server.connection() {
            Some((channel, _)) => Ok(channel),
            None => Err(server.trouble()),
        };
        self.seats.table().seats.iter().map(|seat| (seat.server.name.clone(), of(&seat.server))).collect()
    }
}

impl Taken {
    pub(super) fn server(&self) -> &str {
        &self.server.name
    }

    /// The server has answered.
    pub(super) fn answered(&self) {
        self.server.rest(None);
    }

    /// The server does not serve now.
    pub(super) fn refused(&self) {
        self.server.rest(Some(Instant::now() + REST));
    }

    /// The connection is of no more use.
    pub(super) fn ended(&self) {
        self.server.end(self.number);
    }
}

impl Table {
    /// Why no server takes connections.
    fn trouble(&self) -> String {
        let servers = self.seats.iter().map(|seat| format!("{}: {}", seat.server.name, seat.server.trouble()));
        let names = self.names.iter().filter_map(|name| match name {
            Name::Failed(reason) => Some(reason.clone()),
            Name::Asked | Name::Known => None,
        });
        servers.chain(names).collect::<Vec<_>>().join("; ")
    }
}

impl Seats {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, server: Server, name: Option<usize>) -> Seat {
        let server = Arc::new(server);
        let keeper = tokio::spawn(keep(Arc::clone(&server), Arc::clone(&self.signals)));
        Seat { server, name, _keeper: AbortOnDropHandle::new(keeper) }
    }

    /// Those that are awake take turns; where none is, the one whose rest ends first takes the call.
    fn choose(&self) -> Choice {
        let now = Instant::now();
        let table = self.table();
        let mut waiting = table.names.iter().any(|name| matches!(name, Name::Asked));
        let (mut awake, mut resting) = (Vec::new(), None);
        for Seat { server, .. } in &table.seats {
            match server.look(now) {
                Look::Awake => awake.push(server),
                Look::Resting(until) if resting.is_none_or(|(first, _)| until < first) => {
                    resting = Some((until, server));
                }
                Look::Resting(_) | Look::Failed => {}
                Look::Connecting => waiting = true,
            }
        }
        if !awake.is_empty() {
            let server = awake[self.turn.fetch_add(1, Ordering::Relaxed) % awake.len()];
            server.probe(now + REST);
            return Choice::of(server);
        }
        match resting {
            Some((_, server)) => Choice::of(server),
            None if waiting => Choice::Wait,
            None => Choice::None(table.trouble()),
        }
    }

    /// What a name has been found to stand for. Servers that it no longer stands for finish the calls that they have.
    fn name_is(&self, name: usize, servers: &Servers, found: Result<BTreeSet<SocketAddr>, String>) {
        let mut table = self.table();
        match found {
            Ok(found) => {
                let target = |address: &SocketAddr| Target::Address(*address);
                let of_name = |seat: &Seat| seat.name == Some(name);
                table
                    .seats
                    .retain(|seat| !of_name(seat) || found.iter().any(|each| target(each) == seat.server.target));
                for each in &found {
                    if !table.seats.iter().any(|seat| of_name(seat) && seat.server.target == target(each)) {
                        let server = Server::new(each.to_string(), servers.endpoint.clone(), target(each));
                        table.seats.push(self.seat(server, Some(name)));
                    }
                }
                table.names[name] = Name::Known;
            }
            // What is known of it stays good for as long as it works.
            Err(reason) if !matches!(table.names[name], Name::Known) => {
                table.names[name] = Name::Failed(format!("{}: {reason}", servers.address));
            }
            Err(_) => {}
        }
        drop(table);
        self.signals.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests;
