//! Tests the native engine's guarantee under load: a text always has the same embedding, bit for bit, in any batch,
//! session and thread, even while other callers abandon their calls.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use embedd_proto::{EmbedRequest, Encoding};
use fastrand::Rng;
use futures_util::poll;
use tokio::task::JoinSet;

use crate::support::models::Model;
use crate::support::reference;
use crate::support::server::{Client, Server};

/// Random texts in addition to the reference set.
const GENERATED: usize = 100;
const CLIENTS: usize = 8;
const CALLS_OF_EACH: usize = 14;
const MAX_TEXTS: usize = 20;

/// An embedding as the bytes of its floats.
type Packed = Vec<u8>;

/// The number of texts whose embeddings a client received, and of calls that it abandoned.
#[derive(Debug, Default)]
struct Seen {
    texts: usize,
    cancelled: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_text_has_the_same_bits_alone_and_under_load_with_any_number_of_sessions_and_threads() {
    let texts = Arc::new(texts());
    let (one_thread, mut seen) = alone_and_under_load(&["--sessions", "2", "--threads", "1"], &texts).await;
    let (two_threads, others) = alone_and_under_load(&["--sessions", "1", "--threads", "2"], &texts).await;
    for (index, (found, expected)) in two_threads.iter().zip(one_thread.iter()).enumerate() {
        assert_same(found, expected, || format!("text {index} alone, on one thread and on two"));
    }
    seen.texts += others.texts;
    seen.cancelled += others.cancelled;
    assert!(seen.texts >= 1500 && seen.cancelled >= 5, "{seen:?}");
}

/// Every other text of the reference set, and texts of random words from it, most of them short.
fn texts() -> Vec<String> {
    let mut random = Rng::with_seed(17);
    let set = reference::load(Model::MiniLm);
    let mut texts: Vec<String> = set.texts.into_iter().step_by(2).map(|text| text.text).collect();
    let words: Vec<String> = texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
    for _ in 0..GENERATED {
        let longest = random.usize(1..=160);
        let count = random.usize(1..=longest);
        let chosen: Vec<&str> = (0..count).map(|_| words[random.usize(..words.len())].as_str()).collect();
        texts.push(chosen.join(" "));
    }
    texts
}

/// The embedding of each text alone, without other requests. Asserts that it is the same under load.
async fn alone_and_under_load(flags: &[&str], texts: &Arc<Vec<String>>) -> (Arc<Vec<Packed>>, Seen) {
    let server = Server::start(Model::MiniLm, &[&["--engine", "native"], flags].concat());
    let mut client = server.client().await;
    let mut alone = Vec::new();
    for text in texts.iter() {
        alone.push(embed(&mut client, vec![text.clone()]).await.remove(0));
    }
    let alone = Arc::new(alone);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(load(server.client().await, number, Arc::clone(texts), Arc::clone(&alone)));
    }
    let mut all = Seen::default();
    while let Some(seen) = clients.join_next().await {
        let seen = seen.expect("every text has the same bits as alone");
        all.texts += seen.texts;
        all.cancelled += seen.cancelled;
    }
    (alone, all)
}

/// One client, which embeds random texts in one call after another. Every fourth call is abandoned.
async fn load(mut client: Client, number: usize, texts: Arc<Vec<String>>, alone: Arc<Vec<Packed>>) -> Seen {
    let mut random = Rng::with_seed(number as u64);
    let mut seen = Seen::default();
    for call in 0..CALLS_OF_EACH {
        let chosen: Vec<usize> = (0..random.usize(1..=MAX_TEXTS)).map(|_| random.usize(..texts.len())).collect();
        let request = embed(&mut client, chosen.iter().map(|&text| texts[text].clone()).collect());
        let found = if call % 4 == 3 {
            let Some(found) = abandon(request, &mut random).await else {
                seen.cancelled += 1;
                continue;
            };
            found
        } else {
            request.await
        };
        for (position, (found, &text)) in found.iter().zip(&chosen).enumerate() {
            let what = || format!("text {text} at {position} of {chosen:?}, client {number}, call {call}");
            assert_same(found, &alone[text], what);
        }
        seen.texts += found.len();
    }
    seen
}

/// Drops a call as soon as it is sent, or after a short time, in which it may be answered.
async fn abandon<T>(call: impl Future<Output = T>, random: &mut Rng) -> Option<T> {
    if random.bool() {
        let sent = poll!(pin!(call));
        assert!(sent.is_pending(), "no call is answered before it is sent");
        return None;
    }
    tokio::time::timeout(Duration::from_micros(random.u64(200..10_000)), call).await.ok()
}

async fn embed(client: &mut Client, texts: Vec<String>) -> Vec<Packed> {
    let count = texts.len();
    let request = EmbedRequest { texts, encoding: Encoding::Bytes.into(), skip_cache: true, ..Default::default() };
    let embeddings = client.embed(request).await.expect("embeddings").into_inner().embeddings;
    assert_eq!(embeddings.len(), count);
    embeddings.into_iter().map(|embedding| embedding.packed).collect()
}

/// Panics with the first float that differs.
fn assert_same(found: &[u8], expected: &[u8], what: impl Fn() -> String) {
    assert_eq!(found.len(), 4 * Model::MiniLm.dimension(), "{}", what());
    let floats =
        |bytes: &[u8]| -> Vec<f32> { bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect() };
    if let Some(at) = floats(found).iter().zip(floats(expected)).position(|(a, b)| a.to_bits() != b.to_bits()) {
        panic!("{}: float {at} is {}, not {}", what(), floats(found)[at], floats(expected)[at]);
    }
}
