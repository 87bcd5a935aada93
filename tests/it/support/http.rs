//! Plain HTTP, as used by probes, Prometheus and clients of OpenAI's API.

use std::net::SocketAddr;
use std::sync::Arc;

use ureq::http::{HeaderMap, Response};
use ureq::{Body, Error};

use super::tls::TlsFiles;

/// A response of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    fn read(answered: Result<Response<Body>, Error>) -> Self {
        let mut response = answered.expect("an answer");
        let headers = response.headers().clone();
        let content_type = headers.get("content-type").map(|value| value.to_str().expect("text").to_owned());
        let body = response.body_mut().with_config().limit(64 << 20).read_to_string().expect("text");
        Self { status: response.status().as_u16(), content_type: content_type.unwrap_or_default(), headers, body }
    }

    /// The id that the server gave the request.
    pub(crate) fn request_id(&self) -> &str {
        self.headers.get("x-request-id").and_then(|id| id.to_str().ok()).expect("an id")
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    get_with(address, path, &[])
}

pub(crate) fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = ureq::get(format!("http://{address}{path}")).config().http_status_as_error(false).build();
    Answer::read(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).call())
}

/// Uses its own connection.
pub(crate) fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let request = ureq::post(format!("http://{address}{path}")).config().http_status_as_error(false).build();
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::read(request.send(body))
}

/// The status, the headers and the body of an answer that need not be text, as it was sent: nothing is decompressed.
pub(crate) fn post_bytes(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, HeaderMap, Vec<u8>) {
    let request = ureq::post(format!("http://{address}{path}")).config().http_status_as_error(false).build();
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let mut response = request.send(body).expect("an answer");
    let headers = response.headers().clone();
    let body = response.body_mut().with_config().limit(64 << 20).read_to_vec().expect("a body");
    (response.status().as_u16(), headers, body)
}

/// The same with TLS, by the name that the server's certificate is for.
pub(crate) fn post_tls(
    tls: &TlsFiles,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let root = ureq::tls::Certificate::from_pem(tls.servers.pem().as_bytes()).expect("a certificate");
    let config = ureq::tls::TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
        .build();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().tls_config(config).http_status_as_error(false).build().into();
    let request = agent.post(format!("https://localhost:{}{path}", address.port()));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::read(request.send(body))
}
