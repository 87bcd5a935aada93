//! Which requests are traced.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use super::Ratio;

/// Requests that their callers do not trace are never traced. Spans within a request are traced with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampling {
    /// The fraction of the other requests that are traced.
    pub ratio: Ratio,
    /// Whether requests that their callers trace are always traced.
    pub follow_callers: bool,
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let ratio = self.ratio.get();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let mut result = sampler.should_sample(parent, trace_id, name, kind, attributes, links);
        let is_callers = parent.is_some_and(|parent| parent.span().span_context().is_remote());
        // A random number, not the trace id: callers choose that.
        if is_callers && !self.follow_callers && fastrand::f64() >= ratio {
            result.decision = SamplingDecision::Drop;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};

    use super::*;

    /// Of 1000 requests with this trace context, those that are traced.
    fn traced(ratio: &str, follow_callers: bool, parent: Option<(TraceFlags, bool)>) -> usize {
        let sampling = Sampling { ratio: ratio.parse().expect("a ratio"), follow_callers };
        let parent = parent.map(|(flags, is_remote)| {
            let (trace, span) = (TraceId::from(1), SpanId::from(1));
            let context = SpanContext::new(trace, span, flags, is_remote, TraceState::default());
            Context::new().with_remote_span_context(context)
        });
        let results = (0..1000_u128).map(|number| {
            let id = TraceId::from(number << 64 | number << 54);
            sampling.should_sample(parent.as_ref(), id, "", &SpanKind::Server, &[], &[]).decision
        });
        results.filter(|decision| *decision == SamplingDecision::RecordAndSample).count()
    }

    #[test]
    fn callers_cannot_raise_the_fraction_of_traced_requests() {
        let sampled = Some((TraceFlags::SAMPLED, true));
        assert_eq!((traced("0", false, sampled), traced("0", true, sampled)), (0, 1000));
        assert_eq!((traced("1", false, sampled), traced("1", true, sampled)), (1000, 1000));
        assert!((1..500).contains(&traced("0.1", false, sampled)));
    }

    #[test]
    fn requests_that_their_callers_do_not_trace_are_not_traced() {
        let unsampled = Some((TraceFlags::NOT_SAMPLED, true));
        assert_eq!((traced("1", false, unsampled), traced("1", true, unsampled)), (0, 0));
    }

    #[test]
    fn spans_within_a_request_are_traced_with_it() {
        assert_eq!(traced("0", false, Some((TraceFlags::SAMPLED, false))), 1000);
        assert_eq!(traced("1", false, Some((TraceFlags::NOT_SAMPLED, false))), 0);
    }

    #[test]
    fn other_requests_are_traced_by_the_ratio() {
        assert_eq!((traced("0", true, None), traced("1", false, None)), (0, 1000));
    }
}
