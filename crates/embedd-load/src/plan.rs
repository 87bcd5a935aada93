//! The plan of a load test.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use embedd_proto::{Encoding, GetModelResponse};

/// The default maximum number of HTTP/2 connections. More connections make neither side faster.
const MAX_CONNECTIONS: usize = 8;

/// The parameters of a load test. The limits of the server are checked when the test starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The server's address, for errors and results.
    pub server: String,
    /// Run one after another.
    pub steps: Vec<Step>,
    /// The measured time of each step.
    pub duration: Duration,
    /// The time before the measurement of each step.
    pub warm_up: Duration,
    /// HTTP/2 connections, shared by the callers. The default is one per caller, up to eight.
    pub connections: Option<NonZeroUsize>,
    /// Where texts come from.
    pub source: Source,
    /// Texts per request.
    pub texts_per_request: NonZeroUsize,
    /// Whether the server bypasses its cache.
    pub skip_cache: bool,
    /// The deadline of each request.
    pub deadline: Option<Duration>,
    /// The encoding of vectors in replies.
    pub encoding: Encoding,
    /// Whether each embedding is compared with one computed alone, before the test.
    pub verify: bool,
    /// The same seed gives the same texts and arrivals.
    pub seed: u64,
}

/// A constant load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Step {
    /// A fixed number of callers, each of which sends its next request after the reply to the last one.
    Closed {
        /// The number of callers.
        concurrency: usize,
    },
    /// Requests arrive independently of replies.
    Open {
        /// Requests per second.
        rate: f64,
        /// How requests are spread over time.
        arrivals: Arrivals,
        /// The maximum number of requests in flight. Further requests are counted but not sent.
        max_in_flight: usize,
    },
}

impl Step {
    /// The number of callers, or requests per second.
    pub fn load(&self) -> f64 {
        match self {
            Self::Closed { concurrency } => *concurrency as f64,
            Self::Open { rate, .. } => *rate,
        }
    }
}

/// How the requests of an open loop are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Like requests from many independent callers.
    #[default]
    Poisson,
    /// At equal intervals.
    Constant,
}

/// Where texts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Drawn at random from these.
    Given(Vec<String>),
    /// Generated from common words, with an exact number of tokens.
    Generated {
        /// Tokens per text, including special tokens.
        lengths: Lengths,
        /// The number of texts to draw from. If `None`, every text is different.
        distinct: Option<NonZeroUsize>,
    },
}

/// A range of tokens per text, uniformly distributed. Includes both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// The minimum.
    #[serde(rename = "least")]
    pub min: u32,
    /// The maximum.
    #[serde(rename = "most")]
    pub max: u32,
}

/// The text is not a valid range of lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of tokens, such as `11`, or a range, such as `8-128`")]
pub struct InvalidLengths;

impl FromStr for Lengths {
    type Err = InvalidLengths;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|tokens| *tokens > 0).ok_or(InvalidLengths);
        let lengths = Self { min: number(min)?, max: number(max)? };
        if lengths.min <= lengths.max { Ok(lengths) } else { Err(InvalidLengths) }
    }
}

/// Why a plan does not fit the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Texts would be truncated.
    #[error("--tokens {requested}: the server's model accepts at most {max} tokens per text")]
    TooLong {
        /// Tokens per text in the plan.
        requested: u32,
        /// The model's maximum.
        max: u32,
    },
    /// Every request would be rejected.
    #[error("--texts-per-request {requested}: the server accepts at most {max}")]
    TooMany {
        /// Texts per request in the plan.
        requested: usize,
        /// The server's maximum.
        max: u32,
    },
}

impl Plan {
    /// The number of HTTP/2 connections that a step uses.
    pub(crate) fn connections_of(&self, step: &Step) -> usize {
        let callers = match step {
            Step::Closed { concurrency } => *concurrency,
            Step::Open { max_in_flight, .. } => *max_in_flight,
        };
        self.connections.map_or(MAX_CONNECTIONS, NonZeroUsize::get).min(callers).max(1)
    }

    /// The maximum over all steps.
    pub(crate) fn max_connections(&self) -> usize {
        self.steps.iter().map(|step| self.connections_of(step)).max().unwrap_or(1)
    }

    /// Checks the plan against the server's limits.
    pub(crate) fn check(&self, model: &GetModelResponse) -> Result<(), PlanError> {
        if let Source::Generated { lengths, .. } = &self.source
            && lengths.max > model.max_tokens
        {
            return Err(PlanError::TooLong { requested: lengths.max, max: model.max_tokens });
        }
        let max = model.limits.as_ref().map_or(u32::MAX, |limits| limits.max_texts);
        let requested = self.texts_per_request.get();
        if requested > max as usize { Err(PlanError::TooMany { requested, max }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: Option<usize>) -> Plan {
        Plan {
            server: "127.0.0.1:50051".to_owned(),
            steps: vec![Step::Closed { concurrency: 2 }, Step::Closed { concurrency: 64 }],
            duration: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            connections: connections.and_then(NonZeroUsize::new),
            source: Source::Generated { lengths: Lengths { min: 8, max: 128 }, distinct: None },
            texts_per_request: NonZeroUsize::MIN,
            skip_cache: true,
            deadline: None,
            encoding: Encoding::Float,
            verify: false,
            seed: 0,
        }
    }

    #[test]
    fn lengths_are_a_number_or_a_range() {
        assert_eq!("11".parse(), Ok(Lengths { min: 11, max: 11 }));
        assert_eq!("8-128".parse(), Ok(Lengths { min: 8, max: 128 }));
        for wrong in ["", "0", "9-8", "a", "1-", "-1", "1-2-3"] {
            assert_eq!(wrong.parse::<Lengths>(), Err(InvalidLengths), "{wrong}");
        }
    }

    #[test]
    fn there_are_at_most_as_many_connections_as_callers() {
        let of = |connections, step: usize| {
            let plan = plan(connections);
            plan.connections_of(&plan.steps[step])
        };
        assert_eq!((of(None, 0), of(None, 1)), (2, 8));
        assert_eq!((of(Some(1), 1), of(Some(16), 1), of(Some(16), 0)), (1, 16, 2));
        assert_eq!(plan(None).max_connections(), 8);
    }

    #[test]
    fn a_plan_beyond_the_server_s_limits_is_rejected() {
        let limits = embedd_proto::Limits { max_texts: 1, ..Default::default() };
        let model = |max_tokens| GetModelResponse { max_tokens, limits: Some(limits), ..Default::default() };
        assert_eq!(plan(None).check(&model(128)), Ok(()));
        assert_eq!(plan(None).check(&model(127)), Err(PlanError::TooLong { requested: 128, max: 127 }));
        let two = Plan { texts_per_request: NonZeroUsize::new(2).expect("two"), ..plan(None) };
        assert_eq!(two.check(&model(128)), Err(PlanError::TooMany { requested: 2, max: 1 }));
    }
}
