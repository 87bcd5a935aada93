//! `tei.v1`: the embedding services of the gRPC protocol of text-embeddings-inference.

use tonic::{Request, Response, Status, Streaming};

use super::calls::Calls;
use super::replies::Replies;
use super::status;
use crate::caller::Caller;
use crate::trace::Span;
use embedd_proto::tei as proto;
use embedd_proto::tei::embed_server::Embed;
use embedd_proto::tei::info_server::Info;
use embedd_proto::tei::tokenize_server::Tokenize;

mod read;
mod write;

use read::INPUTS;

const NO_SPARSE_VECTORS: &str = "the model does not produce sparse vectors; use Embed for dense ones";
const NO_TOKEN_VECTORS: &str = "the engine does not return token embeddings; use Embed for one embedding per text";

/// Memory of the tokens of a text for each of its bytes: with punctuation, a token for every one to three bytes.
const TOKENS_BYTES_PER_BYTE: usize = 64;

/// All services of the protocol.
#[derive(Debug, Clone)]
pub(super) struct Tei {
    pub(super) calls: Calls,
}

impl Tei {
    async fn embed(
        &self,
        request: proto::EmbedRequest,
        caller: &Caller,
        call: &Span,
    ) -> Result<proto::EmbedResponse, Status> {
        let embedder = self.calls.embedder()?;
        let chars = request.inputs.chars().count();
        let request = read::embed(request, &embedder)?;
        let embedded = self.calls.embed(&embedder, request, INPUTS, caller, call).await?;
        Ok(write::embedded(embedded, chars))
    }

    async fn tokenize(&self, request: proto::EncodeRequest, caller: &Caller) -> Result<proto::EncodeResponse, Status> {
        let embedder = self.calls.embedder()?;
        let with_special_tokens = request.add_special_tokens;
        let text = read::tokenize(request, &embedder)?;
        let bytes: usize = text.as_slice().iter().map(String::len).sum();
        let reservation = caller.reserve_reply(bytes * TOKENS_BYTES_PER_BYTE).await.map_err(status::exhausted)?;
        let tokens = embedder.tokens(&text, with_special_tokens, caller).await;
        let tokens = tokens.map_err(|error| status::from_embed_error(&error, INPUTS))?;
        caller.replies(reservation);
        Ok(proto::EncodeResponse { tokens: tokens.into_iter().flatten().map(write::token).collect() })
    }

    async fn decode(&self, request: &proto::DecodeRequest, caller: &Caller) -> Result<proto::DecodeResponse, Status> {
        let embedder = self.calls.embedder()?;
        read::check_ids(&request.ids, &embedder)?;
        let text = embedder.decode(&request.ids, !request.skip_special_tokens, caller).await;
        Ok(proto::DecodeResponse { text: text.map_err(|error| status::from_decode_failure(&error))? })
    }
}

#[tonic::async_trait]
impl Info for Tei {
    async fn info(&self, _: Request<proto::InfoRequest>) -> Result<Response<proto::InfoResponse>, Status> {
        Ok(Response::new(write::info(&*self.calls.embedder()?)))
    }
}

#[tonic::async_trait]
impl Embed for Tei {
    async fn embed(&self, request: Request<proto::EmbedRequest>) -> Result<Response<proto::EmbedResponse>, Status> {
        let call = Span::of(request.extensions());
        let caller = self.calls.caller(&request)?;
        self.embed(request.into_inner(), &caller, &call).await.map(write::with_headers)
    }

    type EmbedStreamStream = Replies<proto::EmbedResponse>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<proto::EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let answer = |service: Self, request, caller, call| async move { service.embed(request, &caller, &call).await };
        self.calls.stream(request, self, answer, Err)
    }

    async fn embed_sparse(
        &self,
        _: Request<proto::EmbedSparseRequest>,
    ) -> Result<Response<proto::EmbedSparseResponse>, Status> {
        Err(status::unimplemented(NO_SPARSE_VECTORS))
    }

    type EmbedSparseStreamStream = Replies<proto::EmbedSparseResponse>;

    async fn embed_sparse_stream(
        &self,
        _: Request<Streaming<proto::EmbedSparseRequest>>,
    ) -> Result<Response<Self::EmbedSparseStreamStream>, Status> {
        Err(status::unimplemented(NO_SPARSE_VECTORS))
    }

    async fn embed_all(&self, _: Request<proto::EmbedAllRequest>) -> Result<Response<proto::EmbedAllResponse>, Status> {
        Err(status::unimplemented(NO_TOKEN_VECTORS))
    }

    type EmbedAllStreamStream = Replies<proto::EmbedAllResponse>;

    async fn embed_all_stream(
        &self,
        _: Request<Streaming<proto::EmbedAllRequest>>,
    ) -> Result<Response<Self::EmbedAllStreamStream>, Status> {
        Err(status::unimplemented(NO_TOKEN_VECTORS))
    }
}

#[tonic::async_trait]
impl Tokenize for Tei {
    async fn tokenize(
        &self,
        request: Request<proto::EncodeRequest>,
    ) -> Result<Response<proto::EncodeResponse>, Status> {
        let caller = self.calls.caller(&request)?;
        self.tokenize(request.into_inner(), &caller).await.map(Response::new)
    }

    type TokenizeStreamStream = Replies<proto::EncodeResponse>;

    async fn tokenize_stream(
        &self,
        request: Request<Streaming<proto::EncodeRequest>>,
    ) -> Result<Response<Self::TokenizeStreamStream>, Status> {
        let answer = |service: Self, request, caller, _| async move { service.tokenize(request, &caller).await };
        self.calls.stream(request, self, answer, Err)
    }

    async fn decode(&self, request: Request<proto::DecodeRequest>) -> Result<Response<proto::DecodeResponse>, Status> {
        let caller = self.calls.caller(&request)?;
        self.decode(&request.into_inner(), &caller).await.map(Response::new)
    }

    type DecodeStreamStream = Replies<proto::DecodeResponse>;

    async fn decode_stream(
        &self,
        request: Request<Streaming<proto::DecodeRequest>>,
    ) -> Result<Response<Self::DecodeStreamStream>, Status> {
        let answer = |service: Self, request, caller, _| async move { service.decode(&request, &caller).await };
        self.calls.stream(request, self, answer, Err)
    }
}
