//! A call in flight. Its end is reported exactly once: to the statistics, the log and the trace.

use tonic::Code;
use tonic::codegen::http::HeaderMap;

use crate::grpc::status;
use crate::stats::{Call, Method};
use crate::trace::{Attribute, Span, Traces};
use embedd_proto::codes::{self, code_name};
use embedd_proto::request_id::RequestId;

/// If it is dropped before [`end`](Self::end), the call was abandoned.
#[derive(Debug)]
pub(super) struct InFlightCall {
    /// `None` once the call has ended.
    call: Option<Call>,
    id: RequestId,
    span: Span,
}

impl InFlightCall {
    pub(super) fn begin(call: Call, id: RequestId, span: Span) -> Self {
        Self { call: Some(call), id, span }
    }

    /// Adds the request id to headers or trailers, which have this status code. Errors get it in their details, too.
    pub(super) fn add_request_id(&self, headers: &mut HeaderMap, code: Option<Code>) {
        self.id.insert_into(headers);
        if code.is_some_and(|code| code != Code::Ok) {
            status::add_request_info(headers, &self.id);
        }
    }

    pub(super) fn end(&mut self, code: Code) {
        self.end_with(code.into());
    }

    pub(super) fn has_ended(&self) -> bool {
        self.call.is_none()
    }

    fn end_with(&mut self, code: codes::Code) {
        if let Some(call) = self.call.take() {
            log(&call, code, &self.id);
            self.span.end([Attribute::new("rpc.grpc.status_code", i64::from(code))], is_error(code));
            call.end(code);
        }
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            self.end_with(call.why_dropped());
        }
    }
}

/// The span of a call; health checks have none. Names and attributes follow OpenTelemetry's semantic conventions.
pub(super) fn begin_span(traces: &Traces, method: Method, id: &RequestId, headers: &HeaderMap) -> Span {
    if matches!(method, Method::HealthCheck | Method::HealthWatch) {
        return Span::default();
    }
    traces.begin(method.name(), headers, || {
        let system = Attribute::new("rpc.system", "grpc");
        let id = Attribute::new("embedd.request_id", id.as_str().to_owned());
        let known = method.name().split_once('/');
        let names = known.map(|(service, name)| [("rpc.service", service), ("rpc.method", name)]);
        let names = names.into_iter().flatten().map(|(key, name)| Attribute::new(key, name));
        names.chain([system, id]).collect()
    })
}

/// Does not log the status message: it may quote what the caller sent.
fn log(call: &Call, code: codes::Code, id: &RequestId) {
    let method = call.method().name();
    let name = code_name(code);
    // The time is read only if the line is logged.
    if is_fault(code) {
        tracing::warn!(method, code = name, took = ?call.elapsed(), request_id = id.as_str(), "call failed");
    } else {
        tracing::debug!(method, code = name, took = ?call.elapsed(), request_id = id.as_str(), "call");
    }
}

/// Whether OpenTelemetry's conventions count the code as a server error.
fn is_error(code: codes::Code) -> bool {
    let others = [Code::DeadlineExceeded, Code::Unimplemented, Code::Unavailable];
    is_fault(code) || others.into_iter().any(|error| code == codes::Code::from(error))
}

/// Whether the code indicates a fault of the server.
fn is_fault(code: codes::Code) -> bool {
    [Code::Unknown, Code::Internal, Code::DataLoss].into_iter().any(|fault| code == codes::Code::from(fault))
}
