//! The gRPC API's messages, clients and servers, generated from `proto/embedd/v1/`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]

tonic::include_proto!("embedd.v1");

/// The API's file descriptors, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/embedd_v1_descriptor.bin"));
