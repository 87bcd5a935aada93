//! OpenTelemetry spans of requests, exported by OTLP if a collector is configured.
//!
//! Requests that are not traced cost nothing. Requests never wait for the collector: spans that do not fit the export
//! queue are dropped.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::Context;
pub(crate) use opentelemetry::KeyValue as Attribute;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use http::{Extensions, HeaderMap, Uri};

mod exporter;
mod headers;
mod ratio;
mod sampling;

pub(crate) use exporter::TraceError;
use headers::Headers;
pub(crate) use ratio::Ratio;
pub(crate) use sampling::Sampling;

/// How long shutdown waits for queued spans to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads `traceparent` and `tracestate` (W3C Trace Context).
static PROPAGATOR: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);

/// Exports traces; the default exports nothing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Pipeline>>);

#[derive(Debug)]
struct Pipeline {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// A span, or nothing if the request is not traced. Cheap to clone; ends with [`end`](Self::end), at the latest when
/// the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span(Option<Arc<RecordedSpan>>);

#[derive(Debug)]
struct RecordedSpan {
    tracer: SdkTracer,
    /// Holds the span.
    context: Context,
    clock: Clock,
}

/// A period on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub start: Instant,
    pub duration: Duration,
}

/// Converts monotonic time to wall-clock time. One conversion for all spans of a request keeps them consistent.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    wall: SystemTime,
}

impl Traces {
    /// Starts exporting spans to the collector; must be called within a runtime.
    ///
    /// # Errors
    /// [`TraceError`]. An unreachable collector is not an error.
    pub(crate) fn to(collector: &Uri, sampling: Sampling) -> Result<Self, TraceError> {
        let provider = exporter::provider(collector, sampling)?;
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self(Some(Arc::new(Pipeline { provider, tracer }))))
    }

    /// Whether any call may be traced.
    pub(crate) fn are_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Starts the span of a request with these headers. `name` and `attributes` must not contain text from the request.
    pub(crate) fn begin(
        &self,
        name: impl Into<Cow<'static, str>>,
        headers: &HeaderMap,
        attributes: impl FnOnce() -> Vec<Attribute>,
    ) -> Span {
        let Some(pipeline) = &self.0 else { return Span::default() };
        let parent = PROPAGATOR.extract_with_context(&Context::new(), &Headers(headers));
        let clock = Clock::now();
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes());
        let span = builder.with_start_time(clock.wall).start_with_context(&pipeline.tracer, &parent);
        if !span.is_recording() {
            return Span::default();
        }
        let tracer = pipeline.tracer.clone();
        Span(Some(Arc::new(RecordedSpan { tracer, context: parent.with_span(span), clock })))
    }

    /// Sends the queued spans, unless the collector takes too long.
    pub(crate) async fn end(self) {
        let Some(pipeline) = self.0 else { return };
        let provider = pipeline.provider.clone();
        let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        // The exporter logs failures.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, sent).await;
    }
}

impl Span {
    /// The span of the request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Stores the span in a request's extensions, for its handler.
    pub(crate) fn enter(&self, extensions: &mut Extensions) {
        if self.is_recorded() {
            extensions.insert(self.clone());
        }
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a child span that has already ended.
    pub(crate) fn child(&self, name: &'static str, interval: Interval, attributes: Vec<Attribute>) -> Self {
        let Some(RecordedSpan { tracer, context, clock }) = self.0.as_deref() else { return Self::default() };
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_attributes(attributes);
        let mut span = builder.with_start_time(clock.wall_time(interval.start)).start_with_context(tracer, context);
        span.end_with_timestamp(clock.wall_time(interval.start + interval.duration));
        let context = context.with_span(span);
        Self(Some(Arc::new(RecordedSpan { tracer: tracer.clone(), context, clock: *clock })))
    }

    /// Ends the span now; `failed` marks an error of the server.
    pub(crate) fn end(&self, attributes: impl IntoIterator<Item = Attribute>, failed: bool) {
        let Some(RecordedSpan { context, clock, .. }) = self.0.as_deref() else { return };
        let span = context.span();
        span.set_attributes(attributes);
        if failed {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(clock.wall_time(Instant::now()));
    }
}

impl Interval {
    /// From `start` until now.
    pub(crate) fn since(start: Instant) -> Self {
        Self { start, duration: start.elapsed() }
    }
}

impl Clock {
    fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }

    fn wall_time(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.wall + later,
            None => self.wall - self.instant.duration_since(instant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recorded_without_a_collector() {
        let mut attributes_computed = false;
        let span = Traces::default().begin("a call", &HeaderMap::new(), || {
            attributes_computed = true;
            Vec::new()
        });
        let child = span.child("a stage", Interval::since(Instant::now()), Vec::new());
        let mut extensions = Extensions::new();
        span.enter(&mut extensions);
        span.end([], true);
        assert!(!span.is_recorded() && !child.is_recorded() && extensions.is_empty() && !attributes_computed);
    }

    #[test]
    fn times_before_and_after_the_start_are_converted_to_wall_time() {
        let clock = Clock::now();
        let second = Duration::from_secs(1);
        let before = clock.instant.checked_sub(second).expect("the machine has been up for a second");
        assert_eq!(clock.wall_time(clock.instant), clock.wall);
        assert_eq!(clock.wall_time(clock.instant + second), clock.wall + second);
        assert_eq!(clock.wall_time(before), clock.wall - second);
    }
}
