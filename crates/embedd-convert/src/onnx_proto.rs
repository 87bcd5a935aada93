//! The messages of the ONNX file format that embedd uses, generated from `proto/onnx/onnx.proto`.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
