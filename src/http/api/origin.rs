//! Rejects requests that web pages cause: a browser behind the firewall would otherwise let any site use a server that
//! requires no token. Programs send neither of the headers that identify such requests.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

/// Set by browsers.
const SITE: &str = "sec-fetch-site";

/// Whether a web page may have caused the request, other than one of this server's own address.
///
/// A name in `Host` proves nothing: a site can make its own name resolve to this server (DNS rebinding), so that the page
/// and the server have the same origin for the browser. Addresses and `localhost` cannot be made to.
pub(super) fn is_foreign(headers: &HeaderMap, uri: &Uri) -> bool {
    if headers.get(SITE).is_some_and(|site| site == "cross-site") {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let Some(page) = origin.as_ref().and_then(Uri::authority) else { return true };
    let host = match headers.get(HOST) {
        Some(host) => host.to_str().ok().and_then(|host| host.parse().ok()),
        // HTTP/2 has a pseudo-header instead.
        None => uri.authority().cloned(),
    };
    host.is_none_or(|host: Authority| !page.as_str().eq_ignore_ascii_case(host.as_str()) || !is_literal(host.host()))
}

fn is_literal(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn is_foreign_with(headers: &[(&'static str, &str)]) -> bool {
        is_foreign_at("/v1/models", headers)
    }

    fn is_foreign_at(uri: &'static str, headers: &[(&'static str, &str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        is_foreign(&headers.collect(), &Uri::from_static(uri))
    }

    #[test]
    fn programs_and_pages_of_the_same_address_are_accepted() {
        for headers in [
            &[("host", "embedd:9090")][..],
            &[],
            &[("host", "127.0.0.1:9090"), ("origin", "http://127.0.0.1:9090")],
            &[("host", "[::1]:9090"), ("origin", "http://[::1]:9090")],
            &[("host", "LOCALHOST:9090"), ("origin", "http://localhost:9090"), ("sec-fetch-site", "same-origin")],
            &[("host", "localhost"), ("sec-fetch-site", "none")],
        ] {
            assert!(!is_foreign_with(headers), "{headers:?}");
        }
    }

    #[test]
    fn http_2_has_its_host_in_the_uri() {
        let page = [("origin", "http://127.0.0.1:9090")];
        assert!(!is_foreign_at("http://127.0.0.1:9090/v1/models", &page));
        assert!(is_foreign_at("http://127.0.0.1/v1/models", &page));
    }

    #[test]
    fn requests_of_other_web_pages_are_foreign() {
        for headers in [
            &[("host", "127.0.0.1:9090"), ("origin", "https://evil.example")][..],
            &[("host", "127.0.0.1:9090"), ("origin", "null")],
            &[("host", "127.0.0.1:9090"), ("origin", "")],
            &[("host", "127.0.0.1:9090"), ("origin", "file://")],
            &[("host", "127.0.0.1:9090"), ("origin", "http://127.0.0.1:3000")],
            &[("host", "127.0.0.1:9090"), ("origin", "http://127.0.0.1")],
            &[("origin", "http://127.0.0.1:9090")],
            // DNS rebinding.
            &[("host", "evil.example:9090"), ("origin", "http://evil.example:9090")],
            &[("host", "127.0.0.1.evil.example"), ("origin", "http://127.0.0.1.evil.example")],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(is_foreign_with(headers), "{headers:?}");
        }
    }
}
