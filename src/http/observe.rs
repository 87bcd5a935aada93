//! Every request on the HTTP port is counted, with names that callers cannot choose.

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::stats::Stats;

/// A method or a path that is none of this port's.
const OTHER: &str = "_OTHER";

pub(super) async fn observe(State(stats): State<Stats>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or(OTHER, MatchedPath::as_str);
    let counted = stats.http_request(method(request.method()), route);
    let response = next.run(request).await;
    counted.end(response.status().as_u16());
    response
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
