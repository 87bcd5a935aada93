//! Embed calls. Replies are decoded only as far as the test needs: vectors remain bytes.

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

/// The fields of EmbedResponse that are used.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Reply {
    #[prost(message, repeated, tag = "1")]
    pub(crate) embeddings: Vec<Vector>,
    #[prost(message, optional, tag = "3")]
    pub(crate) timings: Option<Timings>,
}

/// The fields of Embedding that are used. Packed floats are bytes on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Vector {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) values: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) packed: Bytes,
    #[prost(uint32, tag = "3")]
    pub(crate) token_count: u32,
    #[prost(bool, tag = "5")]
    pub(crate) cached: bool,
}

impl Vector {
    /// The bits of the vector in either encoding.
    pub(crate) fn bits(&self) -> &Bytes {
        if self.packed.is_empty() { &self.values } else { &self.packed }
    }
}

/// Calls Embed over one connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    grpc: Grpc<Connection>,
    deadline: Option<Duration>,
}

impl Caller {
    pub(crate) fn new(connection: Connection, deadline: Option<Duration>) -> Self {
        Self { grpc: Grpc::new(connection).max_decoding_message_size(usize::MAX), deadline }
    }

    pub(crate) async fn embed(&mut self, message: EmbedRequest) -> Result<Reply, Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        let codec = ProstCodec::<EmbedRequest, Reply>::default();
        let answer = self.grpc.unary(request, PathAndQuery::from_static(EMBED), codec).await;
        answer.map(tonic::Response::into_inner).map_err(client_deadline)
    }
}

/// When the deadline passes on the client's side, the transport reports a cancelled call. Turns it into DEADLINE_EXCEEDED.
fn client_deadline(status: Status) -> Status {
    if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
        return Status::deadline_exceeded("no reply within --deadline");
    }
    status
}

/// The name of a code as in gRPC's documentation: `RESOURCE_EXHAUSTED`.
pub(crate) fn code_name(code: Code) -> &'static str {
    codes::code_name(code.into())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use embedd_proto::{EmbedResponse, Embedding};

    #[test]
    fn replies_of_the_server_are_decoded_in_either_encoding() {
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
