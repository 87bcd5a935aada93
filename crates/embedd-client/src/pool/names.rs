//! Resolves names that stand for several servers, at intervals and after connections fail.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Members, Servers};
use crate::address::{Address, reason};
use crate::retry::jittered;

const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// The minimum time between two lookups.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// The maximum time to wait for the resolver.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks up the addresses of a name, and adds the port.
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

/// Uses the system's resolver.
pub(crate) async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Keeps the members of a name up to date, forever.
pub(super) async fn keep_resolved(members: Arc<Members>, name: usize, servers: Servers, resolve: impl Resolve) {
    let mut failed = members.signals.failed.subscribe();
    loop {
        let found = find(&servers.address, &resolve).await;
        let resolved = found.is_ok();
        members.update_name(name, &servers, found);
        tokio::time::sleep(MIN_INTERVAL).await;
        if resolved {
            tokio::select! {
                () = tokio::time::sleep(jittered(REFRESH_INTERVAL, fastrand::f64())) => {}
                _ = failed.changed() => {}
            }
        }
    }
}

async fn find(address: &Address, resolve: &impl Resolve) -> Result<BTreeSet<SocketAddr>, String> {
    let lookup = resolve.resolve(address.host().to_owned(), address.port());
    match tokio::time::timeout(TIMEOUT, lookup).await {
        Ok(Ok(found)) if found.is_empty() => Err("the name has no addresses".to_owned()),
        Ok(Ok(found)) => Ok(found.into_iter().collect()),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err(format!("the name was not resolved within {TIMEOUT:?}")),
    }
}
