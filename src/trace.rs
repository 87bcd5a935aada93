//! Spans of requests, sent by OTLP where a collector is named: what began when, and what it was part of.
//!
//! Nothing is recorded, and nothing costs, where none is named or the request is not to be traced. A request never waits for
//! the collector: what does not fit in the queue before it is dropped.

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

pub(crate) use exporter::TraceError;
use headers::Headers;
pub(crate) use ratio::Ratio;

/// For what waits at the end of the process.
const END: Duration = Duration::from_secs(2);

/// W3C's `traceparent` and `tracestate`.
static PROPAGATOR: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);

/// Where traces go; by default nowhere. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Sending>>);

#[derive(Debug)]
struct Sending {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Something that takes time, or nothing where it is not recorded. Cheap to clone; ended when the last clone is gone, or
/// before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span(Option<Arc<Recording>>);

#[derive(Debug)]
struct Recording {
    tracer: SdkTracer,
    /// Holds the span.
    context: Context,
    clock: Clock,
}

/// A time on the clock that intervals are measured by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    /// When it began.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What the clock of intervals and that of the world show at one moment, so that all times of a request fit together.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    wall: SystemTime,
}

impl Traces {
    /// Sends spans to the collector from now on; needs a runtime. Of the requests that come without a trace context, this
    /// part is traced; of the others those whose callers trace them.
    ///
    /// # Errors
    /// [`TraceError`]. A collector that is not there is none.
    pub(crate) fn to(collector: &Uri, ratio: Ratio) -> Result<Self, TraceError> {
        let provider = exporter::provider(collector, ratio)?;
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self(Some(Arc::new(Sending { provider, tracer }))))
    }

    /// A request begins that has these headers. `name` and `attributes` hold no text of it.
    pub(crate) fn begin(
        &self,
        name: &'static str,
        headers: &HeaderMap,
        attributes: impl FnOnce() -> Vec<Attribute>,
    ) -> Span {
        let Some(sending) = &self.0 else { return Span::default() };
        let (parent, clock) = (PROPAGATOR.extract_with_context(&Context::new(), &Headers(headers)), Clock::now());
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes());
        let span = builder.with_start_time(clock.wall).start_with_context(&sending.tracer, &parent);
        if !span.is_recording() {
            return Span::default();
        }
        Span(Some(Arc::new(Recording { tracer: sending.tracer.clone(), context: parent.with_span(span), clock })))
    }

    /// Sends what waits, as far as the collector takes it soon.
    pub(crate) async fn end(self) {
        let Some(sending) = self.0 else { return };
        let provider = sending.provider.clone();
        let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(END));
        // What failed has been told by the exporter.
        let _ = tokio::time::timeout(END, sent).await;
    }
}

impl Span {
    /// That of the request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Lets the request's handler find it.
    pub(crate) fn enter(&self, extensions: &mut Extensions) {
        if self.is_recorded() {
            extensions.insert(self.clone());
        }
    }

    /// Whether anything comes of it.
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// A part of it that is over.
    pub(crate) fn child(&self, name: &'static str, interval: Interval, attributes: Vec<Attribute>) -> Self {
        let Some(Recording { tracer, context, clock }) = self.0.as_deref() else { return Self::default() };
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_attributes(attributes);
        let mut span = builder.with_start_time(clock.at(interval.begun)).start_with_context(tracer, context);
        span.end_with_timestamp(clock.at(interval.begun + interval.took));
        let context = context.with_span(span);
        Self(Some(Arc::new(Recording { tracer: tracer.clone(), context, clock: *clock })))
    }

    /// It ends now; `failed`: by the server's fault.
    pub(crate) fn end(&self, attributes: impl IntoIterator<Item = Attribute>, failed: bool) {
        let Some(Recording { context, clock, .. }) = self.0.as_deref() else { return };
        let span = context.span();
        span.set_attributes(attributes);
        if failed {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(clock.at(Instant::now()));
    }
}

impl Interval {
    /// Up to now.
    pub(crate) fn since(begun: Instant) -> Self {
        Self { begun, took: begun.elapsed() }
    }
}

impl Clock {
    fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }

    fn at(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.wall + after,
            None => self.wall - self.instant.duration_since(instant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_sent_nothing_is_recorded() {
        let mut attributes_asked_for = false;
        let span = Traces::default().begin("a call", &HeaderMap::new(), || {
            attributes_asked_for = true;
            Vec::new()
        });
        let child = span.child("a stage", Interval::since(Instant::now()), Vec::new());
        let mut extensions = Extensions::new();
        span.enter(&mut extensions);
        span.end([], true);
        assert!(!span.is_recorded() && !child.is_recorded() && extensions.is_empty() && !attributes_asked_for);
    }

    #[test]
    fn times_before_and_after_the_beginning_are_as_far_from_it_on_both_clocks() {
        let (clock, second) = (Clock::now(), Duration::from_secs(1));
        assert_eq!(clock.at(clock.instant), clock.wall);
        assert_eq!(clock.at(clock.instant + second), clock.wall + second);
        assert_eq!(clock.at(clock.instant.checked_sub(second).expect("after the boot")), clock.wall - second);
    }
}
