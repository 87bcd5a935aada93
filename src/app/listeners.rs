//! Listener configs from the settings: TLS, tokens, connection limits and byte budgets.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::admin_access;
use super::error::AppError;
use crate::config::{HttpApiChoice, Settings};
use crate::grpc::{self, TransportLimits};
use crate::net::{Budgets, ByteLimits, ConnectionLimits, ListenerConfig, MaxConnections, Protocols, Tls, TlsFiles};
use crate::reload::NamedFile;
use crate::tokens::Tokens;

/// The connection limit of the admin, health and HTTP listeners, which only operators, monitoring and probes use.
const SIDE_LIMIT: MaxConnections = MaxConnections { count: 64, setting: None };
/// The budget of messages, and that of replies, on the admin and health listeners: callers of the service cannot use it
/// up.
const SIDE_BUDGET: ByteLimits = ByteLimits { process: 8 << 20, per_connection: 4 << 20 };

pub(super) struct Listeners {
    pub(super) service: Protected,
    pub(super) admin: Protected,
    pub(super) health: ListenerConfig,
    pub(super) http: ListenerConfig,
    pub(super) limits: TransportLimits,
    /// Whether the HTTP port serves APIs, or why not.
    pub(super) http_api: Result<(), &'static str>,
}

/// A listener whose calls may need a token.
pub(super) struct Protected {
    pub(super) config: ListenerConfig,
    pub(super) tokens: Option<Tokens>,
}

impl Listeners {
    /// Reads certificates and tokens.
    pub(super) fn open(settings: &Settings) -> Result<Self, AppError> {
        let Settings { tls_certificate, tls_key, tls_client_ca, token_file, .. } = settings;
        let service = ListenerConfig {
            tls: tls(
                named(tls_certificate, "--tls-certificate"),
                named(tls_key, "--tls-key"),
                named(tls_client_ca, "--tls-client-ca"),
            )?,
            protocols: Protocols::Http2,
            max_connections: MaxConnections {
                count: settings.max_connections.get(),
                setting: Some("--max-connections"),
            },
            limits: connection_limits(settings),
            budgets: budgets(settings),
            draining: None,
            kind: grpc::call_kind,
        };
        let tokens = named(token_file, "--token-file").map(Tokens::open).transpose()?;
        let http_api = http_api(settings);
        Ok(Self {
            http: http(settings, http_api.is_ok(), &service),
            service: Protected { config: service, tokens },
            admin: admin(settings)?,
            health: side(settings),
            limits: limits(settings),
            http_api,
        })
    }
}

fn admin(settings: &Settings) -> Result<Protected, AppError> {
    let config = side(settings);
    if settings.admin_listen.is_none() {
        return Ok(Protected { config, tokens: None });
    }
    let tls = tls(
        named(&settings.admin_tls_certificate, "--admin-tls-certificate"),
        named(&settings.admin_tls_key, "--admin-tls-key"),
        named(&settings.admin_tls_client_ca, "--admin-tls-client-ca"),
    )?;
    let tokens = admin_access::tokens(settings)?;
    Ok(Protected { config: ListenerConfig { tls, ..config }, tokens })
}

/// No TLS and no maximum age: there is no load to balance, and benchmarks and health watches may take long.
fn side(settings: &Settings) -> ListenerConfig {
    ListenerConfig {
        tls: None,
        protocols: Protocols::Http2,
        max_connections: SIDE_LIMIT,
        limits: ConnectionLimits { max_age: None, ..connection_limits(settings) },
        budgets: Budgets::new(SIDE_BUDGET, SIDE_BUDGET, SIDE_LIMIT.count),
        draining: None,
        kind: grpc::call_kind,
    }
}

/// By default, the HTTP port grants no access that the gRPC listener denies.
fn http_api(settings: &Settings) -> Result<(), &'static str> {
    let Some(http) = settings.http_listen else { return Err("there is no HTTP port (--http-listen)") };
    match settings.http_api {
        HttpApiChoice::Off => Err("--http-api is off"),
        HttpApiChoice::Auto if settings.tls_certificate.is_some() && !settings.http_tls => {
            Err("gRPC has TLS, but the HTTP port does not (set --http-tls, or --http-api on to serve them anyway)")
        }
        HttpApiChoice::Auto if !is_within(http.ip(), settings.listen.ip()) => {
            Err("the HTTP port is reachable from more places than gRPC (use --http-api on to serve them anyway)")
        }
        HttpApiChoice::Auto | HttpApiChoice::On => Ok(()),
    }
}

/// Whether everyone who can reach `address` of this machine can also reach `other`.
fn is_within(address: IpAddr, other: IpAddr) -> bool {
    other.is_unspecified() || address.to_canonical().is_loopback() || address.to_canonical() == other.to_canonical()
}

/// Connections of callers are allowed in addition to those of probes and Prometheus.
fn http(settings: &Settings, serves_callers: bool, service: &ListenerConfig) -> ListenerConfig {
    let callers = settings.max_connections.get();
    let with_callers = MaxConnections { count: SIDE_LIMIT.count + callers, setting: Some("--max-connections") };
    ListenerConfig {
        tls: service.tls.clone().filter(|_| settings.http_tls),
        protocols: Protocols::Http1OrHttp2,
        max_connections: if serves_callers { with_callers } else { SIDE_LIMIT },
        limits: ConnectionLimits { idle_timeout: Some(settings.http_idle_timeout), ..service.limits },
        kind: crate::http::call_kind,
        ..service.clone()
    }
}

fn named(path: &Option<PathBuf>, flag: &'static str) -> Option<NamedFile> {
    path.clone().map(|path| NamedFile { path, flag })
}

/// The configuration ensures that a certificate always comes with its key.
fn tls(
    certificate: Option<NamedFile>,
    key: Option<NamedFile>,
    client_ca: Option<NamedFile>,
) -> Result<Option<Tls>, AppError> {
    let files = certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key, client_ca });
    Ok(files.map(Tls::open).transpose()?)
}

fn connection_limits(settings: &Settings) -> ConnectionLimits {
    let TransportLimits { max_concurrent_streams, max_header_bytes, .. } = limits(settings);
    ConnectionLimits {
        keepalive_interval: settings.keepalive_interval,
        keepalive_timeout: settings.keepalive_timeout,
        idle_timeout: None,
        max_age: settings.max_connection_age,
        grace: settings.max_connection_age_grace,
        reply_timeout: settings.reply_timeout,
        max_concurrent_streams,
        max_header_bytes,
    }
}

fn budgets(settings: &Settings) -> Budgets {
    let limits = |process: NonZeroUsize, per_connection: NonZeroUsize| ByteLimits {
        process: process.get(),
        per_connection: per_connection.get(),
    };
    Budgets::new(
        limits(settings.receive_bytes, settings.receive_bytes_per_connection),
        limits(settings.reply_bytes, settings.reply_bytes_per_connection),
        settings.max_connections.get(),
    )
}

fn limits(settings: &Settings) -> TransportLimits {
    let number = |limit: NonZeroUsize| u32::try_from(limit.get()).unwrap_or(u32::MAX);
    TransportLimits {
        max_message_bytes: settings.max_message_bytes.get(),
        max_concurrent_streams: number(settings.max_concurrent_streams),
        max_header_bytes: number(settings.max_header_bytes),
    }
}
