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

fn text(result: Result<impl Sized, ConnectError>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn an_address_is_a_url_or_host_and_port() {
    let uri = |server: &str| to(server).uri().map(|uri| uri.to_string());
    assert_eq!(uri("localhost:50051").expect("an address"), "http://localhost:50051/");
    assert_eq!(uri("[::1]:1").expect("an address"), "http://[::1]:1/");
    assert_eq!(uri("http://a:1/").expect("an address"), "http://a:1/");
    assert_eq!(uri("https://a").expect("an address"), "https://a/");
    for (wrong, why) in [
        ("localhost", "no port"),
        ("ftp://a:1", "neither"),
        ("a:1/path", "a path"),
        ("https://a:1/?q", "a path"),
        ("", "--server"),
        ("a b:1", "--server"),
        ("a:99999999", "--server"),
    ] {
        let message = text(to(wrong).uri());
        assert!(message.contains(why) && message.contains("host:port"), "{wrong}: {message}");
    }
}

#[test]
fn files_for_tls_need_https_and_each_other() {
    let certificate = Some(PathBuf::from("client.pem"));
    let options = ClientOptions { certificate: certificate.clone(), ..to("a:1") };
    assert!(text(options.endpoint()).contains("`https://`"));
    let system = file("-----BEGIN CERTIFICATE-----\n");
    let ca = Some(system.path().to_owned());
    let options = ClientOptions { certificate, ca: ca.clone(), ..to("https://a:1") };
    assert!(text(options.endpoint()).contains("--certificate is of no use without --key"));
    let options = ClientOptions { key: ca.clone(), ca, ..to("https://a:1") };
    assert!(text(options.endpoint()).contains("--key is of no use without --certificate"));
}

#[test]
fn a_file_that_holds_something_else_is_named_with_its_flag() {
    let empty = file("");
    let options = ClientOptions { ca: Some(empty.path().to_owned()), ..to("https://a:1") };
    let message = text(options.endpoint());
    assert!(message.contains("--ca") && message.contains("BEGIN CERTIFICATE"), "{message}");
    let options = ClientOptions { ca: Some("does/not/exist".into()), ..to("https://a:1") };
    assert!(text(options.endpoint()).contains("--ca does/not/exist"));
}

#[test]
fn a_token_is_read_without_the_white_space_around_it_and_never_shown() {
    let with = |content: &str| {
        let file = file(content);
        ClientOptions { token_file: Some(file.path().to_owned()), ..to("a:1") }.bearer()
    };
    let mut bearer = with("secret-1\n").expect("a token");
    let request = bearer.call(Request::new(())).expect("a request");
    assert_eq!(request.metadata().get("authorization").expect("a header"), "Bearer secret-1");
    assert!(!format!("{bearer:?}").contains("secret"), "{bearer:?}");
    for wrong in ["", " \n", "two words", "ö"] {
        assert!(text(with(wrong)).contains("--token-file"), "{wrong:?}");
    }
    assert!(Bearer::default().call(Request::new(())).expect("a request").metadata().is_empty());
}

#[tokio::test]
async fn where_nothing_listens_the_error_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let message = text(to(&address).connect().await);
    assert!(message.contains(&address) && message.contains("refused"), "{message}");
}

/// A server with TLS that lets in only those with a certificate and a token.
mod tls {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::{Server, ServerTlsConfig};
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
