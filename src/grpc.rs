//! The gRPC listeners. Their services translate between messages and domain types, and do nothing else. The embedding
//! services of all protocols (`embedding`, `tei`, `open_inference`) share one path (`calls`).

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::admin::Operations;
use crate::serving::Serving;
use crate::stats::Stats;
use crate::trace::Traces;
use embedd_proto::admin_service_server::AdminServiceServer;
use embedd_proto::embedding_service_server::EmbeddingServiceServer;
use embedd_proto::open_inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use embedd_proto::tei::embed_server::EmbedServer;
use embedd_proto::tei::info_server::InfoServer;
use embedd_proto::tei::tokenize_server::TokenizeServer;

mod admin;
mod auth;
mod calls;
mod deadline;
mod embedding;
mod health;
mod layers;
mod limits;
mod listener;
mod observe;
mod open_inference;
mod protocols;
mod reflection;
mod replies;
mod status;
mod tei;
mod tls;

use admin::Admin;
use auth::AuthInterceptor;
use calls::Calls;
use deadline::DeadlineLayer;
use embedding::Embedding;
pub(crate) use health::Health;
use layers::{Layers, Services};
pub(crate) use limits::TransportLimits;
pub(crate) use listener::{ConnectionLimits, ListenerConfig};
use observe::ObserveLayer;
use open_inference::OpenInference;
use protocols::ADMIN;
pub(crate) use protocols::Protocols;
use tei::Tei;
pub(crate) use tls::{Tls, TlsError, TlsFiles};

/// The maximum number of stream resets that a client may provoke on one connection by violating HTTP/2, before the
/// connection is closed. tonic sets no limit by default: every such frame would cost memory while the client does not
/// read the resets, and CPU time if it does (RUSTSEC-2024-0003). 1024 is hyper's own default; well-behaved clients
/// provoke none.
const MAX_PROVOKED_RESETS: usize = 1024;

/// The maximum size of a request for health or reflection, which carries at most a name. Health is open to everyone,
/// and tonic's default of 4 MiB would let callers without a token fill the memory.
const MAX_NAME_REQUEST_BYTES: usize = 1024;

#[derive(Debug, Clone)]
pub(crate) struct EmbeddingListener {
    pub serving: Serving,
    pub health: Health,
    pub limits: TransportLimits,
    /// The protocols served in addition to `embedd.v1`.
    pub protocols: Protocols,
    /// Whether reflection is served.
    pub reflection: bool,
    pub traces: Traces,
    pub config: ListenerConfig,
}

#[derive(Debug, Clone)]
pub(crate) struct AdminListener {
    pub operations: Operations,
    pub health: Health,
    /// Holds a token for each call in flight.
    pub requests: TaskTracker,
    pub limits: TransportLimits,
    /// Whether reflection is served.
    pub reflection: bool,
    pub stats: Stats,
    pub traces: Traces,
    pub config: ListenerConfig,
}

/// The listener for health probes: it serves health and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct HealthListener {
    pub health: Health,
    pub limits: TransportLimits,
    pub stats: Stats,
    pub config: ListenerConfig,
}

impl EmbeddingListener {
    /// Serves until `stop`, then finishes the calls in flight.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let services = self.services(&stop);
        listener::serve(self.config, services, socket, stop).await;
    }

    fn services(&self, stop: &CancellationToken) -> Services {
        let calls = Calls { serving: self.serving.clone(), stop: stop.clone() };
        let auth = AuthInterceptor(self.config.tokens.clone());
        let bytes = self.limits.max_message_bytes;
        let embedding = Embedding { calls: calls.clone(), limits: self.limits };
        let tei = self.protocols.tei.then(|| Tei { calls: calls.clone() });
        let inference = self.protocols.open_inference.then(|| OpenInference { calls, health: self.health.clone() });
        let protocols: Vec<_> = self.protocols.enabled().collect();
        let (v1, v1alpha) = reflection::services(self.reflection, &protocols);
        server(&self.config.connection_limits, self.limits, self.serving.stats.clone(), self.traces.clone())
            .add_service(auth.protect(EmbeddingServiceServer::new(embedding).max_decoding_message_size(bytes)))
            .add_optional_service(
                tei.clone().map(|tei| auth.protect(InfoServer::new(tei).max_decoding_message_size(bytes))),
            )
            .add_optional_service(
                tei.clone().map(|tei| auth.protect(EmbedServer::new(tei).max_decoding_message_size(bytes))),
            )
            .add_optional_service(
                tei.map(|tei| auth.protect(TokenizeServer::new(tei).max_decoding_message_size(bytes))),
            )
            .add_optional_service(inference.map(|inference| {
                auth.protect(GrpcInferenceServiceServer::new(inference).max_decoding_message_size(bytes))
            }))
            .add_optional_service(v1.map(|service| auth.protect(service)))
            .add_optional_service(v1alpha.map(|service| auth.protect(service)))
            // Without authentication: probes have no tokens.
            .add_service(self.health.service())
    }
}

impl AdminListener {
    /// Serves until `stop`, then finishes the calls in flight.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let auth = AuthInterceptor(self.config.tokens.clone());
        let (v1, v1alpha) = reflection::services(self.reflection, &[&ADMIN]);
        let service = Admin::new(self.operations, self.requests, stop.clone());
        let services = server(&self.config.connection_limits, self.limits, self.stats, self.traces)
            .add_service(auth.protect(AdminServiceServer::new(service)))
            .add_service(self.health.service())
            .add_optional_service(v1.map(|service| auth.protect(service)))
            .add_optional_service(v1alpha.map(|service| auth.protect(service)));
        listener::serve(self.config, services, socket, stop).await;
    }
}

impl HealthListener {
    /// Serves until `stop`.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let services = server(&self.config.connection_limits, self.limits, self.stats, Traces::default())
            .add_service(self.health.probe_service());
        listener::serve(self.config, services, socket, stop).await;
    }
}

fn server(connection: &ConnectionLimits, limits: TransportLimits, stats: Stats, traces: Traces) -> Server<Layers> {
    Server::builder()
        .max_concurrent_streams(limits.max_concurrent_streams)
        .http2_max_header_list_size(limits.max_header_bytes)
        .http2_max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        // A client or proxy whose calls share a deadline cancels all of them at once, some before the server has seen them.
        // With h2's default of 20, that would end the connection and all other calls on it.
        .http2_max_pending_accept_reset_streams(Some(limits.max_concurrent_streams as usize))
        .http2_keepalive_interval(connection.keepalive_interval)
        .http2_keepalive_timeout(Some(connection.keepalive_timeout))
        .layer(ObserveLayer { stats, traces })
        .layer(DeadlineLayer)
}
