//! Helpers shared by the tests: models, servers, clients.

pub(crate) mod bare;
pub(crate) mod busy;
pub(crate) mod collector;
pub(crate) mod exposition;
#[path = "../../../crates/embedd-client/src/tests/fake.rs"]
#[allow(dead_code, reason = "the unit tests of the client use more of it")]
pub(crate) mod fake;
pub(crate) mod grpcurl;
pub(crate) mod http;
pub(crate) mod http2;
#[path = "../../../crates/embedd-fetch/src/tests/hub_server.rs"]
#[allow(dead_code, reason = "the unit tests of fetching use more of it")]
pub(crate) mod hub_server;
pub(crate) mod loading;
pub(crate) mod models;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod python;
pub(crate) mod reference;
pub(crate) mod server;
pub(crate) mod skips;
pub(crate) mod tls;

use std::fs;
use std::path::Path;
use std::time::Duration;

use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

/// Ends tests that hang. Long, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copy = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &copy);
        } else {
            fs::copy(&path, copy).expect("a copy");
        }
    }
}

/// The L2 norm, in double precision.
pub(crate) fn norm(a: &[f32]) -> f64 {
    a.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// The fields that the BadRequest details of a status name.
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
