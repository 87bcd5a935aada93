use crate::layout::VOCABULARIES;

/// A request to the hub failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The endpoint is not a valid URL.
    #[error("the hub endpoint `{endpoint}` is invalid: {reason}; set HF_ENDPOINT to a URL such as `https://host`")]
    Endpoint {
        /// The configured endpoint.
        endpoint: String,
        /// The reason.
        reason: String,
    },
    /// The connection failed.
    #[error(
        "cannot reach the hub at {endpoint}: {reason}; check the network and the proxy, or set HF_ENDPOINT to a mirror"
    )]
    Unreachable {
        /// The configured endpoint.
        endpoint: String,
        /// The network error.
        reason: String,
    },
    /// 401 or 403.
    #[error(
        "the hub denied access to `{model}` {} (status {status}): it is gated or private, or does not exist, or the token has \
         expired; check its name, accept its terms on its page, and run `hf auth login` or set HF_TOKEN to a token with read \
         access",
        token.as_ref().map_or("without a token".to_owned(), |from| format!("with the token in {from}"))
    )]
    Refused {
        /// The model.
        model: String,
        /// The HTTP status.
        status: u16,
        /// The variable or the file of the token that was sent.
        token: Option<String>,
    },
    /// The token cannot be sent in a header.
    #[error(
        "the access token in {from} contains characters other than visible ASCII; run `hf auth login` again, or set HF_TOKEN"
    )]
    Token {
        /// The variable or the file of the token.
        from: String,
    },
    /// 404 for a file or the whole repository.
    #[error("`{file}` of `{model}` at revision `{revision}` not found on the hub: {reason}")]
    NotFound {
        /// The model.
        model: String,
        /// The branch, tag or commit.
        revision: String,
        /// The file.
        file: String,
        /// What is missing, and what to do.
        reason: &'static str,
    },
    /// The model's weights are missing, or in another format.
    #[error(
        "`{model}` has none of the files that can hold the weights ({}); save the model in sentence-transformers and give \
         the path of the folder",
        files.join(", ")
    )]
    NoWeights {
        /// The model.
        model: String,
        /// The files that were looked for.
        files: Vec<String>,
    },
    /// The model has no tokenizer, or one in another format.
    #[error(
        "`{model}` has neither tokenizer.json nor a vocabulary ({}); save the tokenizer with transformers and give the path \
         of the folder",
        VOCABULARIES.join(", ")
    )]
    NoTokenizer {
        /// The model.
        model: String,
    },
    /// Any other status.
    #[error("the hub returned status {status} for `{file}` of `{model}`; try again later")]
    Status {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// The HTTP status.
        status: u16,
    },
    /// The response ended early.
    #[error("download of `{file}` interrupted after {received} bytes: {reason}; fetch again to resume")]
    Interrupted {
        /// The file.
        file: String,
        /// The number of bytes on disk.
        received: u64,
        /// The network error.
        reason: String,
    },
    /// The file is larger than such a file may be, or than the response announces.
    #[error(
        "the hub sends more than {max} bytes for `{file}`, which is too much for this file; the download was discarded; \
         check the model's name and HF_ENDPOINT"
    )]
    TooLarge {
        /// The file.
        file: String,
        /// The maximum.
        max: u64,
    },
    /// The response is invalid.
    #[error("invalid response from the hub for `{file}`: {reason}")]
    InvalidResponse {
        /// The file.
        file: String,
        /// The reason.
        reason: String,
    },
}

impl HubError {
    /// Whether a retry may succeed. A hub that was never reached is not retried: another origin or the user can do more
    /// about that.
    pub(super) fn is_transient(&self, was_reached: bool) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Interrupted { .. } => true,
            Self::Unreachable { .. } => was_reached,
            _ => false,
        }
    }
}
