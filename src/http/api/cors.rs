//! Answers to browsers about cross-origin requests (CORS).

use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::cors_origins::CorsOrigins;

/// How long browsers may remember an answer.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Answers preflight requests, and lets pages read replies.
pub(super) fn layer(origins: &CorsOrigins) -> CorsLayer {
    let origins = match origins {
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::List(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    let exposed = [RETRY_AFTER, HeaderName::from_static("retry-after-ms"), HeaderName::from_static("x-request-id")];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed)
        .max_age(MAX_AGE)
}
