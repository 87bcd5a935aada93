//! One GET: redirects followed by hand, for the hub says what a file is on the first answer and where it is on the
//! last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::config::{AutoHeaderValue, RedirectAuthHeaders};
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{HubError, HubSettings, Token};
use embedd_common::checksum::Sha256Hex;

/// The hub needs two; mirrors may add some.
const MAX_REDIRECTS: usize = 8;

/// An HTTP client for one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    reached: AtomicBool,
}

/// From where on a file is wanted, if it is still the one with this entity tag.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) from: u64,
    pub(super) etag: String,
}

/// An answer that is no redirect.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// What the hub said about the file, on whichever answer.
    pub(super) facts: Facts,
    response: Response<Body>,
}

/// What the hub says about a file.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Of the file's contents; given for large files only.
    pub(super) sha256: Option<Sha256Hex>,
    /// The commit that the revision is at present.
    pub(super) commit: Option<String>,
    /// What kind of 401, 403 or 404 this is.
    pub(super) error_code: Option<String>,
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Result<Self, HubError> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let invalid = |reason: &str| HubError::Endpoint { endpoint: endpoint.clone(), reason: reason.to_owned() };
        let uri: Uri = endpoint.parse().map_err(|error| invalid(&format!("{error}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.authority().is_none() {
            return Err(invalid("it does not begin with https:// or http://"));
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let patience = settings.patience;
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(settings.proxy.clone())
            .user_agent(AutoHeaderValue::Provided(Arc::new(concat!("embedd/", env!("CARGO_PKG_VERSION")).to_owned())))
            // A compressed answer would have another length than the file.
            .accept_encoding(AutoHeaderValue::Provided(Arc::new("identity".to_owned())))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.idle))
            .timeout_per_read(Some(patience.idle))
            .build()
            .new_agent();
        Ok(Self { agent, endpoint, token: settings.token.clone(), reached: AtomicBool::new(false) })
    }

    /// Whether the hub has answered anything yet.
    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks for `file` of a model, from its start or from where `rest` says.
    pub(super) fn get(&self, model: &str, revision: &str, file: &str, rest: Option<&Rest>) -> Result<Answer, HubError> {
        let start = format!("{}/{model}/resolve/{}/{}", self.endpoint, escape(revision, ""), escape(file, "/"));
        let unfollowed = |reason: String| HubError::Answer { file: file.to_owned(), reason };
        let mut uri: Uri = start.parse().map_err(|error| unfollowed(format!("{start}: {error}")))?;
        let home = origin(&uri);
        let mut facts = Facts::default();
        for _ in 0..=MAX_REDIRECTS {
            let at_home = origin(&uri) == home;
            let response = self.call(&uri, rest, at_home)?;
            if at_home {
                facts.learn(response.headers());
            }
            let status = response.status();
            if !status.is_redirection() {
                return Ok(Answer { status: status.as_u16(), facts, response });
            }
            let to = text(response.headers(), header::LOCATION.as_str());
            let to = to.ok_or_else(|| unfollowed(format!("status {status} without an address")))?;
            let next = follow(&uri, to).ok_or_else(|| unfollowed(format!("it leads to `{to}`")))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(unfollowed("it leads from https to an address that anyone can read and change".to_owned()));
            }
            uri = next;
        }
        Err(unfollowed(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// `at_home`: the token is the hub's to see, not that of the hosts it leads to.
    fn call(&self, uri: &Uri, rest: Option<&Rest>, at_home: bool) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(uri);
        if let Some(Token(token)) = self.token.as_ref().filter(|_| at_home) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(rest) = rest {
            request = request.header(header::RANGE, format!("bytes={}-", rest.from));
            request = request.header(header::IF_RANGE, &rest.etag);
        }
        let response = request.call();
        let response = response
            .map_err(|error| HubError::Unreachable { endpoint: self.endpoint.clone(), reason: error.to_string() })?;
        self.reached.store(true, Ordering::Relaxed);
        Ok(response)
    }
}

impl Answer {
    /// The tag by which the rest of this very file can be asked for. A weak one does not promise the same bytes.
    pub(super) fn strong_etag(&self) -> Option<&str> {
        text(self.response.headers(), "etag").filter(|etag| !etag.starts_with("W/"))
    }

    /// How many bytes the body has.
    pub(super) fn length(&self) -> Option<u64> {
        text(self.response.headers(), "content-length")?.parse().ok()
    }

    /// Where the body starts within the file, of a 206.
    pub(super) fn range_start(&self) -> Option<u64> {
        let range = text(self.response.headers(), "content-range")?;
        range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
    }

    /// Whether this 206 says itself that it is of another file than the one that was begun. Some caches ignore the
    /// condition on a range.
    pub(super) fn contradicts(&self, rest: &Rest) -> bool {
        text(self.response.headers(), "etag").is_some_and(|etag| etag != rest.etag)
    }

    /// How long the whole file is, of a 206 or 416.
    pub(super) fn range_total(&self) -> Option<u64> {
        text(self.response.headers(), "content-range")?.rsplit('/').next()?.parse().ok()
    }

    /// Seconds after which the hub wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<u64> {
        text(self.response.headers(), "retry-after")?.parse().ok()
    }

    pub(super) fn into_body(self) -> Body {
        self.response.into_body()
    }
}

impl Facts {
    /// Only the hub's own answers count: what looks like a sha256 elsewhere may be another hash.
    fn learn(&mut self, headers: &HeaderMap) {
        let sha256 = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
        let sha256 = sha256.and_then(|etag| etag.trim_start_matches("W/").trim_matches('"').parse().ok());
        self.sha256 = self.sha256.take().or(sha256);
        self.commit =
            self.commit.take().or_else(|| text(headers, "x-repo-commit").filter(is_commit).map(str::to_owned));
        self.error_code = self.error_code.take().or_else(|| text(headers, "x-error-code").map(str::to_owned));
    }
}

fn is_commit(text: &&str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn origin(uri: &Uri) -> (Option<String>, Option<String>) {
    (uri.scheme_str().map(str::to_owned), uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()))
}

/// The address that `to` means on an answer from `uri`: a whole one, or a path on the same host.
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

/// Percent-encodes what is not plain; `keep` stays as it is.
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
    fn redirects_lead_to_whole_addresses_and_to_paths() {
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
    fn a_revision_is_one_part_of_the_path() {
        assert_eq!(escape("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(escape("1_Pooling/config.json", "/"), "1_Pooling/config.json");
        assert_eq!(escape("a b?#", "/"), "a%20b%3F%23");
    }
}
