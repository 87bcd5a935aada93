//! The gRPC listeners. Their services translate between messages and domain types, and do nothing else. The embedding
//! services of all protocols (`embedding`, `tei`, `open_inference`) share one path (`calls`).

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::{Routes, RoutesBuilder};

use crate::admin::Operations;
use crate::net::{self, ListenerConfig};
use crate::serving::Serving;
use crate::stats::Stats;
use crate::tokens::Tokens;
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
mod gzip;
mod health;
mod layers;
mod limits;
mod observe;
mod open_inference;
mod protocols;
mod receive;
mod reflection;
mod replies;
mod status;
mod tei;

use admin::Admin;
use auth::AuthInterceptor;
use calls::Calls;
use embedding::Embedding;
pub(crate) use health::Health;
use layers::{Services, with_layers};
pub(crate) use limits::TransportLimits;
use open_inference::OpenInference;
use protocols::ADMIN;
pub(crate) use protocols::{Protocols, call_kind};
use tei::Tei;

/// The maximum size of a request for health or reflection, which carries at most a name. Health is open to everyone,
/// and tonic's default of 4 MiB would let callers without a token fill the memory.
const MAX_NAME_REQUEST_BYTES: usize = 1024;
/// tonic's default, for the admin service.
const MAX_ADMIN_MESSAGE_BYTES: usize = 4 << 20;

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
    /// If set, every call except health checks needs one of them.
    pub tokens: Option<Tokens>,
    pub config: ListenerConfig,
}

#[derive(Debug, Clone)]
pub(crate) struct AdminListener {
    pub operations: Operations,
    pub health: Health,
    /// Holds a token for each call in flight.
    pub requests: TaskTracker,
    /// Whether reflection is served.
    pub reflection: bool,
    pub stats: Stats,
    pub traces: Traces,
    /// If set, every call except health checks needs one of them.
    pub tokens: Option<Tokens>,
    pub config: ListenerConfig,
}

/// The listener for health probes: it serves health and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct HealthListener {
    pub health: Health,
    pub stats: Stats,
    pub config: ListenerConfig,
}

impl EmbeddingListener {
    /// Serves until `stop`, then finishes the calls in flight.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let max_bytes = self.limits.max_message_bytes;
        let services = with_layers(self.routes(&stop), max_bytes, self.serving.stats.clone(), self.traces.clone());
        serve(self.config, self.tokens, services, socket, stop).await;
    }

    fn routes(&self, stop: &CancellationToken) -> Routes {
        let calls = Calls { serving: self.serving.clone(), stop: stop.clone() };
        let auth = AuthInterceptor(self.tokens.clone());
        let bytes = self.limits.max_message_bytes;
        let embedding = Embedding { calls: calls.clone(), limits: self.limits };
        let mut routes = RoutesBuilder::default();
        routes.add_service(auth.protect(EmbeddingServiceServer::new(embedding).max_decoding_message_size(bytes)));
        if self.protocols.tei {
            let tei = Tei { calls: calls.clone() };
            routes
                .add_service(auth.protect(InfoServer::new(tei.clone()).max_decoding_message_size(bytes)))
                .add_service(auth.protect(EmbedServer::new(tei.clone()).max_decoding_message_size(bytes)))
                .add_service(auth.protect(TokenizeServer::new(tei).max_decoding_message_size(bytes)));
        }
        if self.protocols.open_inference {
            let inference = OpenInference { calls, health: self.health.clone() };
            let service = GrpcInferenceServiceServer::new(inference).max_decoding_message_size(bytes);
            routes.add_service(auth.protect(service));
        }
        let protocols: Vec<_> = self.protocols.enabled().collect();
        reflection::add_services(&mut routes, &auth, self.reflection, &protocols);
        // Without authentication: probes have no tokens.
        routes.add_service(self.health.service());
        routes.routes()
    }
}

impl AdminListener {
    /// Serves until `stop`, then finishes the calls in flight.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let auth = AuthInterceptor(self.tokens.clone());
        let service = Admin::new(self.operations, self.requests, stop.clone());
        let mut routes = RoutesBuilder::default();
        routes.add_service(auth.protect(AdminServiceServer::new(service))).add_service(self.health.service());
        reflection::add_services(&mut routes, &auth, self.reflection, &[&ADMIN]);
        let services = with_layers(routes.routes(), MAX_ADMIN_MESSAGE_BYTES, self.stats, self.traces);
        serve(self.config, self.tokens, services, socket, stop).await;
    }
}

impl HealthListener {
    /// Serves until `stop`.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let services = with_layers(
            Routes::new(self.health.probe_service()),
            MAX_NAME_REQUEST_BYTES,
            self.stats,
            Traces::default(),
        );
        serve(self.config, None, services, socket, stop).await;
    }
}

/// Serves until `stop`, and reloads the tokens when their file changes.
async fn serve(
    config: ListenerConfig,
    tokens: Option<Tokens>,
    services: Services,
    socket: TcpListener,
    stop: CancellationToken,
) {
    let follow = async {
        match &tokens {
            Some(tokens) => tokens.follow().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = net::serve(config, || services.clone(), socket, stop) => {}
        never = follow => match never {},
    }
}
