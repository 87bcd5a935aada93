//! The protocols that listeners speak, with the names and descriptors that health and reflection need.

use crate::net::CallKind;
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

/// The methods whose clients may send no message for a long time.
const CLIENT_STREAMS: [&str; 8] = [
    "/embedd.v1.EmbeddingService/EmbedStream",
    "/tei.v1.Embed/EmbedStream",
    "/tei.v1.Embed/EmbedSparseStream",
    "/tei.v1.Embed/EmbedAllStream",
    "/tei.v1.Tokenize/TokenizeStream",
    "/tei.v1.Tokenize/DecodeStream",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

pub(crate) fn call_kind(path: &str) -> CallKind {
    match path {
        "/grpc.health.v1.Health/Check" => CallKind::Probe,
        "/grpc.health.v1.Health/Watch" => CallKind::Watch,
        _ => CallKind::Work,
    }
}

pub(super) fn is_client_stream(path: &str) -> bool {
    CLIENT_STREAMS.contains(&path)
}

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// The paths of the methods with streams of requests in a descriptor set.
    fn client_streams(descriptors: &[u8]) -> BTreeSet<String> {
        let files = FileDescriptorSet::decode(descriptors).expect("descriptors").file;
        let services = files.into_iter().flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().map(move |service| (package.clone(), service))
        });
        let methods = services.flat_map(|(package, service)| {
            let name = format!("/{package}.{}", service.name());
            service.method.into_iter().map(move |method| (name.clone(), method))
        });
        methods
            .filter(|(_, method)| method.client_streaming())
            .map(|(service, method)| format!("{service}/{}", method.name()))
            .collect()
    }

    #[test]
    fn all_methods_with_streams_of_requests_are_known() {
        let protocols = Protocols { tei: true, open_inference: true };
        let ours = protocols.enabled().chain([&ADMIN]).map(|protocol| protocol.descriptors);
        let all = ours.chain([
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ]);
        let expected: BTreeSet<String> = all.flat_map(client_streams).collect();
        // The Open Inference Protocol's stream is not part of the descriptors if its method is not served.
        assert_eq!(CLIENT_STREAMS.map(str::to_owned).into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
