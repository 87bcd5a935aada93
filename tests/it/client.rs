//! The Rust client, with real servers that start and stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use embedd_client::{CallError, CallErrorKind, Client, EmbedOptions, Health, RetryPolicy, Truncation};
use futures_util::StreamExt as _;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::busy::Busy;
use crate::support::models::Model;
use crate::support::proxy::CountingProxy;
use crate::support::server::{Server, command, embed, shared};
use crate::support::tls::{TlsFiles, write};

fn addresses(servers: &[&Server]) -> String {
    servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(",")
}

async fn client(servers: &[&Server]) -> Client {
    Client::builder(addresses(servers)).deadline(PATIENCE).connect().await.expect("a client")
}

/// A server at the address of an earlier one.
fn start_at(address: SocketAddr) -> Server {
    Server::start(Model::Small, &["--listen", &address.to_string(), "--shutdown-grace", "200ms"])
}

/// Callers that make one call after another until they are stopped.
struct Callers {
    stop: Arc<AtomicBool>,
    /// The answered calls of each caller.
    answered: Arc<[AtomicUsize]>,
    tasks: JoinSet<Result<(), CallError>>,
}

impl Callers {
    fn start(client: &Client, callers: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let answered: Arc<[AtomicUsize]> = (0..callers).map(|_| AtomicUsize::default()).collect();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let call = answered[caller].load(Ordering::Relaxed);
                    let embeddings = client.embed([format!("caller {caller}, call {call}")]).await?;
                    assert_eq!(embeddings.len(), 1);
                    answered[caller].fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Self { stop, answered, tasks }
    }

    /// The answered calls of each caller.
    fn counts(&self) -> Vec<usize> {
        self.answered.iter().map(|calls| calls.load(Ordering::Relaxed)).collect()
    }

    /// Waits until this many more calls have been answered.
    async fn wait_for_more(&mut self, calls: usize) {
        let until = self.counts().iter().sum::<usize>() + calls;
        self.wait_until(|counts| counts.iter().sum::<usize>() >= until).await;
    }

    /// Waits until every caller has been answered this many more times.
    async fn wait_for_each(&mut self, calls: usize) {
        let start = self.counts();
        self.wait_until(|counts| counts.iter().zip(&start).all(|(now, start)| now - start >= calls)).await;
    }

