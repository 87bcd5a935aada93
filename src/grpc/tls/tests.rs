use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use super::*;

fn certificate() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    (parameters.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn open(folder: &Path, certificate: &str, key: &str, ca: Option<&str>) -> Result<Tls, String> {
    let write = |name: &str, flag, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).expect("write");
        NamedFile { path, flag }
    };
    let files = TlsFiles {
        certificate: write("certificate.pem", "--tls-certificate", certificate),
        key: write("key.pem", "--tls-key", key),
        client_ca: ca.map(|ca| write("ca.pem", "--tls-client-ca", ca)),
    };
    Tls::open(files).map_err(|error| error.to_string())
}

#[test]
fn a_certificate_its_key_and_an_authority_make_tls_and_the_key_is_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = certificate();
    for ca in [None, Some(chain.as_str())] {
        let tls = open(folder.path(), &chain, &key, ca).expect("TLS");
        assert_eq!(tls.acceptor().config().alpn_protocols, [b"h2"]);
        assert!(format!("{tls:?}").contains("data: certificates, "), "and nothing of their keys: {tls:?}");
    }
    assert!(open(folder.path(), &format!("{chain}\n{}", certificate().0), &key, None).is_ok(), "a chain");
}

#[test]
fn what_is_wrong_is_told_with_its_file_and_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let ((chain, key), (other, _)) = (certificate(), certificate());
    let half = &chain[..chain.len() / 2];
    for (wrong, parts) in [
        (open(folder.path(), "", &key, None), ["certificate.pem (--tls-certificate)", "holds no certificate"]),
        (open(folder.path(), &key, &key, None), ["certificate.pem (--tls-certificate)", "holds no certificate"]),
        (open(folder.path(), half, &key, None), ["certificate.pem (--tls-certificate)", "not the PEM file"]),
        (open(folder.path(), &chain, &chain, None), ["key.pem (--tls-key)", "holds no private key"]),
        (open(folder.path(), &other, &key, None), ["key.pem (--tls-key)", "do not go together"]),
        (open(folder.path(), &chain, &key, Some("x")), ["ca.pem (--tls-client-ca)", "holds no certificate"]),
    ] {
        let error = wrong.expect_err("wrong");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
