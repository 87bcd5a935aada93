//! Connections of a listener: taken while there is room, each served in a task of its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Before the listener is asked again where it had no descriptor left, or the like.
const RETRY: Duration = Duration::from_millis(100);
/// Connections that began together do not end together: an age is up to this part of it shorter or longer.
const JITTER: f64 = 0.1;

/// How many connections there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Those beyond are closed at once.
    pub connections: usize,
    /// The flag that sets it, where one does.
    pub setting: Option<&'static str>,
}

/// Takes connections until `stop`, and is done when the last of them has ended. What serves a connection is told by its
/// token that no more are taken.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    room: Room,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(room.connections));
    let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
    let mut crowd = Crowd { room, address: listener.local_addr().ok(), told: false };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = Arc::clone(&places).try_acquire_owned().ok();
                crowd.note(place.is_none());
                if let Some(place) = place {
                    // Small replies leave at once; where the system will not have it, they leave later.
                    let _ = stream.set_nodelay(true);
                    let served = serve(stream, closing.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
            }
            Err(error) => wait_out(&error).await,
        }
    }
    drop(listener);
    closing.cancel();
    connections.close();
    connections.wait().await;
}

/// Tells once each time that all places are taken.
struct Crowd {
    room: Room,
    address: Option<SocketAddr>,
    told: bool,
}

impl Crowd {
    fn note(&mut self, refused: bool) {
        if refused && !self.told {
            let Room { connections, setting } = self.room;
            let address = self.address.map(tracing::field::display);
            tracing::warn!(address, limit = connections, setting, "no more connections are taken");
        }
        self.told = refused;
    }
}

/// A client that went away while it was let in is its own matter; all else may last.
async fn wait_out(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot take a connection; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

/// An age, a tenth less to a tenth more of it.
pub(crate) fn spread(age: Duration) -> Duration {
    spread_by(age, fastrand::f64())
}

/// `random` is from 0 to 1.
fn spread_by(age: Duration, random: f64) -> Duration {
    age.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_a_tenth_more_or_less() {
        let age = Duration::from_secs(600);
        assert_eq!([0.0, 0.5, 1.0].map(|random| spread_by(age, random).as_secs()), [540, 600, 660]);
    }
}
