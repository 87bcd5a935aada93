//! Request ids: chosen by the caller or generated, returned with the reply, and attached to logs and traces.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header of requests and replies, and the metadata key over gRPC.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of an id chosen by a caller, in bytes.
const MAX_LEN: usize = 128;
/// Hex digits of a generated id: 128 bits, like a trace id.
const DIGITS: usize = 32;

/// A short string of visible ASCII characters. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the caller's id if it is valid, otherwise a random one.
    pub fn from_headers_or_new(headers: &HeaderMap) -> Self {
        Self::from_headers(headers).unwrap_or_else(Self::random)
    }

    /// Returns the id in the headers, if it is valid.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(&REQUEST_ID).filter(|value| is_valid(value)).cloned().map(Self::new)
    }

    /// Unique enough to tell requests apart. Not a secret.
    fn random() -> Self {
        let mut bits = fastrand::u128(..);
        let digits: [u8; DIGITS] = std::array::from_fn(|_| {
            let digit = b"0123456789abcdef"[(bits & 0xf) as usize];
            bits >>= 4;
            digit
        });
        // Hex digits are always a valid header value.
        Self::new(HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-")))
    }

    fn new(mut value: HeaderValue) -> Self {
        // Keeps the value out of HTTP/2's header compression table: it is never sent twice.
        value.set_sensitive(true);
        Self(value)
    }

    /// Adds the id to headers, replacing any other.
    pub fn insert_into(&self, headers: &mut HeaderMap) {
        headers.insert(&REQUEST_ID, self.0.clone());
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn is_valid(value: &HeaderValue) -> bool {
    (1..=MAX_LEN).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(id: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_ID.clone(), HeaderValue::from_bytes(id).expect("a value"))])
    }

    #[test]
    fn a_valid_id_is_kept() {
        let long = "x".repeat(MAX_LEN);
        for id in ["1", "a-b_c.d:e/f", "~!@#", &long] {
            assert_eq!(RequestId::from_headers_or_new(&headers(id.as_bytes())).as_str(), id);
        }
    }

    #[test]
    fn a_missing_or_invalid_id_is_replaced_by_a_new_one_each_time() {
        let long = "x".repeat(MAX_LEN + 1);
        let mut ids = vec![RequestId::from_headers_or_new(&HeaderMap::new())];
        for wrong in [&b""[..], b"two words", b"a\tb", b"\xc3\xa9", long.as_bytes()] {
            ids.push(RequestId::from_headers_or_new(&headers(wrong)));
        }
        for (index, id) in ids.iter().enumerate() {
            let text = id.as_str();
            assert!(text.len() == DIGITS && text.bytes().all(|digit| b"0123456789abcdef".contains(&digit)), "{text}");
            assert!(!ids[..index].contains(id), "{text} was generated twice");
        }
    }

    #[test]
    fn an_id_that_was_inserted_is_read_back() {
        let id = RequestId::from_headers_or_new(&HeaderMap::new());
        let mut reply = headers(b"another-id");
        id.insert_into(&mut reply);
        assert_eq!((RequestId::from_headers(&reply), reply.len()), (Some(id), 1));
    }
}
