use embedd_common::mutation;

const WEIGHTS: &[u8] = include_bytes!("../../../../fuzz/seeds/safetensors/three-types.safetensors");
const ARCHIVE: &[u8] = include_bytes!("../../../../fuzz/seeds/pytorch/archive.bin");
const LEGACY: &[u8] = include_bytes!("../../../../fuzz/seeds/pytorch/legacy.bin");

#[test]
fn any_weights_are_read_or_rejected() {
    mutation::check(&[WEIGHTS], 4000, super::safetensors);
}

#[test]
fn any_weights_of_pytorch_are_read_or_rejected() {
    mutation::check(&[ARCHIVE, LEGACY], 6000, super::pytorch);
}
