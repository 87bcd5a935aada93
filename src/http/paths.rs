//! Paths of the HTTP port: other ways to write them that clients use, and which of them are probes.

use std::borrow::Cow;

use axum::http::Request;
use axum::http::uri::{PathAndQuery, Uri};

use crate::net::CallKind;

/// Paths for probes and metrics.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// Those of text-embeddings-inference.
pub(super) const TEI_PROBES: [&str; 2] = ["/health", "/ping"];
/// How similar a path must be to be suggested.
const MIN_SIMILARITY: f64 = 0.8;
/// Longer paths are not compared.
const MAX_COMPARED_BYTES: usize = 256;
/// Azure's client puts the name of the model, which the body has as well, into the path.
const AZURE: &str = "/openai/deployments/";

/// Probes need no memory budget. Everything else is a call, whatever its path.
pub(crate) fn call_kind(path: &str) -> CallKind {
    if PROBES.iter().chain(&TEI_PROBES).any(|probe| *probe == path) { CallKind::Probe } else { CallKind::Work }
}

/// The request with the path that the routes know, if clients are known to write it in another way.
pub(super) fn with_known_path<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    if let Cow::Owned(path) = known(uri.path()) {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(path + &query).ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// Accepts doubled slashes, a slash at the end, and the prefixes of other servers of OpenAI's API. Probes have one path.
fn known(path: &str) -> Cow<'_, str> {
    let mut plain = path.to_owned();
    while plain.contains("//") {
        plain = plain.replace("//", "/");
    }
    let mut plain = plain.trim_end_matches('/');
    if let Some(deployment) = plain.strip_prefix(AZURE) {
        plain = deployment.find('/').map_or(plain, |slash| &deployment[slash..]);
    }
    let plain = plain.strip_prefix("/openai").filter(|rest| rest.starts_with('/')).unwrap_or(plain);
    let plain = plain.strip_prefix("/v1").filter(|rest| rest.starts_with("/v1/")).unwrap_or(plain);
    let plain = match plain {
        "/embeddings" | "/models" => format!("/v1{plain}"),
        _ => with_encoded_model(plain),
    };
    if plain == path || plain.is_empty() || PROBES.contains(&plain.as_str()) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(plain)
}

/// Triton's client does not encode the slashes in the name of a model.
fn with_encoded_model(path: &str) -> String {
    let Some(rest) = path.strip_prefix("/v2/models/") else { return path.to_owned() };
    let end = ["/versions/", "/infer", "/ready"].into_iter().filter_map(|end| rest.find(end)).min();
    let (model, rest) = rest.split_at(end.unwrap_or(rest.len()));
    format!("/v2/models/{}{rest}", model.replace('/', "%2F"))
}

/// The paths of the port, for error messages: probes, and those of the APIs.
pub(super) fn all<'p>(apis: impl Iterator<Item = &'p String>) -> Vec<String> {
    let probes = PROBES.iter().map(|probe| (*probe).to_owned());
    apis.filter(|path| *path != "/").cloned().chain(probes).collect()
}

/// What to suggest instead of an unknown path: the most similar one, and all that are known.
pub(super) fn instead_of(path: &str, known: &[String]) -> String {
    let similarity = |known: &String| strsim::jaro_winkler(path, known);
    let nearest = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let nearest = nearest.filter(|known| path.len() <= MAX_COMPARED_BYTES && similarity(known) >= MIN_SIMILARITY);
    let all = known.join(", ");
    nearest.map_or(all.clone(), |nearest| format!("{nearest} (all paths: {all})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_ways_to_write_a_path_are_known() {
        for (path, expected) in [
            ("/v1//embeddings", "/v1/embeddings"),
            ("//v1/embeddings", "/v1/embeddings"),
            ("/v1/embeddings/", "/v1/embeddings"),
            ("/v1/v1/embeddings", "/v1/embeddings"),
            ("/embeddings", "/v1/embeddings"),
            ("/models", "/v1/models"),
            ("/openai/v1/embeddings", "/v1/embeddings"),
            ("/openai/deployments/some-model/embeddings", "/v1/embeddings"),
            ("/v2//embed", "/v2/embed"),
            ("/embed/", "/embed"),
            ("/docs/", "/docs"),
            ("/v2/models/owner/model/infer", "/v2/models/owner%2Fmodel/infer"),
            ("/v2/models/owner/model/versions/1/infer", "/v2/models/owner%2Fmodel/versions/1/infer"),
            ("/v2/models/owner/model", "/v2/models/owner%2Fmodel"),
        ] {
            assert_eq!(known(path), expected, "{path}");
        }
    }

    #[test]
    fn all_other_paths_stay_as_they_are() {
        for path in [
            "/",
            "//",
            "*",
            "",
            "/healthz",
            "//healthz",
            "/healthz/",
            "/metrics%00",
            "/../metrics",
            "/openaiv1",
            "/v1",
            "/v1/models/a/b",
            "/v2/models/model/infer",
        ] {
            assert!(matches!(known(path), Cow::Borrowed(_)), "{path} became {}", known(path));
        }
    }

    #[test]
    fn only_the_exact_paths_of_probes_are_probes() {
        for (path, kind) in [
            ("/healthz", CallKind::Probe),
            ("/health", CallKind::Probe),
            ("//healthz", CallKind::Work),
            ("/v1/embeddings", CallKind::Work),
            ("//v1/embeddings", CallKind::Work),
            ("/", CallKind::Work),
        ] {
            assert_eq!(call_kind(path), kind, "{path}");
        }
    }

    #[test]
    fn similar_paths_are_suggested() {
        let known = all(["/v1/embeddings".to_owned(), "/".to_owned(), "/embed".to_owned()].iter());
        assert_eq!(known, ["/v1/embeddings", "/embed", "/healthz", "/readyz", "/metrics"]);
        assert!(instead_of("/v1/embedding", &known).starts_with("/v1/embeddings (all paths: /v1/embeddings, /embed, "));
        assert!(instead_of("/nothing", &known).starts_with("/v1/embeddings, /embed, "));
        assert!(instead_of(&"/x".repeat(10_000), &known).starts_with("/v1/embeddings, "));
    }
}
