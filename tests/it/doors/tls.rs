//! TLS, client certificates, and files that change.

use std::process::Command;

use embedd_proto::EmbedRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{NOT_RELOADED, RELOADED, call, connect, get_model, health};
use crate::support::authority::{Authority, write};
use crate::support::grpcurl::grpcurl;
use crate::support::models::Model;
use crate::support::server::{Server, command, temporary_folder};

#[tokio::test]
async fn tls_is_spoken_and_nothing_else_and_a_stranger_is_not_believed() {
    let (_folder, folder) = temporary_folder();
    let authority = Authority::new("servers");
    let [certificate, key] = authority.sign().write(&folder, "server");
    let server = Server::start(Model::MiniLm, &["--tls-certificate", &certificate, "--tls-key", &key]);

    call(server.address, Some(authority.trusted())).await.expect("TLS");
    let told = call(server.address, None).await.expect_err("plaintext to a TLS port");
    println!("plaintext: {told}");
    let told = call(server.address, Some(Authority::new("others").trusted())).await.expect_err("another authority");
    assert!(told.contains("UnknownIssuer") || told.contains("certificate"), "{told}");
    call(server.address, Some(authority.trusted())).await.expect("none of it held up the server");
    call(server.admin_address, None).await.expect_err("no such service, but plaintext is heard");
}

#[test]
fn grpcurl_comes_in_by_certificates() {
    let (_folder, folder) = temporary_folder();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let [certificate, key] = servers.sign().write(&folder, "server");
    let [client, client_key] = clients.sign().write(&folder, "client");
    let [trusted, ca] = [write(&folder, "servers.pem", &servers.pem()), write(&folder, "clients.pem", &clients.pem())];
    let flags = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
    let server = Server::start(Model::MiniLm, &flags);

    let address = format!("localhost:{}", server.address.port());
    let run = |flags: &[&str]| {
        let mut command = Command::new(grpcurl());
        let output = command.args(["-max-time", "10"]).args(flags).args([address.as_str(), "list"]);
        let output = output.output().expect("grpcurl runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (listed, text) = run(&["-cacert", &trusted, "-cert", &client, "-key", &client_key]);
    assert!(listed && text.contains("embedd.v1.EmbeddingService"), "{text}");
    assert!(!run(&["-cacert", &trusted]).0, "without a certificate");
    assert!(!run(&["-cacert", &trusted, "-cert", &certificate, "-key", &key]).0, "with one of another authority");
    assert!(!run(&["-plaintext"]).0, "without TLS");
}

#[tokio::test]
async fn clients_without_a_certificate_or_with_a_foreign_one_stay_out_on_either_listener() {
    let (_folder, folder) = temporary_folder();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let [certificate, key] = servers.sign().write(&folder, "server");
    let ca = write(&folder, "clients.pem", &clients.pem());
    let service = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
    let admin = ["--admin-tls-certificate", &certificate, "--admin-tls-key", &key, "--admin-tls-client-ca", &ca];
    // A client's certificate is guard enough for the admin service to leave loopback.
    let server = Server::start(Model::MiniLm, &[&service[..], &admin, &["--admin-listen", "0.0.0.0:0"]].concat());
    let admin = ([127, 0, 0, 1], server.admin_address.port()).into();

    for address in [server.address, admin] {
        let come_in = async |tls| {
            health(connect(address, Some(tls)).await.map_err(|e| format!("{e:?}"))?)
                .await
                .map_err(|status| format!("{status:?}"))
        };
        come_in(servers.trusted().identity(clients.sign().identity())).await.expect("a client's certificate");
        come_in(servers.trusted()).await.expect_err("no certificate");
        let foreign = Authority::new("clients").sign().identity();
        come_in(servers.trusted().identity(foreign)).await.expect_err("another authority of that name");
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_broken_one_for_nobody() {
    let (_folder, folder) = temporary_folder();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let [certificate, key] = first.sign().write(&folder, "server");
    let server = Server::start(Model::MiniLm, &["--tls-certificate", &certificate, "--tls-key", &key]);
    let old = connect(server.address, Some(first.trusted())).await.expect("a connection");
    get_model(old.clone(), None).await.expect("the first certificate");

    write(&folder, "server.pem", "-----BEGIN CERTIFICATE-----\nnonsense");
    let line = server.wait_for_line(NOT_RELOADED);
    assert!(line["error"].as_str().expect("an error").contains("server.pem (--tls-certificate)"), "{line}");
    call(server.address, Some(first.trusted())).await.expect("the first certificate stays");

    second.sign().write(&folder, "server");
    server.wait_for_line(RELOADED);
    call(server.address, Some(second.trusted())).await.expect("the second certificate");
    call(server.address, Some(first.trusted())).await.expect_err("the first is gone");
    get_model(old, None).await.expect("the old connection goes on");
}

#[test]
fn files_that_are_no_good_are_told_at_start() {
    let (_folder, folder) = temporary_folder();
    let signed = Authority::new("servers").sign();
    let [certificate, key] = signed.write(&folder, "server");
    let [_, other_key] = Authority::new("servers").sign().write(&folder, "other");
    let missing = folder.join("missing.pem").to_str().expect("text").to_owned();
    let listeners = ["--listen", "127.0.0.1:0", "--admin-listen", "off"];
    for (flags, code, parts) in [
        (vec!["--tls-certificate", &certificate], 64, ["tls-certificate", "name the key's file"]),
        (vec!["--tls-client-ca", &certificate], 64, ["tls-client-ca", "name the server's own certificate"]),
        (
            vec!["--tls-certificate", &missing, "--tls-key", &key],
            1,
            ["missing.pem (--tls-certificate)", "cannot be read"],
        ),
        (vec!["--tls-certificate", &certificate, "--tls-key", &other_key], 1, ["other-key.pem", "do not go together"]),
        (vec!["--token-file", &missing], 1, ["missing.pem (--token-file)", "cannot be read"]),
    ] {
        let output = command().arg("serve").args(listeners).args(flags).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn health_without_tls_has_a_listener_of_its_own_which_outlasts_the_others() {
    let (_folder, folder) = temporary_folder();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let [certificate, key] = servers.sign().write(&folder, "server");
    let ca = write(&folder, "clients.pem", &clients.pem());
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
    let flags = ["--health-listen", "127.0.0.1:0", "--shutdown-grace", "50ms"];
    let server = Server::launch(Model::MiniLm, &[&tls[..], &flags].concat());
    let probes = server.read_address();
    let plain = connect(probes, None).await.expect("a connection");
    assert_eq!(health(plain.clone()).await.expect("a status"), ServingStatus::NotServing);
    server.wait_for_line("ready");
    assert_eq!(health(plain).await.expect("a status"), ServingStatus::Serving);
    call(probes, None).await.expect_err("health and nothing else");

    let with_certificate = servers.trusted().identity(clients.sign().identity());
    let channel = connect(server.address, Some(with_certificate)).await.expect("a connection");
    let mut client = embedd_proto::embedding_service_client::EmbeddingServiceClient::new(channel);
    let texts = vec!["word ".repeat(250); 40];
    let under_way = tokio::spawn(async move { client.embed(EmbedRequest { texts, ..Default::default() }).await });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.signal("TERM");
    server.wait_for_line("draining");
    let fresh = connect(probes, None).await.expect("the listener is still there");
    assert_eq!(health(fresh).await.expect("a status"), ServingStatus::NotServing);
    under_way.await.expect("no panic").expect("an accepted request is answered");
    assert_eq!(server.wait().code(), Some(0));
}
