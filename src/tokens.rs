//! Bearer tokens that authenticate callers.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::Extensions;
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::caller::CallerId;
use crate::quota::{Quota, QuotaLimits};
use crate::reload::{HotReload, NamedFile, Source, Unreadable};

/// The tokens of a file, reloaded when it changes.
#[derive(Debug, Clone)]
pub(crate) struct Tokens(Arc<HotReload<TokenSource>>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{file} contains no token, so every call would be rejected; add one (`openssl rand -hex 32` prints one)")]
    Empty { file: NamedFile },
    /// No client could send this token.
    #[error(
        "{file}, line {line}: a token must be one word of visible ASCII characters; write one token per line, optionally \
         followed by texts_per_second=N and in_flight=N"
    )]
    Invalid {
        file: NamedFile,
        /// Starts at 1.
        line: usize,
    },
}

/// The caller that a token identifies.
#[derive(Debug, Clone)]
pub(crate) struct TokenCaller {
    pub id: CallerId,
    /// Shared by all calls with the token.
    pub quota: Option<Arc<Quota>>,
}

/// Why a call is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("missing token; send `authorization: Bearer TOKEN`")]
    Missing,
    #[error("malformed `authorization` header; expected `Bearer TOKEN`")]
    Malformed,
    #[error("unknown token; it may have been rotated")]
    Unknown,
}

impl Tokens {
    /// Reads a file with one token per line, which may be followed by its quota. Empty lines and lines that start with `#` are ignored.
    ///
    /// # Errors
    /// [`TokensError`].
    pub(crate) fn open(file: NamedFile) -> Result<Self, TokensError> {
        HotReload::open(TokenSource::File(file)).map(|tokens| Self(Arc::new(tokens)))
    }

    /// Accepts one token, which does not change.
    ///
    /// # Errors
    /// None: nothing is read.
    pub(crate) fn fixed(token: &str) -> Result<Self, TokensError> {
        let source = TokenSource::Fixed(Sha256::digest(token).into());
        HotReload::open(source).map(|tokens| Self(Arc::new(tokens)))
    }

    /// Reloads the file when it changes, for as long as the future is polled.
    pub(crate) async fn follow(&self) -> Infallible {
        self.0.follow().await
    }

    /// Checks the `authorization` header of a call and identifies its caller by the token.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn admit(&self, authorization: Option<&str>) -> Result<TokenCaller, Refusal> {
        let authorization = authorization.ok_or(Refusal::Missing)?;
        let token = bearer(authorization).ok_or(Refusal::Malformed)?;
        self.0.current().find(Sha256::digest(token).into()).ok_or(Refusal::Unknown)
    }
}

impl TokenCaller {
    /// Stores the caller in a request's extensions, for its handler.
    pub(crate) fn enter(self, extensions: &mut Extensions) {
        extensions.insert(self.id);
        if let Some(quota) = self.quota {
            extensions.insert(quota);
        }
    }
}

/// The token of `Bearer TOKEN`; the scheme is case-insensitive (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[derive(Debug)]
enum TokenSource {
    File(NamedFile),
    /// The SHA-256 of the only token.
    Fixed([u8; 32]),
}

/// All tokens.
struct KnownTokens(Vec<Known>);

/// A token: its SHA-256, so that all have one length and no secrets are in memory; and its quota.
struct Known {
    digest: [u8; 32],
    quota: Option<Arc<Quota>>,
}

impl fmt::Debug for KnownTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl KnownTokens {
    /// Takes the same time no matter which token matches or where the tokens differ.
    fn find(&self, digest: [u8; 32]) -> Option<TokenCaller> {
        let mut found = u64::MAX;
        for (index, known) in (0u64..).zip(&self.0) {
            found.conditional_assign(&index, known.digest.ct_eq(&digest));
        }
        let known = self.0.get(usize::try_from(found).ok()?)?;
        Some(TokenCaller { id: CallerId::Token(digest), quota: known.quota.clone() })
    }
}

impl Known {
    /// Reads a line; `None` if it is invalid.
    fn read(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok().filter(|line| line.is_ascii())?;
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let token = words.next().filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))?;
        let mut limits = QuotaLimits::default();
        let are_valid = words.all(|word| limits.read(word));
        let quota = (limits != QuotaLimits::default()).then(|| Arc::new(Quota::new(limits)));
        are_valid.then(|| Self { digest: Sha256::digest(token).into(), quota })
    }
}

impl Source for TokenSource {
    type Value = KnownTokens;
    type Error = TokensError;

    fn files(&self) -> Vec<&NamedFile> {
        match self {
            Self::File(file) => vec![file],
            Self::Fixed(_) => Vec::new(),
        }
    }

    fn parse(&self, contents: &[Vec<u8>]) -> Result<KnownTokens, TokensError> {
        let file = match self {
            Self::File(file) => file,
            Self::Fixed(digest) => return Ok(KnownTokens(vec![Known { digest: *digest, quota: None }])),
        };
        let mut tokens = Vec::new();
        for (line, text) in (1..).zip(contents.concat().split(|&byte| byte == b'\n')) {
            match text.trim_ascii() {
                [] | [b'#', ..] => {}
                text => {
                    let invalid = || TokensError::Invalid { file: file.clone(), line };
                    tokens.push(Known::read(text).ok_or_else(invalid)?);
                }
            }
        }
        if tokens.is_empty() { Err(TokensError::Empty { file: file.clone() }) } else { Ok(KnownTokens(tokens)) }
    }
}

#[cfg(test)]
mod tests;
