use std::collections::BTreeSet;

use super::*;
use embedd_common::checksum::Sha256Hex;

fn members() -> impl Iterator<Item = Member> {
    RUNTIMES.iter().flat_map(|runtime| runtime.members).chain(MPNET_PARTS).copied()
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

#[test]
fn the_library_and_its_dependencies_are_members() {
    for runtime in RUNTIMES {
        let files: BTreeSet<_> = runtime.members.iter().map(Member::file).collect();
        assert_eq!(files.len(), runtime.members.len(), "{}: two files with one name", runtime.version);
        for file in runtime.dependencies.iter().chain([&runtime.library]) {
            assert!(files.contains(file), "{}: {file}", runtime.version);
        }
    }
}

#[test]
fn the_members_of_a_package_are_consecutive() {
    for members in RUNTIMES.iter().map(|runtime| runtime.members).chain([MPNET_PARTS]) {
        let packages: BTreeSet<_> = members.iter().map(|member| member.package.name).collect();
        let downloads = members.chunk_by(|one, next| one.package == next.package);
        assert_eq!(downloads.count(), packages.len(), "{packages:?}");
    }
}

#[test]
fn only_gpu_builds_have_dependencies() {
    for runtime in RUNTIMES {
        assert_eq!(runtime.dependencies.is_empty(), runtime.build == RuntimeBuild::Cpu, "{}", runtime.version);
    }
}

#[test]
fn two_builds_never_have_the_same_folder() {
    let cpu = CATALOG.runtime(RuntimeBuild::Cpu, LINUX_X86_64).expect("a build");
    let cuda = CATALOG.runtime(RuntimeBuild::Cuda, LINUX_X86_64).expect("a build");
    assert_ne!(cpu.version, cuda.version);
}
