//! The web page of the HTTP port, and the statistics that it shows.

use serde_json::{Value, json};

use crate::support::http::{get, get_with, post};
use crate::support::models::Model;
use crate::support::server::{Server, temporary_folder};
use crate::support::tls::write;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const TEXT: &str = "a text that is nobody else's business";

fn stats(server: &Server, headers: &[(&str, &str)]) -> Value {
    let answer = get_with(server.http(), "/page/stats", headers);
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"), "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(!answer.body.contains(TEXT), "no texts: {}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

#[test]
fn the_page_shows_the_model_and_counts_what_was_done() {
    let server = Server::start(Model::Small, &["--cache-bytes", "1MiB", "--sessions", "1"]);
    let http = server.http();
    let page = get(http, "/");
    assert_eq!((page.status, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(page.headers["content-security-policy"].to_str().expect("text").starts_with("default-src 'none';"));
    let docs = get(http, "/docs");
    assert!(docs.status == 200 && docs.body.contains("/v1/embeddings") && docs.body.contains("/page/stats"));

    for _ in 0..2 {
        // The route of text-embeddings-inference at the path of the page.
        let answer = post(http, "/", &JSON, &json!({"inputs": [TEXT, "b"]}).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(post(http, "/embed", &JSON, "{}").status, 422);
    let found = stats(&server, &[]);
    let model = &found["model"];
    assert_eq!((&model["name"], &model["dimension"]), (&json!(Model::Small.id()), &json!(Model::Small.dimension())));
    assert_eq!((&model["engine"], &model["max_tokens"]), (&json!("fp32"), &json!(Model::Small.max_tokens())));
    let reported = &found["server"];
    assert_eq!((&reported["phase"], &reported["tei"]), (&json!("ready"), &json!(true)));
    assert_eq!(reported["grpc_port"], server.address.port());
    let now = &found["now"];
    assert_eq!((&now["requests"], &now["texts"]), (&json!(2), &json!(4)));
    assert_eq!((&now["cache_hits"], &now["cache_misses"]), (&json!(2), &json!(2)));
    assert_eq!(now["errors"], json!({"rejected": 1, "overloaded": 0, "failed": 0}));
    assert!(now["latency"]["total"]["p99"].as_f64().is_some_and(|ms| ms > 0.0), "{now}");
    assert_eq!(found["sample_seconds"], 5);
}

#[test]
fn the_statistics_need_a_token_and_the_page_does_not() {
    let (_folder, path) = temporary_folder();
    let file = write(&path, "tokens", "secret\n");
    let server = Server::start(Model::Small, &["--token-file", &file]);
    for path in ["/", "/docs", "/page/main.js", "/page/style.css"] {
        let answer = get(server.http(), path);
        assert!(answer.status == 200 && !answer.body.contains(Model::Small.name()), "{path}: {answer:?}");
    }
    for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
        let answer = get_with(server.http(), "/page/stats", headers);
        assert!(answer.status == 401 && answer.body.contains("invalid_api_key"), "{answer:?}");
    }
    let found = stats(&server, &[("authorization", "Bearer secret")]);
    assert_eq!(found["model"]["name"], Model::Small.id());
    assert_eq!(found["now"]["errors"]["rejected"], 2);
}

#[test]
fn the_page_can_be_turned_off() {
    let server = Server::start(Model::Small, &["--page=false"]);
    for (path, status) in [("/", 405), ("/docs", 404), ("/page/stats", 404), ("/page/main.js", 404)] {
        assert_eq!(get(server.http(), path).status, status, "{path}");
    }
    assert_eq!(post(server.http(), "/", &JSON, &json!({"inputs": "a"}).to_string()).status, 200);

    let server = Server::start(Model::Small, &["--http-api", "off"]);
    assert_eq!((get(server.http(), "/").status, get(server.http(), "/page/stats").status), (404, 404));

    let server = Server::start(Model::Small, &["--tei=false"]);
    assert_eq!(stats(&server, &[])["server"]["tei"], false);
    assert_eq!((get(server.http(), "/").status, post(server.http(), "/", &JSON, "{}").status), (200, 405));
}
