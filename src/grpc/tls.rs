//! TLS of a listener: certificates from files, taken up anew when they change.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};
use tokio_rustls::TlsAcceptor;

use crate::reload::{HotReload, NamedFile, Source, Unreadable};

/// What gRPC speaks, for those who ask (RFC 7301).
const HTTP_2: &[u8] = b"h2";

/// The files of a listener.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The server's chain in PEM, its own certificate first.
    pub certificate: NamedFile,
    /// Its private key in PEM.
    pub key: NamedFile,
    /// Who signs the certificates of clients; where it is given, every client needs one.
    pub client_ca: Option<NamedFile>,
}

/// TLS with the certificates that the files hold now.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<HotReload<TlsFiles>>);

/// Why files give no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// One cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It holds something else.
    #[error(
        "{file} holds no certificate; it needs at least one between lines `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`"
    )]
    NoCertificate {
        /// The file.
        file: NamedFile,
    },
    /// It is broken.
    #[error("{file} is not the PEM file that it should be: {source}")]
    Pem {
        /// The file.
        file: NamedFile,
        /// What the parser stumbled over.
        source: pem::Error,
    },
    /// It holds something else, or a key under a password.
    #[error(
        "{file} holds no private key that is readable without a password; it needs one in PEM (PKCS #8, PKCS #1 or SEC1)"
    )]
    NoKey {
        /// The file.
        file: NamedFile,
    },
    /// The two do not belong together, or are of no use.
    #[error("{certificate} and {key} do not go together: {source}")]
    Unfit {
        /// The chain.
        certificate: NamedFile,
        /// The key.
        key: NamedFile,
        /// What TLS says of them.
        source: rustls::Error,
    },
    /// A certificate that cannot stand for an authority.
    #[error("{file} holds a certificate that cannot sign those of clients: {source}")]
    Authority {
        /// The file.
        file: NamedFile,
        /// What TLS says of it.
        source: rustls::Error,
    },
    /// TLS cannot be built of what was read.
    #[error("{file}: clients' certificates cannot be checked by it: {source}")]
    Verifier {
        /// The file.
        file: NamedFile,
        /// What TLS says of it.
        source: VerifierBuilderError,
    },
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        HotReload::open(files).map(|tls| Self(Arc::new(tls)))
    }

    pub(super) async fn follow(&self) -> Infallible {
        self.0.follow().await
    }

    /// For one handshake, with the certificates of this moment.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.current().0))
    }
}

/// It holds a private key.
pub(crate) struct Secret(Arc<ServerConfig>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificates")
    }
}

impl Source for TlsFiles {
    type Value = Secret;
    type Error = TlsError;

    fn files(&self) -> Vec<&NamedFile> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).collect()
    }

    fn parse(&self, contents: &[Vec<u8>]) -> Result<Secret, TlsError> {
        let unfit = |source| TlsError::Unfit { certificate: self.certificate.clone(), key: self.key.clone(), source };
        let provider = Arc::new(crypto::ring::default_provider());
        let chain = certificates(&self.certificate, &contents[0])?;
        let key = private_key(&self.key, &contents[1])?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?;
        let builder = match (&self.client_ca, contents.get(2)) {
            (Some(file), Some(content)) => builder.with_client_cert_verifier(verifier(file, content, provider)?),
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unfit)?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Secret(Arc::new(config)))
    }
}

/// At least one.
fn certificates(file: &NamedFile, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let all = all.map_err(|source| TlsError::Pem { file: file.clone(), source })?;
    if all.is_empty() { Err(TlsError::NoCertificate { file: file.clone() }) } else { Ok(all) }
}

fn private_key(file: &NamedFile, content: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(content).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::NoKey { file: file.clone() },
        source => TlsError::Pem { file: file.clone(), source },
    })
}

fn verifier(
    file: &NamedFile,
    content: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, content)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { file: file.clone(), source })?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map(|verifier| verifier as _).map_err(|source| TlsError::Verifier { file: file.clone(), source })
}

#[cfg(test)]
mod tests;
