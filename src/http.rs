//! The HTTP port: metrics and probes, open to all who reach it, and OpenAI's API.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accept::{Room, accept};
use crate::metrics::{self, Metrics};
use crate::readiness::{Phase, Readiness};

mod connection;
mod observe;
mod openai;
mod seat;

use connection::Ends;
pub(crate) use openai::OpenAi;
pub(crate) use seat::Seats;

/// What a client may bring along, and how long it may stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpLimits {
    /// Connections at most.
    pub room: Room,
    /// Bytes of a request's head: its first line and its headers.
    pub max_header_bytes: usize,
    /// Give or take a tenth; then the connection is closed after the request under way.
    pub max_age: Option<Duration>,
    /// For the request under way.
    pub grace: Option<Duration>,
}

/// What the HTTP port needs.
#[derive(Debug, Clone)]
pub(crate) struct HttpListener {
    /// What probes and Prometheus are told.
    pub metrics: Metrics,
    /// What clients may do.
    pub limits: HttpLimits,
    /// OpenAI's API, where it is served.
    pub openai: Option<OpenAi>,
}

impl HttpListener {
    /// Serves until `stop`, then finishes the requests under way.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let limits = self.limits;
        let last_call = self.openai.as_ref().map(|openai| openai.stop.clone());
        let routes = self.routes();
        let serve = |stream, closing| {
            connection::serve(stream, routes.clone(), limits, Ends { last_call: last_call.clone(), closing })
        };
        accept(listener, limits.room, stop, serve).await;
    }

    fn routes(self) -> Router {
        let Metrics { stats, readiness, .. } = self.metrics.clone();
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz).with_state(readiness))
            .route("/metrics", get(metrics).with_state(self.metrics))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .merge(self.openai.map(OpenAi::routes).unwrap_or_default())
            .layer(from_fn_with_state(stats, observe::observe))
    }
}

/// The process runs.
async fn healthz() -> &'static str {
    "ok\n"
}

/// As health says by gRPC.
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
        "there is nothing here; this port has /metrics, /healthz and /readyz, and OpenAI's API below /v1 if --openai has it so\n",
    )
}

async fn method_not_allowed() -> (StatusCode, &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods; the header Allow lists them\n")
}

#[cfg(test)]
mod tests;
