//! The name of one request: its caller's or, where that gave none, one made here. It stands in the reply and in whatever is
//! told of the request elsewhere.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header of requests and replies; over gRPC, metadata.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of an id that a caller chose, at most.
const MOST: usize = 128;
/// Hex digits of an id that was made here: 128 bits, as trace ids have.
const DIGITS: usize = 32;

/// Visible ASCII, and not much of it; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's, where it is sane, else a random one.
    pub fn of(headers: &HeaderMap) -> Self {
        Self::told(headers).unwrap_or_else(Self::random)
    }

    /// What the headers say, where it is sane.
    pub fn told(headers: &HeaderMap) -> Option<Self> {
        headers.get(&REQUEST_ID).filter(|value| is_sane(value)).cloned().map(Self::new)
    }

    /// Not to be guessed by chance, and not meant to be a secret.
    fn random() -> Self {
        let mut bits = fastrand::u128(..);
        let digits: [u8; DIGITS] = std::array::from_fn(|_| {
            let digit = b"0123456789abcdef"[(bits & 0xf) as usize];
            bits >>= 4;
            digit
        });
        // Digits are always a valid value.
        Self::new(HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("-")))
    }

    fn new(mut value: HeaderValue) -> Self {
        // Kept out of the table by which HTTP/2 shortens headers that come again: this one does not.
        value.set_sensitive(true);
        Self(value)
    }

    /// Tells it in the headers of a reply.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(&REQUEST_ID, self.0.clone());
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

fn is_sane(value: &HeaderValue) -> bool {
    (1..=MOST).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(id: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_ID.clone(), HeaderValue::from_bytes(id).expect("a value"))])
    }

    #[test]
    fn a_sane_id_is_kept() {
        let long = "x".repeat(MOST);
        for id in ["1", "a-b_c.d:e/f", "~!@#", &long] {
            assert_eq!(RequestId::of(&headers(id.as_bytes())).as_str(), id);
        }
    }

    #[test]
    fn what_is_none_is_replaced_by_a_new_one_each_time() {
        let long = "x".repeat(MOST + 1);
        let mut ids = vec![RequestId::of(&HeaderMap::new())];
        for wrong in [&b""[..], b"two words", b"a\tb", b"\xc3\xa9", long.as_bytes()] {
            ids.push(RequestId::of(&headers(wrong)));
        }
        for (index, id) in ids.iter().enumerate() {
            let text = id.as_str();
            assert!(text.len() == DIGITS && text.bytes().all(|digit| b"0123456789abcdef".contains(&digit)), "{text}");
            assert!(!ids[..index].contains(id), "{text} came twice");
        }
    }

    #[test]
    fn it_is_told_as_it_is_read() {
        let (id, mut reply) = (RequestId::of(&HeaderMap::new()), headers(b"of somebody else"));
        id.tell(&mut reply);
        assert_eq!((RequestId::told(&reply), reply.len()), (Some(id), 1));
    }
}
