use embedd_common::mutation;

const WEIGHTS: &[u8] = include_bytes!("../../../../fuzz/seeds/safetensors/three-types.safetensors");

#[test]
fn any_weights_are_read_or_rejected() {
    mutation::check(&[WEIGHTS], 4000, super::safetensors);
}
