//! Every call is counted with its code and its time.

use std::future::Future;

use tonic::{Response, Status};

use super::ending::Deadline;
use crate::embed::Timings;
use crate::stats::{Code, Method, Stage, Stats};

/// A call's work, counted. Dropped, it counts as DEADLINE_EXCEEDED from its deadline on, and before as CANCELLED.
pub(super) async fn observe<T>(
    stats: &Stats,
    method: Method,
    deadline: Option<Deadline>,
    work: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    let call = stats.call(method, deadline.map(|Deadline(deadline)| deadline));
    let reply = work.await;
    call.end(code(&reply));
    reply
}

/// The code of a reply.
pub(super) fn code<T>(reply: &Result<T, Status>) -> Code {
    reply.as_ref().err().map_or(tonic::Code::Ok, Status::code).into()
}

/// Where the time of a request went.
pub(super) fn record_stages(stats: &Stats, timings: &Timings) {
    stats.record_stage(Stage::Tokenize, timings.tokenize);
    stats.record_stage(Stage::Queue, timings.queue);
    stats.record_stage(Stage::Infer, timings.infer);
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    fn replies(stats: &Stats) -> Vec<(Code, u64)> {
        let methods = stats.snapshot().methods;
        methods.into_iter().find(|one| one.method == Method::Embed).expect("every method").replies
    }

    #[tokio::test(start_paused = true)]
    async fn replies_are_counted_by_code_and_calls_that_are_dropped_by_why() {
        let stats = Stats::default();
        let done = observe(&stats, Method::Embed, None, async { Ok(Response::new(1)) }).await;
        assert_eq!(done.expect("a reply").into_inner(), 1);
        let refused = async { Err::<Response<()>, _>(Status::resource_exhausted("full")) };
        observe(&stats, Method::Embed, None, refused).await.expect_err("refused");
        let millis = std::time::Duration::from_millis;
        for deadline in [None, Some(Deadline(Instant::now() + millis(5))), Some(Deadline(Instant::now()))] {
            let endless = std::future::pending::<Result<Response<()>, Status>>();
            let endless = observe(&stats, Method::Embed, deadline, endless);
            assert!(tokio::time::timeout(millis(1), endless).await.is_err());
        }
        let panics = observe::<()>(&stats, Method::Embed, None, async { panic!("a bug") });
        assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
        assert_eq!(replies(&stats), [(0, 1), (1, 2), (4, 1), (8, 1), (13, 1)]);
    }
}
