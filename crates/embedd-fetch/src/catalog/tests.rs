use super::*;
use embedd_common::checksum::Sha256Hex;

fn members() -> impl Iterator<Item = Member> {
    let runtimes = RUNTIMES.iter().map(|runtime| runtime.member);
    runtimes.chain(MPNET_PARTS.iter().copied())
}

#[test]
fn every_checksum_is_valid() {
    let pins = MODELS.iter().flat_map(|model| model.pins).map(|pin| pin.sha256);
    let packages = members().filter_map(|member| member.package.sha256);
    for sha256 in pins.chain(packages).chain(members().map(|member| member.sha256)) {
        assert_eq!(sha256.parse::<Sha256Hex>().expect("a digest").as_str(), sha256, "a digest in lowercase");
    }
}

#[test]
fn the_parts_add_up_to_the_zip_file() {
    assert_eq!(MPNET_PARTS.iter().map(|part| part.bytes).sum::<u64>(), 404_421_332);
}
