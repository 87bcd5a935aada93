//! Settings to doors: who may come in at which listener.

use std::net::IpAddr;
use std::path::PathBuf;

use super::AppError;
use crate::accept::MaxConnections;
use crate::config::{OpenAiChoice, Settings};
use crate::grpc::{ConnectionLimits, ListenerConfig, Tls, TlsFiles, TransportLimits};
use crate::http::HttpLimits;
use crate::reload::NamedFile;
use crate::tokens::Tokens;

/// Connections of the listeners beside the service's: of some people, programs and probes.
const SIDE_CONNECTIONS: MaxConnections = MaxConnections { count: 64, setting: None };

/// The doors of all listeners, and what calls may bring along through them.
pub(super) struct Doors {
    pub(super) service: ListenerConfig,
    pub(super) admin: ListenerConfig,
    pub(super) health: ListenerConfig,
    pub(super) http: HttpLimits,
    pub(super) limits: TransportLimits,
    /// Whether OpenAI's API is served on the HTTP port, or why it is not.
    pub(super) openai: Result<(), &'static str>,
}

impl Doors {
    /// Reads certificates and tokens.
    pub(super) fn open(settings: &Settings) -> Result<Self, AppError> {
        let Settings { tls_certificate, tls_key, tls_client_ca, token_file, .. } = settings;
        let service = ListenerConfig {
            tls: tls(
                named(tls_certificate, "--tls-certificate"),
                named(tls_key, "--tls-key"),
                named(tls_client_ca, "--tls-client-ca"),
            )?,
            tokens: named(token_file, "--token-file").map(Tokens::open).transpose()?,
            max_connections: MaxConnections {
                count: settings.max_connections.get(),
                setting: Some("--max-connections"),
            },
            connection_limits: connection_limits(settings),
        };
        let openai = openai(settings);
        let (admin, health, http) = (admin(settings)?, side(settings), http(settings, openai.is_ok()));
        Ok(Self { service, admin, health, http, limits: limits(settings), openai })
    }
}

fn admin(settings: &Settings) -> Result<ListenerConfig, AppError> {
    let door = side(settings);
    if settings.admin_listen.is_none() {
        return Ok(door);
    }
    let tls = tls(
        named(&settings.admin_tls_certificate, "--admin-tls-certificate"),
        named(&settings.admin_tls_key, "--admin-tls-key"),
        named(&settings.admin_tls_client_ca, "--admin-tls-client-ca"),
    )?;
    let tokens = named(&settings.admin_token_file, "--admin-token-file").map(Tokens::open).transpose()?;
    Ok(ListenerConfig { tls, tokens, ..door })
}

/// Open, and without an age: there is nothing to balance, and a benchmark or a watch may last.
fn side(settings: &Settings) -> ListenerConfig {
    let connection_limits = ConnectionLimits { max_age: None, ..connection_limits(settings) };
    ListenerConfig { tls: None, tokens: None, max_connections: SIDE_CONNECTIONS, connection_limits }
}

/// Left to itself, the HTTP port opens to nobody what the gRPC listener does not.
fn openai(settings: &Settings) -> Result<(), &'static str> {
    let Some(http) = settings.http_listen else { return Err("there is no HTTP port (--http-listen)") };
    match settings.openai {
        OpenAiChoice::Off => Err("--openai is off"),
        OpenAiChoice::Auto if settings.tls_certificate.is_some() => {
            Err("gRPC has TLS and the HTTP port has none (--openai on serves it all the same)")
        }
        OpenAiChoice::Auto if !is_within(http.ip(), settings.listen.ip()) => {
            Err("the HTTP port can be reached from where gRPC cannot (--openai on serves it all the same)")
        }
        OpenAiChoice::Auto | OpenAiChoice::On => Ok(()),
    }
}

/// Whether all who reach the one address of this machine can reach the other.
fn is_within(address: IpAddr, other: IpAddr) -> bool {
    other.is_unspecified() || address.to_canonical().is_loopback() || address.to_canonical() == other.to_canonical()
}

/// Connections of callers leave the room that those of probes and of Prometheus have without them.
fn http(settings: &Settings, callers_come: bool) -> HttpLimits {
    let callers = settings.max_connections.get();
    let beside = MaxConnections { count: SIDE_CONNECTIONS.count + callers, setting: Some("--max-connections") };
    HttpLimits {
        max_connections: if callers_come { beside } else { SIDE_CONNECTIONS },
        max_header_bytes: settings.max_header_bytes.get(),
        max_age: settings.max_connection_age,
        grace: settings.max_connection_age_grace,
    }
}

fn named(path: &Option<PathBuf>, flag: &'static str) -> Option<NamedFile> {
    path.clone().map(|path| NamedFile { path, flag })
}

/// The configuration has a certificate only with its key.
fn tls(
    certificate: Option<NamedFile>,
    key: Option<NamedFile>,
    client_ca: Option<NamedFile>,
) -> Result<Option<Tls>, AppError> {
    let files = certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key, client_ca });
    Ok(files.map(Tls::open).transpose()?)
}

fn connection_limits(settings: &Settings) -> ConnectionLimits {
    ConnectionLimits {
        keepalive_interval: settings.keepalive_interval,
        keepalive_timeout: settings.keepalive_timeout,
        max_age: settings.max_connection_age,
        grace: settings.max_connection_age_grace,
    }
}

fn limits(settings: &Settings) -> TransportLimits {
    let number = |limit: std::num::NonZeroUsize| u32::try_from(limit.get()).unwrap_or(u32::MAX);
    TransportLimits {
        max_message_bytes: settings.max_message_bytes.get(),
        max_concurrent_streams: number(settings.max_concurrent_streams),
        max_header_bytes: number(settings.max_header_bytes),
    }
}
