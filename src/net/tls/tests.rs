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
fn valid_files_configure_tls_and_debug_output_hides_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = certificate();
    for ca in [None, Some(chain.as_str())] {
        let tls = open(folder.path(), &chain, &key, ca).expect("TLS");
        assert_eq!(tls.acceptor(Protocols::Http2).config().alpn_protocols, [b"h2"]);
        assert_eq!(tls.acceptor(Protocols::Http1OrHttp2).config().alpn_protocols, [&b"h2"[..], b"http/1.1"]);
        assert!(format!("{tls:?}").contains("data: certificates, "), "the key is not shown: {tls:?}");
    }
    assert!(open(folder.path(), &format!("{chain}\n{}", certificate().0), &key, None).is_ok(), "a chain");
}

#[test]
fn errors_name_the_file_the_flag_and_the_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = certificate();
    let (other, _) = certificate();
    let half = &chain[..chain.len() / 2];
    for (opened, parts) in [
        (open(folder.path(), "", &key, None), ["certificate.pem (--tls-certificate)", "contains no certificate"]),
        (open(folder.path(), &key, &key, None), ["certificate.pem (--tls-certificate)", "contains no certificate"]),
        (open(folder.path(), half, &key, None), ["certificate.pem (--tls-certificate)", "not a valid PEM file"]),
        (open(folder.path(), &chain, &chain, None), ["key.pem (--tls-key)", "contains no unencrypted private key"]),
        (open(folder.path(), &other, &key, None), ["key.pem (--tls-key)", "cannot be used together"]),
        (open(folder.path(), &chain, &key, Some("x")), ["ca.pem (--tls-client-ca)", "contains no certificate"]),
    ] {
        let error = opened.expect_err("invalid files");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
