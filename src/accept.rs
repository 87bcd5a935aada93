//! Accepts the connections of a listener up to a limit, and serves each one in its own task.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The delay after an error of the listener itself, such as running out of file descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Maximum ages vary by this fraction, so that connections opened together are not closed together.
const JITTER: f64 = 0.1;

/// The maximum number of concurrent connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxConnections {
    /// Connections beyond it are closed immediately.
    pub count: usize,
    /// The flag that sets it, if any.
    pub setting: Option<&'static str>,
}

/// Accepts connections until `stop`, and returns when the last of them has ended. The token that `serve` gets is
/// cancelled when the listener is closed.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    max_connections: MaxConnections,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(max_connections.count));
    let closing = CancellationToken::new();
    let connections = TaskTracker::new();
    let mut limit_log = LimitLog { max_connections, address: listener.local_addr().ok(), reached: false };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let permit = Arc::clone(&permits).try_acquire_owned().ok();
                limit_log.record(permit.is_none());
                if let Some(permit) = permit {
                    // Sends small replies without delay. If this fails, they are merely sent a little later.
                    let _ = stream.set_nodelay(true);
                    let served = serve(stream, closing.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
            }
            Err(error) => recover(&error).await,
        }
    }
    drop(listener);
    closing.cancel();
    connections.close();
    connections.wait().await;
}

/// Logs once each time the limit is reached.
struct LimitLog {
    max_connections: MaxConnections,
    address: Option<SocketAddr>,
    reached: bool,
}

impl LimitLog {
    fn record(&mut self, refused: bool) {
        if refused && !self.reached {
            let MaxConnections { count, setting } = self.max_connections;
            let address = self.address.map(tracing::field::display);
            tracing::warn!(address, limit = count, setting, "connection limit reached; closing new connections");
        }
        self.reached = refused;
    }
}

/// Waits before the next attempt, unless the error concerns only a client that has disconnected already.
async fn recover(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot accept a connection; retrying");
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// A random age within 10 % of `age`.
pub(crate) fn with_jitter(age: Duration) -> Duration {
    jittered(age, fastrand::f64())
}

/// `random` is in `0.0..=1.0`.
fn jittered(age: Duration, random: f64) -> Duration {
    age.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_changes_an_age_by_at_most_a_tenth() {
        let age = Duration::from_secs(600);
        assert_eq!([0.0, 0.5, 1.0].map(|random| jittered(age, random).as_secs()), [540, 600, 660]);
    }
}
