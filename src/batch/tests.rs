use std::sync::mpsc;

use ndarray::Array2;

use super::*;
use crate::caller::{CallerId, Priority};
use crate::stats::Stats;

/// Returns the first token of each text as its embedding. Announces every batch, then waits for permission to finish
/// it. A worker's probe after a failed batch is answered at once.
struct Gate {
    batches: mpsc::Sender<usize>,
    go: mpsc::Receiver<()>,
}

impl Session for Gate {
    fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
        if batch[0].as_slice() == worker::PROBE {
            return Ok(Array2::zeros((1, 1)));
        }
        self.batches.send(batch.len()).expect("the test listens");
        self.go.recv().expect("the test permits it");
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

fn setup(tokens: usize, ahead: usize, total: usize) -> Setup {
    let (batch_sender, batches) = mpsc::channel();
    let (go, go_receiver) = mpsc::channel();
    let not_zero = |number| NonZeroUsize::new(number).expect("not zero");
    let batch = BatchLimits { tokens: not_zero(tokens), texts: not_zero(100), padded: true };
    let queue = QueueLimits { ahead: not_zero(ahead), total: not_zero(total) };
    let session = Box::new(Gate { batches: batch_sender, go: go_receiver });
    Setup {
        batcher: Arc::new(
            Batcher::start(vec![session], batch, queue, Stats::default().batches().clone()).expect("a thread"),
        ),
        batches,
        go,
    }
}

impl Setup {
    fn spawn(&self, texts: Vec<TokenIds>) -> tokio::task::JoinHandle<Result<Vec<f32>, BatchError>> {
        tokio::spawn(infer(Arc::clone(&self.batcher), texts))
    }

    async fn wait_for_queued(&self, texts: usize) {
        while self.batcher.queue_stats().depth < texts {
            tokio::task::yield_now().await;
        }
    }

    /// Does not block the runtime's thread.
    async fn wait_for_batch(&self) {
        while self.batches.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
    }

