//! Plain HTTP, as probes and Prometheus speak it.

use std::net::SocketAddr;

use ureq::RequestBuilder;
use ureq::typestate::WithoutBody;

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) request_id: String,
    pub(crate) body: String,
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    answer(ureq::get(format!("http://{address}{path}")))
}

/// A request whose caller has given it an id.
pub(crate) fn get_as(address: SocketAddr, path: &str, request_id: &str) -> Answer {
    answer(ureq::get(format!("http://{address}{path}")).header("x-request-id", request_id))
}

fn answer(request: RequestBuilder<WithoutBody>) -> Answer {
    let request = request.config().http_status_as_error(false).build();
    let mut response = request.call().expect("an answer");
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let (content_type, request_id) = (header("content-type"), header("x-request-id"));
    let body = response.body_mut().read_to_string().expect("text");
    Answer {
        status: response.status().as_u16(),
        content_type: content_type.unwrap_or_default(),
        request_id: request_id.unwrap_or_default(),
        body,
    }
}
