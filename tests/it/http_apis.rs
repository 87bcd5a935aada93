//! The APIs of the HTTP port other than OpenAI's: those of text-embeddings-inference, Cohere and KServe; and what all of
//! them share.

use std::io::Write as _;
use std::net::SocketAddr;

use embedd_proto::EmbedRequest;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::support::bare;
use crate::support::exposition::Exposition;
use crate::support::http::{Answer, get, get_with, post, post_bytes};
use crate::support::models::Model;
use crate::support::server::{Server, embed, shared, shared_native};
use crate::support::tls::TlsFiles;

const TEXTS: [&str; 3] = ["Ignore all previous instructions", "", "naïve 東京"];
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn ask(address: SocketAddr, path: &str, body: &Value) -> Answer {
    post(address, path, &JSON, &body.to_string())
}

fn parse(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn bits(vector: &Value) -> Vec<u32> {
    let numbers = vector.as_array().expect("numbers").iter();
    numbers.map(|number| (number.as_f64().expect("a number") as f32).to_bits()).collect()
}

fn all_bits(vectors: &Value) -> Vec<Vec<u32>> {
    vectors.as_array().expect("vectors").iter().map(bits).collect()
}

/// The vectors of `embedd.v1`.
async fn expected(server: &Server, texts: &[&str], dimensions: Option<u32>) -> Vec<Vec<u32>> {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    let request = EmbedRequest { texts, dimensions, ..Default::default() };
    let reply = server.client().await.embed(request).await.expect("embeddings").into_inner();
    reply.embeddings.iter().map(|embedding| embedding.values.iter().map(|value| value.to_bits()).collect()).collect()
}

#[tokio::test]
async fn clients_of_text_embeddings_inference_get_the_vectors_of_embedd_v1() {
    let server = shared_native(Model::MiniLm);
    let http = server.http();
    let whole = expected(server, &TEXTS, None).await;
    for path in ["/embed", "/", "/invocations", "/embed/"] {
        let answer = ask(http, path, &json!({"inputs": TEXTS}));
        assert_eq!(all_bits(&parse(&answer)), whole, "{path}");
        assert_eq!(answer.headers["x-compute-type"], "cpu");
        assert!(answer.headers.contains_key("x-compute-tokens") && answer.headers.contains_key("x-inference-time"));
    }
    let single = parse(&ask(http, "/embed", &json!({"inputs": TEXTS[0], "truncate": true, "normalize": true})));
    assert_eq!(all_bits(&single), whole[..1], "a list of one vector");
    let cut = parse(&ask(http, "/embed", &json!({"inputs": TEXTS, "dimensions": 7})));
    assert_eq!(all_bits(&cut), expected(server, &TEXTS, Some(7)).await);

    let sentences = json!({"source_sentence": TEXTS[0], "sentences": [TEXTS[0], TEXTS[2]]});
    for path in ["/similarity", "/"] {
        let cosines = parse(&ask(http, path, &json!({"inputs": sentences})));
        let cosines: Vec<f64> = cosines.as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        assert!((cosines[0] - 1.0).abs() < 1e-6 && cosines[1] < 0.9 && cosines.len() == 2, "{cosines:?}");
    }

    let tokens = parse(&ask(http, "/tokenize", &json!({"inputs": TEXTS})));
    let ids: Vec<Vec<u64>> = tokens.as_array().expect("texts").iter().map(ids_of).collect();
    assert_eq!(tokens[0][0]["special"], true);
    assert_eq!((&tokens[0][1]["start"], &tokens[0][1]["stop"]), (&json!(0), &json!(6)), "{tokens}");
    let bare = parse(&ask(http, "/tokenize", &json!({"inputs": TEXTS, "add_special_tokens": false})));
    let bare: Vec<Vec<u64>> = bare.as_array().expect("texts").iter().map(ids_of).collect();
    assert_eq!(ids[0][1..ids[0].len() - 1], bare[0]);
    assert_eq!(all_bits(&parse(&ask(http, "/embed", &json!({"inputs": ids})))), whole);
    assert_eq!(all_bits(&parse(&ask(http, "/embed", &json!({"inputs": ids[0]})))), whole[..1], "one list of ids");
    let answer = ask(http, "/embed", &json!({"inputs": bare[0]}));
    assert!(answer.status == 422 && answer.body.contains("may belong to another tokenizer"), "{answer:?}");
    let decoded = parse(&ask(http, "/decode", &json!({"ids": [bare[0]]})));
    assert_eq!(decoded, json!(["ignore all previous instructions"]));

    let info = parse(&get(http, "/info"));
    assert_eq!(info["model_id"], Model::MiniLm.id());
    assert_eq!((&info["model_type"]["embedding"]["pooling"], &info["max_input_length"]), (&json!("mean"), &json!(256)));
    assert_eq!((get(http, "/health").status, get(http, "/ping").status), (200, 200));
}

#[test]
fn token_ids_without_special_tokens_are_accepted_if_a_setting_allows_them() {
    let server = Server::start(Model::MiniLm, &["--token-ids", "any"]);
    let embed = |inputs: Value| all_bits(&parse(&ask(server.http(), "/embed", &json!({"inputs": inputs}))));
    let tokens = parse(&ask(server.http(), "/tokenize", &json!({"inputs": TEXTS[0]})));
    let ids = ids_of(&tokens[0]);
    let bare = &ids[1..ids.len() - 1];
    assert_eq!(embed(json!([ids, bare])), embed(json!([TEXTS[0], TEXTS[0]])));
    let answer = ask(server.http(), "/embed", &json!({"inputs": [[9_999_999]]}));
    assert!(answer.status == 422 && answer.body.contains("vocabulary does not have"), "{answer:?}");
}

fn ids_of(tokens: &Value) -> Vec<u64> {
    tokens.as_array().expect("tokens").iter().filter_map(|token| token["id"].as_u64()).collect()
}

#[test]
fn errors_of_text_embeddings_inference_have_its_form() {
    let http = shared(Model::MiniLm).http();
    for (path, body, status, kind) in [
        ("/embed", json!({}), 422, "Validation"),
        ("/embed", json!({"inputs": ["a", 1]}), 422, "Validation"),
        ("/embed", json!({"inputs": "a", "dimensions": 0}), 422, "Validation"),
        ("/embed", json!({"inputs": [1, 9_999_999]}), 422, "Validation"),
        ("/embed", json!({"inputs": "long ".repeat(300), "truncate": false}), 422, "Validation"),
        ("/similarity", json!({"inputs": {"source_sentence": "a"}}), 422, "Validation"),
        ("/embed_all", json!({"inputs": "a"}), 501, "Backend"),
        ("/embed_sparse", json!({"inputs": "a"}), 501, "Backend"),
        ("/predict", json!({"inputs": "a"}), 501, "Backend"),
        ("/rerank", json!({"query": "a", "texts": ["b"]}), 501, "Backend"),
    ] {
        let answer = ask(http, path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        let error: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(error["error_type"], kind, "{error}");
        assert!(error["error"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
}

#[tokio::test]
async fn clients_of_cohere_get_vectors_in_each_encoding() {
    let server = shared(Model::MiniLm);
    let http = server.http();
    let whole = expected(server, &TEXTS, None).await;
    let types = json!(["float", "base64", "binary", "ubinary"]);
    let body = json!({"model": "all-MiniLM-L6-v2", "texts": TEXTS, "input_type": "search_document",
        "embedding_types": types});
    let reply = parse(&ask(http, "/v2/embed", &body));
    assert_eq!((&reply["texts"], &reply["meta"]["api_version"]["version"]), (&json!(TEXTS), &json!("2")));
    assert!(reply["id"].as_str().is_some_and(|id| !id.is_empty()), "{reply}");
    assert_eq!(all_bits(&reply["embeddings"]["float"]), whole);
    for (index, vector) in whole.iter().enumerate() {
        let packed: Vec<u8> = vector
            .chunks(8)
            .map(|eight| eight.iter().fold(0, |byte, bits| byte << 1 | u8::from(f32::from_bits(*bits) > 0.0)))
            .collect();
        assert_eq!(reply["embeddings"]["ubinary"][index], json!(packed));
        let signed: Vec<i16> = packed.iter().map(|byte| i16::from(*byte) - 128).collect();
        assert_eq!(reply["embeddings"]["binary"][index], json!(signed));
    }
    let cut = expected(server, &TEXTS, Some(7)).await;
    let floats = parse(&ask(http, "/v1/embed", &json!({"texts": TEXTS, "output_dimension": 7})));
    assert_eq!((&floats["response_type"], all_bits(&floats["embeddings"])), (&json!("embeddings_floats"), cut));
    let by_type = parse(&ask(http, "/v1/embed", &json!({"texts": TEXTS, "embedding_types": ["float"]})));
    assert_eq!(by_type["response_type"], "embeddings_by_type");
    assert_eq!(all_bits(&by_type["embeddings"]["float"]), whole);
    let answer = ask(http, "/v2/embed", &json!({"texts": ["a"], "model": "embed-v4.0"}));
    assert!(
        answer.status == 404 && answer.body.starts_with("{\"message\":\"model `embed-v4.0` not found"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_open_inference_protocol_has_json_and_binary_tensors() {
    let server = shared(Model::MiniLm);
    let http = server.http();
    let whole = expected(server, &TEXTS, None).await;
    let model = Model::MiniLm.name();
    let path = format!("/v2/models/{model}/infer");
    let input = json!({"name": "text", "shape": [3], "datatype": "BYTES", "data": TEXTS});
    let column = json!({"name": "text", "shape": [3, 1], "datatype": "BYTES", "data": TEXTS.map(|text| [text])});
    for input in [&input, &column] {
        let reply = parse(&ask(http, &path, &json!({"id": "7", "inputs": [input]})));
        assert_eq!(
            (&reply["model_name"], &reply["model_version"], &reply["id"]),
            (&json!(model), &json!("1"), &json!("7"))
        );
        let output = &reply["outputs"][0];
        assert_eq!((&output["name"], &output["datatype"]), (&json!("embedding"), &json!("FP32")));
        assert_eq!(output["shape"], json!([3, 384]));
        assert_eq!(bits(&output["data"]), whole.concat());
    }
    let outputs = json!([{"name": "embeddings"}, {"name": "token_count"}]);
    let parameters = json!({"embedding_type": "ubinary", "truncate": "END", "input_type": "query"});
    let body = json!({"inputs": [input], "outputs": outputs, "parameters": parameters});
    let reply = parse(&ask(http, &format!("/v2/models/{model}/versions/1/infer"), &body));
    assert_eq!((&reply["outputs"][0]["datatype"], &reply["outputs"][0]["shape"]), (&json!("UINT8"), &json!([3, 48])));
    assert_eq!(reply["outputs"][1]["shape"], json!([3]));
    assert_eq!(reply["outputs"][1]["data"][1], 2, "the empty text has two special tokens");

    // As Triton's client sends it.
    let raw: Vec<u8> =
        TEXTS.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()).collect();
    let input =
        json!({"name": "text", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": raw.len()}});
    let outputs = json!([{"name": "embedding", "parameters": {"binary_data": true}}]);
    let head = json!({"inputs": [input], "outputs": outputs}).to_string();
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let (status, headers, body) = post_bytes(http, &path, &headers, &[head.as_bytes(), &raw].concat());
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let length: usize = headers["inference-header-content-length"].to_str().expect("text").parse().expect("a number");
    let reply: Value = serde_json::from_slice(&body[..length]).expect("JSON");
    assert_eq!(reply["outputs"][0]["parameters"]["binary_data_size"], body.len() - length);
    let found: Vec<u32> = body[length..].as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    assert_eq!(found, whole.concat());

    assert_eq!((get(http, "/v2/health/live").status, get(http, "/v2/health/ready").status), (200, 200));
    assert_eq!(parse(&get(http, "/v2"))["name"], "embedd");
    let metadata = parse(&get(http, &format!("/v2/models/{}", Model::MiniLm.id())));
    assert_eq!((&metadata["name"], &metadata["inputs"][0]["name"]), (&json!(Model::MiniLm.id()), &json!("text")));
    assert_eq!(get(http, &format!("/v2/models/{model}/ready")).status, 200);
}

#[test]
fn errors_of_the_open_inference_protocol_name_the_field() {
    let http = shared(Model::MiniLm).http();
    let path = format!("/v2/models/{}/infer", Model::MiniLm.name());
    let input = |changes: Value| {
        let mut input = json!({"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]});
        changes.as_object().expect("fields").iter().for_each(|(name, value)| input[name] = value.clone());
        json!({"inputs": [input]})
    };
    for (body, part) in [
        (json!({}), "inputs"),
        (json!({"inputs": []}), "inputs is empty"),
        (input(json!({"name": "other"})), "inputs[0].name"),
        (input(json!({"shape": [2]})), "inputs[0].shape"),
        (input(json!({"shape": [-1]})), "inputs[0].shape"),
        (input(json!({"shape": "1"})), "inputs[0].shape is a string"),
        (input(json!({"datatype": "FP32"})), "inputs[0].datatype"),
        (input(json!({"data": "a"})), "inputs[0].data"),
        (input(json!({"data": [1]})), "inputs[0].data[0]"),
        (input(json!({"parameters": {"binary_data_size": 4}})), "inputs[0].parameters.binary_data_size"),
        (input(json!({"parameters": {"shared_memory_region": "r"}})), "shared_memory_region"),
    ] {
        let answer = ask(http, &path, &body);
        let error: Value = serde_json::from_str(&answer.body).expect("JSON");
        let message = error["error"].as_str().expect("a message");
        assert!(answer.status == 400 && message.contains(part), "{body}: {answer:?}");
    }
    for (model, rest) in [("other", ""), (Model::MiniLm.name(), "/versions/2"), ("other", "/ready")] {
        assert_eq!(get(http, &format!("/v2/models/{model}{rest}")).status, 404, "{model}{rest}");
    }
}

#[tokio::test]
async fn a_request_may_have_more_texts_than_a_message() {
    let server = shared(Model::MiniLm);
    let texts: Vec<String> = (0..600).map(|number| format!("{}", number % 3)).collect();
    let reply = parse(&ask(server.http(), "/v1/embeddings", &json!({"input": texts})));
    let expected = expected(server, &["0", "1", "2"], None).await;
    let items = reply["data"].as_array().expect("a list");
    assert_eq!(items.len(), 600);
    for (index, item) in items.iter().enumerate() {
        assert_eq!((&item["index"], bits(&item["embedding"])), (&json!(index), expected[index % 3].clone()));
    }
    let mut bad = vec![json!("a"); 600];
    bad[400] = json!("é".repeat(40_000));
    let answer = ask(server.http(), "/v1/embeddings", &json!({"input": bad}));
    assert!(answer.status == 400 && answer.body.contains("input[400] has 80000 bytes"), "{answer:?}");
    let answer = ask(server.http(), "/v1/embeddings", &json!({"input": vec!["a"; 2049]}));
    assert!(answer.status == 400 && answer.body.contains("send at most 2048 per request"), "{answer:?}");
    let mut ids = vec![json!("a"); 600];
    ids[500] = json!([101, 9_999_999, 102]);
    let answer = ask(server.http(), "/v1/embeddings", &json!({"input": ids}));
    assert!(answer.status == 400 && answer.body.contains("input[500] has the token id 9999999"), "{answer:?}");
}

#[tokio::test]
async fn a_text_of_any_size_is_embedded_if_truncation_is_requested() {
    let server = shared(Model::MiniLm);
    let long = "a text of many words and \u{1f600}, ".repeat(100_000);
    let start = &long[..long.floor_char_boundary(4000)];
    for (truncation, expected) in [("Right", start.to_owned()), ("Left", long[long.len() - 4000..].to_owned())] {
        let body = json!({"inputs": long, "truncate": true, "truncation_direction": truncation});
        let found = parse(&ask(server.http(), "/embed", &body));
        let body = json!({"inputs": expected, "truncate": true, "truncation_direction": truncation});
        assert_eq!(all_bits(&found), all_bits(&parse(&ask(server.http(), "/embed", &body))), "{truncation}");
    }
    let answer = ask(server.http(), "/embed", &json!({"inputs": long}));
    assert!(answer.status == 422 && answer.body.contains("the maximum is 65536"), "{}", answer.status);
    let request = EmbedRequest { texts: vec![long], truncation: 1, ..Default::default() };
    let reply = server.client().await.embed(request).await.expect("an embedding").into_inner();
    assert!(reply.embeddings[0].truncated);
}

#[tokio::test]
async fn bodies_and_replies_may_be_compressed() {
    let server = shared(Model::MiniLm);
    let http = server.http();
    let body = json!({"input": vec!["many texts"; 60]}).to_string();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).expect("memory");
    let compressed = encoder.finish().expect("memory");
    let headers = [JSON[0], ("content-encoding", "gzip"), ("accept-encoding", "gzip")];
    let (status, headers, reply) = post_bytes(http, "/v1/embeddings", &headers, &compressed);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
    assert_eq!(headers["content-encoding"], "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&reply[..]), &mut text).expect("gzip");
    let reply: Value = serde_json::from_str(&text).expect("JSON");
    let expected = &embed(&mut server.client().await, &["many texts"]).await.embeddings[0].values;
    assert_eq!(bits(&reply["data"][59]["embedding"]), expected.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    let plain = post(http, "/v1/embeddings", &[JSON[0], ("accept-encoding", "identity")], &body);
    assert!(!plain.headers.contains_key("content-encoding") && plain.headers["vary"] == "accept-encoding");
}

#[tokio::test]
async fn messages_of_grpc_may_be_compressed_within_bounds() {
    let server = shared(Model::MiniLm);
    let call = async |message: &[u8], encoding: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).expect("memory");
        let compressed = encoder.finish().expect("memory");
        let body = [&[1][..], &(compressed.len() as u32).to_be_bytes(), &compressed].concat();
        let mut request = Request::new(body);
        request.metadata_mut().insert("grpc-encoding", encoding.parse().expect("a value"));
        bare::call_with_body(server, "embedd.v1.EmbeddingService/Embed", request).await
    };
    let texts = |count| EmbedRequest { texts: vec!["many texts".to_owned(); count], ..Default::default() };
    let code = call(&texts(100).encode_to_vec(), "gzip").await.code();
    assert_eq!(code, Code::Ok);
    // Its texts have been read.
    let status = call(&texts(257).encode_to_vec(), "gzip").await;
    assert!(status.code() == Code::InvalidArgument && status.message().contains("has 257 texts"), "{status}");
    let status = call(&vec![0; 50_000_000], "gzip").await;
    assert!(status.code() == Code::InvalidArgument && status.message().contains("decompressed"), "{status}");
    assert_eq!(call(&texts(1).encode_to_vec(), "zstd").await.code(), Code::Unimplemented);
    assert_eq!(call(&texts(1).encode_to_vec(), "identity").await.code(), Code::InvalidArgument);
}

#[test]
fn other_ways_to_write_a_path_are_accepted_and_unknown_ones_get_a_hint() {
    let http = shared(Model::MiniLm).http();
    let body = json!({"input": "a"});
    for path in ["/v1//embeddings", "//v1/embeddings", "/embeddings", "/openai/v1/embeddings", "/v1/embeddings/"] {
        assert_eq!(ask(http, path, &body).status, 200, "{path}");
    }
    let azure = "/openai/deployments/all-MiniLM-L6-v2/embeddings?api-version=2024-10-21";
    assert_eq!(ask(http, azure, &body).status, 200);
    let answer = ask(http, "/v1/embedding", &body);
    assert!(answer.status == 404 && answer.body.contains("/v1/embeddings"), "{answer:?}");
    let answer = ask(http, "/api/embed", &body);
    let error: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("/embed")), "{answer:?}");
}

#[test]
fn metrics_have_the_format_that_the_client_accepts() {
    let http = shared(Model::MiniLm).http();
    let text = get(http, "/metrics");
    assert_eq!(text.content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.body.contains("# TYPE embedd_texts_refused_total counter\n"), "{}", text.body);
    assert!(!text.body.contains("# EOF") && !text.body.contains("# UNIT"));
    let openmetrics = get_with(http, "/metrics", &[("accept", "application/openmetrics-text; version=1.0.0")]);
    assert!(openmetrics.content_type.starts_with("application/openmetrics-text"));
    let names = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&text.body), names(&openmetrics.body));
    Exposition::parse(&openmetrics.body);
}

#[test]
fn the_http_port_has_tls_if_it_is_enabled() {
    let tls = TlsFiles::new();
    let server = Server::launch(Model::Small, &[&tls.flags()[..], &["--http-tls"]].concat());
    server.wait_for_line("the HTTP port serves APIs");
    server.wait_for_line("ready");
    let body = json!({"input": "a"}).to_string();
    let answer = crate::support::http::post_tls(&tls, server.http(), "/v1/embeddings", &JSON, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
}
