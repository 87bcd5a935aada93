//! The servers of a client. Keeps a connection to each, and spreads calls over the healthy ones in turn.

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

pub(crate) use names::resolve;
use names::{Resolve, keep_resolved};
use server::{Availability, OpenConnection, Server, keep_connected};

/// How long a server that replies UNAVAILABLE is skipped.
const BACKOFF: Duration = Duration::from_secs(1);

/// An address, and how to connect to it.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    pub(crate) address: Address,
    pub(crate) endpoint: Endpoint,
}

#[derive(Debug)]
pub(crate) struct Pool {
    members: Arc<Members>,
    /// The tasks that resolve names. They end with the pool.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// A connection picked for one attempt.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    server: Arc<Server>,
    connection: OpenConnection,
}

#[derive(Debug)]
struct Members {
    table: Mutex<MemberTable>,
    round_robin: AtomicUsize,
    signals: Arc<Signals>,
}

/// How tasks and calls notify each other.
#[derive(Debug, Default)]
struct Signals {
    /// A server or the addresses of a name have changed.
    changed: watch::Sender<()>,
    /// A connection attempt failed or a connection ended, so the name may have other addresses now.
    failed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct MemberTable {
    members: Vec<Member>,
    /// Indexed by [`Member::name`].
    names: Vec<Name>,
}

#[derive(Debug)]
struct Member {
    server: Arc<Server>,
    /// The name that resolved to this server; `None` if its address was given.
    name: Option<usize>,
    _connection_task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Name {
    Resolving,
    Resolved,
    Failed(String),
}

enum Choice {
    Connection(PooledConnection),
    /// A server may become available soon.
    Wait,
    /// No server is available, for this reason.
    None(String),
}

impl Choice {
    fn of(server: &Arc<Server>) -> Self {
        match server.connection() {
            Some(connection) => Self::Connection(PooledConnection { server: Arc::clone(server), connection }),
            // The connection has ended in the meantime.
            None => Self::Wait,
        }
    }
}

impl Pool {
    /// Connects to all servers in the background. Must be called within a tokio runtime.
    pub(crate) fn start(servers: Vec<Servers>, resolve: &impl Resolve) -> Self {
        let members =
            Arc::new(Members { table: Mutex::default(), round_robin: AtomicUsize::new(0), signals: Arc::default() });
        let mut tasks = Vec::new();
        for servers in servers {
            let mut table = members.table();
            if servers.address.resolve_all {
                table.names.push(Name::Resolving);
                let task = keep_resolved(Arc::clone(&members), table.names.len() - 1, servers, resolve.clone());
                tasks.push(AbortOnDropHandle::new(tokio::spawn(task)));
            } else {
                let Servers { address, endpoint } = servers;
                let target = Target::Name(address.host().to_owned(), address.port());
                table.members.push(members.start_member(Server::new(address.to_string(), endpoint, target), None));
            }
        }
        Self { members, _tasks: tasks }
    }

    /// Picks a connection. Waits while a connection attempt is in progress and no server is connected.
    ///
    /// # Errors
    /// The reason why no server accepts connections.
    pub(crate) async fn pick(&self) -> Result<PooledConnection, String> {
        let mut changed = self.members.signals.changed.subscribe();
        loop {
            match self.members.choose() {
                Choice::Connection(connection) => return Ok(connection),
                Choice::None(reason) => return Err(reason),
                // The sender lives as long as the pool.
                Choice::Wait => drop(changed.changed().await),
            }
        }
    }

    /// Whether a server is connected and not in backoff.
    pub(crate) fn has_healthy(&self) -> bool {
        let now = Instant::now();
        self.members
            .table()
            .members
            .iter()
            .any(|member| matches!(member.server.availability(now), Availability::Healthy))
    }

