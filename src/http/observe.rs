//! Request instrumentation of the HTTP port: gives every request an id, counts it and logs it. Callers cannot choose
//! the names under which requests are counted.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::stats::{HttpRequest, Stats};
use embedd_proto::request_id::RequestId;

/// Stands for all unknown methods and paths.
const OTHER: &str = "_OTHER";

pub(super) async fn observe(State(stats): State<Stats>, mut request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(OTHER, MatchedPath::as_str);
    let method = method(request.method());
    let id = RequestId::from_headers_or_new(request.headers());
    // For handlers that trace.
    id.insert_into(request.headers_mut());
    let counted = stats.http_request(method, route);
    let mut response = next.run(request).await;
    id.insert_into(response.headers_mut());
    let status = response.status().as_u16();
    log(method, route, status, &counted, &id);
    counted.end(status);
    response
}

fn log(method: &str, route: &str, status: u16, counted: &HttpRequest, id: &RequestId) {
    // The time is read only if the line is logged.
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(method, route, status, took = ?counted.elapsed(), request_id = id.as_str(), "request failed");
    } else {
        tracing::debug!(method, route, status, took = ?counted.elapsed(), request_id = id.as_str(), "request");
    }
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => OTHER,
    }
}
