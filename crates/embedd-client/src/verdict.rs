//! Classifies failed attempts.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

/// The trailer that specifies when to retry (gRPC proposal A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The consequence of a failed attempt for its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The call failed for a reason that another attempt would not change.
    Final,
    /// The deadline passed.
    Late,
    /// The call was not processed. `ended`: its connection accepts no other calls, either.
    Unprocessed { ended: bool },
    /// The connection broke. The server may have processed the call, or crashed because of it. `first`: no other call has
    /// failed because of it yet, as far as is known.
    Broken { first: bool },
    /// The server replied UNAVAILABLE.
    Unavailable(Hint),
    /// The server is overloaded.
    Busy(Hint),
    /// No server accepts connections.
    NoServer,
}

/// A server's hint about retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    None,
    /// Retry after this time.
    After(Duration),
    /// Do not retry.
    Never,
}

pub(crate) fn judge(status: &Status) -> Verdict {
    // A status with a source comes from the transport, not from a server.
    if let Some(error) = status.source() {
        return judge_transport(error);
    }
    match status.code() {
        Code::DeadlineExceeded => Verdict::Late,
        Code::Unavailable => Verdict::Unavailable(hint(status)),
        Code::ResourceExhausted => Verdict::Busy(hint(status)),
        _ => Verdict::Final,
    }
}

fn judge_transport(error: &(dyn Error + 'static)) -> Verdict {
    if chain(error).any(<dyn Error + 'static>::is::<TimeoutExpired>) {
        return Verdict::Late;
    }
    if let Some(error) = chain(error).find_map(|error| error.downcast_ref::<io::Error>()) {
        // Without a connection, nothing was sent.
        let not_sent = [ErrorKind::ConnectionRefused, ErrorKind::NotConnected].contains(&error.kind());
        return if not_sent { Verdict::Unprocessed { ended: true } } else { Verdict::Broken { first: true } };
    }
    let Some(error) = chain(error).find_map(|error| error.downcast_ref::<h2::Error>()) else {
        // The connection was closed before the call was sent, or the host was not resolved.
        return Verdict::Unprocessed { ended: true };
    };
    match error.reason() {
        // The server closes the connection in an orderly way, and answers the calls that it has accepted.
        Some(h2::Reason::NO_ERROR) if error.is_go_away() => Verdict::Unprocessed { ended: true },
        // RFC 9113, 8.7: rejected before it was processed, for example because the connection has too many calls.
        Some(h2::Reason::REFUSED_STREAM) if error.is_reset() => Verdict::Unprocessed { ended: false },
        _ if error.is_io() || error.is_go_away() => Verdict::Broken { first: true },
        _ => Verdict::Final,
    }
}

fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'e (dyn Error + 'static)| error.source())
}

pub(crate) fn hint(status: &Status) -> Hint {
    if let Some(pushback) = status.metadata().get(PUSHBACK) {
        // A negative or malformed value means "do not retry" (A6).
        let wait = pushback.to_str().ok().and_then(|text| text.parse().ok());
        return wait.map_or(Hint::Never, |ms| Hint::After(Duration::from_millis(ms)));
    }
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    delay.map_or(Hint::None, Hint::After)
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;
    use tonic_types::ErrorDetails;

    use super::*;

    fn pushed_back(text: &'static str) -> Status {
        let mut metadata = MetadataMap::new();
        metadata.insert(PUSHBACK, text.parse().expect("metadata"));
        Status::with_metadata(Code::ResourceExhausted, "busy", metadata)
    }

    fn from(error: impl Into<Box<dyn Error + Send + Sync>>) -> Verdict {
        judge(&Status::from_error(error.into()))
    }

    #[test]
    fn a_server_s_reply_is_final_unless_the_server_did_not_process_the_call() {
        for status in [Status::invalid_argument(""), Status::internal(""), Status::cancelled(""), Status::unknown("")] {
            assert_eq!(judge(&status), Verdict::Final, "{status}");
        }
        assert_eq!(judge(&Status::unavailable("")), Verdict::Unavailable(Hint::None));
        assert_eq!(judge(&Status::resource_exhausted("")), Verdict::Busy(Hint::None));
    }

    #[test]
    fn the_trailer_takes_precedence_over_the_details() {
        let wait = |ms| Verdict::Busy(Hint::After(Duration::from_millis(ms)));
        assert_eq!((judge(&pushed_back("80")), judge(&pushed_back("0"))), (wait(80), wait(0)));
        for never in ["-1", "", "soon", "1.5"] {
            assert_eq!(judge(&pushed_back(never)), Verdict::Busy(Hint::Never), "{never}");
        }
        let details = || ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        assert_eq!(judge(&Status::with_error_details(Code::ResourceExhausted, "", details())), wait(2000));
        let metadata = pushed_back("80").metadata().clone();
        let both = Status::with_error_details_and_metadata(Code::ResourceExhausted, "", details(), metadata);
        assert_eq!(judge(&both), wait(80));
    }

    #[test]
    fn broken_connections_unsent_calls_and_reset_calls_are_distinguished() {
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::NotConnected] {
            assert_eq!(from(io::Error::from(kind)), Verdict::Unprocessed { ended: true });
        }
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof] {
            assert_eq!(from(io::Error::from(kind)), Verdict::Broken { first: true });
        }
        assert_eq!(from(h2::Error::from(h2::Reason::INTERNAL_ERROR)), Verdict::Final);
        assert_eq!(from(TimeoutExpired(())), Verdict::Late);
    }
}
