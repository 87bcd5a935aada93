//! The calls, with replies decoded no further than the test needs: vectors stay the bytes that came.

use std::time::Duration;

use prost::bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use embedd_client::Connection;
use embedd_proto::codes;
use embedd_proto::{EmbedRequest, Timings};

const EMBED: &str = "/embedd.v1.EmbeddingService/Embed";

/// EmbedResponse, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Reply {
    #[prost(message, repeated, tag = "1")]
    pub(super) embeddings: Vec<Vector>,
    #[prost(message, optional, tag = "3")]
    pub(super) timings: Option<Timings>,
}

/// Embedding, as far as it is read. Packed floats are bytes on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Vector {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) values: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) packed: Bytes,
    #[prost(uint32, tag = "3")]
    pub(super) token_count: u32,
    #[prost(bool, tag = "5")]
    pub(super) cached: bool,
}

impl Vector {
    /// The vector's bits, whichever way they came.
    pub(super) fn bits(&self) -> &Bytes {
        if self.packed.is_empty() { &self.values } else { &self.packed }
    }
}

/// Calls Embed over one connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    grpc: Grpc<Connection>,
    deadline: Option<Duration>,
}

impl Caller {
    pub(super) fn new(connection: Connection, deadline: Option<Duration>) -> Self {
        Self { grpc: Grpc::new(connection).max_decoding_message_size(usize::MAX), deadline }
    }

    pub(super) async fn embed(&mut self, message: EmbedRequest) -> Result<Reply, Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        let codec = ProstCodec::<EmbedRequest, Reply>::default();
        let answer = self.grpc.unary(request, PathAndQuery::from_static(EMBED), codec).await;
        answer.map(tonic::Response::into_inner).map_err(own_deadline)
    }
}

/// The transport tells of a deadline that passed on this side as of a call that was given up.
fn own_deadline(status: Status) -> Status {
    if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
        return Status::deadline_exceeded("no reply within --deadline");
    }
    status
}

/// A code as gRPC's documents write it: `RESOURCE_EXHAUSTED`.
pub(super) fn code_name(code: Code) -> &'static str {
    codes::code_name(code.into())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use embedd_proto::{EmbedResponse, Embedding};

    #[test]
    fn a_reply_is_read_from_what_the_server_writes_in_either_encoding() {
        let bits: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let floats = Embedding { values: vec![1.5, -2.0], token_count: 7, cached: true, ..Default::default() };
        let packed = Embedding { packed: bits.clone(), truncated: true, ..Default::default() };
        let timings = Some(Timings::default());
        let response =
            EmbedResponse { embeddings: vec![floats, packed], model: "a model".to_owned(), timings, error: None };
        let reply = Reply::decode(response.encode_to_vec().as_slice()).expect("decodes");
        assert_eq!(reply.embeddings.iter().map(|vector| vector.bits().to_vec()).collect::<Vec<_>>(), [&bits[..]; 2]);
        assert_eq!((reply.embeddings[0].token_count, reply.embeddings[0].cached), (7, true));
        assert!(reply.timings.is_some());
    }
}
