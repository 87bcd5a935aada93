//! Which protocols there are, and what reflection and health say of each.

use embedd_proto as proto;
use embedd_proto::open_inference::grpc_inference_service_server::SERVICE_NAME as INFERENCE;
use embedd_proto::tei::embed_server::SERVICE_NAME as TEI_EMBED;
use embedd_proto::tei::info_server::SERVICE_NAME as TEI_INFO;
use embedd_proto::tei::tokenize_server::SERVICE_NAME as TEI_TOKENIZE;

/// A protocol of a listener.
#[derive(Debug)]
pub(super) struct Protocol {
    /// Its services, as gRPC names them.
    pub(super) services: &'static [&'static str],
    /// The files that describe them.
    pub(super) descriptors: &'static [u8],
}

/// `embedd.v1`, for callers.
pub(super) const EMBEDDING: Protocol =
    Protocol { services: &[proto::embedding_service_server::SERVICE_NAME], descriptors: proto::FILE_DESCRIPTOR_SET };
/// `embedd.v1`, for those who run the server.
pub(super) const ADMIN: Protocol =
    Protocol { services: &[proto::admin_service_server::SERVICE_NAME], descriptors: proto::FILE_DESCRIPTOR_SET };
/// `tei.v1`.
const TEI: Protocol =
    Protocol { services: &[TEI_INFO, TEI_EMBED, TEI_TOKENIZE], descriptors: proto::tei::FILE_DESCRIPTOR_SET };
/// `inference`.
const OPEN_INFERENCE: Protocol =
    Protocol { services: &[INFERENCE], descriptors: proto::open_inference::FILE_DESCRIPTOR_SET };

/// What the listener for callers speaks beside `embedd.v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocols {
    /// That of text-embeddings-inference, `tei.v1`.
    pub tei: bool,
    /// The Open Inference Protocol, `inference`.
    pub open_inference: bool,
}

impl Protocols {
    /// All that the listener for callers speaks.
    pub(super) fn spoken(self) -> impl Iterator<Item = &'static Protocol> {
        let others = [(self.tei, &TEI), (self.open_inference, &OPEN_INFERENCE)];
        std::iter::once(&EMBEDDING).chain(others.into_iter().filter_map(|(spoken, other)| spoken.then_some(other)))
    }
}
