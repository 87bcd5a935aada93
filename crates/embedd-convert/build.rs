//! Compiles the messages of the ONNX file format.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto/onnx");
    let onnx = protox::compile(["onnx/onnx.proto"], ["../../proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(onnx)?;
    Ok(())
}
