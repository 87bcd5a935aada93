//! What the flags of this program's client commands say of a server: its address, files with certificates, a token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::address::Address;
use super::{Client, ClientBuilder, ConnectError, Connection};

/// The server that is called where none is named: that of the default settings, on this machine.
pub const DEFAULT_SERVER: &str = "127.0.0.1:50051";

/// Which server, and what it takes to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// As [`Client::builder`] takes it.
    pub server: String,
    /// PEM certificates that the server's must come from. None: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The client's own certificate, in PEM; it goes with `key`.
    pub certificate: Option<PathBuf>,
    /// The key of `certificate`, in PEM.
    pub key: Option<PathBuf>,
    /// A file with the bearer token; white space around it is not part of it.
    pub token_file: Option<PathBuf>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { server: DEFAULT_SERVER.to_owned(), ca: None, certificate: None, key: None, token_file: None }
    }
}

/// Why what the flags say makes no client.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Files for TLS, and an address without it.
    #[error("{flag} is for TLS, and --server {server} is not: write `https://` (or `dns+https:///`) before its host")]
    NotTls {
        /// The flag that makes no sense.
        flag: &'static str,
        /// The server.
        server: String,
    },
    /// One of two files that belong together.
    #[error("{given} is of no use without {missing}: a client's certificate and its key go together")]
    Half {
        /// The flag that is there.
        given: &'static str,
        /// The flag that is not.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("{flag} {path}: {source}")]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{flag} {path}: {expected}")]
    Content {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What must be in it.
        expected: &'static str,
    },
    /// There is no client, or no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl ClientOptions {
    /// A client's settings, the files read.
    ///
    /// # Errors
    /// [`OptionsError`], each saying what to do.
    pub fn builder(&self) -> Result<ClientBuilder, OptionsError> {
        self.check_tls()?;
        let mut builder = Client::builder(&*self.server);
        if let Some(path) = &self.ca {
            builder = builder.trust(pem("--ca", path, "CERTIFICATE")?);
        }
        match (&self.certificate, &self.key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                let certificate = pem("--certificate", certificate, "CERTIFICATE")?;
                builder = builder.identity(certificate, pem("--key", key, "PRIVATE KEY")?);
            }
            (Some(_), None) => return Err(OptionsError::Half { given: "--certificate", missing: "--key" }),
            (None, Some(_)) => return Err(OptionsError::Half { given: "--key", missing: "--certificate" }),
        }
        if let Some(path) = &self.token_file {
            builder = builder.token(token(path)?);
        }
        Ok(builder)
    }

    fn check_tls(&self) -> Result<(), OptionsError> {
        let files = [("--ca", &self.ca), ("--certificate", &self.certificate), ("--key", &self.key)];
        let plain = Address::list(&self.server)?.into_iter().find(|address| !address.is_secure());
        match (plain, files.iter().find(|(_, file)| file.is_some())) {
            (Some(plain), Some((flag, _))) => Err(OptionsError::NotTls { flag, server: plain.to_string() }),
            _ => Ok(()),
        }
    }

    /// One plain connection, taken by the server: see [`ClientBuilder::connection`].
    ///
    /// # Errors
    /// [`OptionsError`], each saying what to do.
    pub async fn connect(&self) -> Result<Connection, OptionsError> {
        Ok(self.builder()?.connection().await?)
    }
}

fn token(path: &Path) -> Result<String, OptionsError> {
    let wrong = |expected| OptionsError::Content { flag: "--token-file", path: path.to_owned(), expected };
    let text = String::from_utf8(read("--token-file", path)?);
    let text = text.map_err(|_| wrong("expected a token, and this is no text"))?;
    match text.trim() {
        "" => Err(wrong("expected a token, and there is none in it")),
        token if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(wrong("expected one token in ASCII, without white space inside"))
        }
        token => Ok(token.to_owned()),
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, OptionsError> {
    fs::read(path).map_err(|source| OptionsError::File { flag, path: path.to_owned(), source })
}

/// A PEM file; one with nothing of the right kind in it would otherwise count as empty, and fail where nobody sees why.
fn pem(flag: &'static str, path: &Path, kind: &'static str) -> Result<Vec<u8>, OptionsError> {
    let bytes = read(flag, path)?;
    let ending = format!("{kind}-----");
    let found = String::from_utf8_lossy(&bytes)
        .lines()
        .any(|line| line.trim_end().ends_with(&ending) && line.starts_with("-----BEGIN "));
    if found {
        return Ok(bytes);
    }
    let expected = match kind {
        "CERTIFICATE" => "expected certificates in PEM (`-----BEGIN CERTIFICATE-----`), and there are none",
        _ => "expected a private key in PEM (`-----BEGIN PRIVATE KEY-----`), and there is none",
    };
    Err(OptionsError::Content { flag, path: path.to_owned(), expected })
}

#[cfg(test)]
mod tests;
