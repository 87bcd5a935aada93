//! The protocols that listeners speak, with the names and descriptors that health and reflection need.

use embedd_proto as proto;
use embedd_proto::open_inference::grpc_inference_service_server::SERVICE_NAME as INFERENCE;
use embedd_proto::tei::embed_server::SERVICE_NAME as TEI_EMBED;
use embedd_proto::tei::info_server::SERVICE_NAME as TEI_INFO;
use embedd_proto::tei::tokenize_server::SERVICE_NAME as TEI_TOKENIZE;

#[derive(Debug)]
pub(super) struct Protocol {
    /// The full names of its services.
    pub(super) services: &'static [&'static str],
    /// The encoded descriptor set of its files.
    pub(super) descriptors: &'static [u8],
}

/// `embedd.v1`, the embedding service.
pub(super) const EMBEDDING: Protocol =
    Protocol { services: &[proto::embedding_service_server::SERVICE_NAME], descriptors: proto::FILE_DESCRIPTOR_SET };
/// `embedd.v1`, the admin service.
pub(super) const ADMIN: Protocol =
    Protocol { services: &[proto::admin_service_server::SERVICE_NAME], descriptors: proto::FILE_DESCRIPTOR_SET };
const TEI: Protocol =
    Protocol { services: &[TEI_INFO, TEI_EMBED, TEI_TOKENIZE], descriptors: proto::tei::FILE_DESCRIPTOR_SET };
const OPEN_INFERENCE: Protocol =
    Protocol { services: &[INFERENCE], descriptors: proto::open_inference::FILE_DESCRIPTOR_SET };

/// The protocols that the embedding listener serves in addition to `embedd.v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocols {
    /// The protocol of text-embeddings-inference, `tei.v1`.
    pub tei: bool,
    /// The Open Inference Protocol, `inference`.
    pub open_inference: bool,
}

impl Protocols {
    /// All protocols of the embedding listener.
    pub(super) fn enabled(self) -> impl Iterator<Item = &'static Protocol> {
        let others = [(self.tei, &TEI), (self.open_inference, &OPEN_INFERENCE)];
        std::iter::once(&EMBEDDING).chain(others.into_iter().filter_map(|(enabled, other)| enabled.then_some(other)))
    }
}
