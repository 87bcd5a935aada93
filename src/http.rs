//! The HTTP port: metrics and probes without authentication, and OpenAI's API.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};
use crate::net::{self, ListenerConfig};
use crate::readiness::{Phase, Readiness};

mod observe;
mod openai;
mod permit;

pub(crate) use openai::OpenAi;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use openai::read_openai_body;
use permit::ConnectionPermit;
pub(crate) use permit::ConnectionPermits;

#[derive(Debug, Clone)]
pub(crate) struct HttpListener {
    pub metrics: Metrics,
    pub config: ListenerConfig,
    /// OpenAI's API, if it is enabled.
    pub openai: Option<OpenAi>,
}

impl HttpListener {
    /// Serves until `stop`, then finishes the requests in flight.
    pub(crate) async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let draining = self.openai.as_ref().map(|openai| openai.stop.clone());
        let config = ListenerConfig { draining, ..self.config.clone() };
        let routes = self.routes();
        let per_connection = || routes.clone().layer(Extension(ConnectionPermit::default()));
        net::serve(config, per_connection, socket, stop).await;
    }

    fn routes(self) -> Router {
        let Metrics { stats, readiness, .. } = self.metrics.clone();
        Router::new()
            .route("/healthz", get(healthz).with_state(readiness.clone()))
            .route("/readyz", get(readyz).with_state(readiness))
            .route("/metrics", get(metrics).with_state(self.metrics))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .merge(self.openai.map(OpenAi::routes).unwrap_or_default())
            .layer(from_fn_with_state(stats, observe::observe))
    }
}

/// Succeeds while the process works. A session that hangs needs a restart.
async fn healthz(State(readiness): State<Readiness>) -> Response {
    match readiness.phase() {
        Phase::Hanging => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", Phase::Hanging)).into_response(),
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

async fn metrics(State(metrics): State<Metrics>) -> Response {
    match metrics.text().await {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn not_found() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "not found; this port serves /metrics, /healthz, /readyz and, if --openai enables it, OpenAI's API at /v1\n",
    )
}

async fn method_not_allowed() -> (StatusCode, &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, "method not allowed; the Allow header lists the methods of this path\n")
}

#[cfg(test)]
mod tests;
