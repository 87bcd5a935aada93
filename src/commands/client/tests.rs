use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::super::describe;
use super::*;

fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), content).expect("write");
    file
}

fn path(file: &NamedTempFile) -> Option<PathBuf> {
    Some(file.path().to_owned())
}

async fn error(credentials: &Credentials) -> String {
    describe(&connect("https://127.0.0.1:1", credentials).await.err().expect("an error"))
}

#[tokio::test]
async fn a_file_with_other_content_is_named_with_its_flag() {
    let empty = file("");
    let message = error(&Credentials { ca: path(&empty), ..Credentials::default() }).await;
    assert!(message.contains("--ca") && message.contains("BEGIN CERTIFICATE"), "{message}");
    let certificate = file("-----BEGIN CERTIFICATE-----\n");
    let swapped = Credentials { certificate: path(&certificate), key: path(&certificate), ..Credentials::default() };
    let message = error(&swapped).await;
    assert!(message.contains("--key") && message.contains("BEGIN PRIVATE KEY"), "{message}");
    let message = error(&Credentials { ca: Some("does/not/exist".into()), ..Credentials::default() }).await;
    assert!(message.contains("--ca does/not/exist: No such file"), "{message}");
    for wrong in ["", " \n", "two words", "ö"] {
        let token = file(wrong);
        let message = error(&Credentials { token_file: path(&token), ..Credentials::default() }).await;
        assert!(message.contains("--token-file") && message.contains("token"), "{wrong:?}: {message}");
    }
}

#[tokio::test]
async fn certificates_need_a_tls_address() {
    let certificate = file("-----BEGIN CERTIFICATE-----\n");
    let credentials = Credentials { ca: path(&certificate), ..Credentials::default() };
    let error = connect("http://127.0.0.1:1", &credentials).await.err().expect("an error").to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("`https://`"), "{error}");
}

/// A TLS server that requires a client certificate and a token.
mod tls {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::service::interceptor::InterceptedService;
    use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
    use tonic::{Request, Status};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    use super::*;

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
        }

        fn issue(&self, name: &str) -> (String, String) {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
            (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
        }
    }

    fn check_token(request: Request<()>) -> Result<Request<()>, Status> {
        match request.metadata().get("authorization") {
            Some(token) if token == "Bearer secret" => Ok(request),
            _ => Err(Status::unauthenticated("no token")),
        }
    }

    async fn serve(authority: &Authority) -> String {
        let (certificate, key) = authority.issue("localhost");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(authority.0.pem()));
        let (_, health) = tonic_health::server::health_reporter();
        let server =
            Server::builder().tls_config(tls).expect("TLS").add_service(InterceptedService::new(health, check_token));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("https://localhost:{port}")
    }

    #[tokio::test]
    async fn a_mutual_tls_server_accepts_only_clients_with_certificate_and_token() {
        let authority = Authority::new();
        let server = serve(&authority).await;
        let (certificate, key) = authority.issue("client");
        let [ca, certificate, key, token] = [&authority.0.pem(), &certificate, &key, "secret\n"].map(file);
        let all =
            Credentials { ca: path(&ca), certificate: path(&certificate), key: path(&key), token_file: path(&token) };
        let call = async |server: &str, credentials: &Credentials| {
            let connection = connect(server, credentials).await.map_err(|error| describe(&error))?;
            let request = HealthCheckRequest { service: String::new() };
            HealthClient::new(connection).check(request).await.map_err(|status| status.to_string())
        };
        call(&server, &all).await.expect("the health of the server");

        let stranger = Credentials { certificate: None, key: None, ..all.clone() };
        call(&server, &stranger).await.expect_err("no certificate");
        let no_token = call(&server, &Credentials { token_file: None, ..all.clone() }).await.expect_err("no token");
        assert!(no_token.contains("no token"), "{no_token}");
        let other = file(&Authority::new().0.pem());
        let wrong =
            call(&server, &Credentials { ca: path(&other), ..all.clone() }).await.expect_err("another authority");
        assert!(wrong.contains("certificate"), "{wrong}");
        let plain = Credentials { token_file: path(&token), ..Credentials::default() };
        call(&server.replace("https", "http"), &plain).await.expect_err("no TLS");
    }
}
