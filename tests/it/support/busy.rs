//! Work that lasts for as long as a test needs it.

use std::time::Duration;

use tokio::task::JoinSet;

use super::exposition::Exposition;
use super::server::{Client, Server, long_texts};

/// Calls that keep the server busy until they are abandoned. Each round takes one session of one thread half a minute.
pub(crate) struct Busy(JoinSet<()>);

impl Busy {
    /// Waits until all sessions are busy and texts are queued.
    pub(crate) async fn keep(server: &Server, client: &Client) -> Self {
        Self::keep_by(8, server, client).await
    }

    /// Like [`Busy::keep`], with this number of concurrent requests.
    pub(crate) async fn keep_by(requests: usize, server: &Server, client: &Client) -> Self {
        let mut callers = JoinSet::new();
        for _ in 0..requests {
            callers.spawn(call_again_and_again(client.clone()));
        }
        server.until("all sessions are busy and texts are queued", is_busy).await;
        Self(callers)
    }

    /// Abandons the calls. The server drops the rest of their work.
    pub(crate) async fn end(mut self) {
        self.0.shutdown().await;
    }
}

fn is_busy(metrics: &Exposition) -> bool {
    let all_sessions = metrics.value("embedd_sessions_busy", &[]) == metrics.value("embedd_sessions", &[]);
    all_sessions && metrics.value("embedd_queue_texts", &[]) > 0.0
}

async fn call_again_and_again(mut client: Client) {
    loop {
        if client.embed(long_texts(256)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
