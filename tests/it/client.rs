//! The client of other programs, with real servers that come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use embedd_client::{CallError, CallErrorKind, Client, EmbedOptions, Health, RetryPolicy, Truncation};
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use crate::support::authority::{Authority, write};
use crate::support::models::Model;
use crate::support::server::{Server, command, embed, shared, temporary_folder};

fn addresses(servers: &[&Server]) -> String {
    servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(",")
}

async fn client(servers: &[&Server]) -> Client {
    Client::builder(addresses(servers)).deadline(Duration::from_secs(30)).connect().await.expect("a client")
}

/// A server at an address that another one had.
fn again_at(address: SocketAddr) -> Server {
    Server::start(Model::MiniLm, &["--listen", &address.to_string(), "--shutdown-grace", "200ms"])
}

/// Callers that call one after the other until they are told to stop.
struct Callers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: JoinSet<Result<(), CallError>>,
}

impl Callers {
    fn start(client: &Client, callers: usize) -> Self {
        let (stop, answered, mut tasks) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), JoinSet::new());
        for caller in 0..callers {
            let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let call = answered.fetch_add(1, Ordering::Relaxed);
                    let embeddings = client.embed([format!("caller {caller}, call {call}")]).await?;
                    assert_eq!((embeddings.len(), embeddings[0].values.len()), (1, 384));
                }
                Ok(())
            });
        }
        Self { stop, answered, tasks }
    }

    /// Waits until so many more calls were made.
    async fn go_on_for(&self, calls: usize) {
        let until = self.answered.load(Ordering::Relaxed) + calls;
        let begun = Instant::now();
        while self.answered.load(Ordering::Relaxed) < until {
            assert!(begun.elapsed() < Duration::from_secs(60), "calls go on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many calls were answered; each one has to be.
    async fn all_answered(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic").unwrap_or_else(|error| panic!("a call failed: {error}"));
        }
        self.answered.load(Ordering::Relaxed)
    }
}

/// Calls that a server has answered.
async fn answered_by(server: &Server) -> u64 {
    let stats = server.admin().await.get_stats(embedd_proto::GetStatsRequest {}).await.expect("stats").into_inner();
    let embed = stats.methods.iter().find(|method| method.method.ends_with("/Embed"));
    embed.and_then(|method| method.replies.get(&0)).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_where_a_server_is_killed_while_another_one_lives() {
    let (doomed, other) = (Server::start(Model::MiniLm, &[]), Server::start(Model::MiniLm, &[]));
    let client = client(&[&doomed, &other]).await;
    let callers = Callers::start(&client, 32);
    callers.go_on_for(200).await;
    let address = doomed.address;
    drop(doomed);
    callers.go_on_for(200).await;
    let new = again_at(address);
    let begun = Instant::now();
    while answered_by(&new).await == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the new server gets its share");
        callers.go_on_for(20).await;
    }
    drop(other);
    callers.go_on_for(200).await;
    println!("{} calls", callers.all_answered().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_where_servers_are_restarted_one_after_the_other() {
    let start = || Server::start(Model::MiniLm, &["--shutdown-grace", "200ms"]);
    let mut servers = [start(), start()];
    let client = client(&servers.each_ref()).await;
    let callers = Callers::start(&client, 8);
    for server in &mut servers {
        callers.go_on_for(50).await;
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0), "nothing that was accepted is lost");
        *server = again_at(server.address);
        callers.go_on_for(50).await;
    }
    println!("{} calls", callers.all_answered().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_where_connections_end_at_their_age() {
    let server = Server::start(Model::MiniLm, &["--max-connection-age", "1s"]);
    let client = client(&[&server]).await;
    let callers = Callers::start(&client, 8);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(callers.all_answered().await > 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_a_full_server_refuses_are_answered_when_it_says() {
    let full = ["--sessions", "1", "--queue-requests", "2"];
    let server = Server::start(Model::MiniLm, &full);
    let retries = RetryPolicy { attempts: 50, budget: 10_000, ..RetryPolicy::default() };
    let builder = Client::builder(server.address.to_string()).retries(retries).deadline(Duration::from_secs(60));
    let client = builder.connect().await.expect("a client");
    let callers = Callers::start(&client, 32);
    callers.go_on_for(300).await;
    callers.all_answered().await;

    let once = Client::builder(server.address.to_string()).retries(RetryPolicy::NEVER).connect().await;
    let once = once.expect("a client");
    let long = "word ".repeat(200);
    let calls = (0..32).map(|_| once.embed([long.clone()]));
    let refused = futures_util::future::join_all(calls).await.into_iter().find_map(Result::err).expect("it is full");
    assert!(matches!(refused.kind(), CallErrorKind::Busy { retry_after: Some(_) }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_kept() {
    let server = Server::start(Model::MiniLm, &[]);
    let client = client(&[&server]).await.with_deadline(Some(Duration::from_millis(150)));
    let begun = Instant::now();
    let late = client.embed(vec!["word ".repeat(250); 100]).await.expect_err("it takes longer");
    assert_eq!(late.kind(), &CallErrorKind::Late, "{late}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    client.with_deadline(None).embed(["a text"]).await.expect("all the time that there is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_be_there_before_its_server() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let retries = RetryPolicy { attempts: 100, ..RetryPolicy::default() };
    let builder = Client::builder(port.to_string()).retries(retries).deadline(Duration::from_secs(60));
    let client = builder.connect_later().expect("a client");
    let none = client.with_deadline(Some(Duration::from_millis(300))).embed(["a text"]).await.expect_err("no server");
    assert!(none.to_string().contains(&port.to_string()), "{none}");
    let call = tokio::spawn(async move { client.embed(["a text"]).await });
    let _server = again_at(port);
    call.await.expect("no panic").expect("the server has come");
}

#[tokio::test]
async fn requests_are_split_as_the_server_takes_them_and_vectors_are_those_of_plain_calls() {
    let server = Server::start(Model::MiniLm, &["--max-texts", "4"]);
    let client = client(&[&server]).await;
    let texts: Vec<String> = (0..10).map(|number| format!("text number {number}")).collect();
    let options = EmbedOptions { dimensions: Some(16), normalize: false, ..EmbedOptions::default() };
    let together = client.embed_with(texts.clone(), options).await.expect("embeddings");
    assert!(together.iter().all(|embedding| embedding.values.len() == 16 && !embedding.truncated));
    let mut plain = server.client().await;
    for (text, embedding) in texts.iter().zip(client.embed(texts.clone()).await.expect("embeddings")) {
        let alone = embed(&mut plain, &[text]).await.embeddings.remove(0);
        assert!(embedd_model::accuracy::cosine(&alone.values, &embedding.values) > 0.9999, "{text}");
    }
    let counts = client.count_tokens(texts).await.expect("counts");
    assert_eq!((counts.len(), counts[0].token_count), (10, 5));
    assert_eq!(client.model().await.expect("a model").dimension, 384);
    assert_eq!(client.health().await, [(server.address.to_string(), Health::Serving)]);
}

#[tokio::test]
async fn a_stream_of_texts_goes_on_past_one_that_is_refused() {
    let server = shared(Model::MiniLm);
    let client = client(&[&server]).await;
    let long = "word ".repeat(1000);
    let texts = (0..50).map(|number| if number == 20 { long.clone() } else { format!("text number {number}") });
    let texts: Vec<String> = texts.collect();
    let reject = EmbedOptions { truncation: Truncation::Reject, ..EmbedOptions::default() };
    let all: Vec<_> = client.embed_stream(futures_util::stream::iter(texts.clone()), reject).collect().await;
    assert_eq!(all.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), texts);
    for (number, (_, result)) in all.iter().enumerate() {
        assert_eq!(result.is_err(), number == 20, "{number}: {result:?}");
    }
}

#[tokio::test]
async fn tls_certificates_and_tokens_open_a_server_by_each_of_its_addresses() {
    let (_folder, folder) = temporary_folder();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let [certificate, key] = servers.sign().write(&folder, "server");
    let ca = write(&folder, "clients.pem", &clients.pem());
    let tokens = write(&folder, "tokens", "a-token-of-this-test\n");
    let flags = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-client-ca", &ca, "--token-file", &tokens];
    let server = Server::start(Model::MiniLm, &flags);
    let own = clients.sign();
    let port = server.address.port();
    for address in [format!("https://localhost:{port}"), format!("dns+https:///localhost:{port}")] {
        let builder =
            Client::builder(&*address).trust(servers.pem()).identity(own.certificate.clone(), own.key.clone());
        let builder = builder.deadline(Duration::from_secs(30));
        let client = builder.clone().token("a-token-of-this-test").connect().await.expect("a client");
        client.embed(["a text"]).await.expect("an embedding");
        let denied = builder.connect().await.expect("a client").embed(["a text"]).await.expect_err("no token");
        assert_eq!(denied.kind(), &CallErrorKind::Denied, "{denied}");
        let stranger = Client::builder(&*address).trust(clients.pem()).connect().await.expect_err("another authority");
        assert!(stranger.to_string().contains("certificate"), "{stranger}");
    }

    // The commands read the same from files.
    let trusted = write(&folder, "servers.pem", &servers.pem());
    let [certificate, key] = own.write(&folder, "client");
    let address = format!("https://localhost:{port}");
    let run = |flags: &[&str]| {
        let mut command = command();
        command.args(["embed", "a text", "--server", &address]).args(flags);
        let output = command.output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let identity = ["--certificate", &certificate, "--key", &key];
    let token = ["--token-file", &tokens];
    assert_eq!(run(&[&["--ca", &trusted][..], &identity, &token].concat()), (Some(0), String::new()));
    for (flags, expected) in [
        ([&["--ca", &trusted][..], &identity].concat(), "UNAUTHENTICATED"),
        ([&["--ca", &trusted][..], &token].concat(), ""),
        ([&["--ca", &ca][..], &identity, &token].concat(), "certificate"),
    ] {
        let (code, error) = run(&flags);
        assert!(code == Some(1) && error.contains(expected), "{flags:?}: {error}");
    }
}
