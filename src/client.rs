//! How this program calls a server: the address, TLS, and the token, from the flags that its client commands share.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tonic::{Request, Status};

mod refusal;

pub use refusal::Refused;

/// A server that has not taken the connection by then does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The server that is called where none is named: that of the default settings, on this machine.
pub const DEFAULT_SERVER: &str = "127.0.0.1:50051";

/// Which server, and what it takes to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// `http://host:port`, `https://host:port`, or `host:port`, which means `http://`.
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

/// An HTTP/2 connection to a server; clones share it. It is made again where it breaks.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Adds the token, where there is one, to every call.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error(
        "--server: `{server}` is no address of a server ({reason}); write `host:port`, or `https://host:port` for TLS"
    )]
    Address {
        /// As it was given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Files for TLS, and an address without it.
    #[error("{flag} is for TLS, and --server {server} is not: write `https://` before its host, or leave {flag} out")]
    NotTls {
        /// The flag that makes no sense.
        flag: &'static str,
        /// As it was given.
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
    /// The files for TLS do not fit together, or the system trusts nobody.
    #[error("TLS for {server} cannot be set up ({reason}); check --ca, --certificate and --key")]
    Tls {
        /// As it was given.
        server: String,
        /// What was said.
        reason: String,
    },
    /// The server did not take the connection.
    #[error("no connection to {server} ({reason}); is the server running there, and with TLS if this is https?")]
    Unreachable {
        /// As it was given.
        server: String,
        /// What was said.
        reason: String,
    },
}

impl ClientOptions {
    /// Connects, and waits until the server has taken the connection.
    ///
    /// # Errors
    /// [`ConnectError`], each saying what to do.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let bearer = self.bearer()?;
        let endpoint = self.endpoint()?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| ConnectError::Unreachable { server: self.server.clone(), reason: reason(&error) })?;
        Ok(InterceptedService::new(channel, bearer))
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let uri = self.uri()?;
        let secure = uri.scheme_str() == Some("https");
        let endpoint = Endpoint::from(uri).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let files = [("--ca", &self.ca), ("--certificate", &self.certificate), ("--key", &self.key)];
        if !secure {
            return match files.iter().find(|(_, file)| file.is_some()) {
                Some((flag, _)) => Err(ConnectError::NotTls { flag, server: self.server.clone() }),
                None => Ok(endpoint),
            };
        }
        let tls = self.tls()?;
        endpoint
            .tls_config(tls)
            .map_err(|error| ConnectError::Tls { server: self.server.clone(), reason: reason(&error) })
    }

    fn uri(&self) -> Result<Uri, ConnectError> {
        let wrong = |reason: String| ConnectError::Address { server: self.server.clone(), reason };
        let text = if self.server.contains("://") { self.server.clone() } else { format!("http://{}", self.server) };
        let uri: Uri = text.parse().map_err(|error| wrong(reason(&error)))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("neither http:// nor https://".to_owned()));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has a path".to_owned()));
        }
        if !self.server.contains("://") && uri.port().is_none() {
            return Err(wrong("it has no port".to_owned()));
        }
        Ok(uri)
    }

    fn tls(&self) -> Result<ClientTlsConfig, ConnectError> {
        let tls = ClientTlsConfig::new();
        let tls = match &self.ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(pem("--ca", path, "CERTIFICATE")?)),
            None => tls.with_native_roots(),
        };
        match (&self.certificate, &self.key) {
            (None, None) => Ok(tls),
            (Some(certificate), Some(key)) => {
                let certificate = pem("--certificate", certificate, "CERTIFICATE")?;
                Ok(tls.identity(Identity::from_pem(certificate, pem("--key", key, "PRIVATE KEY")?)))
            }
            (Some(_), None) => Err(ConnectError::Half { given: "--certificate", missing: "--key" }),
            (None, Some(_)) => Err(ConnectError::Half { given: "--key", missing: "--certificate" }),
        }
    }

    fn bearer(&self) -> Result<Bearer, ConnectError> {
        let Some(path) = &self.token_file else { return Ok(Bearer::default()) };
        let wrong = |expected| ConnectError::Content { flag: "--token-file", path: path.clone(), expected };
        let bytes = read("--token-file", path)?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("expected a token, and this is no text"))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(wrong("expected a token, and there is none in it"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("expected one token in ASCII, without white space inside"));
        }
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| wrong("expected one token in ASCII, without white space inside"))?;
        // Nothing that prints a request prints it.
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    fs::read(path).map_err(|source| ConnectError::File { flag, path: path.to_owned(), source })
}

/// A PEM file; one with nothing of the right kind in it would otherwise count as empty, and fail where nobody sees why.
fn pem(flag: &'static str, path: &Path, kind: &'static str) -> Result<Vec<u8>, ConnectError> {
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
    Err(ConnectError::Content { flag, path: path.to_owned(), expected })
}

/// What an error and those below it say; the outer ones of a transport alone say no more than `transport error`.
fn reason(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text != "transport error" && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests;
