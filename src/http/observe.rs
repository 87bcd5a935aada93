//! Every request on the HTTP port has an id, and is counted with names that callers cannot choose.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::request_id::RequestId;
use crate::stats::Stats;

/// A method or a path that is none of this port's.
const OTHER: &str = "_OTHER";

pub(super) async fn observe(State(stats): State<Stats>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or(OTHER, MatchedPath::as_str).to_owned();
    let (method, id) = (method(request.method()), RequestId::of(request.headers()));
    // Handlers that trace find it there.
    id.tell(request.headers_mut());
    let counted = stats.http_request(method, &route);
    let mut response = next.run(request).await;
    id.tell(response.headers_mut());
    let status = response.status().as_u16();
    log(method, &route, status, counted.elapsed(), &id);
    counted.end(status);
    response
}

fn log(method: &str, route: &str, status: u16, took: Duration, id: &RequestId) {
    let request_id = id.as_str();
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(method, route, status, ?took, request_id, "request failed");
    } else {
        tracing::debug!(method, route, status, ?took, request_id, "request");
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
