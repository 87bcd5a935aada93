//! The messages, clients and servers of the protocols that are served, generated from `proto/`: `embedd.v1` here, those
//! of others in modules of their own.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]

tonic::include_proto!("embedd.v1");

/// The protocol's file descriptors, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/embedd_v1_descriptor.bin"));

/// text-embeddings-inference's, as far as it is served.
pub mod tei {
    tonic::include_proto!("tei.v1");

    /// The protocol's file descriptors, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tei_v1_descriptor.bin"));
}

/// The Open Inference Protocol.
pub mod open_inference {
    tonic::include_proto!("inference");

    /// The protocol's file descriptors, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/open_inference_descriptor.bin"));
}

#[cfg(test)]
mod tests;
