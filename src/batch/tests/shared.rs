//! Requests for the same text share one computation, and each of them keeps its own position in the queue.

use std::time::Duration;

use super::*;

const KEY: FlightKey = [255; 32];
const ABANDONED: usize = 1000;

/// Waits for a text with a key, as the only text of a request of this caller. Returns its embedding, and whether it is
/// shared.
async fn shared(batcher: Arc<Batcher>, connection: u64, first: u32) -> Result<(f32, bool), BatchError> {
    let mut ticket = batcher.admit(&caller(connection), &[Some(KEY)]).await?.queue(text(first, 4), Some(KEY))?;
    let (inferred, shared) = ticket.wait().await?;
    Ok((inferred.embedding[0], shared))
}

impl Setup {
    fn spawn_shared(&self, connection: u64) -> tokio::task::JoinHandle<Result<(f32, bool), BatchError>> {
        tokio::spawn(shared(Arc::clone(&self.batcher), connection, 9))
    }

    /// Keeps the session busy until `go`.
    async fn keep_busy(&self) -> tokio::task::JoinHandle<Result<Vec<f32>, BatchError>> {
        let running = self.spawn(vec![text(1, 4)]);
        self.wait_for_batch().await;
        running
    }

    async fn until_nothing_is_left(&self) {
        while self.batcher.queue.leftovers() != (0, 0) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn one_computation_answers_all_requests_and_only_the_first_one_is_not_shared() {
    let setup = setup(100, 100, 100);
    let running = setup.keep_busy().await;
    let waiting: Vec<_> = (0..20).map(|connection| setup.spawn_shared(connection)).collect();
    setup.wait_for_queued(20).await;
    setup.go(1);
    assert_eq!(setup.next_batch().await, 1, "it is computed once, and the other positions cost nothing");
    assert_eq!(setup.batcher.queue_stats().depth, 0, "all positions are free as soon as the text is taken");
    let late = setup.spawn_shared(100);
    tokio::task::yield_now().await;
    assert_eq!(setup.batcher.queue_stats().depth, 0, "a text that is being computed is only waited for");
    setup.go(1);
    let mut first = 0;
    for waiting in waiting.into_iter().chain([late]) {
        let (value, shared) = waiting.await.expect("no panic").expect("an embedding");
        assert_eq!(value, 9.0);
        first += usize::from(!shared);
    }
    assert_eq!(first, 1);
    running.await.expect("no panic").expect("an embedding");
    setup.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_single_text_does_not_wait_for_the_late_position_of_a_large_request_with_the_same_text() {
    let setup = setup(4, 100, 1000);
    let running = setup.keep_busy().await;
    let batcher = Arc::clone(&setup.batcher);
    let large = tokio::spawn(async move {
        let keys: Vec<_> = (0..200).map(|text| Some(if text == 199 { KEY } else { [text; 32] })).collect();
        let mut admitted = batcher.admit(&caller(1), &keys).await?;
        let queued: Result<Vec<_>, _> = keys.iter().map(|&key| admitted.queue(text(9, 4), key)).collect();
        let mut shared = Vec::new();
        for mut ticket in queued? {
            shared.push(ticket.wait().await?.1);
        }
        Ok::<_, BatchError>(shared)
    });
    setup.wait_for_queued(200).await;
    let single = setup.spawn_shared(2);
    setup.wait_for_queued(201).await;
    setup.go(3);
    assert_eq!(single.await.expect("no panic").expect("an embedding"), (9.0, false), "after at most one other batch");
    setup.go(198);
    let shared = large.await.expect("no panic").expect("embeddings");
    assert!(shared[199] && !shared[..199].contains(&true));
    running.await.expect("no panic").expect("an embedding");
    setup.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_request_that_leaves_removes_only_its_own_position() {
    let setup = setup(4, 100, 4);
    let running = setup.keep_busy().await;
    let first = setup.spawn_shared(1);
    setup.wait_for_queued(1).await;
    let second = setup.spawn_shared(2);
    setup.wait_for_queued(2).await;
    first.abort();
    first.await.expect_err("aborted");
    assert_eq!((setup.batcher.queue_stats().depth, setup.batcher.queue.leftovers().1), (1, 1), "its place is kept");
    setup.go(2);
    assert_eq!(second.await.expect("no panic").expect("an embedding"), (9.0, false));
    running.await.expect("no panic").expect("an embedding");
    setup.until_nothing_is_left().await;
}

#[tokio::test]
async fn if_the_first_request_leaves_during_the_computation_another_one_takes_its_part() {
    let setup = setup(4, 100, 100);
    let first = setup.spawn_shared(1);
    setup.wait_for_batch().await;
    let others = [setup.spawn_shared(2), setup.spawn_shared(3)];
    tokio::task::yield_now().await;
    first.abort();
    first.await.expect_err("aborted");
    setup.go(1);
    let mut shared = Vec::new();
    for other in others {
        shared.push(other.await.expect("no panic").expect("an embedding"));
    }
    assert_eq!(shared, [(9.0, false), (9.0, true)]);
    setup.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_finished_text_answers_later_requests_while_somebody_holds_it() {
    let setup = setup(4, 100, 100);
    setup.go(1);
    let mut ticket =
        setup.batcher.admit(&caller(1), &[Some(KEY)]).await.expect("space").queue(text(9, 4), Some(KEY)).expect("it");
    assert!(!ticket.wait().await.expect("an embedding").1);
    assert_eq!(shared(Arc::clone(&setup.batcher), 2, 9).await.expect("an embedding"), (9.0, true));
    drop(ticket);
    setup.until_nothing_is_left().await;
    setup.go(1);
    assert_eq!(shared(Arc::clone(&setup.batcher), 2, 9).await.expect("an embedding"), (9.0, false));
}

#[tokio::test]
async fn an_error_fails_all_requests_that_share_it_and_none_later() {
    let setup = setup(4, 100, 100);
    let running = setup.keep_busy().await;
    let waiting: Vec<_> = (0..3).map(|number| tokio::spawn(shared(Arc::clone(&setup.batcher), number, 14))).collect();
    setup.wait_for_queued(3).await;
    setup.go(2);
    for waiting in waiting {
        assert!(matches!(waiting.await.expect("no panic"), Err(BatchError::Inference(_))));
    }
    running.await.expect("no panic").expect("an embedding");
    setup.until_nothing_is_left().await;
    setup.go(1);
    assert_eq!(shared(Arc::clone(&setup.batcher), 0, 9).await.expect("an embedding"), (9.0, false));
}

#[tokio::test]
async fn a_text_that_a_thousand_requests_have_given_up_is_computed_for_the_next_one() {
    let setup = setup(4, 100, 100);
    let running = setup.keep_busy().await;
    for number in 0..ABANDONED {
        let request = shared(Arc::clone(&setup.batcher), number as u64, 9);
        let late = tokio::time::timeout(Duration::ZERO, request).await;
        late.expect_err("the session is busy");
    }
    assert_eq!(setup.batcher.queue_stats().abandoned as usize, ABANDONED);
    let last = setup.spawn_shared(0);
    setup.wait_for_queued(1).await;
    setup.go(2);
    assert_eq!(last.await.expect("no panic").expect("an embedding"), (9.0, false));
    running.await.expect("no panic").expect("an embedding");
    setup.until_nothing_is_left().await;
}

#[tokio::test]
async fn sharing_a_computation_takes_no_place_and_is_never_refused() {
    let setup = setup(4, 2, 4);
    let running = setup.keep_busy().await;
    let waiting: Vec<_> = (0..50).map(|connection| setup.spawn_shared(connection)).collect();
    setup.wait_for_queued(50).await;
    assert_eq!(setup.batcher.queue.leftovers().1, 1);
    let other = setup.spawn(vec![text(2, 4)]);
    setup.wait_for_queued(51).await;
    let refused = infer(Arc::clone(&setup.batcher), vec![text(3, 4)]).await.expect_err("two requests are ahead of it");
    assert!(matches!(refused, BatchError::QueueFull { .. }));
    setup.go(3);
    for waiting in waiting {
        assert_eq!(waiting.await.expect("no panic").expect("an embedding").0, 9.0);
    }
    other.await.expect("no panic").expect("embeddings");
    running.await.expect("no panic").expect("an embedding");
    setup.until_nothing_is_left().await;
}
