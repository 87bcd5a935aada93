//! TLS for a listener. Certificates are reloaded when their files change.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};
use tokio_rustls::TlsAcceptor;

use super::protocols::Protocols;
use crate::reload::{HotReload, NamedFile, Source, Unreadable};

/// The protocols, for clients that negotiate one (ALPN, RFC 7301).
const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The server's certificate chain in PEM, its own certificate first.
    pub certificate: NamedFile,
    /// The private key of the certificate, in PEM.
    pub key: NamedFile,
    /// The CA of client certificates. If it is set, every client needs a certificate.
    pub client_ca: Option<NamedFile>,
}

/// TLS with the current certificates of the files.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<HotReload<TlsFiles>>);

/// Why TLS cannot be configured from the files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(
        "{file} contains no certificate; it needs at least one between lines `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`"
    )]
    NoCertificate { file: NamedFile },
    #[error("{file} is not a valid PEM file: {source}")]
    Pem { file: NamedFile, source: pem::Error },
    #[error("{file} contains no unencrypted private key; it needs one in PEM (PKCS #8, PKCS #1 or SEC1)")]
    NoKey { file: NamedFile },
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Mismatch { certificate: NamedFile, key: NamedFile, source: rustls::Error },
    #[error("{file} contains a certificate that cannot be used as the CA of client certificates: {source}")]
    Authority { file: NamedFile, source: rustls::Error },
    #[error("{file} cannot be used to verify client certificates: {source}")]
    Verifier { file: NamedFile, source: VerifierBuilderError },
}

impl Tls {
    /// Reads the files.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        HotReload::open(files).map(|tls| Self(Arc::new(tls)))
    }

    /// Reloads the files when they change, for as long as it is polled.
    pub(super) async fn follow(&self) -> Infallible {
        self.0.follow().await
    }

    /// An acceptor for one handshake, with the current certificates.
    pub(super) fn acceptor(&self, protocols: Protocols) -> TlsAcceptor {
        let Secret { http2, any } = &*self.0.current();
        TlsAcceptor::from(Arc::clone(match protocols {
            Protocols::Http2 => http2,
            Protocols::Http1OrHttp2 => any,
        }))
    }
}

/// Its `Debug` output hides the private key.
pub(crate) struct Secret {
    /// Offers HTTP/2 only.
    http2: Arc<ServerConfig>,
    /// Offers HTTP/1.1, too.
    any: Arc<ServerConfig>,
}

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
        let mismatch =
            |source| TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone(), source };
        let provider = Arc::new(crypto::ring::default_provider());
        let chain = certificates(&self.certificate, &contents[0])?;
        let key = private_key(&self.key, &contents[1])?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?;
        let builder = match (&self.client_ca, contents.get(2)) {
            (Some(file), Some(content)) => builder.with_client_cert_verifier(verifier(file, content, provider)?),
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(mismatch)?;
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        let mut any = config.clone();
        any.alpn_protocols.push(HTTP_1.to_vec());
        Ok(Secret { http2: Arc::new(config), any: Arc::new(any) })
    }
}

/// All certificates of a file: at least one.
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
