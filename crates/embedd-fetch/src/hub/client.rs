//! An HTTP client that follows redirects itself, because the hub describes the file in its first response and sends it
//! in the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::config::{AutoHeaderValue, RedirectAuthHeaders};
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{HubError, HubSettings, Token};
use embedd_common::checksum::Sha256Hex;

/// The hub uses two. Mirrors may add more.
const MAX_REDIRECTS: usize = 8;

/// An HTTP client for one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    reached: AtomicBool,
}

/// A request for the rest of a file from an offset, if it still has this entity tag.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) offset: u64,
    pub(super) etag: String,
}

/// A response that is not a redirect.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// The hub's information about the file, from all of its responses.
    pub(super) facts: Facts,
    response: Response<Body>,
}

/// The hub's information about a file.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The digest of the file. Reported for large files only.
    pub(super) sha256: Option<Sha256Hex>,
    /// The commit of the revision.
    pub(super) commit: Option<String>,
    /// The reason for a 401, 403 or 404.
    pub(super) error_code: Option<String>,
}

impl Client {
    pub(super) fn new(settings: &HubSettings, token: Option<Token>) -> Result<Self, HubError> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let invalid = |reason: &str| HubError::Endpoint { endpoint: endpoint.clone(), reason: reason.to_owned() };
        let uri: Uri = endpoint.parse().map_err(|error| invalid(&format!("{error}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.authority().is_none() {
            return Err(invalid("it does not start with https:// or http://"));
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let retry = settings.retry;
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(settings.proxy.clone())
            .user_agent(AutoHeaderValue::Provided(Arc::new(concat!("embedd/", env!("CARGO_PKG_VERSION")).to_owned())))
            // A compressed response would not have the length of the file.
            .accept_encoding(AutoHeaderValue::Provided(Arc::new("identity".to_owned())))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .timeout_resolve(Some(retry.connect))
            .timeout_connect(Some(retry.connect))
            .timeout_recv_response(Some(retry.idle))
            .timeout_per_read(Some(retry.idle))
            .build()
            .new_agent();
        Ok(Self { agent, endpoint, token, reached: AtomicBool::new(false) })
    }

    /// Whether the hub has responded to any request.
    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// The variable or the file that the token is from.
    pub(super) fn token_origin(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.from.as_str())
    }

    /// Requests a file of a model, or the rest of it.
    pub(super) fn get(&self, model: &str, revision: &str, file: &str, rest: Option<&Rest>) -> Result<Reply, HubError> {
        let start = format!("{}/{model}/resolve/{}/{}", self.endpoint, escape(revision, ""), escape(file, "/"));
        let unfollowed = |reason: String| HubError::InvalidResponse { file: file.to_owned(), reason };
        let mut uri: Uri = start.parse().map_err(|error| unfollowed(format!("{start}: {error}")))?;
        let hub = origin(&uri);
        let mut facts = Facts::default();
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = origin(&uri) == hub;
            let response = self.call(&uri, rest, is_hub)?;
            if is_hub {
                facts.learn(response.headers()).map_err(unfollowed)?;
            }
            let status = response.status();
            if !status.is_redirection() {
                return Ok(Reply { status: status.as_u16(), facts, response });
            }
            let to = text(response.headers(), header::LOCATION.as_str());
            let to = to.ok_or_else(|| unfollowed(format!("status {status} without a Location header")))?;
            let next = follow(&uri, to).ok_or_else(|| unfollowed(format!("it redirects to `{to}`")))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(unfollowed("it redirects from https to an unencrypted address".to_owned()));
            }
            uri = next;
        }
        Err(unfollowed(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// The token is sent only if `is_hub`, not to the hosts that the hub redirects to.
    fn call(&self, uri: &Uri, rest: Option<&Rest>, is_hub: bool) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(uri);
        if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        if let Some(rest) = rest {
            request = request.header(header::RANGE, format!("bytes={}-", rest.offset));
            request = request.header(header::IF_RANGE, &rest.etag);
        }
        let response = request.call();
        let response = response
            .map_err(|error| HubError::Unreachable { endpoint: self.endpoint.clone(), reason: error.to_string() })?;
        self.reached.store(true, Ordering::Relaxed);
        Ok(response)
    }
}

impl Reply {
    /// The entity tag for resuming the download. A weak tag does not guarantee identical bytes.
    pub(super) fn strong_etag(&self) -> Option<&str> {
        text(self.response.headers(), "etag").filter(|etag| !etag.starts_with("W/"))
    }

