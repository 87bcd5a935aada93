//! Names that stand for several servers, asked for again from time to time and after trouble.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Seats, Servers};
use crate::address::{Address, reason};
use crate::retry::spread;

/// Where all is well, a name is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(30);
/// And never earlier than this.
const PAUSE: Duration = Duration::from_secs(2);
/// A resolver that has not answered by then has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives the addresses of a name, with the port.
pub(crate) trait Resolve: Clone + Send + Sync + 'static {
    fn resolve(&self, host: String, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

impl<R, F> Resolve for R
where
    R: Fn(String, u16) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send,
{
    fn resolve(&self, host: String, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        self(host, port)
    }
}

/// As the system does it.
pub(crate) async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Keeps the seats of a name those that it stands for.
pub(super) async fn follow(seats: Arc<Seats>, name: usize, servers: Servers, resolve: impl Resolve) {
    let mut trouble = seats.signals.trouble.subscribe();
    loop {
        let found = find(&servers.address, &resolve).await;
        let all_well = found.is_ok();
        seats.name_is(name, &servers, found);
        tokio::time::sleep(PAUSE).await;
        if all_well {
            tokio::select! {
                () = tokio::time::sleep(spread(AGAIN, fastrand::f64())) => {}
                _ = trouble.changed() => {}
            }
        }
    }
}

async fn find(address: &Address, resolve: &impl Resolve) -> Result<BTreeSet<SocketAddr>, String> {
    let asked = resolve.resolve(address.host().to_owned(), address.port());
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(found)) if found.is_empty() => Err("the name has no addresses".to_owned()),
        Ok(Ok(found)) => Ok(found.into_iter().collect()),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err(format!("the name was not resolved within {PATIENCE:?}")),
    }
}
