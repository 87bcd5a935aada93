//! `embedd health`

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::client::{connect, name_flags};
use super::outcome::Outcome;
use crate::cli::{Credentials, Health};
use crate::config::Settings;
use embedd_client::is_serving;

/// Health checks run every few seconds: a server that takes longer to answer is not healthy.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(health: &Health, settings: &Settings) -> anyhow::Result<Outcome> {
    let server = health.server.clone().unwrap_or_else(|| local_server(settings));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let check = check(&server, &health.credentials);
    let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, check).await });
    if !answer.with_context(|| format!("{server} did not answer within {TIMEOUT:?}"))?? {
        bail!("{server} is NOT_SERVING: it is still loading its model, or shutting down");
    }
    println!("SERVING");
    Ok(Outcome::Done)
}

async fn check(server: &str, credentials: &Credentials) -> anyhow::Result<bool> {
    let connection = connect(server, credentials).await?;
    is_serving(connection).await.map_err(|error| name_flags(error.into()))
}

/// The URL of the server that runs on this machine with these settings: its health listener, if it has one.
fn local_server(settings: &Settings) -> String {
    let (scheme, address) = match settings.health_listen {
        Some(address) => ("http", address),
        None if settings.tls_certificate.is_some() => ("https", settings.listen),
        None => ("http", settings.listen),
    };
    format!("{scheme}://{}", reachable(address))
}

/// A server that listens on all addresses is called on loopback, by IPv4: the machine may have no IPv6.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn address(env: &[(&str, &str)]) -> String {
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        local_server(&Settings::resolve(&Sources { env, ..Sources::default() }).expect("valid"))
    }

    #[test]
    fn the_health_listener_is_preferred_to_the_service_listener() {
        assert_eq!(address(&[]), "http://127.0.0.1:50051");
        assert_eq!(address(&[("EMBEDD_LISTEN", "[::]:1")]), "http://127.0.0.1:1");
        assert_eq!(address(&[("EMBEDD_LISTEN", "10.0.0.7:1")]), "http://10.0.0.7:1");
        let tls = [("EMBEDD_TLS_CERTIFICATE", "c"), ("EMBEDD_TLS_KEY", "k")];
        assert_eq!(address(&tls), "https://127.0.0.1:50051");
        let probes = [&tls[..], &[("EMBEDD_HEALTH_LISTEN", "0.0.0.0:50053")]].concat();
        assert_eq!(address(&probes), "http://127.0.0.1:50053");
    }
}