    /// The length of the body.
    pub(super) fn length(&self) -> Option<u64> {
        text(self.response.headers(), "content-length")?.parse().ok()
    }

    /// The offset of the body in the file, for a 206.
    pub(super) fn range_start(&self) -> Option<u64> {
        let range = text(self.response.headers(), "content-range")?;
        range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
    }

    /// Whether this 206 has a different entity tag than requested. Some caches ignore the condition of a range request.
    pub(super) fn contradicts(&self, rest: &Rest) -> bool {
        text(self.response.headers(), "etag").is_some_and(|etag| etag != rest.etag)
    }

    /// The length of the whole file, for a 206 or 416.
    pub(super) fn range_total(&self) -> Option<u64> {
        text(self.response.headers(), "content-range")?.rsplit('/').next()?.parse().ok()
    }

    /// The number of seconds to wait before a retry.
    pub(super) fn retry_after(&self) -> Option<u64> {
        text(self.response.headers(), "retry-after")?.parse().ok()
    }

    pub(super) fn into_body(self) -> Body {
        self.response.into_body()
    }
}

impl Facts {
    /// Call this only with the hub's own responses: elsewhere, a value that looks like a SHA-256 may be another hash.
    ///
    /// # Errors
    /// Why the response is invalid.
    fn learn(&mut self, headers: &HeaderMap) -> Result<(), String> {
        let commit = text(headers, "x-repo-commit");
        // Other files are requested by the commit, and the record in the cache folder names it.
        if let Some(commit) = commit.filter(|commit| !is_commit(commit)) {
            return Err(format!("its commit is `{}`", commit.escape_debug()));
        }
        let sha256 = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
        let sha256 = sha256.and_then(|etag| etag.trim_start_matches("W/").trim_matches('"').parse().ok());
        self.sha256 = self.sha256.take().or(sha256);
        self.commit = self.commit.take().or_else(|| commit.map(str::to_owned));
        self.error_code = self.error_code.take().or_else(|| text(headers, "x-error-code").map(str::to_owned));
        Ok(())
    }
}

fn is_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn origin(uri: &Uri) -> (Option<String>, Option<String>) {
    (uri.scheme_str().map(str::to_owned), uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()))
}

/// Resolves the redirect target `to` of `uri`: an absolute URL, or a path on the same host.
fn follow(uri: &Uri, to: &str) -> Option<Uri> {
    let next: Uri = if to.starts_with("http://") || to.starts_with("https://") {
        to.parse().ok()?
    } else if to.starts_with('/') && !to.starts_with("//") {
        format!("{}://{}{to}", uri.scheme_str()?, uri.authority()?).parse().ok()?
    } else {
        return None;
    };
    next.authority()?;
    Some(next)
}

/// Percent-encodes all characters except unreserved ones and those in `keep`.
fn escape(text: &str, keep: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut escaped, byte| {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~') || keep.contains(c) {
            escaped.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_to_absolute_urls_and_paths_are_followed() {
        let uri: Uri = "https://hub.test/a/b".parse().expect("an address");
        for (to, next) in [
            ("/c?d=%20", Some("https://hub.test/c?d=%20")),
            ("https://store.test/x?sig=a%2Fb", Some("https://store.test/x?sig=a%2Fb")),
            ("//store.test/x", None),
            ("c", None),
            ("ftp://store.test/x", None),
            ("", None),
        ] {
            assert_eq!(follow(&uri, to).map(|uri| uri.to_string()).as_deref(), next, "{to}");
        }
    }

    #[test]
    fn a_revision_is_escaped_as_one_path_segment() {
        assert_eq!(escape("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(escape("1_Pooling/config.json", "/"), "1_Pooling/config.json");
        assert_eq!(escape("a b?#", "/"), "a%20b%3F%23");
    }
}
