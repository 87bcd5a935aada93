//! Reflection, v1 and v1alpha: lets grpcurl and its like discover what a listener serves.

use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::v1alpha::{
    ServerReflection as ServerReflectionAlpha, ServerReflectionServer as ServerReflectionServerAlpha,
};

use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::admin_service_server::SERVICE_NAME as ADMIN;
use crate::proto::embedding_service_server::SERVICE_NAME as EMBEDDING;

const HEALTH: &str = "grpc.health.v1.Health";
const V1: &str = "grpc.reflection.v1.ServerReflection";
const V1_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// The listener that is described.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reflection {
    Embedding,
    Admin,
}

/// Both versions of the service, where they are wanted.
pub(super) fn services(
    wanted: bool,
    listener: Reflection,
) -> (
    Option<ServerReflectionServer<impl ServerReflection>>,
    Option<ServerReflectionServerAlpha<impl ServerReflectionAlpha>>,
) {
    // The descriptors are part of the program: they decode, which a test sees to.
    let v1 = wanted.then(|| builder(listener).build_v1().ok()).flatten();
    let v1alpha = wanted.then(|| builder(listener).build_v1alpha().ok()).flatten();
    (v1, v1alpha)
}

fn builder(listener: Reflection) -> Builder<'static> {
    let service = match listener {
        Reflection::Embedding => EMBEDDING,
        Reflection::Admin => ADMIN,
    };
    Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        // Without it, clients cannot read the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .include_reflection_service(false)
        .with_service_name(service)
        .with_service_name(HEALTH)
        .with_service_name(V1)
        .with_service_name(V1_ALPHA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_decode() {
        for listener in [Reflection::Embedding, Reflection::Admin] {
            builder(listener).build_v1().map(|_| ()).expect("v1");
            builder(listener).build_v1alpha().map(|_| ()).expect("v1alpha");
        }
    }
}
