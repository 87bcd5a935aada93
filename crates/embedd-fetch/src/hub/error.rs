//! What the hub can answer that is no file.

/// The hub did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The endpoint is no address.
    #[error(
        "the hub's address `{endpoint}` cannot be used: {reason}; set HF_ENDPOINT to something like `https://host`"
    )]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error(
        "the hub at {endpoint} cannot be reached: {reason}; check the network and the proxy, or set HF_ENDPOINT to a mirror"
    )]
    Unreachable {
        /// As configured.
        endpoint: String,
        /// What the network said.
        reason: String,
    },
    /// 401 or 403.
    #[error(
        "the hub does not give `{model}` to {} (status {status}): it is gated, private, or does not exist; check its name, \
         accept its terms on its page, and set HF_TOKEN to a token that may read it",
        if *token_sent { "the owner of this HF_TOKEN" } else { "everybody" }
    )]
    Refused {
        /// The model.
        model: String,
        /// The HTTP status.
        status: u16,
        /// Whether a token was sent along.
        token_sent: bool,
    },
    /// 404 on the first file, or on the whole repository.
    #[error("the hub has no `{file}` of `{model}` at revision `{revision}`: {reason}")]
    NotFound {
        /// The model.
        model: String,
        /// The branch, tag or commit.
        revision: String,
        /// The file.
        file: String,
        /// What the hub said, and what to do.
        reason: &'static str,
    },
    /// The model has its weights in another format.
    #[error(
        "`{model}` has no `model.safetensors`: weights are read from that one file only; convert its weights with \
         sentence-transformers (`save(..., safe_serialization=True)`) and give the folder by path"
    )]
    NoSafetensors {
        /// The model.
        model: String,
    },
    /// Any other status.
    #[error("the hub answered `{file}` of `{model}` with status {status}; try again later")]
    Status {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer ended early.
    #[error(
        "the connection broke after {received} bytes of `{file}`: {reason}; what has come is kept, so fetch again to go on"
    )]
    Cut {
        /// The file.
        file: String,
        /// How much of it is here.
        received: u64,
        /// What the network said.
        reason: String,
    },
    /// An answer that cannot be followed.
    #[error("the hub answered `{file}` in a way that cannot be followed: {reason}")]
    Answer {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl HubError {
    /// Whether the same request may succeed in a moment. A hub that was never reached is not asked again: whoever waits
    /// has another origin to try, or a network to repair.
    pub(super) fn is_transient(&self, reached_before: bool) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Cut { .. } => true,
            Self::Unreachable { .. } => reached_before,
            _ => false,
        }
    }
}
