//! Settings of a client, and its construction.

use std::sync::Arc;
use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::address::{Address, reason};
use super::call::Caller;
use super::connection::CONNECT_TIMEOUT;
use super::pool::{Pool, Servers, resolve};
use super::{Bearer, Client, ConnectError, Connection, RetryPolicy};

/// A connection with calls in flight is pinged after this much silence.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// If a ping is not answered within this time, the connection is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    servers: String,
    roots: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    token: Option<String>,
    deadline: Option<Duration>,
    retries: RetryPolicy,
}

impl ClientBuilder {
    pub(crate) fn new(servers: String) -> Self {
        let retries = RetryPolicy::default();
        Self { servers, roots: None, identity: None, token: None, deadline: None, retries }
    }

    /// PEM certificates of the authorities that sign the servers' certificates. The default is the system's trusted roots.
    #[must_use]
    pub fn trust(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// The client's certificate and its private key, both in PEM.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The bearer token sent with every call.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The maximum time for a call, including its retries and the waits between them. The default is no deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// When calls are retried.
    #[must_use]
    pub fn retries(mut self, retries: RetryPolicy) -> Self {
        self.retries = retries;
        self
    }

    /// Connects. Returns as soon as one server has accepted a connection, or all attempts have failed.
    ///
    /// # Errors
    /// [`ConnectError`], which says what to do.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let servers = self.servers.clone();
        let client = self.connect_later()?;
        match client.caller.pool.pick().await {
            Ok(_) => Ok(client),
            Err(reason) => Err(ConnectError::Unreachable { servers, reason }),
        }
    }

    /// Returns a client that connects in the background. Its servers do not have to be running yet.
    ///
    /// # Errors
    /// Every [`ConnectError`] except `Unreachable`.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    pub fn connect_later(self) -> Result<Client, ConnectError> {
        let servers = Address::list(&self.servers)?.into_iter().map(|address| {
            let endpoint = self.endpoint(&address)?;
            Ok(Servers { address, endpoint })
        });
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let caller = Caller::new(Pool::start(servers, &resolve), self.bearer()?, self.retries);
        Ok(Client { caller: Arc::new(caller), limits: Arc::default(), deadline: self.deadline })
    }

    /// Opens a plain connection to a single server, for calls of any kind. Calls are not retried, and the deadline does not
    /// apply. If the connection breaks, the next call reopens it.
    ///
    /// # Errors
    /// [`ConnectError`], which says what to do.
    pub async fn connection(self) -> Result<Connection, ConnectError> {
        let addresses = Address::list(&self.servers)?;
        let [address] = addresses.as_slice() else { return Err(ConnectError::Several { servers: self.servers }) };
        if address.resolve_all {
            return Err(ConnectError::Several { servers: self.servers });
        }
        let bearer = self.bearer()?;
        let channel = self
            .endpoint(address)?
            .connect()
            .await
            .map_err(|error| ConnectError::Unreachable { servers: self.servers.clone(), reason: reason(&error) })?;
        Ok(InterceptedService::new(channel, bearer))
    }

    fn bearer(&self) -> Result<Bearer, ConnectError> {
        self.token.as_deref().map_or_else(|| Ok(Bearer::default()), Bearer::new)
    }

    fn endpoint(&self, address: &Address) -> Result<Endpoint, ConnectError> {
        let endpoint = Endpoint::from(address.uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        if !address.is_secure() {
            return if self.roots.is_some() || self.identity.is_some() {
                Err(ConnectError::NotTls { server: address.to_string() })
            } else {
                Ok(endpoint)
            };
        }
        endpoint
            .tls_config(self.tls())
            .map_err(|error| ConnectError::Tls { server: address.to_string(), reason: reason(&error) })
    }

    fn tls(&self) -> ClientTlsConfig {
        let tls = match &self.roots {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.identity {
            Some((certificate, key)) => tls.identity(Identity::from_pem(certificate, key)),
            None => tls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn certificates_need_tls() {
        let builder = Client::builder("a:1").trust("-----BEGIN CERTIFICATE-----\n");
        let error = builder.connect_later().expect_err("an error").to_string();
        assert!(error.contains("a:1") && error.contains("`https://`"), "{error}");
    }

    #[tokio::test]
    async fn a_plain_connection_needs_a_single_server() {
        for servers in ["a:1,b:1", "dns:///a:1"] {
            let error = Client::builder(servers).connection().await.expect_err("an error");
            assert!(error.to_string().contains("calls exactly one"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let plain = Client::builder(&*address).connection().await.expect_err("an error");
        let client = Client::connect(&address).await.expect_err("an error");
        for message in [plain.to_string(), client.to_string()] {
            assert!(message.contains(&address) && message.contains("refused"), "{message}");
        }
    }
}
