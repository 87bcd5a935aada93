//! The wire: gRPC to the domain's types and back, and nothing else.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

use crate::admin::Operations;
use crate::model_slot::ModelSlot;
use crate::proto::admin_service_server::AdminServiceServer;
use crate::proto::embedding_service_server::EmbeddingServiceServer;
use crate::stats::Stats;

mod admin;
mod door;
mod embedding;
mod ending;
mod health;
mod observe;
mod reflection;
mod reload;
mod replies;
mod status;
mod tls;
mod tokens;

use admin::Admin;
pub use door::{Door, Stay};
use embedding::Embedding;
use ending::EndingLayer;
pub use health::Health;
use observe::ObserveLayer;
use reflection::Reflection;
pub use reload::{NamedFile, Unreadable};
pub use tls::{Tls, TlsError, TlsFiles};
use tokens::Guard;
pub use tokens::{Tokens, TokensError};

/// What the transport takes from a client before a request is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportLimits {
    /// Bytes of a message from a client. Replies are as large as a request within its own limits makes them: to refuse one
    /// would throw away work that is done.
    pub max_message_bytes: usize,
    /// Calls under way on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes of the header list of one call.
    pub max_header_bytes: u32,
}

/// What the listener for callers needs.
#[derive(Debug, Clone)]
pub struct EmbeddingListener {
    /// The model, once it is loaded.
    pub model: ModelSlot,
    /// What health says.
    pub health: Health,
    /// Holds a token for each call under way.
    pub requests: TaskTracker,
    /// What a call may bring along.
    pub limits: TransportLimits,
    /// Whether reflection is served.
    pub reflection: bool,
    /// Where calls are counted.
    pub stats: Stats,
    /// Who may come in.
    pub door: Door,
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
    /// What a call may bring along.
    pub limits: TransportLimits,
    /// Whether reflection is served.
    pub reflection: bool,
    /// Where calls are counted.
    pub stats: Stats,
    /// Who may come in.
    pub door: Door,
}

/// What the listener for probes needs: health and nothing else.
#[derive(Debug, Clone)]
pub struct HealthListener {
    /// What health says.
    pub health: Health,
    /// What a call may bring along.
    pub limits: TransportLimits,
    /// Where calls are counted.
    pub stats: Stats,
    /// Who may come in.
    pub door: Door,
}

impl EmbeddingListener {
    /// Serves until `stop`, then finishes the requests under way.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let guard = Guard(self.door.tokens.clone());
        let service = Embedding::new(self.model, self.requests, stop.clone(), self.limits, self.stats.clone());
        let service = EmbeddingServiceServer::new(service).max_decoding_message_size(self.limits.max_message_bytes);
        let (v1, v1alpha) = reflection::services(self.reflection, Reflection::Embedding);
        let services = server(&self.door, self.limits, self.stats)
            .add_service(InterceptedService::new(service, guard.clone()))
            // Open to all: probes have no tokens.
            .add_service(self.health.service())
            .add_optional_service(v1.map(|service| InterceptedService::new(service, guard.clone())))
            .add_optional_service(v1alpha.map(|service| InterceptedService::new(service, guard.clone())));
        self.door.serve(services, listener, stop).await;
    }
}

impl AdminListener {
    /// Serves until `stop`, then finishes the requests under way.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let guard = Guard(self.door.tokens.clone());
        let (v1, v1alpha) = reflection::services(self.reflection, Reflection::Admin);
        let service = Admin::new(self.operations, self.requests, stop.clone());
        let services = server(&self.door, self.limits, self.stats)
            .add_service(InterceptedService::new(AdminServiceServer::new(service), guard.clone()))
            .add_service(self.health.service())
            .add_optional_service(v1.map(|service| InterceptedService::new(service, guard.clone())))
            .add_optional_service(v1alpha.map(|service| InterceptedService::new(service, guard.clone())));
        self.door.serve(services, listener, stop).await;
    }
}

impl HealthListener {
    /// Serves until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let services = server(&self.door, self.limits, self.stats).add_service(self.health.probe_service());
        self.door.serve(services, listener, stop).await;
    }
}

/// The layers around every service, the outermost last.
type Layers = Stack<EndingLayer, Stack<ObserveLayer, Identity>>;
/// What a listener serves.
type Services = Router<Layers>;

fn server(door: &Door, limits: TransportLimits, stats: Stats) -> Server<Layers> {
    Server::builder()
        .max_concurrent_streams(limits.max_concurrent_streams)
        .http2_max_header_list_size(limits.max_header_bytes)
        .http2_keepalive_interval(door.stay.keepalive_interval)
        .http2_keepalive_timeout(Some(door.stay.keepalive_timeout))
        .layer(ObserveLayer(stats))
        .layer(EndingLayer)
}
