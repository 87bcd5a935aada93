//! A call from its request to its end, which is told once: to the statistics, in the log and in a trace.

use tonic::Code;
use tonic::codegen::http::HeaderMap;

use crate::grpc::status;
use crate::stats::{Call, Method};
use crate::trace::{Attribute, Span, Traces};
use embedd_proto::codes::{self, code_name};
use embedd_proto::request_id::RequestId;

/// Dropped before its end is told, the call was given up.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// There until the end.
    call: Option<Call>,
    id: RequestId,
    span: Span,
}

impl UnderWay {
    pub(super) fn begin(call: Call, id: RequestId, span: Span) -> Self {
        Self { call: Some(call), id, span }
    }

    /// Tells the caller the request's id; `code`: what these headers or trailers say of the call's end.
    pub(super) fn name(&self, headers: &mut HeaderMap, code: Option<Code>) {
        self.id.tell(headers);
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

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            self.end_with(call.why_dropped());
        }
    }
}

/// The span of a call; health checks have none. Names and attributes are those of OpenTelemetry's conventions.
pub(super) fn begin_span(traces: &Traces, method: Method, id: &RequestId, headers: &HeaderMap) -> Span {
    if matches!(method, Method::HealthCheck | Method::HealthWatch) {
        return Span::default();
    }
    traces.begin(method.name(), headers, || {
        let (system, id) =
            (Attribute::new("rpc.system", "grpc"), Attribute::new("embedd.request_id", id.as_str().to_owned()));
        let known = method.name().split_once('/');
        let names = known.map(|(service, name)| [("rpc.service", service), ("rpc.method", name)]);
        let names = names.into_iter().flatten().map(|(key, name)| Attribute::new(key, name));
        names.chain([system, id]).collect()
    })
}

/// No message of a status: it may quote what the caller sent.
fn log(call: &Call, code: codes::Code, id: &RequestId) {
    let (method, name) = (call.method().name(), code_name(code));
    // What is not logged is not measured either.
    if is_fault(code) {
        tracing::warn!(method, code = name, took = ?call.elapsed(), request_id = id.as_str(), "call failed");
    } else {
        tracing::debug!(method, code = name, took = ?call.elapsed(), request_id = id.as_str(), "call");
    }
}

/// Whether OpenTelemetry's conventions take the code for an error of a server.
fn is_error(code: codes::Code) -> bool {
    let others = [Code::DeadlineExceeded, Code::Unimplemented, Code::Unavailable];
    is_fault(code) || others.into_iter().any(|error| code == codes::Code::from(error))
}

/// Whether it is the server that failed, as far as the code tells: a message that cannot be decoded is INTERNAL, too.
fn is_fault(code: codes::Code) -> bool {
    [Code::Unknown, Code::Internal, Code::DataLoss].into_iter().any(|fault| code == codes::Code::from(fault))
}
