//! Bearer tokens: who may call.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::reload::{NamedFile, Recipe, Reloaded, Unreadable};

/// The tokens of a file, taken up anew when it changes.
#[derive(Debug, Clone)]
pub(crate) struct Tokens(Arc<Reloaded<TokenFile>>);

/// Why a file gives no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// There is none in it.
    #[error("{file} holds no token, so that nobody could call; write one a line (`openssl rand -hex 32` makes one)")]
    Empty {
        /// The file.
        file: NamedFile,
    },
    /// What no client could send.
    #[error("{file}, line {line}: a token is one word of visible ASCII characters; write one a line")]
    NoToken {
        /// The file.
        file: NamedFile,
        /// From 1.
        line: usize,
    },
}

/// Why a call may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It has no token.
    #[error("a token is needed: send `authorization: Bearer TOKEN`")]
    Missing,
    /// It has something else.
    #[error("what stands in `authorization` is not of the form `Bearer TOKEN`")]
    Malformed,
    /// It has a token that opens nothing here.
    #[error("the token is none of this server's; it may have been replaced by a newer one")]
    Unknown,
}

impl Tokens {
    /// Reads the file: a token a line; empty lines, and those that begin with `#`, are passed over.
    ///
    /// # Errors
    /// [`TokensError`].
    pub(crate) fn open(file: NamedFile) -> Result<Self, TokensError> {
        Reloaded::open(TokenFile(file)).map(|reloaded| Self(Arc::new(reloaded)))
    }

    /// Takes up what the file changes to, for as long as it is polled.
    pub(crate) async fn follow(&self) -> Infallible {
        self.0.follow().await
    }

    /// Whether a call with this `authorization` may come in.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn admit(&self, authorization: Option<&str>) -> Result<(), Refusal> {
        let authorization = authorization.ok_or(Refusal::Missing)?;
        let token = bearer(authorization).ok_or(Refusal::Malformed)?;
        if self.has(token) { Ok(()) } else { Err(Refusal::Unknown) }
    }

    /// Takes the same time wherever the tokens differ, and whichever of them it is.
    fn has(&self, token: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(token).into();
        let is_any = self.0.current().0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&given));
        is_any.into()
    }
}

/// The token of `Bearer TOKEN`; the scheme is the same in any case (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[derive(Debug)]
struct TokenFile(NamedFile);

/// SHA-256 of each token: of one length, and no secrets in memory.
struct Digests(Vec<[u8; 32]>);

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Recipe for TokenFile {
    type Made = Digests;
    type Error = TokensError;

    fn files(&self) -> Vec<&NamedFile> {
        vec![&self.0]
    }

    fn make(&self, contents: &[Vec<u8>]) -> Result<Digests, TokensError> {
        let file = || self.0.clone();
        let mut digests = Vec::new();
        for (line, text) in (1..).zip(contents.concat().split(|&byte| byte == b'\n')) {
            match text.trim_ascii() {
                [] | [b'#', ..] => {}
                token if token.iter().all(u8::is_ascii_graphic) => digests.push(Sha256::digest(token).into()),
                _ => return Err(TokensError::NoToken { file: file(), line }),
            }
        }
        if digests.is_empty() { Err(TokensError::Empty { file: file() }) } else { Ok(Digests(digests)) }
    }
}

#[cfg(test)]
mod tests;
