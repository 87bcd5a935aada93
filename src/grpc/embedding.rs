//! `embedd.v1.EmbeddingService`.

use std::time::Duration;

use tonic::{Request, Response, Status, Streaming};

use super::calls::{Calls, unknown_value};
use super::limits::TransportLimits;
use super::replies::Replies;
use super::status;
use crate::caller::Caller;
use crate::embed::{Embedded, Embedder, TokenCount};
use crate::encoding::{Encoder, Encoding};
use crate::request::{EmbedOptions, EmbedRequest, TextField, Texts, TruncationChoice, Violations};
use crate::trace::Span;
use embedd_model::PromptChoice;
use embedd_model::tokenize::Truncation;
use embedd_proto as proto;
use embedd_proto::embedding_service_server::EmbeddingService;

#[derive(Debug, Clone)]
pub(super) struct Embedding {
    pub(super) calls: Calls,
    pub(super) limits: TransportLimits,
}

impl Embedding {
    /// Answers one request of `Embed` or `EmbedStream`.
    async fn answer(
        &self,
        request: proto::EmbedRequest,
        caller: &Caller,
        call: &Span,
    ) -> Result<proto::EmbedResponse, Status> {
        let embedder = self.calls.embedder()?;
        let (request, encoder) = read_embed_request(request, &embedder)?;
        let embedded = self.calls.embed(&embedder, request, TextField::default(), caller, call).await?;
        Ok(write_embedded(embedded, encoder.as_ref(), &embedder))
    }

    async fn count(
        &self,
        request: proto::CountTokensRequest,
        caller: &Caller,
    ) -> Result<proto::CountTokensResponse, Status> {
        let embedder = self.calls.embedder()?;
        let mut violations = Violations::default();
        let texts = Texts::check(request.texts, embedder.limits(), &mut violations)
            .ok_or_else(|| status::invalid(&violations))?;
        let counts = embedder.count_tokens(&texts, caller).await;
        let counts = counts.map_err(|error| status::from_embed_error(&error, TextField::default()))?;
        Ok(proto::CountTokensResponse { counts: counts.iter().map(write_count).collect() })
    }
}

#[tonic::async_trait]
impl EmbeddingService for Embedding {
    async fn embed(&self, request: Request<proto::EmbedRequest>) -> Result<Response<proto::EmbedResponse>, Status> {
        let call = Span::of(request.extensions());
        let caller = self.calls.caller(&request)?;
        self.answer(request.into_inner(), &caller, &call).await.map(Response::new)
    }

    type EmbedStreamStream = Replies<proto::EmbedResponse>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<proto::EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let answer =
            |service: Self, request, caller, call| async move { service.answer(request, &caller, &call).await };
        self.calls.stream(request, self, answer, |status| Ok(error_reply(&status)))
    }

    async fn count_tokens(
        &self,
        request: Request<proto::CountTokensRequest>,
    ) -> Result<Response<proto::CountTokensResponse>, Status> {
        let caller = self.calls.caller(&request)?;
        self.count(request.into_inner(), &caller).await.map(Response::new)
    }

    async fn get_model(&self, _: Request<proto::GetModelRequest>) -> Result<Response<proto::GetModelResponse>, Status> {
        Ok(Response::new(describe(&*self.calls.embedder()?, self.limits)))
    }
}

/// The reply to a failed request of a stream. The stream continues.
fn error_reply(status: &Status) -> proto::EmbedResponse {
    proto::EmbedResponse { error: Some(status::to_message(status)), ..proto::EmbedResponse::default() }
}

/// The validated request, and the encoder of its vectors unless they are numbers.
fn read_embed_request(
    request: proto::EmbedRequest,
    embedder: &Embedder,
) -> Result<(EmbedRequest, Option<Encoder>), Status> {
    let mut violations = Violations::default();
    let truncation = read_truncation(request.truncation, embedder.model().default_truncation, &mut violations);
    let encoding = proto::Encoding::try_from(request.encoding).unwrap_or_else(|_| {
        violations.add("encoding", unknown_value(request.encoding));
        proto::Encoding::Unspecified
    });
    let options = EmbedOptions {
        normalize: request.normalize.unwrap_or(true),
        truncation,
        prompt: PromptChoice::of(request.prompt_name),
        dimensions: request.dimensions,
        skip_cache: request.skip_cache,
    };
    let ranges = embedder.model().ranges.as_deref();
    let encoder = packed(encoding)
        .map(|encoding| encoding.encoder(ranges, &options, embedder.limits(), "encoding", &mut violations));
    let prompts = &embedder.model().prompts;
    let valid = EmbedRequest::check(request.texts, options, embedder.limits(), prompts, &mut violations);
    match valid {
        Some(valid) if violations.is_empty() => Ok((valid, encoder)),
        _ => Err(status::invalid(&violations)),
    }
}

