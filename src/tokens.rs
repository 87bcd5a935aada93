//! Bearer tokens that authenticate callers.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::caller::CallerId;
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
    #[error("{file}, line {line}: a token must be one word of visible ASCII characters; write one token per line")]
    Invalid {
        file: NamedFile,
        /// Starts at 1.
        line: usize,
    },
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
    /// Reads a file with one token per line. Empty lines and lines that start with `#` are ignored.
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
    pub(crate) fn admit(&self, authorization: Option<&str>) -> Result<CallerId, Refusal> {
        let authorization = authorization.ok_or(Refusal::Missing)?;
        let token = bearer(authorization).ok_or(Refusal::Malformed)?;
        let digest = Sha256::digest(token).into();
        if self.has(&digest) { Ok(CallerId::Token(digest)) } else { Err(Refusal::Unknown) }
    }

    /// In constant time, no matter which token matches or where the tokens differ.
    fn has(&self, given: &[u8; 32]) -> bool {
        let is_any = self.0.current().0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(given));
        is_any.into()
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

/// SHA-256 of each token: all of one length, and no secrets in memory.
struct Digests(Vec<[u8; 32]>);

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Source for TokenSource {
    type Value = Digests;
    type Error = TokensError;

    fn files(&self) -> Vec<&NamedFile> {
        match self {
            Self::File(file) => vec![file],
            Self::Fixed(_) => Vec::new(),
        }
    }

    fn parse(&self, contents: &[Vec<u8>]) -> Result<Digests, TokensError> {
        let file = match self {
            Self::File(file) => file,
            Self::Fixed(digest) => return Ok(Digests(vec![*digest])),
        };
        let mut digests = Vec::new();
        for (line, text) in (1..).zip(contents.concat().split(|&byte| byte == b'\n')) {
            match text.trim_ascii() {
                [] | [b'#', ..] => {}
                token if token.iter().all(u8::is_ascii_graphic) => digests.push(Sha256::digest(token).into()),
                _ => return Err(TokensError::Invalid { file: file.clone(), line }),
            }
        }
        if digests.is_empty() { Err(TokensError::Empty { file: file.clone() }) } else { Ok(Digests(digests)) }
    }
}

#[cfg(test)]
mod tests;
