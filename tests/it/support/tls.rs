//! Certificates made for a test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// The name for which servers' certificates are made.
const NAME: &str = "localhost";

/// One who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(parameters, key).expect("an authority"))
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn sign(&self) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        let certificate = parameters.signed_by(&key, &self.0).expect("a certificate");
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts servers of this authority.
    pub(crate) fn trusted(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().domain_name(NAME).ca_certificate(Certificate::from_pem(self.pem()))
    }
}

impl Signed {
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }

    /// Writes both to the folder, each in one step, and gives their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> [String; 2] {
        let certificate = write(folder, &format!("{name}.pem"), &self.certificate);
        [certificate, write(folder, &format!("{name}-key.pem"), &self.key)]
    }
}

/// Writes a file in one step, and gives its path.
pub(crate) fn write(folder: &Path, name: &str, content: &str) -> String {
    let (path, aside): (PathBuf, PathBuf) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&aside, content).expect("write");
    fs::rename(&aside, &path).expect("rename");
    path.to_str().expect("text").to_owned()
}
