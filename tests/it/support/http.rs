//! Plain HTTP, as probes and Prometheus speak it.

use std::net::SocketAddr;

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let request = ureq::get(format!("http://{address}{path}")).config().http_status_as_error(false).build();
    let mut response = request.call().expect("an answer");
    let content_type = response.headers().get("content-type").map(|value| value.to_str().expect("text").to_owned());
    let body = response.body_mut().read_to_string().expect("text");
    Answer { status: response.status().as_u16(), content_type: content_type.unwrap_or_default(), body }
}
