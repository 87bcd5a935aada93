//! Compiles the .proto files: the gRPC API with its file descriptors (for reflection), and ONNX's messages.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let api = protox::compile(["embedd/v1/embedding.proto", "embedd/v1/admin.proto"], ["proto"])?;
    fs::write(out.join("embedd_v1_descriptor.bin"), api.encode_to_vec())?;
    // One type for statuses, ours and those of tonic-types.
    tonic_prost_build::configure().extern_path(".google.rpc", "::tonic_types::pb").compile_fds(api)?;

    let onnx = protox::compile(["onnx/onnx.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(onnx)?;
    Ok(())
}