    async fn wait_until(&mut self, is_enough: impl Fn(&[usize]) -> bool) {
        let wait = async {
            while !is_enough(&self.counts()) {
                if let Some(ended) = self.tasks.try_join_next() {
                    assert_answered(ended);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("calls continue");
    }

    /// Stops the callers, and asserts that every call was answered. Returns the number of calls.
    async fn all_answered(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            assert_answered(ended);
        }
        self.counts().iter().sum()
    }
}

fn assert_answered(ended: Result<Result<(), CallError>, JoinError>) {
    ended.expect("no panic").unwrap_or_else(|error| panic!("a call failed: {error}"));
}

/// The number of calls that a server has answered.
async fn answered_by(server: &Server) -> u64 {
    let stats = server.admin().await.get_stats(embedd_proto::GetStatsRequest {}).await.expect("stats").into_inner();
    let embed = stats.methods.iter().find(|method| method.method.ends_with("/Embed"));
    embed.and_then(|method| method.replies.get(&0)).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_when_a_server_is_killed_while_another_one_is_running() {
    let killed = Server::start(Model::Small, &[]);
    let other = Server::start(Model::Small, &[]);
    // All calls of a broken connection count as one.
    let retries = RetryPolicy { budget: 8, ..RetryPolicy::default() };
    let builder = Client::builder(addresses(&[&killed, &other])).retries(retries).deadline(PATIENCE);
    let mut callers = Callers::start(&builder.connect().await.expect("a client"), 64);
    callers.wait_for_more(200).await;
    let address = killed.address;
    drop(killed);
    callers.wait_for_more(200).await;
    let new = start_at(address);
    let gets_its_share = async {
        while answered_by(&new).await == 0 {
            callers.wait_for_more(20).await;
        }
    };
    timeout(PATIENCE, gets_its_share).await.expect("the new server is called");
    // A call is given up when its connection breaks a second time, so no call from before may be left.
    callers.wait_for_each(2).await;
    drop(other);
    callers.wait_for_more(200).await;
    println!("{} calls", callers.all_answered().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_when_servers_are_restarted_one_after_another() {
    let start = || Server::start(Model::Small, &["--shutdown-grace", "200ms"]);
    let mut servers = [start(), start()];
    let client = client(&servers.each_ref()).await;
    let mut callers = Callers::start(&client, 8);
    for server in &mut servers {
        callers.wait_for_more(50).await;
        server.signal("TERM");
        assert_eq!(server.exit().await.code(), Some(0), "no accepted call is lost");
        *server = start_at(server.address);
        callers.wait_for_more(50).await;
    }
    println!("{} calls", callers.all_answered().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_when_connections_reach_their_maximum_age() {
    let server = Server::start(Model::Small, &["--max-connection-age", "1s"]);
    let proxy = CountingProxy::to(&server).await;
    let client = Client::builder(proxy.address.to_string()).deadline(PATIENCE).connect().await.expect("a client");
    let mut callers = Callers::start(&client, 8);
    proxy.wait_for(5).await;
    callers.wait_for_more(50).await;
    println!("{} calls", callers.all_answered().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_a_full_server_rejects_are_retried_and_answered() {
    let server = Server::start(Model::MiniLm, &["--sessions", "1", "--queue-requests", "2"]);
    let retries = RetryPolicy { attempts: 1000, budget: 100_000, ..RetryPolicy::default() };
    let builder = Client::builder(server.address.to_string()).retries(retries).deadline(PATIENCE);
    let client = builder.connect().await.expect("a client");
    let mut callers = Callers::start(&client, 32);
    callers.wait_for_more(300).await;
    callers.all_answered().await;

    let once = Client::builder(server.address.to_string()).retries(RetryPolicy::NEVER).connect().await;
    let once = once.expect("a client");
    let long = "word ".repeat(200);
    let calls = (0..32).map(|_| once.embed([long.clone()]));
    let refused = futures_util::future::join_all(calls).await.into_iter().find_map(Result::err).expect("it is full");
    assert!(matches!(refused.kind(), CallErrorKind::Busy { retry_after: Some(_) }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_at_its_deadline_and_the_client_stays_usable() {
    let server = Server::start(Model::MiniLm, &["--sessions", "1", "--threads", "1"]);
    let busy = Busy::keep(&server, &server.client().await).await;
    let client = client(&[&server]).await;
    let hurried = client.with_deadline(Some(Duration::from_millis(150)));
    // The queue is never empty, so this call would take much longer than its deadline.
    let late = hurried.embed(vec!["word ".repeat(250); 100]).await.expect_err("its deadline has passed");
    assert_eq!(late.kind(), &CallErrorKind::Late, "{late}");
    busy.end().await;
    client.with_deadline(None).embed(["a text"]).await.expect("an embedding");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_start_before_its_server() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let retries = RetryPolicy { attempts: 1000, ..RetryPolicy::default() };
    let builder = Client::builder(port.to_string()).retries(retries).deadline(PATIENCE);
    let client = builder.connect_later().expect("a client");
    let none = client.with_deadline(Some(Duration::from_millis(300))).embed(["a text"]).await.expect_err("no server");
    assert!(none.to_string().contains(&port.to_string()), "{none}");
    let call = tokio::spawn(async move { client.embed(["a text"]).await });
    let _server = start_at(port);
    call.await.expect("no panic").expect("an embedding, as soon as the server has started");
}

#[tokio::test]
async fn requests_are_split_to_the_server_s_limits_and_vectors_match_those_of_plain_calls() {
    let server = Server::start(Model::Small, &["--max-texts", "4"]);
    let client = client(&[&server]).await;
    let texts: Vec<String> = (0..10).map(|number| format!("text number {number}")).collect();
    let options = EmbedOptions { dimensions: Some(16), normalize: false, ..EmbedOptions::default() };
    let together = client.embed_with(texts.clone(), options).await.expect("embeddings");
    assert!(together.iter().all(|embedding| embedding.values.len() == 16 && !embedding.truncated));
    let mut plain = server.client().await;
    let counts = client.count_tokens(texts.clone()).await.expect("counts");
    for ((text, embedding), count) in
        texts.iter().zip(client.embed(texts.clone()).await.expect("embeddings")).zip(&counts)
    {
        let alone = embed(&mut plain, &[text]).await.embeddings.remove(0);
        assert_eq!(count.token_count, alone.token_count, "{text}");
        assert!(embedd_model::accuracy::cosine(&alone.values, &embedding.values) > 0.9999, "{text}");
    }
    assert_eq!(counts.len(), 10);
    assert_eq!(client.model().await.expect("a model").dimension as usize, Model::Small.dimension());
    assert_eq!(client.health().await, [(server.address.to_string(), Health::Serving)]);
}

#[tokio::test]
async fn a_stream_of_texts_continues_after_a_rejected_text() {
    let server = shared(Model::Small);
    let client = client(&[server]).await;
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
async fn certificates_and_tokens_work_with_each_form_of_address() {
    let tls = TlsFiles::new();
    let tokens = write(&tls.folder, "tokens", "a-token-of-this-test\n");
    let server = Server::start(Model::Small, &[&tls.mutual_flags()[..], &["--token-file", &tokens]].concat());
    let own = tls.clients.sign();
    let port = server.address.port();
    for address in [format!("https://localhost:{port}"), format!("dns+https:///localhost:{port}")] {
        let builder =
            Client::builder(&*address).trust(tls.servers.pem()).identity(own.certificate.clone(), own.key.clone());
        let builder = builder.deadline(PATIENCE);
        let client = builder.clone().token("a-token-of-this-test").connect().await.expect("a client");
        client.embed(["a text"]).await.expect("an embedding");
        let denied = builder.connect().await.expect("a client").embed(["a text"]).await.expect_err("no token");
        assert_eq!(denied.kind(), &CallErrorKind::Denied, "{denied}");
        let stranger =
            Client::builder(&*address).trust(tls.clients.pem()).connect().await.expect_err("another authority");
        assert!(stranger.to_string().contains("certificate"), "{stranger}");
    }

    // The commands read the same certificates and tokens from files.
    let trusted = write(&tls.folder, "servers.pem", &tls.servers.pem());
    let [certificate, key] = own.write(&tls.folder, "client");
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
        ([&["--ca", &trusted][..], &identity].concat(), "see --token-file"),
        ([&["--ca", &trusted][..], &token].concat(), ""),
        ([&["--ca", &tls.client_ca][..], &identity, &token].concat(), "certificate"),
    ] {
        let (code, error) = run(&flags);
        assert!(code == Some(1) && error.contains(expected), "{flags:?}: {error}");
    }
}
