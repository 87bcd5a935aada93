//! The web page of the server: the model, live figures, and a form that embeds texts; and the description of the APIs.
//!
//! The pages are the same for everyone. What they show comes from the APIs, with the token that the visitor enters.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::refusal::Refusal;
use super::api::{self, Api};

mod description;
mod history;
mod stats;

pub(crate) use history::History;

/// Only the server's own files and APIs: no scripts or styles in the page itself, no other sites, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const INDEX: &str = include_str!("page/static/index.html");
const STYLE: &str = include_str!("page/static/page.css");
const ICON: &str = include_str!("page/static/icon.svg");
/// Scripts by their paths.
const SCRIPTS: [(&str, &str); 7] = [
    ("/page/main.js", include_str!("page/static/main.js")),
    ("/page/calls.js", include_str!("page/static/calls.js")),
    ("/page/charts.js", include_str!("page/static/charts.js")),
    ("/page/docs.js", include_str!("page/static/docs.js")),
    ("/page/dom.js", include_str!("page/static/dom.js")),
    ("/page/playground.js", include_str!("page/static/playground.js")),
    ("/page/server.js", include_str!("page/static/server.js")),
];

/// What the page shows besides the model and the statistics.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub history: History,
    /// Of the gRPC listener.
    pub grpc_port: u16,
    pub grpc_tls: bool,
    /// The REST API of text-embeddings-inference, which the form needs for tokens.
    pub tei: bool,
}

/// The route that needs a token if the server has any.
pub(super) fn routes(page: Page) -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(figures)).layer(Extension(page))
}

/// The page itself. Other methods of its path may belong to other routes.
pub(super) fn index() -> Router {
    Router::new().route("/", file(HTML, INDEX))
}

/// The other files. Like the page, they need no token.
pub(super) fn files(described: &OpenApi) -> Router {
    let mut routes = Router::new()
        .route("/docs", file(HTML, description::render(described)))
        .route("/page/style.css", file(CSS, [embedd_common::page::STYLE, STYLE].concat()))
        .route("/page/icon.svg", file(SVG, ICON));
    for (path, script) in SCRIPTS {
        routes = routes.route(path, file(SCRIPT, script));
    }
    routes
}

fn file(content_type: &'static str, content: impl Into<Bytes>) -> axum::routing::MethodRouter {
    let content = content.into();
    get(move || async move { respond(content_type, content) })
}

fn respond(content_type: &'static str, content: Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // After an update of the server, no browser combines files of two versions.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}

/// What the server is doing, and what it did over the last ten minutes. It contains no texts.
#[utoipa::path(
    get,
    path = "/page/stats",
    tag = "embedd",
    responses(
        (status = OK, description = "The server, its model, and what it is doing.", body = stats::PageStats),
        super::docs::Errors,
    ),
)]
async fn figures(State(api): State<Api>, Extension(page): Extension<Page>) -> Result<Response, Refusal> {
    let stats = stats::PageStats::collect(&api, &page).await;
    let mut response = api::reply(0, || serde_json::to_vec(&stats))?;
    response.headers_mut().insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests;
