//! Reflection, v1 and v1alpha: lets grpcurl and similar clients discover the services of a listener.

use tonic::service::RoutesBuilder;
use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::v1alpha::{
    ServerReflection as ServerReflectionAlpha, ServerReflectionServer as ServerReflectionServerAlpha,
};

use super::MAX_NAME_REQUEST_BYTES;
use super::auth::AuthInterceptor;
use super::protocols::Protocol;

const HEALTH: &str = "grpc.health.v1.Health";
const V1: &str = "grpc.reflection.v1.ServerReflection";
const V1_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

fn services(
    enabled: bool,
    protocols: &[&Protocol],
) -> (
    Option<ServerReflectionServer<impl ServerReflection>>,
    Option<ServerReflectionServerAlpha<impl ServerReflectionAlpha>>,
) {
    // The descriptors are compiled into the program, and a test builds both services from them.
    let v1 = enabled.then(|| builder(protocols).build_v1().expect("valid descriptors"));
    let v1alpha = enabled.then(|| builder(protocols).build_v1alpha().expect("valid descriptors"));
    (
        v1.map(|service| service.max_decoding_message_size(MAX_NAME_REQUEST_BYTES)),
        v1alpha.map(|service| service.max_decoding_message_size(MAX_NAME_REQUEST_BYTES)),
    )
}

/// Adds both versions of the service, if reflection is enabled.
pub(super) fn add_services(routes: &mut RoutesBuilder, auth: &AuthInterceptor, enabled: bool, protocols: &[&Protocol]) {
    let (v1, v1alpha) = services(enabled, protocols);
    if let Some(service) = v1 {
        routes.add_service(auth.protect(service));
    }
    if let Some(service) = v1alpha {
        routes.add_service(auth.protect(service));
    }
}

fn builder(protocols: &[&Protocol]) -> Builder<'static> {
    let common = Builder::configure()
        // Clients need it to decode the details of errors.
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
    fn both_services_can_be_built_for_every_listener() {
        let embedding: Vec<&Protocol> = Protocols { tei: true, open_inference: true }.enabled().collect();
        for protocols in [&embedding[..], &[&ADMIN]] {
            let (v1, v1alpha) = services(true, protocols);
            assert!(v1.is_some() && v1alpha.is_some());
            let (v1, v1alpha) = services(false, protocols);
            assert!(v1.is_none() && v1alpha.is_none());
        }
    }
}
