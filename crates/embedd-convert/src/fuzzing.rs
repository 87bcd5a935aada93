//! Functions that must accept any bytes. `fuzz/` runs them under libFuzzer, and the tests below with mutations of valid
//! files.

use std::fs;

use crate::weights::Weights;

/// The weights of a checkpoint. If they are accepted, every tensor has the values that its shape requires.
pub fn safetensors(bytes: &[u8]) {
    weights("model.safetensors", bytes);
}

/// The same, in the two formats of `torch.save`.
pub fn pytorch(bytes: &[u8]) {
    weights("pytorch_model.bin", bytes);
}

fn weights(file: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(file);
    fs::write(&path, bytes).expect("a file");
    if let Ok(weights) = Weights::open(&path) {
        weights.read_all();
    }
}

#[cfg(test)]
mod tests;
