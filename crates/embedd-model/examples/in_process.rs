//! Embeds texts in this process: `cargo run --release -p embedd-model --example in_process -- LIBRARY BUNDLE TEXT...`
//!
//! `embedd fetch` prints the path of the ONNX Runtime library, `embedd convert` the path of the bundle.

use std::error::Error;

use embedd_model::{Model, OnnxRuntime, SessionOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, bundle, texts @ ..] = arguments.as_slice() else {
        return Err("usage: in_process LIBRARY BUNDLE TEXT...".into());
    };
    let runtime = OnnxRuntime::load(library.as_ref())?;
    let options = SessionOptions { threads: std::thread::available_parallelism()? };
    let mut model = Model::open(bundle.as_ref(), &runtime, options)?;
    for (text, embedding) in texts.iter().zip(model.embed(texts)?.rows()) {
        println!("{text}: {} values, {:.4?}...", embedding.len(), &embedding.to_vec()[..4]);
    }
    Ok(())
}
