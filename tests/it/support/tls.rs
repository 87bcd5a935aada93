//! Certificates made for a test, and the files of a server that uses them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::server::temporary_folder;

/// The name that servers' certificates are for.
const NAME: &str = "localhost";

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The certificate and the key of a server, and the authority that its clients need, in files.
pub(crate) struct TlsFiles {
    /// Signs the server's certificate.
    pub(crate) servers: Authority,
    /// Signs the certificates of clients, if the server requires them.
    pub(crate) clients: Authority,
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) client_ca: String,
    pub(crate) folder: PathBuf,
    _folder: tempfile::TempDir,
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

    /// Writes both to the folder, each in one step, and returns their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> [String; 2] {
        let certificate = write(folder, &format!("{name}.pem"), &self.certificate);
        [certificate, write(folder, &format!("{name}-key.pem"), &self.key)]
    }
}

impl TlsFiles {
    pub(crate) fn new() -> Self {
        let (guard, folder) = temporary_folder();
        let servers = Authority::new("servers");
        let clients = Authority::new("clients");
        let [certificate, key] = servers.sign().write(&folder, "server");
        let client_ca = write(&folder, "clients.pem", &clients.pem());
        Self { servers, clients, certificate, key, client_ca, folder, _folder: guard }
    }

    /// Flags of a server with TLS.
    pub(crate) fn flags(&self) -> [&str; 4] {
        ["--tls-certificate", &self.certificate, "--tls-key", &self.key]
    }

    /// Flags of a server that requires client certificates.
    pub(crate) fn mutual_flags(&self) -> [&str; 6] {
        let [certificate_flag, certificate, key_flag, key] = self.flags();
        [certificate_flag, certificate, key_flag, key, "--tls-client-ca", &self.client_ca]
    }

    /// A client with a certificate that such a server accepts.
    pub(crate) fn accepted_client(&self) -> ClientTlsConfig {
        self.servers.trusted().identity(self.clients.sign().identity())
    }
}

/// Writes a file in one step, and returns its path.
pub(crate) fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    let staging = folder.join(format!("{name}.new"));
    fs::write(&staging, content).expect("write");
    fs::rename(&staging, &path).expect("rename");
    path.to_str().expect("text").to_owned()
}