fn read_truncation(value: i32, default: Truncation, violations: &mut Violations) -> TruncationChoice {
    match proto::Truncation::try_from(value) {
        Ok(proto::Truncation::Unspecified) => TruncationChoice::Default(default),
        Ok(proto::Truncation::End) => TruncationChoice::Requested(Truncation::End),
        Ok(proto::Truncation::Start) => TruncationChoice::Requested(Truncation::Start),
        Ok(proto::Truncation::Reject) => TruncationChoice::Requested(Truncation::Reject),
        Err(_) => {
            violations.add("truncation", unknown_value(value));
            TruncationChoice::Default(default)
        }
    }
}

fn write_truncation(truncation: Truncation) -> proto::Truncation {
    match truncation {
        Truncation::End => proto::Truncation::End,
        Truncation::Start => proto::Truncation::Start,
        Truncation::Reject => proto::Truncation::Reject,
    }
}

fn write_embedded(embedded: Embedded, encoder: Option<&Encoder>, embedder: &Embedder) -> proto::EmbedResponse {
    let timings = embedded.timings;
    let embeddings = embedded
        .embeddings
        .into_iter()
        .map(|embedding| {
            let (values, packed) = match encoder {
                Some(encoder) => (Vec::new(), encoder.pack(&embedding.values)),
                None => (embedding.values, Vec::new()),
            };
            proto::Embedding {
                values,
                packed,
                token_count: embedding.token_count as u32,
                truncated: embedding.truncated,
                cached: embedding.cached,
            }
        })
        .collect();
    proto::EmbedResponse {
        embeddings,
        model: embedder.model().names.main().to_owned(),
        timings: Some(proto::Timings {
            tokenize: write_duration(timings.tokenize),
            queue: write_duration(timings.queue),
            infer: write_duration(timings.infer),
            total: write_duration(timings.total),
        }),
        error: None,
    }
}

/// The encoding of packed vectors; `None` for numbers.
fn packed(encoding: proto::Encoding) -> Option<Encoding> {
    match encoding {
        proto::Encoding::Unspecified | proto::Encoding::Float => None,
        proto::Encoding::Bytes => Some(Encoding::Float),
        proto::Encoding::Float16 => Some(Encoding::Float16),
        proto::Encoding::Binary => Some(Encoding::Binary),
        proto::Encoding::Ubinary => Some(Encoding::Ubinary),
        proto::Encoding::Int8 => Some(Encoding::Int8),
        proto::Encoding::Uint8 => Some(Encoding::Uint8),
    }
}

/// Every duration within a request fits the message.
fn write_duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn write_count(count: &TokenCount) -> proto::TokenCount {
    proto::TokenCount { token_count: count.tokens as u32, exceeds_max_tokens: count.exceeds_max }
}

fn describe(embedder: &Embedder, transport: TransportLimits) -> proto::GetModelResponse {
    let model = embedder.model();
    let limits = embedder.limits();
    proto::GetModelResponse {
        name: model.names.main().to_owned(),
        revision: model.revision.clone(),
        dimension: limits.dimension as u32,
        max_tokens: embedder.max_tokens() as u32,
        engine: model.variant.to_string(),
        instruction_set: model.instruction_set.clone(),
        quantization: model.quantization.clone(),
        accuracy: model.accuracy.map(|accuracy| proto::Accuracy {
            texts: accuracy.texts,
            min_cosine: accuracy.min_cosine,
            mean_cosine: accuracy.mean_cosine,
        }),
        limits: Some(proto::Limits {
            max_texts: limits.max_texts.get() as u32,
            max_text_bytes: limits.max_text_bytes as u64,
            max_message_bytes: transport.max_message_bytes as u64,
            max_concurrent_streams: transport.max_concurrent_streams,
            max_header_bytes: transport.max_header_bytes,
        }),
        pooling: model.pooling.to_string(),
        default_truncation: write_truncation(model.default_truncation).into(),
        runtime: Some(proto::Runtime {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            onnxruntime_version: model.runtime_version.clone(),
            sessions: model.sessions as u32,
            threads_per_session: model.threads as u32,
        }),
        prompt_names: model.prompts.names().map(str::to_owned).collect(),
        default_prompt_name: model.prompts.default_name().map(str::to_owned),
        aliases: model.names.aliases().to_vec(),
        device: model.device(),
    }
}
