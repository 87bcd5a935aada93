//! The wire: gRPC to the domain's types and back, and nothing else.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::layer::util::{Identity, Stack};

use crate::admin::Operations;
use crate::model_slot::ModelSlot;
use crate::proto::admin_service_server::AdminServiceServer;
use crate::proto::embedding_service_server::EmbeddingServiceServer;
use crate::stats::Stats;

mod admin;
mod embedding;
mod guard;
mod health;
mod observe;
mod reflection;
mod status;
mod stream;

use admin::Admin;
use embedding::Embedding;
use guard::GuardLayer;
pub use health::Health;
use reflection::Reflection;

/// Connections whose peer has vanished are found out after this long without a frame, and as long again.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What the listener for callers needs.
#[derive(Debug, Clone)]
pub struct EmbeddingListener {
    /// The model, once it is loaded.
    pub model: ModelSlot,
    /// What health says.
    pub health: Health,
    /// Holds a token for each call under way.
    pub requests: TaskTracker,
    /// Bytes of a message at most.
    pub max_message_bytes: usize,
    /// Whether reflection is served.
    pub reflection: bool,
    /// Where calls are counted.
    pub stats: Stats,
}

/// What the listener for those who run the server needs.
#[derive(Debug, Clone)]
pub struct AdminListener {
    /// What can be done.
    pub operations: Operations,
    /// What health says.
    pub health: Health,
    /// Holds a token for each call under way.
    pub requests: TaskTracker,
    /// Cancelled where the server stops: what takes long is then cut short.
    pub stopping: CancellationToken,
    /// Whether reflection is served.
    pub reflection: bool,
}

/// The transport failed.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server failed: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

impl EmbeddingListener {
    /// Serves until `stop`, then finishes the requests under way.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        let limit = self.max_message_bytes;
        let service = Embedding::new(self.model, self.requests, stop.clone(), limit, self.stats);
        let service = EmbeddingServiceServer::new(service).max_decoding_message_size(limit);
        let (v1, v1alpha) = reflection::services(self.reflection, Reflection::Embedding);
        server()
            .add_service(service)
            .add_service(self.health.service())
            .add_optional_service(v1)
            .add_optional_service(v1alpha)
            .serve_with_incoming_shutdown(incoming(listener), stop.cancelled_owned())
            .await?;
        Ok(())
    }
}

impl AdminListener {
    /// Serves until `stop`, then finishes the requests under way.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        let (v1, v1alpha) = reflection::services(self.reflection, Reflection::Admin);
        let service = Admin::new(self.operations, self.requests, self.stopping);
        server()
            .add_service(AdminServiceServer::new(service))
            .add_service(self.health.service())
            .add_optional_service(v1)
            .add_optional_service(v1alpha)
            .serve_with_incoming_shutdown(incoming(listener), stop.cancelled_owned())
            .await?;
        Ok(())
    }
}

fn server() -> Server<Stack<GuardLayer, Identity>> {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .layer(GuardLayer)
}

/// Small replies leave at once.
fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}
