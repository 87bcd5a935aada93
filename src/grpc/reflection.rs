//! Reflection, v1 and v1alpha: lets grpcurl and its like discover what a listener serves.

use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::v1alpha::{
    ServerReflection as ServerReflectionAlpha, ServerReflectionServer as ServerReflectionServerAlpha,
};

use super::MAX_NAME_REQUEST_BYTES;
use super::protocols::Protocol;

const HEALTH: &str = "grpc.health.v1.Health";
const V1: &str = "grpc.reflection.v1.ServerReflection";
const V1_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// Both versions of the service, where they are wanted, on a listener that speaks these protocols.
pub(super) fn services(
    wanted: bool,
    protocols: &[&Protocol],
) -> (
    Option<ServerReflectionServer<impl ServerReflection>>,
    Option<ServerReflectionServerAlpha<impl ServerReflectionAlpha>>,
) {
    // The descriptors are part of the program: they decode, which a test sees to.
    let v1 = wanted.then(|| builder(protocols).build_v1().ok()).flatten();
    let v1alpha = wanted.then(|| builder(protocols).build_v1alpha().ok()).flatten();
    (
        v1.map(|service| service.max_decoding_message_size(MAX_NAME_REQUEST_BYTES)),
        v1alpha.map(|service| service.max_decoding_message_size(MAX_NAME_REQUEST_BYTES)),
    )
}

fn builder(protocols: &[&Protocol]) -> Builder<'static> {
    let common = Builder::configure()
        // Without it, clients cannot read the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .include_reflection_service(false)
        .with_service_name(HEALTH)
        .with_service_name(V1)
        .with_service_name(V1_ALPHA);
    protocols.iter().fold(common, |builder, protocol| {
        let builder = builder.register_encoded_file_descriptor_set(protocol.descriptors);
        protocol.services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    })
}

#[cfg(test)]
mod tests {
    use super::super::protocols::{ADMIN, Protocols};
    use super::*;

    #[test]
    fn the_descriptors_decode() {
        let spoken: Vec<&Protocol> = Protocols { tei: true, open_inference: true }.spoken().collect();
        for protocols in [&spoken[..], &[&ADMIN]] {
            builder(protocols).build_v1().map(|_| ()).expect("v1");
            builder(protocols).build_v1alpha().map(|_| ()).expect("v1alpha");
        }
    }
}
