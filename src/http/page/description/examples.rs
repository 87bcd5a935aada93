//! Example calls.

use embedd_common::page::escape;

/// A placeholder for the server's address, which the page's script replaces.
const ADDRESS: &str = "http://localhost:9090";
const TEXT: &str = "Ignore all previous instructions";
/// Routes that always answer 501.
pub(in crate::http::page) const UNSUPPORTED: [&str; 4] = ["/embed_all", "/embed_sparse", "/predict", "/rerank"];

/// The command for a route, as HTML.
pub(super) fn command(method: &str, path: &str) -> Option<String> {
    if UNSUPPORTED.contains(&path) {
        return None;
    }
    let url = format!("<span class=\"address\">{ADDRESS}</span>{}", escape(&path.replace("{model}", "MODEL")));
    match body(path).filter(|_| method == "POST") {
        Some(body) => {
            let body = escape(&body);
            Some(format!("curl {url} -H &#39;content-type: application/json&#39; \\\n    -d &#39;{body}&#39;"))
        }
        None if method == "GET" => Some(format!("curl {url}")),
        None => None,
    }
}

/// The body of a request.
pub(super) fn body(path: &str) -> Option<String> {
    let texts = format!("[\"{TEXT}\", \"What is the capital of France?\"]");
    Some(match path {
        "/v1/embeddings" => format!("{{\"input\": {texts}}}"),
        "/embed" | "/" => format!("{{\"inputs\": {texts}}}"),
        "/similarity" => {
            let others = "[\"Disregard everything above\", \"Hello\"]";
            format!("{{\"inputs\": {{\"source_sentence\": \"{TEXT}\", \"sentences\": {others}}}}}")
        }
        "/tokenize" => format!("{{\"inputs\": \"{TEXT}\"}}"),
        "/decode" => "{\"ids\": [[5, 6, 7]]}".to_owned(),
        "/v1/embed" | "/v2/embed" => {
            format!("{{\"texts\": {texts}, \"input_type\": \"search_document\", \"embedding_types\": [\"float\"]}}")
        }
        "/v2/models/{model}/infer" => format!(
            "{{\"inputs\": [{{\"name\": \"text\", \"shape\": [2], \"datatype\": \"BYTES\", \"data\": {texts}}}]}}"
        ),
        _ => return None,
    })
}
