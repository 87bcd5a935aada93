//! What a load test does.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use embedd_proto::{Encoding, GetModelResponse};

/// HTTP/2 connections where the user does not say: more make neither side faster.
const MOST_CONNECTIONS: usize = 8;

/// What a load test does, checked as far as it can be without the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The server's address, as errors and results name it.
    pub server: String,
    /// One behind the other.
    pub steps: Vec<Step>,
    /// What is measured of each step.
    pub duration: Duration,
    /// What passes before that.
    pub warm_up: Duration,
    /// HTTP/2 connections, shared by the callers; none: one a caller, eight at most.
    pub connections: Option<NonZeroUsize>,
    /// Where texts come from.
    pub source: Source,
    /// Texts of a request.
    pub texts_per_request: NonZeroUsize,
    /// Have the server compute what its cache has.
    pub skip_cache: bool,
    /// What the server is told of the caller's patience.
    pub deadline: Option<Duration>,
    /// How vectors are written in replies.
    pub encoding: Encoding,
    /// Compare every embedding with one made alone, before.
    pub verify: bool,
    /// The same seed gives the same texts and arrivals.
    pub seed: u64,
}

/// A load that is kept up for a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Step {
    /// So many callers, each sending when its last reply has come.
    Closed {
        /// How many.
        concurrency: usize,
    },
    /// Requests come when they come, whether or not earlier ones are answered.
    Open {
        /// Requests a second.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
        /// Requests without a reply at one time; those beyond are not sent, and counted.
        max_in_flight: usize,
    },
}

impl Step {
    /// Callers, or requests a second.
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
    /// As from many callers that know nothing of each other.
    #[default]
    Poisson,
    /// At equal distances.
    Constant,
}

/// Where texts come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// These, drawn at random.
    Given(Vec<String>),
    /// Made of common words, of exactly so many tokens.
    Generated {
        /// Tokens of a text, special tokens included.
        lengths: Lengths,
        /// Draw from so many texts; none: every text is another one.
        distinct: Option<NonZeroUsize>,
    },
}

/// Tokens of a text: evenly between two numbers, both among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// The least.
    pub least: u32,
    /// The greatest.
    pub most: u32,
}

/// Text that names no lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected tokens of a text, such as `11`, or a range, such as `8-128`")]
pub struct InvalidLengths;

impl FromStr for Lengths {
    type Err = InvalidLengths;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|tokens| *tokens > 0).ok_or(InvalidLengths);
        let lengths = Self { least: number(least)?, most: number(most)? };
        if lengths.least <= lengths.most { Ok(lengths) } else { Err(InvalidLengths) }
    }
}

/// Why a plan does not fit the server that it met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitPlan {
    /// Texts would be truncated.
    #[error("--tokens {asked}: the model of this server takes at most {most} tokens")]
    TooLong {
        /// Of the plan.
        asked: u32,
        /// Of the model.
        most: u32,
    },
    /// Every request would be refused.
    #[error("--texts-per-request {asked}: this server takes at most {most}")]
    TooMany {
        /// Of the plan.
        asked: usize,
        /// Of the server.
        most: u32,
    },
}

impl Plan {
    /// HTTP/2 connections of a step.
    pub fn connections_of(&self, step: &Step) -> usize {
        let callers = match step {
            Step::Closed { concurrency } => *concurrency,
            Step::Open { max_in_flight, .. } => *max_in_flight,
        };
        self.connections.map_or(MOST_CONNECTIONS, NonZeroUsize::get).min(callers).max(1)
    }

    /// The most that any step needs.
    pub fn most_connections(&self) -> usize {
        self.steps.iter().map(|step| self.connections_of(step)).max().unwrap_or(1)
    }

    /// Checks what only the server knows.
    ///
    /// # Errors
    /// [`UnfitPlan`].
    pub fn check(&self, model: &GetModelResponse) -> Result<(), UnfitPlan> {
        if let Source::Generated { lengths, .. } = &self.source
            && lengths.most > model.max_tokens
        {
            return Err(UnfitPlan::TooLong { asked: lengths.most, most: model.max_tokens });
        }
        let most = model.limits.as_ref().map_or(u32::MAX, |limits| limits.max_texts);
        let asked = self.texts_per_request.get();
        if asked > most as usize { Err(UnfitPlan::TooMany { asked, most }) } else { Ok(()) }
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
            source: Source::Generated { lengths: Lengths { least: 8, most: 128 }, distinct: None },
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
        assert_eq!("11".parse(), Ok(Lengths { least: 11, most: 11 }));
        assert_eq!("8-128".parse(), Ok(Lengths { least: 8, most: 128 }));
        for wrong in ["", "0", "9-8", "a", "1-", "-1", "1-2-3"] {
            assert_eq!(wrong.parse::<Lengths>(), Err(InvalidLengths), "{wrong}");
        }
    }

    #[test]
    fn there_are_no_more_connections_than_callers() {
        let of = |connections, step: usize| {
            let plan = plan(connections);
            plan.connections_of(&plan.steps[step])
        };
        assert_eq!((of(None, 0), of(None, 1)), (2, 8));
        assert_eq!((of(Some(1), 1), of(Some(16), 1), of(Some(16), 0)), (1, 16, 2));
        assert_eq!(plan(None).most_connections(), 8);
    }

    #[test]
    fn a_plan_beyond_the_server_is_refused() {
        let limits = embedd_proto::Limits { max_texts: 1, ..Default::default() };
        let model = |max_tokens| GetModelResponse { max_tokens, limits: Some(limits), ..Default::default() };
        assert_eq!(plan(None).check(&model(128)), Ok(()));
        assert_eq!(plan(None).check(&model(127)), Err(UnfitPlan::TooLong { asked: 128, most: 127 }));
        let two = Plan { texts_per_request: NonZeroUsize::new(2).expect("two"), ..plan(None) };
        assert_eq!(two.check(&model(128)), Err(UnfitPlan::TooMany { asked: 2, most: 1 }));
    }
}