    /// Every server's address, with its connection or the reason why it has none.
    pub(crate) fn all(&self) -> Vec<(String, Result<Channel, String>)> {
        let of = |server: &Server| match server.connection() {
            Some(connection) => Ok(connection.channel),
            None => Err(server.failure()),
        };
        self.members.table().members.iter().map(|member| (member.server.name.clone(), of(&member.server))).collect()
    }
}

impl PooledConnection {
    pub(crate) fn server(&self) -> &str {
        &self.server.name
    }

    /// Records that the server replied, and is therefore healthy.
    pub(crate) fn answered(&self) {
        self.server.set_backoff(None);
    }

    /// Records that the server replied UNAVAILABLE.
    pub(crate) fn unavailable(&self) {
        self.server.set_backoff(Some(Instant::now() + BACKOFF));
    }

    pub(crate) fn channel(&self) -> Channel {
        self.connection.channel.clone()
    }

    /// Records that the connection accepts no more calls.
    pub(crate) fn ended(&self) {
        self.connection.ended.cancel();
    }

    /// Records that the connection broke. Returns whether this is the first of its calls to report it.
    pub(crate) fn broke(&self) -> bool {
        self.ended();
        !self.connection.broke.swap(true, Ordering::Relaxed)
    }
}

impl MemberTable {
    /// The reasons why no server accepts connections.
    fn failures(&self) -> String {
        let servers = self.members.iter().map(|member| format!("{}: {}", member.server.name, member.server.failure()));
        let names = self.names.iter().filter_map(|name| match name {
            Name::Failed(reason) => Some(reason.clone()),
            Name::Resolving | Name::Resolved => None,
        });
        servers.chain(names).collect::<Vec<_>>().join("; ")
    }
}

impl Members {
    fn table(&self) -> MutexGuard<'_, MemberTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts connecting to a server.
    fn start_member(&self, server: Server, name: Option<usize>) -> Member {
        let server = Arc::new(server);
        let connection_task = tokio::spawn(keep_connected(Arc::clone(&server), Arc::clone(&self.signals)));
        Member { server, name, _connection_task: AbortOnDropHandle::new(connection_task) }
    }

    /// Healthy servers take turns. If there are none, the one whose backoff ends first is chosen.
    fn choose(&self) -> Choice {
        let now = Instant::now();
        let table = self.table();
        let mut may_connect = table.names.iter().any(|name| matches!(name, Name::Resolving));
        let mut healthy = Vec::new();
        let mut in_backoff = None;
        for Member { server, .. } in &table.members {
            match server.availability(now) {
                Availability::Healthy => healthy.push(server),
                Availability::Backoff(until) if in_backoff.is_none_or(|(first, _)| until < first) => {
                    in_backoff = Some((until, server));
                }
                Availability::Backoff(_) | Availability::Failed => {}
                Availability::Connecting => may_connect = true,
            }
        }
        if !healthy.is_empty() {
            let server = healthy[self.round_robin.fetch_add(1, Ordering::Relaxed) % healthy.len()];
            server.probe(now + BACKOFF);
            return Choice::of(server);
        }
        match in_backoff {
            Some((_, server)) => Choice::of(server),
            None if may_connect => Choice::Wait,
            None => Choice::None(table.failures()),
        }
    }

    /// Applies the result of resolving a name. Servers that are no longer among its addresses finish their calls.
    fn update_name(&self, name: usize, servers: &Servers, found: Result<BTreeSet<SocketAddr>, String>) {
        let mut table = self.table();
        match found {
            Ok(found) => {
                let target = |address: &SocketAddr| Target::Address(*address);
                let of_name = |member: &Member| member.name == Some(name);
                table
                    .members
                    .retain(|member| !of_name(member) || found.iter().any(|each| target(each) == member.server.target));
                for each in &found {
                    if !table.members.iter().any(|member| of_name(member) && member.server.target == target(each)) {
                        let server = Server::new(each.to_string(), servers.endpoint.clone(), target(each));
                        table.members.push(self.start_member(server, Some(name)));
                    }
                }
                table.names[name] = Name::Resolved;
            }
            // If the name was resolved before, its last addresses stay in use.
            Err(reason) if !matches!(table.names[name], Name::Resolved) => {
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
