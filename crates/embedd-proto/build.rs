//! Generates code for each protocol, and its file descriptors for server reflection.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;

const PROTO: &str = "../../proto";
/// The name of each descriptor set, and the files in it.
const PROTOCOLS: [(&str, &[&str]); 3] = [
    ("embedd_v1", &["embedd/v1/embedding.proto", "embedd/v1/admin.proto"]),
    ("tei_v1", &["tei/v1/tei.proto"]),
    ("open_inference", &["inference/open_inference.proto"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    for (name, files) in PROTOCOLS {
        let protocol = protox::compile(files, [PROTO])?;
        fs::write(out.join(format!("{name}_descriptor.bin")), protocol.encode_to_vec())?;
        // Our statuses and tonic-types use the same type.
        let generate = tonic_prost_build::configure()
            .extern_path(".google.rpc", "::tonic_types::pb")
            .codec_path("crate::codec::MeasuringCodec");
        // The codec finds the shape of a message by its name.
        let mut config = prost_build::Config::new();
        config.enable_type_names();
        generate.compile_fds_with_config(protocol, config)?;
    }
    Ok(())
}
