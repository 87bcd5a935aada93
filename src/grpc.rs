//! The wire: gRPC to the domain's types and back, and nothing else. The services for callers speak several protocols
//! (`embedding`, `tei`, `open_inference`) by one way (`calls`).

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

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
mod calls;
mod door;
mod embedding;
mod ending;
mod guard;
mod health;
mod observe;
mod open_inference;
mod protocols;
mod reflection;
mod replies;
mod status;
mod tei;
mod tls;

use admin::Admin;
use calls::Calls;
pub(crate) use door::{Door, Stay};
use embedding::Embedding;
use ending::EndingLayer;
use guard::Guard;
pub(crate) use health::Health;
use observe::ObserveLayer;
use open_inference::OpenInference;
use protocols::ADMIN;
pub(crate) use protocols::Protocols;
use tei::Tei;
pub(crate) use tls::{Tls, TlsError, TlsFiles};

/// The stream resets that a client may provoke on one connection by breaking the rules of HTTP/2; beyond them the connection
/// is closed. tonic's default is no limit at all: every such frame would cost memory for as long as the client does not read
/// the resets, and CPU time if it does (RUSTSEC-2024-0003). 1024 is hyper's own default; well-behaved clients provoke none.
const MAX_PROVOKED_RESETS: usize = 1024;

/// The largest request of health and reflection, which hold a name at most. Health is open to all, and tonic's default of
/// 4 MiB would let callers without a token fill the memory.
const MAX_NAME_REQUEST_BYTES: usize = 1024;

/// What the transport takes from a client before a request is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransportLimits {
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
pub(crate) struct EmbeddingListener {
    /// The one way from a request to vectors.
    pub serving: Serving,
    /// What health says.
    pub health: Health,
    /// What a call may bring along.
    pub limits: TransportLimits,
    /// What is spoken beside `embedd.v1`.
    pub protocols: Protocols,
    /// Whether reflection is served.
    pub reflection: bool,
    /// Where their traces go.
    pub traces: Traces,
    /// Who may come in.
    pub door: Door,
}

/// What the listener for those who run the server needs.
#[derive(Debug, Clone)]
pub(crate) struct AdminListener {
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
    /// Where their traces go.
    pub traces: Traces,
    /// Who may come in.
    pub door: Door,
}

/// What the listener for probes needs: health and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct HealthListener {
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
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let services = self.services(&stop);
        self.door.serve(services, listener, stop).await;
    }

    fn services(&self, stop: &CancellationToken) -> Services {
        let calls = Calls { serving: self.serving.clone(), stop: stop.clone() };
        let (guard, bytes) = (Guard(self.door.tokens.clone()), self.limits.max_message_bytes);
        let embedding = Embedding { calls: calls.clone(), limits: self.limits };
        let tei = self.protocols.tei.then(|| Tei { calls: calls.clone() });
        let inference = self.protocols.open_inference.then(|| OpenInference { calls, health: self.health.clone() });
        let spoken: Vec<_> = self.protocols.spoken().collect();
        let (v1, v1alpha) = reflection::services(self.reflection, &spoken);
        server(&self.door, self.limits, self.serving.stats.clone(), self.traces.clone())
            .add_service(guard.before(EmbeddingServiceServer::new(embedding).max_decoding_message_size(bytes)))
            .add_optional_service(
                tei.clone().map(|tei| guard.before(InfoServer::new(tei).max_decoding_message_size(bytes))),
            )
            .add_optional_service(
                tei.clone().map(|tei| guard.before(EmbedServer::new(tei).max_decoding_message_size(bytes))),
            )
            .add_optional_service(
                tei.map(|tei| guard.before(TokenizeServer::new(tei).max_decoding_message_size(bytes))),
            )
            .add_optional_service(inference.map(|inference| {
                guard.before(GrpcInferenceServiceServer::new(inference).max_decoding_message_size(bytes))
            }))
            .add_optional_service(v1.map(|service| guard.before(service)))
            .add_optional_service(v1alpha.map(|service| guard.before(service)))
            // Open to all: probes have no tokens.
            .add_service(self.health.service())
    }
}

impl AdminListener {
    /// Serves until `stop`, then finishes the requests under way.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let guard = Guard(self.door.tokens.clone());
        let (v1, v1alpha) = reflection::services(self.reflection, &[&ADMIN]);
        let service = Admin::new(self.operations, self.requests, stop.clone());
        let services = server(&self.door, self.limits, self.stats, self.traces)
            .add_service(guard.before(AdminServiceServer::new(service)))
            .add_service(self.health.service())
            .add_optional_service(v1.map(|service| guard.before(service)))
            .add_optional_service(v1alpha.map(|service| guard.before(service)));
        self.door.serve(services, listener, stop).await;
    }
}

impl HealthListener {
    /// Serves until `stop`.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let services =
            server(&self.door, self.limits, self.stats, Traces::default()).add_service(self.health.probe_service());
        self.door.serve(services, listener, stop).await;
    }
}

/// The layers around every service, the outermost last.
type Layers = Stack<EndingLayer, Stack<ObserveLayer, Identity>>;
/// What a listener serves.
type Services = Router<Layers>;

fn server(door: &Door, limits: TransportLimits, stats: Stats, traces: Traces) -> Server<Layers> {
    Server::builder()
        .max_concurrent_streams(limits.max_concurrent_streams)
        .http2_max_header_list_size(limits.max_header_bytes)
        .http2_max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        .http2_keepalive_interval(door.stay.keepalive_interval)
        .http2_keepalive_timeout(Some(door.stay.keepalive_timeout))
        .layer(ObserveLayer { stats, traces })
        .layer(EndingLayer)
}
