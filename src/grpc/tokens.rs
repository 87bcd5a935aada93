//! Bearer tokens: who may call.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use super::reload::{NamedFile, Recipe, Reloaded, Unreadable};

const AUTHORIZATION: &str = "authorization";

/// The tokens of a file, taken up anew when it changes.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Reloaded<TokenFile>>);

/// Why a file gives no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
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

impl Tokens {
    /// Reads the file: a token a line; empty lines, and those that begin with `#`, are passed over.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn open(file: NamedFile) -> Result<Self, TokensError> {
        Reloaded::open(TokenFile(file)).map(|reloaded| Self(Arc::new(reloaded)))
    }

    pub(super) async fn follow(&self) -> Infallible {
        self.0.follow().await
    }

    /// Takes the same time wherever the tokens differ, and whichever of them it is.
    fn admit(&self, token: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(token).into();
        let is_any = self.0.current().0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&given));
        is_any.into()
    }
}

/// Lets calls pass that carry one of the tokens, and all calls where there are none.
#[derive(Debug, Clone)]
pub(super) struct Guard(pub(super) Option<Tokens>);

impl Guard {
    /// The service, with this in front of it.
    pub(super) fn before<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }
}

impl Interceptor for Guard {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(tokens) = &self.0 else { return Ok(request) };
        // Out of the request: nothing behind this needs the token, nor can tell it.
        let Some(value) = request.metadata_mut().remove(AUTHORIZATION) else {
            return Err(Status::unauthenticated("a token is needed: send the metadata `authorization: Bearer TOKEN`"));
        };
        let Some(token) = value.to_str().ok().and_then(bearer) else {
            let expected = "the metadata `authorization` is not of the form `Bearer TOKEN`";
            return Err(Status::unauthenticated(expected));
        };
        if tokens.admit(token) {
            return Ok(request);
        }
        Err(Status::unauthenticated("the token is none of this server's; it may have been replaced by a newer one"))
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
