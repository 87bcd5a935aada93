use embedd_common::mutation;

use super::*;

const BODIES: [&[u8]; 7] = [
    include_bytes!("../../fuzz/seeds/http_body/openai.json"),
    include_bytes!("../../fuzz/seeds/http_body/openai-single.json"),
    include_bytes!("../../fuzz/seeds/http_body/openai-ids.json"),
    include_bytes!("../../fuzz/seeds/http_body/tei.json"),
    include_bytes!("../../fuzz/seeds/http_body/similarity.json"),
    include_bytes!("../../fuzz/seeds/http_body/cohere.json"),
    include_bytes!("../../fuzz/seeds/http_body/infer.json"),
];
const TENSORS: [&[u8]; 2] =
    [include_bytes!("../../fuzz/seeds/tensors/typed.bin"), include_bytes!("../../fuzz/seeds/tensors/raw.bin")];
const SETTINGS: &[u8] = include_bytes!("../../fuzz/seeds/settings_file/service.toml");

#[test]
fn any_body_of_an_http_request_is_read_or_rejected() {
    let is_valid = |body: &&[u8]| http::read_body(body, &model(), &LIMITS).iter().any(Result::is_ok);
    assert_eq!(BODIES.iter().filter(|body| is_valid(body)).count(), BODIES.len());
    mutation::check(&BODIES, 20_000, http_body);
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
