//! Server addresses.

use std::error::Error;
use std::fmt;

use tonic::transport::Uri;

use super::ConnectError;

/// One server, or a name that stands for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `http://` or `https://`, the host, and the port if one was given.
    pub(crate) uri: Uri,
    /// Whether every address of the name is a separate server.
    pub(crate) resolve_all: bool,
}

impl Address {
    /// Parses a comma-separated list of at least one address.
    pub(crate) fn list(servers: &str) -> Result<Vec<Self>, ConnectError> {
        servers.split(',').map(|server| Self::parse(server.trim())).collect()
    }

    fn parse(server: &str) -> Result<Self, ConnectError> {
        let wrong = |reason: &str| ConnectError::Address { server: server.to_owned(), reason: reason.to_owned() };
        let (resolve_all, text) = if let Some(name) = server.strip_prefix("dns:///") {
            (true, format!("http://{name}"))
        } else if let Some(name) = server.strip_prefix("dns+https:///") {
            (true, format!("https://{name}"))
        } else if server.contains("://") {
            (false, server.to_owned())
        } else {
            (false, format!("http://{server}"))
        };
        let uri: Uri = text.parse().map_err(|error| wrong(&reason(&error)))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("unknown scheme"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("the host is missing"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("unexpected path"));
        }
        if (resolve_all || !server.contains("://")) && uri.port().is_none() {
            return Err(wrong("the port is missing"));
        }
        Ok(Self { uri, resolve_all })
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    pub(crate) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri.authority().map_or("", |authority| authority.as_str()))
    }
}

/// Joins the messages of an error and its causes. Skips `transport error`, which adds nothing.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if text != "transport error" && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(server: &str) -> Address {
        Address::list(server).expect("an address").remove(0)
    }

    #[test]
    fn an_address_is_a_url_or_a_host_and_port_or_a_name_to_resolve() {
        let read = |server: &str| {
            let address = one(server);
            (address.uri.to_string(), address.port(), address.resolve_all)
        };
        assert_eq!(read("localhost:50051"), ("http://localhost:50051/".to_owned(), 50051, false));
        assert_eq!(read("http://a:1/"), ("http://a:1/".to_owned(), 1, false));
        assert_eq!(read("https://a"), ("https://a/".to_owned(), 443, false));
        assert_eq!(read("dns:///a.b:2"), ("http://a.b:2/".to_owned(), 2, true));
        assert_eq!(read("dns+https:///a:2"), ("https://a:2/".to_owned(), 2, true));
        assert_eq!((one("[::1]:1").host(), one("[::1]:1").to_string()), ("::1", "[::1]:1".to_owned()));
    }

    #[test]
    fn addresses_are_separated_by_commas() {
        let servers = Address::list("a:1, https://b:2,dns:///c:3").expect("addresses");
        assert_eq!(servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:2", "c:3"]);
    }

    #[test]
    fn errors_name_the_invalid_address_and_the_valid_forms() {
        for (wrong, why) in [
            ("localhost", "the port is missing"),
            ("ftp://a:1", "unknown scheme"),
            ("dns://1.1.1.1/a:1", "unknown scheme"),
            ("dns:///a", "the port is missing"),
            ("a:1/path", "unexpected path"),
            ("https://a:1/?q", "unexpected path"),
            ("", "``"),
            ("a:1,", "``"),
            ("a b:1", "a b:1"),
            ("a:99999999", "a:99999999"),
        ] {
            let message = Address::list(wrong).expect_err("invalid").to_string();
            assert!(message.contains(why) && message.contains("host:port"), "{wrong}: {message}");
        }
    }
}
