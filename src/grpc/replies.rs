//! Streams: replies in the order of the requests, several requests under way at once.

use std::future::Future;
use std::pin::Pin;

use futures_util::future::Either;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::ending::{Deadline, catch_panic};
use super::status;

/// Requests of one stream that are worked on at once, or whose replies wait to be sent: a few batches of short texts.
const UNDER_WAY: usize = 32;

/// What a stream answers.
pub(super) type Replies<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

/// What there is to read.
enum Input<Q> {
    Request(Q),
    /// The stream ends with this.
    End(Status),
}

/// Answers `requests` in their order. A request that fails alone gets the reply that `refuse` makes of its status, or
/// ends the stream where the protocol has none; the stream ends with an error at its deadline, when the server stops, and
/// where a message cannot be read, too.
pub(super) fn replies<Q, R, F>(
    requests: Streaming<Q>,
    stop: CancellationToken,
    deadline: Option<Deadline>,
    answer: impl Fn(Q) -> F + Send + 'static,
    refuse: fn(Status) -> Result<R, Status>,
) -> Replies<R>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, Status>> + Send + 'static,
{
    let requests = requests.map(|request| request.map_or_else(Input::End, Input::Request));
    // What was read before the server stops is still answered.
    let stopping = stream::once(async move { stop.cancelled().await }).map(|()| Input::End(status::stopping()));
    let input = until_end(until_first_ends(requests, stopping));
    let replies = input
        .map(move |input| match input {
            Input::Request(request) => {
                let answered = catch_panic(answer(request));
                Either::Left(async move { answered.await.flatten().or_else(refuse) })
            }
            Input::End(status) => Either::Right(std::future::ready(Err(status))),
        })
        .buffered(UNDER_WAY);
    match deadline {
        Some(Deadline(deadline)) => {
            let late = stream::once(async move {
                tokio::time::sleep_until(deadline).await;
                Err(status::late())
            });
            Box::pin(until_error(until_first_ends(replies, late)))
        }
        None => Box::pin(until_error(replies)),
    }
}

/// Items of both streams as they come; it ends with `main`.
fn until_first_ends<T>(main: impl Stream<Item = T>, other: impl Stream<Item = T>) -> impl Stream<Item = T> {
    let main = main.map(Some).chain(stream::once(std::future::ready(None)));
    stream::select(main, other.map(Some))
        .take_while(|item| std::future::ready(item.is_some()))
        .filter_map(std::future::ready)
}

/// Up to the first [`Input::End`], that one included.
fn until_end<Q>(input: impl Stream<Item = Input<Q>>) -> impl Stream<Item = Input<Q>> {
    input.scan(false, |ended, input| {
        let item = (!*ended).then_some(input);
        *ended |= matches!(item, Some(Input::End(_)));
        std::future::ready(item)
    })
}

/// Up to the first error, that one included.
fn until_error<T>(items: impl Stream<Item = Result<T, Status>>) -> impl Stream<Item = Result<T, Status>> {
    items.scan(false, |ended, item| {
        let item = (!*ended).then_some(item);
        *ended |= matches!(item, Some(Err(_)));
        std::future::ready(item)
    })
}
