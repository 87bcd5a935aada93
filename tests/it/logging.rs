//! The log of a server: nobody can fill it, and nobody has to read it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::Stdio;

use embedd_proto::CountTokensRequest;
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use serde_json::Value;

use crate::support::http2::{ACK, PING, RawConnection, frame};
use crate::support::models::Model;
use crate::support::process::Process;
use crate::support::server::{Server, embed, serve};

/// The system's pipes hold 64 KiB, and a line has more than a hundred bytes.
const CALLS: usize = 1000;

#[tokio::test]
async fn a_server_whose_log_nobody_reads_keeps_answering() {
    let flags = ["--listen", "127.0.0.1:0", "--admin-listen", "off", "--log-format", "json"];
    let mut command = serve(Model::Small.bundle(), &flags);
    command.args(["--log-level", "info,embedd::grpc=debug"]).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let mut log = BufReader::new(process.child.stderr.take().expect("a pipe"));
    let mut address: Option<SocketAddr> = None;
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).expect("a line") > 0, "the server has ended");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        match line["message"].as_str() {
            Some("listening") => {
                let listener = line["address"].as_str().and_then(|address| address.parse().ok());
                address = address.or(listener);
            }
            Some("ready") => break,
            _ => {}
        }
    }
    // From here on, nobody reads the log.
    let url = format!("http://{}", address.expect("the address of the service"));
    let mut client = EmbeddingServiceClient::connect(url).await.expect("a connection");
    for _ in 0..CALLS {
        let request = CountTokensRequest { texts: vec!["a".to_owned()] };
        assert_eq!(client.count_tokens(request).await.expect("counts").into_inner().counts.len(), 1);
    }
    drop(client);
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
    let mut rest = Vec::new();
    log.read_to_end(&mut rest).expect("the rest of the log");
    assert!(rest.len() > 32 << 10, "only {} bytes were logged: the pipe was never full", rest.len());
}

#[tokio::test]
async fn peers_cannot_fill_the_log() {
    let server = Server::start(Model::Small, &[]);
    // h2 warns of each answer to a ping that it has not sent.
    let pings = frame(PING, ACK, 0, b"unasked!").repeat(1000);
    RawConnection::open(server.address).send(&pings);
    embed(&mut server.client().await, &["the server still answers"]).await;
    server.signal("TERM");
    server.wait();
    let log = server.log();
    assert!(log.lines().count() < 100, "{log}");
}
