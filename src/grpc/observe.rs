//! Every call is counted with its code and its time.

use std::future::Future;

use tonic::{Response, Status};

use crate::embed::Timings;
use crate::stats::{Code, Method, Stage, Stats};

/// A call's work, counted. Dropped because its caller has left, it counts as CANCELLED.
pub(super) async fn observe<T>(
    stats: &Stats,
    method: Method,
    work: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    let call = stats.call(method);
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
    use super::*;

    fn replies(stats: &Stats) -> Vec<(Code, u64)> {
        let methods = stats.snapshot().methods;
        methods.into_iter().find(|one| one.method == Method::Embed).expect("every method").replies
    }

    #[tokio::test]
    async fn replies_are_counted_by_code_and_those_whose_caller_leaves_as_cancelled() {
        let stats = Stats::default();
        let done = observe(&stats, Method::Embed, async { Ok(Response::new(1)) }).await;
        assert_eq!(done.expect("a reply").into_inner(), 1);
        let refused = async { Err::<Response<()>, _>(Status::resource_exhausted("full")) };
        observe(&stats, Method::Embed, refused).await.expect_err("refused");
        let endless = observe(&stats, Method::Embed, std::future::pending::<Result<Response<()>, Status>>());
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), endless).await.is_err());
        assert_eq!(replies(&stats), [(0, 1), (1, 1), (8, 1)]);
    }
}
