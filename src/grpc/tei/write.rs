//! Converts results to messages.

use std::time::Duration;

use tokio::runtime::Handle;
use tonic::Response;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::embed::{Embedded, Embedder};
use embedd_model::tokenize::Token;
use embedd_proto::tei as proto;

/// The reply to a request whose text has `chars` characters.
pub(super) fn embedded(embedded: Embedded, chars: usize) -> proto::EmbedResponse {
    let timings = embedded.timings;
    let embeddings = embedded.embeddings;
    let tokens: usize = embeddings.iter().map(|embedding| embedding.token_count).sum();
    let metadata = proto::Metadata {
        compute_chars: chars as u32,
        compute_tokens: tokens as u32,
        total_time_ns: nanoseconds(timings.total),
        tokenization_time_ns: nanoseconds(timings.tokenize),
        queue_time_ns: nanoseconds(timings.queue),
        inference_time_ns: nanoseconds(timings.infer),
    };
    let embeddings = embeddings.into_iter().flat_map(|embedding| embedding.values).collect();
    proto::EmbedResponse { embeddings, metadata: Some(metadata) }
}

/// The reply, with its metadata repeated in the headers.
pub(super) fn with_headers(message: proto::EmbedResponse) -> Response<proto::EmbedResponse> {
    let metadata = message.metadata.unwrap_or_default();
    let mut response = Response::new(message);
    *response.metadata_mut() = headers(&metadata);
    response
}

/// Durations are in whole milliseconds.
fn headers(metadata: &proto::Metadata) -> MetadataMap {
    let milliseconds = |nanoseconds: u64| nanoseconds / 1_000_000;
    let numbers = [
        ("x-compute-characters", metadata.compute_chars.into()),
        ("x-compute-tokens", metadata.compute_tokens.into()),
        ("x-compute-time", milliseconds(metadata.total_time_ns)),
        ("x-total-time", milliseconds(metadata.total_time_ns)),
        ("x-tokenization-time", milliseconds(metadata.tokenization_time_ns)),
        ("x-queue-time", milliseconds(metadata.queue_time_ns)),
        ("x-inference-time", milliseconds(metadata.inference_time_ns)),
    ];
    let mut headers = MetadataMap::new();
    headers.insert("x-compute-type", MetadataValue::from_static("cpu"));
    for (name, number) in numbers {
        headers.insert(name, MetadataValue::from(number));
    }
    headers
}

/// Every duration within a request fits.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn token(token: Token) -> proto::SimpleToken {
    proto::SimpleToken {
        id: token.id,
        text: token.text,
        special: token.bytes.is_none(),
        start: token.bytes.as_ref().map(|bytes| bytes.start as u32),
        stop: token.bytes.as_ref().map(|bytes| bytes.end as u32),
    }
}

pub(super) fn info(embedder: &Embedder) -> proto::InfoResponse {
    let model = embedder.model();
    let batch = embedder.batch_limits();
    proto::InfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha: None,
        docker_label: None,
        model_id: model.names.main().to_owned(),
        model_sha: Some(model.revision.clone()),
        model_dtype: model.dtype().to_owned(),
        model_type: proto::ModelType::Embedding.into(),
        max_concurrent_requests: embedder.queue_limits().ahead.get() as u32,
        max_input_length: embedder.max_tokens() as u32,
        max_batch_tokens: batch.tokens.get() as u32,
        max_batch_requests: Some(batch.texts.get() as u32),
        max_client_batch_size: embedder.limits().max_texts.get() as u32,
        tokenization_workers: Handle::current().metrics().num_workers() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{Embedding, Timeline, Timings};

    #[test]
    fn the_metadata_is_in_the_message_and_in_the_headers() {
        let micros = Duration::from_micros;
        let timings =
            Timings { tokenize: micros(1_999), queue: micros(2_000), infer: micros(30_500), total: micros(40_001) };
        let embedding = Embedding { values: vec![0.6, 0.8], token_count: 7, truncated: true, cached: false };
        let embedded = Embedded { embeddings: vec![embedding], timings, timeline: Timeline::default() };
        let reply = with_headers(super::embedded(embedded, 21));
        let header = |name: &str| reply.metadata().get(name).expect(name).to_str().expect("text");
        let expected = [
            ("x-compute-type", "cpu"),
            ("x-compute-characters", "21"),
            ("x-compute-tokens", "7"),
            ("x-compute-time", "40"),
            ("x-total-time", "40"),
            ("x-tokenization-time", "1"),
            ("x-queue-time", "2"),
            ("x-inference-time", "30"),
        ];
        for (name, value) in expected {
            assert_eq!(header(name), value, "{name}");
        }
        let metadata = proto::Metadata {
            compute_chars: 21,
            compute_tokens: 7,
            total_time_ns: 40_001_000,
            tokenization_time_ns: 1_999_000,
            queue_time_ns: 2_000_000,
            inference_time_ns: 30_500_000,
        };
        let message = proto::EmbedResponse { embeddings: vec![0.6, 0.8], metadata: Some(metadata) };
        assert_eq!(reply.into_inner(), message);
    }

    #[test]
    fn tokens_that_cover_no_part_of_the_text_are_special() {
        let word = Token { id: 9, text: "word".to_owned(), bytes: Some(3..7) };
        let special = Token { id: 0, text: "<s>".to_owned(), bytes: None };
        let expected = [
            proto::SimpleToken { id: 9, text: "word".to_owned(), special: false, start: Some(3), stop: Some(7) },
            proto::SimpleToken { id: 0, text: "<s>".to_owned(), special: true, start: None, stop: None },
        ];
        assert_eq!([word, special].map(token), expected);
    }
}
