use tempfile::NamedTempFile;

use super::*;

fn to(server: &str) -> ClientOptions {
    ClientOptions { server: server.to_owned(), ..ClientOptions::default() }
}

fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), content).expect("write");
    file
}

fn text(result: Result<impl Sized, OptionsError>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn files_for_tls_need_https_and_each_other() {
    let certificate = Some(PathBuf::from("client.pem"));
    let options = ClientOptions { certificate: certificate.clone(), ..to("https://a:1,b:1") };
    let message = text(options.builder());
    assert!(message.contains("--certificate") && message.contains("--server b:1"), "{message}");
    let system = file("-----BEGIN CERTIFICATE-----\n");
    let ca = Some(system.path().to_owned());
    let options = ClientOptions { certificate, ca: ca.clone(), ..to("https://a:1") };
    assert!(text(options.builder()).contains("--certificate is of no use without --key"));
    let options = ClientOptions { key: ca.clone(), ca, ..to("https://a:1") };
    assert!(text(options.builder()).contains("--key is of no use without --certificate"));
}

#[test]
fn a_file_that_holds_something_else_is_named_with_its_flag() {
    let empty = file("");
    let options = ClientOptions { ca: Some(empty.path().to_owned()), ..to("https://a:1") };
    let message = text(options.builder());
    assert!(message.contains("--ca") && message.contains("BEGIN CERTIFICATE"), "{message}");
    let options = ClientOptions { ca: Some("does/not/exist".into()), ..to("https://a:1") };
    assert!(text(options.builder()).contains("--ca does/not/exist"));
    for wrong in ["", " \n", "two words", "ö"] {
        let token = file(wrong);
        let options = ClientOptions { token_file: Some(token.path().to_owned()), ..to("a:1") };
        assert!(text(options.builder()).contains("--token-file"), "{wrong:?}");
    }
}

/// A server with TLS that lets in only those with a certificate and a token.
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
    async fn a_server_with_tls_is_called_by_those_with_certificate_and_token_and_no_others() {
        let authority = Authority::new();
        let server = serve(&authority).await;
        let (certificate, key) = authority.issue("client");
        let [ca, certificate, key, token] = [&authority.0.pem(), &certificate, &key, "secret\n"].map(file);
        let path = |file: &NamedTempFile| Some(file.path().to_owned());
        let all = ClientOptions {
            server,
            ca: path(&ca),
            certificate: path(&certificate),
            key: path(&key),
            token_file: path(&token),
        };
        let call = async |options: &ClientOptions| {
            let connection = options.connect().await.map_err(|error| error.to_string())?;
            let request = HealthCheckRequest { service: String::new() };
            HealthClient::new(connection).check(request).await.map_err(|status| status.to_string())
        };
        call(&all).await.expect("the health of the server");

        let stranger = ClientOptions { certificate: None, key: None, ..all.clone() };
        call(&stranger).await.expect_err("no certificate");
        let no_token = call(&ClientOptions { token_file: None, ..all.clone() }).await.expect_err("no token");
        assert!(no_token.contains("no token"), "{no_token}");
        let other = file(&Authority::new().0.pem());
        let wrong = call(&ClientOptions { ca: path(&other), ..all.clone() }).await.expect_err("another authority");
        assert!(wrong.contains("no connection") && wrong.contains("certificate"), "{wrong}");
        let plain = ClientOptions { server: all.server.replace("https", "http"), token_file: path(&token), ..to("") };
        call(&plain).await.expect_err("no TLS");
    }
}
