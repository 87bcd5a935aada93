//! Streams of replies, in the order of their requests; several requests are processed concurrently.

use std::future::Future;
use std::pin::Pin;

use futures_util::future::Either;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::deadline::{Deadline, catch_panic};
use super::status;

/// The maximum number of requests of one stream that are being processed or whose replies wait to be sent: enough for a
/// few batches of short texts.
const MAX_IN_FLIGHT: usize = 32;

pub(super) type Replies<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

enum Input<Q> {
    Request(Q),
    /// Ends the stream with this status.
    End(Status),
}

/// Answers `requests` in order. `on_error` turns the status of a failed request into its reply, or ends the
/// stream if the protocol has no such reply. The stream also ends with an error at its deadline, when the server stops,
/// and when a message cannot be decoded.
pub(super) fn replies<Q, R, F>(
    requests: impl Stream<Item = Result<Q, Status>> + Send + 'static,
    stop: CancellationToken,
    deadline: Option<Deadline>,
    answer: impl Fn(Q) -> F + Send + 'static,
    on_error: fn(Status) -> Result<R, Status>,
) -> Replies<R>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, Status>> + Send + 'static,
{
    let requests = requests.map(|request| request.map_or_else(Input::End, Input::Request));
    // Requests that were read before the server stops are still answered.
    let stopping = stream::once(async move { stop.cancelled().await }).map(|()| Input::End(status::stopping()));
    let input = until_end(until_main_ends(requests, stopping));
    let replies = input
        .map(move |input| match input {
            Input::Request(request) => {
                let answered = catch_panic(answer(request));
                Either::Left(async move { answered.await.flatten().or_else(on_error) })
            }
            Input::End(status) => Either::Right(std::future::ready(Err(status))),
        })
        .buffered(MAX_IN_FLIGHT);
    match deadline {
        Some(Deadline(deadline)) => {
            let expired = stream::once(async move {
                tokio::time::sleep_until(deadline).await;
                Err(status::deadline_exceeded())
            });
            Box::pin(until_error(until_main_ends(replies, expired)))
        }
        None => Box::pin(until_error(replies)),
    }
}

/// The items of both streams as they arrive, until `main` ends.
fn until_main_ends<T>(main: impl Stream<Item = T>, other: impl Stream<Item = T>) -> impl Stream<Item = T> {
    let main = main.map(Some).chain(stream::once(std::future::ready(None)));
    stream::select(main, other.map(Some))
        .take_while(|item| std::future::ready(item.is_some()))
        .filter_map(std::future::ready)
}

/// Everything up to and including the first [`Input::End`].
fn until_end<Q>(input: impl Stream<Item = Input<Q>>) -> impl Stream<Item = Input<Q>> {
    input.scan(false, |ended, input| {
        let item = (!*ended).then_some(input);
        *ended |= matches!(item, Some(Input::End(_)));
        std::future::ready(item)
    })
}

/// Everything up to and including the first error.
fn until_error<T>(items: impl Stream<Item = Result<T, Status>>) -> impl Stream<Item = Result<T, Status>> {
    items.scan(false, |ended, item| {
        let item = (!*ended).then_some(item);
        *ended |= matches!(item, Some(Err(_)));
        std::future::ready(item)
    })
}
