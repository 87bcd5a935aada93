//! Splits large requests into parts that a server accepts.

use prost::encoding::encoded_len_varint;

use embedd_proto::GetModelResponse;

/// An upper bound on the bytes of a request's other fields. Names of prompts have up to 128.
const OTHER_FIELDS: u64 = 256;

/// A server's limits for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    texts: usize,
    message_bytes: u64,
}

/// Consecutive texts of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The index of the first text in the request.
    pub(crate) first: usize,
    pub(crate) texts: Vec<String>,
}

impl Limits {
    /// A missing limit means no limit.
    pub(crate) fn of(model: &GetModelResponse) -> Self {
        let limits = model.limits.unwrap_or_default();
        let or_unlimited = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        Self {
            texts: or_unlimited(limits.max_texts.into()) as usize,
            message_bytes: or_unlimited(limits.max_message_bytes).saturating_sub(OTHER_FIELDS),
        }
    }

    /// Keeps the order. A text that is too large by itself becomes a part of its own, which the server will reject.
    pub(crate) fn split(self, texts: Vec<String>) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut bytes = 0;
        for (index, text) in texts.into_iter().enumerate() {
            let length = text.len() as u64;
            // A tag of one byte, the length, and the text.
            let added = 1 + encoded_len_varint(length) as u64 + length;
            match parts.last_mut() {
                Some(part) if part.texts.len() < self.texts && bytes + added <= self.message_bytes => {
                    bytes += added;
                    part.texts.push(text);
                }
                _ => {
                    bytes = added;
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
    fn texts_are_split_by_count_and_by_size() {
        assert_eq!(split(limits(2, 1000), &["a"; 5]), [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(split(limits(100, OTHER_FIELDS + 8), &["1234"; 3]), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(split(limits(100, OTHER_FIELDS + 12), &["1234"; 3]), [(0, 2), (2, 1)]);
        assert_eq!(
            split(limits(100, OTHER_FIELDS + 12), &["1", "much too long a text", "3"]),
            [(0, 1), (1, 1), (2, 1)]
        );
        assert_eq!(split(limits(0, 0), &["a"; 1000]), [(0, 1000)], "no limits");
        assert_eq!(split(limits(2, 1000), &[]), []);
    }

    #[test]
    fn no_part_exceeds_the_server_s_maximum_message_size() {
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
                prompt_name: Some("x".repeat(128)),
            };
            assert!(request.encoded_len() <= 1000, "{}", request.encoded_len());
        }
    }
}
