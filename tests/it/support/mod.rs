//! What the tests share: models, servers, clients.

pub(crate) mod authority;
pub(crate) mod collector;
pub(crate) mod exposition;
pub(crate) mod grpcurl;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod models;
pub(crate) mod numbers;
pub(crate) mod python;
pub(crate) mod reference;
pub(crate) mod server;
pub(crate) mod skips;

use std::time::Duration;

use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

/// Nothing that a test waits for takes as long; what does is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The L2 norm, in double precision.
pub(crate) fn norm(a: &[f32]) -> f64 {
    a.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// The fields that the status' BadRequest names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_details_bad_request().expect("BadRequest details");
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// The replies of a stream, and the error that it ended with.
pub(crate) async fn all<T>(mut replies: Streaming<T>) -> (Vec<T>, Option<Status>) {
    let mut found = Vec::new();
    loop {
        match replies.message().await {
            Ok(Some(reply)) => found.push(reply),
            Ok(None) => return (found, None),
            Err(status) => return (found, Some(status)),
        }
    }
}

/// Makes calls that come too late until it is the server that ends one, and tells how many it took. A client gives up by
/// itself, too, at about the same time: then its call is one that was cancelled.
pub(crate) async fn until_late(mut call: impl AsyncFnMut() -> Status) -> usize {
    for calls in 1..=60 {
        if call().await.code() == Code::DeadlineExceeded {
            return calls;
        }
    }
    panic!("the server ended none of 60 calls at its deadline");
}
