//! Errors in setting up a client.

/// Why a client could not be created or a connection could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// Not a valid address.
    #[error(
        "`{server}` is not a valid server address ({reason}); write `host:port`, `https://host:port` for TLS, or \
         `dns:///host:port` for every address of a name"
    )]
    Address {
        /// The address, as given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates were given for an address without TLS.
    #[error(
        "certificates need TLS, and {server} is a plaintext address: prefix its host with `https://` (or `dns+https:///`)"
    )]
    NotTls {
        /// The address.
        server: String,
    },
    /// The certificates do not match, or the system has no trusted roots.
    #[error("cannot set up TLS for {server} ({reason}); check the certificates and the key")]
    Tls {
        /// The address.
        server: String,
        /// The cause.
        reason: String,
    },
    /// The token cannot be sent as metadata.
    #[error("the token must be ASCII, without spaces inside")]
    Token,
    /// A single connection was requested, but the address may name several servers.
    #[error("`{servers}` can name several servers, and this command calls exactly one: use `host:port`")]
    Several {
        /// The addresses, as given.
        servers: String,
    },
    /// No server accepted a connection.
    #[error(
        "cannot connect to {servers} ({reason}); check that the server is running there, and that it uses TLS if the address is https"
    )]
    Unreachable {
        /// The addresses, as given.
        servers: String,
        /// The cause.
        reason: String,
    },
}
