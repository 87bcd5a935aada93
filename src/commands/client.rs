//! Connections to a server from the flags of client commands: reads the files that the flags name.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};

use crate::cli::Credentials;
use embedd_client::{CallError, CallErrorKind, Client, ClientBuilder, ConnectError, Connection};

/// A builder for clients of `server`, with the contents of the files that `credentials` names.
pub(super) fn builder(server: &str, credentials: &Credentials) -> anyhow::Result<ClientBuilder> {
    let Credentials { ca, certificate, key, token_file } = credentials;
    let mut builder = Client::builder(server);
    if let Some(path) = ca {
        builder = builder.trust(pem("--ca", path, Pem::Certificate)?);
    }
    if let (Some(certificate), Some(key)) = (certificate, key) {
        let certificate = pem("--certificate", certificate, Pem::Certificate)?;
        let key = pem("--key", key, Pem::PrivateKey)?;
        builder = builder.identity(certificate, key);
    }
    if let Some(path) = token_file {
        builder = builder.token(token(path)?);
    }
    Ok(builder)
}

/// One connection to one server, without retries: see [`ClientBuilder::connection`].
pub(super) async fn connect(server: &str, credentials: &Credentials) -> anyhow::Result<Connection> {
    builder(server, credentials)?.connection().await.map_err(|error| explain(error, credentials))
}

/// Adds the flag that an error is about.
pub(super) fn explain(error: ConnectError, credentials: &Credentials) -> anyhow::Error {
    match (&error, &credentials.token_file) {
        (ConnectError::Token, Some(path)) => anyhow::Error::new(error).context(named("--token-file", path)),
        _ => error.into(),
    }
}

/// If a call failed because of a flag, adds the flag to the error.
pub(super) fn name_flags(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref().map(CallError::kind) {
        Some(CallErrorKind::Denied) => anyhow!("{error} (see --token-file and --certificate)"),
        Some(CallErrorKind::Failed("UNIMPLEMENTED")) => anyhow!("{error} (see --server)"),
        _ => error,
    }
}

/// The kind of block that a PEM file must contain.
#[derive(Clone, Copy)]
enum Pem {
    Certificate,
    PrivateKey,
}

/// Reads a PEM file. A file without a block of the right kind would otherwise count as empty, and the connection would
/// fail later for no visible reason.
fn pem(flag: &str, path: &Path, kind: Pem) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| named(flag, path))?;
    let (label, expected) = match kind {
        Pem::Certificate => ("CERTIFICATE-----", "PEM certificates (`-----BEGIN CERTIFICATE-----`)"),
        // Older tools write `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
        Pem::PrivateKey => ("PRIVATE KEY-----", "a PEM private key (`-----BEGIN PRIVATE KEY-----`)"),
    };
    let found = String::from_utf8_lossy(&bytes)
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(label));
    ensure!(found, "{}: expected {expected}, but found none", named(flag, path));
    Ok(bytes)
}

fn token(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| named("--token-file", path))?;
    Ok(text.trim().to_owned())
}

fn named(flag: &str, path: &Path) -> String {
    format!("{flag} {}", path.display())
}

#[cfg(test)]
mod tests;
