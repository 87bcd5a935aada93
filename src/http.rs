//! The HTTP port: metrics and probes without authentication, and the APIs of other servers.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::util::MapRequest;
use utoipa_axum::router::OpenApiRouter;

use crate::metrics::{self, Metrics};
use crate::net::{self, ListenerConfig};
use crate::readiness::{Phase, Readiness};

mod api;
mod cohere;
mod docs;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod observe;
mod open_inference;
mod openai;
mod page;
mod paths;
mod tei;

use api::ConnectionPermit;
use api::refusal::{self, ErrorForm};
pub(crate) use api::{Api, ConnectionPermits};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::read_body;
pub(crate) use page::{History, Page};
pub(crate) use paths::call_kind;

#[derive(Debug, Clone)]
pub(crate) struct HttpListener {
    pub metrics: Metrics,
    pub config: ListenerConfig,
    /// The APIs, if they are enabled.
    pub apis: Option<Apis>,
}

/// The APIs of the HTTP port.
#[derive(Debug, Clone)]
pub(crate) struct Apis {
    pub api: Api,
    /// The REST API of text-embeddings-inference.
    pub tei: bool,
    /// The Open Inference Protocol.
    pub open_inference: bool,
    /// The web page, if it is enabled.
    pub page: Option<Page>,
}

/// One API: its routes with their documentation, and the form of its errors.
struct Protocol {
    routes: fn() -> OpenApiRouter<Api>,
    error: ErrorForm,
}

const OPENAI: Protocol = Protocol { routes: openai::routes, error: openai::error };
const COHERE: Protocol = Protocol { routes: cohere::routes, error: cohere::error };
const TEI: Protocol = Protocol { routes: tei::routes, error: tei::error };
const OPEN_INFERENCE: Protocol = Protocol { routes: open_inference::routes, error: open_inference::error };

impl HttpListener {
    /// Serves until `stop`, then finishes the requests in flight.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let draining = self.apis.as_ref().map(|apis| apis.api.stop.clone());
        let config = ListenerConfig { draining, ..self.config.clone() };
        let page = self.apis.as_ref().and_then(|apis| apis.page.as_ref());
        let recording = page.map(|page| {
            let Metrics { stats, model, .. } = self.metrics.clone();
            AbortOnDropHandle::new(tokio::spawn(page.history.clone().record(stats, model)))
        });
        let routes = self.routes();
        // A layer for each connection would copy all routes.
        let per_connection = || {
            let permit = ConnectionPermit::default();
            MapRequest::new(routes.clone(), move |mut request: Request<_>| {
                request.extensions_mut().insert(permit.clone());
                paths::with_known_path(request)
            })
        };
        net::serve(config, per_connection, socket, stop).await;
        drop(recording);
    }

    fn routes(self) -> Router {
        let Metrics { stats, readiness, .. } = self.metrics.clone();
        let probes = Router::new()
            .route("/healthz", get(healthz).with_state(readiness.clone()))
            .route("/readyz", get(readyz).with_state(readiness.clone()))
            .route("/metrics", get(metrics).with_state(self.metrics))
            .method_not_allowed_fallback(method_not_allowed);
        let (apis, paths) = self.apis.map(|apis| apis.routes(&readiness)).unwrap_or_default();
        let known = paths::all(paths.iter());
        let not_found = move |uri: Uri| async move { not_found(&uri, &known) };
        probes.merge(apis).fallback(not_found).layer(from_fn_with_state(stats, observe::observe))
    }
}

impl Apis {
    fn protocols(&self) -> impl Iterator<Item = &'static Protocol> {
        let optional = [(self.tei, &TEI), (self.open_inference, &OPEN_INFERENCE)];
        let optional = optional.into_iter().filter_map(|(enabled, protocol)| enabled.then_some(protocol));
        [&OPENAI, &COHERE].into_iter().chain(optional)
    }

    /// The routes, and their paths.
    fn routes(self, readiness: &Readiness) -> (Router, Vec<String>) {
        let mut routes = Router::new();
        let mut description = docs::title();
        let mut add = |added: OpenApiRouter<Api>, error| {
            let (added, described) = added.split_for_parts();
            routes = std::mem::take(&mut routes).merge(self.api.wrap(added, error));
            description.merge(described);
        };
        for protocol in self.protocols() {
            add((protocol.routes)(), protocol.error);
        }
        if let Some(page) = &self.page {
            add(page::routes(page.clone()), openai::error);
        }
        let paths = description.paths.paths.keys().cloned().collect();
        if self.page.is_some() {
            routes = routes.merge(page::files(&description).method_not_allowed_fallback(method_not_allowed));
            // The REST API of text-embeddings-inference has the other methods of this path.
            let index = page::index();
            routes = routes.merge(if self.tei { index } else { index.method_not_allowed_fallback(method_not_allowed) });
        }
        routes = routes.route("/openapi.json", get(|| async move { Json(description) }));
        if self.tei {
            for probe in paths::TEI_PROBES {
                routes = routes.route(probe, get(readyz).with_state(readiness.clone()));
            }
        }
        (routes, paths)
    }
}

/// Succeeds unless a session does not work, which only a restart may fix.
async fn healthz(State(readiness): State<Readiness>) -> Response {
    match readiness.phase() {
        Phase::Faulty => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", Phase::Faulty)).into_response(),
        Phase::Loading | Phase::Ready | Phase::Stopping => "ok\n".into_response(),
    }
}

/// The same as gRPC health.
async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.phase() {
        Phase::Ready => "SERVING\n".into_response(),
        phase => (StatusCode::SERVICE_UNAVAILABLE, format!("NOT_SERVING: {phase}\n")).into_response(),
    }
}

async fn metrics(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let format = metrics::Format::accepted(&headers);
    match metrics.text(format).await {
        Ok(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// In OpenAI's form, since a client with a wrong path does not say which API it means.
fn not_found(uri: &Uri, known: &[String]) -> Response {
    let refusal = refusal::unknown_path(&paths::instead_of(uri.path(), known));
    refusal::write_body(refusal.into_response(), openai::error)
}

async fn method_not_allowed() -> Response {
    refusal::write_body(refusal::wrong_method().into_response(), openai::error)
}

#[cfg(test)]
mod tests;
