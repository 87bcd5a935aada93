//! `embedd health`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cli::Health;
use crate::config::Settings;
use embedd_client::{ClientOptions, is_serving};

/// Probes are asked every few seconds: a server that takes longer to answer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(health: &Health, settings: &Settings) -> anyhow::Result<()> {
    let mut client = health.client.clone();
    if health.of_settings {
        client.server = server(settings);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(&client)).await });
    if !answer.with_context(|| format!("{} has not answered within {PATIENCE:?}", client.server))?? {
        bail!("{} is NOT_SERVING: it has no model yet, or is about to end", client.server);
    }
    println!("SERVING");
    Ok(())
}

async fn ask(client: &ClientOptions) -> anyhow::Result<bool> {
    Ok(is_serving(client.connect().await?).await?)
}

/// The server that these settings make, on this machine: its listener for probes, where it has one.
fn server(settings: &Settings) -> String {
    let (scheme, address) = match settings.health_listen {
        Some(address) => ("http", address),
        None if settings.tls_certificate.is_some() => ("https", settings.listen),
        None => ("http", settings.listen),
    };
    format!("{scheme}://{}", reachable(address))
}

/// What listens at every address is called by way of loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn asked(env: &[(&str, &str)]) -> String {
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        server(&Settings::resolve(&Sources { env, ..Sources::default() }).expect("valid"))
    }

    #[test]
    fn the_listener_for_probes_is_asked_before_that_of_the_service() {
        assert_eq!(asked(&[]), "http://127.0.0.1:50051");
        assert_eq!(asked(&[("EMBEDD_LISTEN", "[::]:1")]), "http://[::1]:1");
        assert_eq!(asked(&[("EMBEDD_LISTEN", "10.0.0.7:1")]), "http://10.0.0.7:1");
        let tls = [("EMBEDD_TLS_CERTIFICATE", "c"), ("EMBEDD_TLS_KEY", "k")];
        assert_eq!(asked(&tls), "https://127.0.0.1:50051");
        let probes = [&tls[..], &[("EMBEDD_HEALTH_LISTEN", "0.0.0.0:50053")]].concat();
        assert_eq!(asked(&probes), "http://127.0.0.1:50053");
    }
}
