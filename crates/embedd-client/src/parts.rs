//! Large requests, in parts that a server takes.

use prost::encoding::encoded_len_varint;

use embedd_proto::GetModelResponse;

/// Bytes of a request's other fields, at most; and some more.
const OTHER_FIELDS: u64 = 64;

/// What a server takes in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    texts: usize,
    message_bytes: u64,
}

/// Some of a request's texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The place of the first of them in the request.
    pub(super) first: usize,
    pub(super) texts: Vec<String>,
}

impl Limits {
    /// What is not said is not limited.
    pub(super) fn of(model: &GetModelResponse) -> Self {
        let limits = model.limits.unwrap_or_default();
        let or_none = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        Self {
            texts: or_none(limits.max_texts.into()) as usize,
            message_bytes: or_none(limits.max_message_bytes).saturating_sub(OTHER_FIELDS),
        }
    }

    /// In order. A text that is too large by itself is a part of its own, for the server to refuse.
    pub(super) fn split(self, texts: Vec<String>) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut bytes = 0;
        for (index, text) in texts.into_iter().enumerate() {
            let length = text.len() as u64;
            // A tag of one byte, the length, the text.
            let more = 1 + encoded_len_varint(length) as u64 + length;
            match parts.last_mut() {
                Some(part) if part.texts.len() < self.texts && bytes + more <= self.message_bytes => {
                    bytes += more;
                    part.texts.push(text);
                }
                _ => {
                    bytes = more;
                    parts.push(Part { first: index, texts: vec![text] });
                }
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use embedd_proto::EmbedRequest;

    fn limits(max_texts: u32, max_message_bytes: u64) -> Limits {
        let limits = embedd_proto::Limits { max_texts, max_message_bytes, ..Default::default() };
        Limits::of(&GetModelResponse { limits: Some(limits), ..Default::default() })
    }

    fn split(limits: Limits, texts: &[&str]) -> Vec<(usize, usize)> {
        let parts = limits.split(texts.iter().map(ToString::to_string).collect());
        parts.iter().map(|part| (part.first, part.texts.len())).collect()
    }

    #[test]
    fn texts_are_split_by_number_and_by_bytes() {
        assert_eq!(split(limits(2, 1000), &["a"; 5]), [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(split(limits(100, OTHER_FIELDS + 8), &["1234"; 3]), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(split(limits(100, OTHER_FIELDS + 12), &["1234"; 3]), [(0, 2), (2, 1)]);
        assert_eq!(
            split(limits(100, OTHER_FIELDS + 12), &["1", "much too long a text", "3"]),
            [(0, 1), (1, 1), (2, 1)]
        );
        assert_eq!(split(limits(0, 0), &["a"; 1000]), [(0, 1000)], "nothing is limited");
        assert_eq!(split(limits(2, 1000), &[]), []);
    }

    #[test]
    fn a_part_is_no_larger_as_a_message_than_the_server_takes() {
        let texts: Vec<String> = (0..400).map(|length| "x".repeat(length)).collect();
        for part in limits(1000, 1000).split(texts) {
            let dimensions = Some(u32::MAX);
            let request = EmbedRequest {
                texts: part.texts,
                normalize: Some(true),
                truncation: 3,
                dimensions,
                encoding: 2,
                skip_cache: true,
            };
            assert!(request.encoded_len() <= 1000, "{}", request.encoded_len());
        }
    }
}