    /// The number of texts in the next batch.
    async fn next_batch(&self) -> usize {
        loop {
            match self.batches.try_recv() {
                Ok(texts) => return texts,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    fn go(&self, batches: usize) {
        for _ in 0..batches {
            self.go.send(()).expect("the session listens");
        }
    }
}

async fn infer(batcher: Arc<Batcher>, texts: Vec<TokenIds>) -> Result<Vec<f32>, BatchError> {
    let mut admitted = batcher.admit(&caller(0), &vec![None; texts.len()]).await?;
    let queued: Result<Vec<Ticket>, _> = texts.into_iter().map(|text| admitted.queue(text, None)).collect();
    let mut embeddings = Vec::new();
    for mut ticket in queued? {
        embeddings.push(ticket.wait().await?.0.embedding[0]);
    }
    Ok(embeddings)
}

fn caller(connection: u64) -> Caller {
    Caller {
        id: CallerId::Connection(connection),
        priority: Priority::Interactive,
        call: None,
        quota: None,
        turns: None,
    }
}

fn text(first: u32, length: usize) -> TokenIds {
    let mut ids = vec![0; length];
    ids[0] = first;
    TokenIds::new(ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_are_in_the_order_of_the_texts_across_batches() {
    let setup = setup(8, 100, 100);
    let texts = vec![text(1, 7), text(2, 2), text(3, 2), text(4, 3), text(5, 5)];
    let inferred = setup.spawn(texts);
    assert_eq!(setup.batches.recv().expect("a batch"), 1, "an idle session takes the first text immediately");
    setup.wait_for_queued(4).await;
    setup.go(4);
    assert_eq!(inferred.await.expect("no panic").expect("embeddings"), [1.0, 2.0, 3.0, 4.0, 5.0]);
    let sizes: Vec<usize> = setup.batches.try_iter().collect();
    assert_eq!(sizes, [2, 1, 1], "2+2 tokens (a third text would pad them to 3*3), then 3, then 5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_text_starts_immediately_and_later_ones_share_the_next_batch() {
    let setup = setup(100, 100, 100);
    let first = setup.spawn(vec![text(1, 4)]);
    assert_eq!(setup.batches.recv().expect("a batch"), 1);
    let others: Vec<_> = (2..5).map(|id| setup.spawn(vec![text(id, 4)])).collect();
    setup.wait_for_queued(3).await;
    setup.go(2);
    assert_eq!(first.await.expect("no panic").expect("embeddings"), [1.0]);
    for other in others {
        other.await.expect("no panic").expect("embeddings");
    }
    assert_eq!(setup.batches.recv().expect("a batch"), 3);
    let stats = setup.batcher.queue_stats();
    assert_eq!((stats.depth, stats.mean_batch_texts, stats.mean_batch_tokens), (0, 2.0, 8.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_not_fit_the_queue_is_refused_as_a_whole_with_a_retry_delay() {
    let setup = setup(4, 100, 2);
    let running = setup.spawn(vec![text(1, 4)]);
    setup.batches.recv().expect("a batch");
    let waiting = setup.spawn(vec![text(2, 4)]);
    setup.wait_for_queued(1).await;
    let error = infer(Arc::clone(&setup.batcher), vec![text(3, 4), text(4, 4)]).await.expect_err("full");
    let BatchError::QueueFull { waiting: 1, refused: 2, retry_after } = error else { panic!("{error}") };
    assert!(retry_after >= Duration::from_millis(8), "10 ms, give or take a fifth: {retry_after:?}");
    assert_eq!(setup.batcher.queue_stats().refused, 2);
    setup.go(2);
    running.await.expect("no panic").expect("embeddings");
    waiting.await.expect("no panic").expect("embeddings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_a_large_request_that_are_scheduled_later_do_not_count_as_ahead() {
    let setup = setup(4, 2, 100);
    let large = setup.spawn((1..=10).map(|id| text(id, 4)).collect());
    setup.batches.recv().expect("a batch");
    setup.wait_for_queued(9).await;
    let small = setup.spawn(vec![text(20, 4)]);
    setup.wait_for_queued(10).await;
    let error = infer(Arc::clone(&setup.batcher), vec![text(3, 4)]).await.expect_err("two requests are ahead of it");
    assert!(matches!(error, BatchError::QueueFull { .. }), "{error}");
    setup.go(11);
    large.await.expect("no panic").expect("embeddings");
    small.await.expect("no panic").expect("embeddings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_a_disconnected_caller_are_not_computed() {
    let setup = setup(4, 10, 100);
    let running = setup.spawn(vec![text(1, 4)]);
    setup.batches.recv().expect("a batch");
    let abandoned = setup.spawn(vec![text(2, 4), text(3, 4)]);
    let last = setup.spawn(vec![text(4, 4)]);
    setup.wait_for_queued(3).await;
    abandoned.abort();
    assert!(abandoned.await.expect_err("aborted").is_cancelled());
    setup.go(2);
    running.await.expect("no panic").expect("embeddings");
    assert_eq!(last.await.expect("no panic").expect("embeddings"), [4.0]);
    assert_eq!(setup.batches.try_iter().count(), 1, "one more batch, that of the last text");
    assert_eq!(setup.batcher.queue_stats().abandoned, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_in_the_queue_is_freed_when_callers_disconnect() {
    let setup = setup(4, 100, 2);
    let running = setup.spawn(vec![text(1, 4)]);
    setup.batches.recv().expect("a batch");
    let abandoned = setup.spawn(vec![text(2, 4), text(3, 4)]);
    setup.wait_for_queued(2).await;
    abandoned.abort();
    abandoned.await.expect_err("aborted");
    let next = setup.spawn(vec![text(4, 4), text(5, 4)]);
    setup.go(3);
    running.await.expect("no panic").expect("embeddings");
    assert_eq!(next.await.expect("no panic").expect("there is space"), [4.0, 5.0]);
}

/// The session runs on its own thread, so the paused clock advances as soon as all tasks wait.
#[tokio::test(start_paused = true)]
async fn a_text_whose_deadline_has_passed_is_not_computed() {
    let setup = setup(4, 10, 10);
    let running = setup.spawn(vec![text(1, 4)]);
    setup.wait_for_batch().await;
    let late = infer(Arc::clone(&setup.batcher), vec![text(2, 4)]);
    tokio::time::timeout(Duration::from_secs(3600), late).await.expect_err("an hour of the paused clock");
    setup.go(1);
    running.await.expect("no panic").expect("embeddings");
    setup.go(1);
    let next = infer(Arc::clone(&setup.batcher), vec![text(3, 4)]).await.expect("embeddings");
    assert_eq!(next, [3.0]);
    assert_eq!(setup.batches.try_iter().count(), 1, "the late text is in none of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_or_panic_fails_only_its_batch() {
    let setup = setup(4, 10, 10);
    setup.go(3);
    let one = |first| infer(Arc::clone(&setup.batcher), vec![text(first, 4)]);
    let panicked = one(13).await.expect_err("a panic");
    assert!(panicked.to_string().contains("panicked"), "{panicked}");
    let refused = one(14).await.expect_err("refused");
    assert!(refused.to_string().contains("refused"), "{refused}");
    assert_eq!(setup.batcher.fault(Duration::from_secs(60)), None, "the session works");
    one(1).await.expect("the session still works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_serves_queued_texts_and_refuses_new_ones() {
    let setup = setup(4, 10, 10);
    let running = setup.spawn(vec![text(1, 4)]);
    setup.batches.recv().expect("a batch");
    let waiting = setup.spawn(vec![text(2, 4)]);
    setup.wait_for_queued(1).await;
    setup.batcher.queue.close();
    let refused = infer(Arc::clone(&setup.batcher), vec![text(3, 4)]).await.expect_err("closed");
    assert!(matches!(refused, BatchError::Closed));
    setup.go(2);
    running.await.expect("no panic").expect("embeddings");
    waiting.await.expect("no panic").expect("embeddings");
}

#[tokio::test]
async fn requests_of_a_stream_wait_for_space_in_their_order_and_others_are_refused() {
    let setup = setup(4, 2, 100);
    let running = setup.spawn(vec![text(1, 4)]);
    setup.wait_for_batch().await;
    let stream = caller(1).of_stream();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let spawn = |first: u32| {
        let batcher = Arc::clone(&setup.batcher);
        let stream = stream.clone();
        let order = Arc::clone(&order);
        tokio::spawn(async move {
            let mut admitted = batcher.admit(&stream, &[None]).await?;
            order.lock().expect("no panic").push(first);
            admitted.queue(text(first, 4), None)?.wait().await.map(|(inferred, _)| inferred.embedding[0])
        })
    };
    let mut requests = Vec::new();
    for first in 2..8 {
        requests.push(spawn(first));
        tokio::task::yield_now().await;
    }
    setup.wait_for_queued(2).await;
    assert_eq!(*order.lock().expect("no panic"), [2, 3], "two are admitted, and the others wait");
    let refused = setup.batcher.admit(&caller(1), &[None]).await.expect_err("not of a stream");
    assert!(matches!(refused, BatchError::QueueFull { .. }), "{refused}");
    requests.remove(3).abort();
    setup.go(6);
    for (request, expected) in requests.into_iter().zip([2.0, 3.0, 4.0, 6.0, 7.0]) {
        assert_eq!(request.await.expect("no panic").expect("an embedding"), expected);
    }
    assert_eq!(*order.lock().expect("no panic"), [2, 3, 4, 6, 7]);
    assert_eq!(setup.batcher.queue_stats().refused, 1, "requests that wait are not counted as refused");
    running.await.expect("no panic").expect("embeddings");
}

#[tokio::test]
async fn requests_of_a_stream_that_wait_end_when_the_queue_is_closed() {
    let setup = setup(4, 1, 100);
    let running = setup.spawn(vec![text(1, 4)]);
    setup.wait_for_batch().await;
    let queued = setup.spawn(vec![text(2, 4)]);
    setup.wait_for_queued(1).await;
    let stream = caller(0).of_stream();
    let mut waiting = Box::pin(setup.batcher.admit(&stream, &[None]));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    setup.batcher.queue.close();
    assert!(matches!(waiting.await, Err(BatchError::Closed)));
    setup.go(2);
    running.await.expect("no panic").expect("embeddings");
    queued.await.expect("no panic").expect("embeddings");
}

mod shared;
