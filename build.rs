//! Compiles the .proto files: the protocols that are served, each with its file descriptors (for reflection), and ONNX's
//! messages.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;

/// A name for the descriptors, and the files.
const PROTOCOLS: [(&str, &[&str]); 3] = [
    ("embedd_v1", &["embedd/v1/embedding.proto", "embedd/v1/admin.proto"]),
    ("tei_v1", &["tei/v1/tei.proto"]),
    ("open_inference", &["inference/open_inference.proto"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    for (name, files) in PROTOCOLS {
        let protocol = protox::compile(files, ["proto"])?;
        fs::write(out.join(format!("{name}_descriptor.bin")), protocol.encode_to_vec())?;
        // One type for statuses, ours and those of tonic-types.
        tonic_prost_build::configure().extern_path(".google.rpc", "::tonic_types::pb").compile_fds(protocol)?;
    }

    let onnx = protox::compile(["onnx/onnx.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(onnx)?;
    Ok(())
}
