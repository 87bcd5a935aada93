//! TLS, client certificates, and files that change.

use std::process::Command;

use tonic_health::pb::health_check_response::ServingStatus;

use super::{NOT_RELOADED, RELOADED, call, connect, get_model, health};
use crate::support::busy::Busy;
use crate::support::grpcurl::grpcurl;
use crate::support::loading::Loading;
use crate::support::models::Model;
use crate::support::server::{Client, Server, command, temporary_folder};
use crate::support::tls::{Authority, TlsFiles, write};

#[tokio::test]
async fn a_tls_port_rejects_plaintext_and_clients_reject_unknown_authorities() {
    let tls = TlsFiles::new();
    let server = Server::start(Model::Small, &tls.flags());

    call(server.address, Some(tls.servers.trusted())).await.expect("TLS");
    let error = call(server.address, None).await.expect_err("plaintext to a TLS port");
    println!("plaintext: {error}");
    let error = call(server.address, Some(Authority::new("others").trusted())).await.expect_err("another authority");
    assert!(error.contains("UnknownIssuer") || error.contains("certificate"), "{error}");
    call(server.address, Some(tls.servers.trusted())).await.expect("the server still answers");
    call(server.admin_address, None).await.expect_err("the admin listener has no such service");
}

#[test]
fn grpcurl_connects_with_a_client_certificate() {
    let tls = TlsFiles::new();
    let [client, client_key] = tls.clients.sign().write(&tls.folder, "client");
    let trusted = write(&tls.folder, "servers.pem", &tls.servers.pem());
    let server = Server::start(Model::Small, &tls.mutual_flags());

    let address = format!("localhost:{}", server.address.port());
    let run = |flags: &[&str]| {
        let mut command = Command::new(grpcurl());
        let output = command.args(["-max-time", "600"]).args(flags).args([address.as_str(), "list"]);
        let output = output.output().expect("grpcurl runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (listed, text) = run(&["-cacert", &trusted, "-cert", &client, "-key", &client_key]);
    assert!(listed && text.contains("embedd.v1.EmbeddingService"), "{text}");
    assert!(!run(&["-cacert", &trusted]).0, "without a certificate");
    assert!(!run(&["-cacert", &trusted, "-cert", &tls.certificate, "-key", &tls.key]).0, "of another authority");
    assert!(!run(&["-plaintext"]).0, "without TLS");
}

#[tokio::test]
async fn both_listeners_reject_clients_without_a_certificate_or_with_one_of_another_authority() {
    let tls = TlsFiles::new();
    let service = tls.mutual_flags();
    let admin = service.map(|flag| flag.replace("--tls-", "--admin-tls-"));
    // The admin service may listen beyond loopback, because it requires client certificates.
    let flags = service.into_iter().chain(admin.iter().map(String::as_str)).chain(["--admin-listen", "0.0.0.0:0"]);
    let server = Server::start(Model::Small, &flags.collect::<Vec<_>>());
    let admin = ([127, 0, 0, 1], server.admin_address.port()).into();

    for address in [server.address, admin] {
        let check = async |tls| {
            health(connect(address, Some(tls)).await.map_err(|e| format!("{e:?}"))?)
                .await
                .map_err(|status| format!("{status:?}"))
        };
        check(tls.accepted_client()).await.expect("a client's certificate");
        check(tls.servers.trusted()).await.expect_err("no certificate");
        let foreign = Authority::new("clients").sign().identity();
        check(tls.servers.trusted().identity(foreign)).await.expect_err("another authority with that name");
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_for_new_connections_and_a_broken_one_is_ignored() {
    let tls = TlsFiles::new();
    let second = Authority::new("second");
    let server = Server::start(Model::Small, &tls.flags());
    let old = connect(server.address, Some(tls.servers.trusted())).await.expect("a connection");
    get_model(old.clone(), None).await.expect("the first certificate");

    write(&tls.folder, "server.pem", "-----BEGIN CERTIFICATE-----\nnonsense");
    let line = server.wait_for_line(NOT_RELOADED);
    assert!(line["error"].as_str().expect("an error").contains("server.pem (--tls-certificate)"), "{line}");
    call(server.address, Some(tls.servers.trusted())).await.expect("the first certificate is still used");

    second.sign().write(&tls.folder, "server");
    server.wait_for_line(RELOADED);
    call(server.address, Some(second.trusted())).await.expect("the second certificate");
    call(server.address, Some(tls.servers.trusted())).await.expect_err("the first is gone");
    get_model(old, None).await.expect("the old connection stays open");
}

#[test]
fn a_server_does_not_start_with_unusable_files_and_names_them() {
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
        (
            vec!["--tls-certificate", &certificate, "--tls-key", &other_key],
            1,
            ["other-key.pem", "cannot be used together"],
        ),
        (vec!["--token-file", &missing], 1, ["missing.pem (--token-file)", "cannot be read"]),
    ] {
        let output = command().arg("serve").args(listeners).args(flags).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn health_without_tls_has_its_own_listener_which_closes_last() {
    let tls = TlsFiles::new();
    let flags = ["--health-listen", "127.0.0.1:0", "--shutdown-grace", "50ms", "--drain-timeout", "10m"];
    let pool = ["--sessions", "1", "--threads", "1"];
    let loading = Loading::start(Model::MiniLm, &[&tls.mutual_flags()[..], &flags, &pool].concat());
    let server = &loading.server;
    let probes = server.read_address();
    let plain = connect(probes, None).await.expect("a connection");
    assert_eq!(health(plain.clone()).await.expect("a status"), ServingStatus::NotServing);
    loading.finish();
    assert_eq!(health(plain).await.expect("a status"), ServingStatus::Serving);
    call(probes, None).await.expect_err("health and nothing else");

    let channel = connect(server.address, Some(tls.accepted_client())).await.expect("a connection");
    let busy = Busy::keep(server, &Client::new(channel)).await;
    server.signal("TERM");
    server.wait_for_line("draining");
    let fresh = connect(probes, None).await.expect("the listener is still there");
    assert_eq!(health(fresh).await.expect("a status"), ServingStatus::NotServing);
    busy.end().await;
    assert_eq!(server.exit().await.code(), Some(0));
}
