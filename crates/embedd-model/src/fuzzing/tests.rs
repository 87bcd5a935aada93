use embedd_common::mutation;

use super::*;

const MANIFEST: &[u8] = include_bytes!("../../../../fuzz/seeds/manifest/minilm.json");
const TOKENIZERS: [&[u8]; 2] = [
    include_bytes!("../../../../fuzz/seeds/tokenizer/mpnet.json"),
    include_bytes!("../../../../fuzz/seeds/tokenizer/bert-mean.json"),
];
const WEIGHTS: &[u8] = include_bytes!("../../../../fuzz/seeds/native_weights/two-tensors.safetensors");

#[test]
fn any_manifest_is_read_or_rejected() {
    assert!(Bundle::open(in_folder(MANIFEST_FILE, MANIFEST).0.path()).is_ok());
    mutation::check(&[MANIFEST], 3000, manifest);
}

#[test]
fn any_tokenizer_is_loaded_or_rejected() {
    assert!(TOKENIZERS.iter().all(|file| load(file).is_ok()));
    mutation::check(&TOKENIZERS, 2000, tokenizer);
}

#[test]
fn any_native_weights_are_read_or_rejected() {
    mutation::check(&[WEIGHTS], 20_000, native_weights);
}
