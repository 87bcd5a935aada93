use embedd_common::mutation;

use super::*;

const BODIES: [&[u8]; 2] = [
    include_bytes!("../../fuzz/seeds/openai_body/list.json"),
    include_bytes!("../../fuzz/seeds/openai_body/single.json"),
];
const TENSORS: [&[u8]; 2] =
    [include_bytes!("../../fuzz/seeds/tensors/typed.bin"), include_bytes!("../../fuzz/seeds/tensors/raw.bin")];
const SETTINGS: &[u8] = include_bytes!("../../fuzz/seeds/settings_file/service.toml");

#[test]
fn any_openai_body_is_read_or_rejected() {
    assert!(BODIES.iter().all(|body| http::read_openai_body(body, &model(), &LIMITS).is_ok()));
    mutation::check(&BODIES, 20_000, openai_body);
}

#[test]
fn any_tensors_are_read_or_rejected() {
    let read = |bytes: &[u8]| {
        open_inference::read_tensors(embedd_proto::codec::decode(bytes).ok()?, Truncation::End, &LIMITS).ok()
    };
    assert!(TENSORS.iter().all(|bytes| read(bytes).is_some()));
    mutation::check(&TENSORS, 20_000, tensors);
}

#[test]
fn any_settings_file_is_read_or_rejected() {
    assert!(resolve(str::from_utf8(SETTINGS).expect("UTF-8")).is_ok());
    mutation::check(&[SETTINGS], 5000, settings_file);
}
