//! Messages, clients and servers of the supported protocols, generated from `proto/`: `embedd.v1` at the root, the others
//! in modules of their own. Also defines their codec, request ids, and the names of gRPC codes, which all users need.

pub mod codec;
pub mod codes;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod request_id;

mod generated {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]

    tonic::include_proto!("embedd.v1");
}
pub use generated::*;

/// File descriptors of the protocol, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/embedd_v1_descriptor.bin"));

/// The protocol of text-embeddings-inference, except for the services that embedd does not offer.
pub mod tei {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]

    tonic::include_proto!("tei.v1");

    /// File descriptors of the protocol, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tei_v1_descriptor.bin"));
}

/// The Open Inference Protocol.
pub mod open_inference {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]

    tonic::include_proto!("inference");

    /// File descriptors of the protocol, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/open_inference_descriptor.bin"));
}

#[cfg(test)]
mod tests;
