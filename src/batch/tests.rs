use std::sync::mpsc;

use ndarray::Array2;

use super::*;

/// Gives each text its first token as embedding, and tells of every batch before it waits to be let go on.
struct Gate {
    batches: mpsc::Sender<usize>,
    go: mpsc::Receiver<()>,
}

impl Session for Gate {
    fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
        self.batches.send(batch.len()).expect("the test listens");
        self.go.recv().expect("the test lets it go on");
        match batch[0].as_slice()[0] {
            13 => panic!("unlucky"),
            14 => Err(InferenceError("refused".to_owned())),
            _ => Ok(Array2::from_shape_fn((batch.len(), 1), |(row, _)| batch[row].as_slice()[0] as f32)),
        }
    }
}

struct Setup {
    batcher: Arc<Batcher>,
    batches: mpsc::Receiver<usize>,
    go: mpsc::Sender<()>,
}

fn setup(tokens: usize, capacity: usize) -> Setup {
    let (batch_sender, batches) = mpsc::channel();
    let (go, go_receiver) = mpsc::channel();
    let limits = BatchLimits { tokens: NonZeroUsize::new(tokens).expect("not zero") };
    let session = Box::new(Gate { batches: batch_sender, go: go_receiver });
    let capacity = NonZeroUsize::new(capacity).expect("not zero");
    let batcher =
        Arc::new(Batcher::start(vec![session], limits, capacity, BatchCounters::default()).expect("a thread"));
    Setup { batcher, batches, go }
}

fn text(first: u32, length: usize) -> TokenIds {
    let mut ids = vec![0; length];
    ids[0] = first;
    TokenIds::new(ids)
}

fn spawn(batcher: &Arc<Batcher>, texts: Vec<TokenIds>) -> tokio::task::JoinHandle<Result<Inferred, BatchError>> {
    let batcher = Arc::clone(batcher);
    tokio::spawn(async move { batcher.infer(texts).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_come_in_the_order_of_the_texts_whatever_batches_they_were_in() {
    let setup = setup(8, 100);
    for _ in 0..8 {
        setup.go.send(()).expect("the session listens");
    }
    let texts = vec![text(1, 7), text(2, 2), text(3, 5), text(4, 2), text(5, 3)];
    let inferred = setup.batcher.infer(texts).await.expect("embeddings");
    assert_eq!(inferred.embeddings, [[1.0], [2.0], [3.0], [4.0], [5.0]]);
    let sizes: Vec<usize> = setup.batches.try_iter().collect();
    assert_eq!(sizes, [2, 1, 1, 1], "2+2 tokens padded to 2, then 3, 5 and 7 alone");
    let stats = setup.batcher.queue_stats();
    assert_eq!((stats.mean_batch_texts, stats.mean_batch_tokens, stats.depth), (5.0 / 4.0, 19.0 / 4.0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_text_starts_at_once_and_those_that_come_meanwhile_share_the_next_batch() {
    let setup = setup(100, 100);
    let first = spawn(&setup.batcher, vec![text(1, 4)]);
    assert_eq!(setup.batches.recv().expect("a batch"), 1);
    let others: Vec<_> = (2..5).map(|id| spawn(&setup.batcher, vec![text(id, 4)])).collect();
    while setup.batcher.queue.depth() < 3 {
        tokio::task::yield_now().await;
    }
    setup.go.send(()).expect("the session listens");
    setup.go.send(()).expect("the session listens");
    assert_eq!(first.await.expect("no panic").expect("embeddings").embeddings, [[1.0]]);
    for other in others {
        other.await.expect("no panic").expect("embeddings");
    }
    assert_eq!(setup.batches.recv().expect("a batch"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_not_fit_the_queue_is_refused_whole() {
    let setup = setup(4, 2);
    let running = spawn(&setup.batcher, vec![text(1, 4)]);
    setup.batches.recv().expect("a batch");
    let waiting = spawn(&setup.batcher, vec![text(2, 4)]);
    while setup.batcher.queue.depth() < 1 {
        tokio::task::yield_now().await;
    }
    let error = setup.batcher.infer(vec![text(3, 4), text(4, 4)]).await.expect_err("full");
    assert!(matches!(error, BatchError::QueueFull { waiting: 1, capacity: 2, refused: 2 }), "{error}");
    let stats = setup.batcher.queue_stats();
    assert_eq!((stats.depth, stats.capacity, stats.refused, setup.batcher.busy()), (1, 2, 2, 1));
    setup.go.send(()).expect("the session listens");
    setup.go.send(()).expect("the session listens");
    running.await.expect("no panic").expect("embeddings");
    waiting.await.expect("no panic").expect("embeddings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_a_caller_that_has_gone_are_not_computed() {
    let setup = setup(4, 10);
    let running = spawn(&setup.batcher, vec![text(1, 4)]);
    setup.batches.recv().expect("a batch");
    let gone = spawn(&setup.batcher, vec![text(2, 4), text(3, 4)]);
    let last = spawn(&setup.batcher, vec![text(4, 4)]);
    while setup.batcher.queue.depth() < 3 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    assert!(gone.await.expect_err("aborted").is_cancelled());
    setup.go.send(()).expect("the session listens");
    setup.go.send(()).expect("the session listens");
    running.await.expect("no panic").expect("embeddings");
    assert_eq!(last.await.expect("no panic").expect("embeddings").embeddings, [[4.0]]);
    assert_eq!(setup.batches.try_iter().count(), 1, "one more batch: the last text's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_or_panicking_batch_fails_alone() {
    let setup = setup(4, 10);
    for _ in 0..3 {
        setup.go.send(()).expect("the session listens");
    }
    let panicked = setup.batcher.infer(vec![text(13, 4)]).await.expect_err("a panic");
    assert!(panicked.to_string().contains("panicked"), "{panicked}");
    let refused = setup.batcher.infer(vec![text(14, 4)]).await.expect_err("refused");
    assert!(refused.to_string().contains("refused"), "{refused}");
    setup.batcher.infer(vec![text(1, 4)]).await.expect("the session still works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_serves_what_waits_and_refuses_the_rest() {
    let setup = setup(4, 10);
    let running = spawn(&setup.batcher, vec![text(1, 4)]);
    setup.batches.recv().expect("a batch");
    let waiting = spawn(&setup.batcher, vec![text(2, 4)]);
    while setup.batcher.queue.depth() < 1 {
        tokio::task::yield_now().await;
    }
    setup.batcher.queue.close();
    let refused = setup.batcher.infer(vec![text(3, 4)]).await.expect_err("closed");
    assert!(matches!(refused, BatchError::Closed));
    setup.go.send(()).expect("the session listens");
    setup.go.send(()).expect("the session listens");
    running.await.expect("no panic").expect("embeddings");
    waiting.await.expect("no panic").expect("embeddings");
}
