//! Builds of ONNX Runtime, with the real pip and packages created by the tests.

use std::path::PathBuf;
use std::process::Command;

use super::pip::{catalog_fetcher, shelve};
use super::*;
use catalog::{CATALOG, Member, Platform, Runtime};

const FOLDER: &str = "onnxruntime/9.9-cuda13";
const PARTS: &str = "partial/onnxruntime--9.9-cuda13/parts";

/// A GPU build with three files in two packages.
struct Build {
    home: TempDir,
    fetcher: Fetcher,
    members: &'static [Member],
    wheels: [PathBuf; 2],
}

impl Build {
    fn new() -> Self {
        let home = TempDir::new().expect("a folder");
        let (mut members, runtime) = package(&home, "small-gpu", "small/capi", &["libsmall.so.1", "libprovider.so"]);
        let (others, nvidia) = package(&home, "small-nvidia", "nvidia/lib", &["libneeded.so.13"]);
        members.extend(others);
        let members: &'static [Member] = Vec::leak(members);
        let build = Runtime {
            build: RuntimeBuild::Cuda,
            platform: Platform::current(),
            version: "9.9-cuda13",
            library: "libsmall.so.1",
            dependencies: &["libneeded.so.13", "libprovider.so"],
            members,
        };
        let fetcher = catalog_fetcher(&home, Catalog { runtimes: Vec::leak(vec![build]), models: &[] });
        let fetcher = fetcher.python(Some(counting_python(&home)));
        Self { home, fetcher, members, wheels: [runtime, nvidia] }
    }

    fn fetch(&self) -> Result<RuntimeLibrary, FetchError> {
        self.fetcher.runtime(RuntimeBuild::Cuda)
    }

    /// The number of times that pip ran.
    fn downloads(&self) -> usize {
        fs::read_to_string(self.home.path().join("runs")).unwrap_or_default().lines().count()
    }

    /// The paths at which members are kept, in alphabetical order.
    fn kept(&self, members: std::ops::Range<usize>) -> Vec<String> {
        let mut kept: Vec<_> = self.members[members].iter().map(|part| format!("{PARTS}/{}", part.sha256)).collect();
        kept.sort();
        kept
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fetcher.home.root().join(name)
    }

    fn assert_is_complete(&self) {
        for member in self.members {
            let contents = fs::read(self.path(FOLDER).join(member.file())).expect("a file");
            assert_eq!(sha256(&contents), member.sha256, "{}", member.path);
        }
        let mut expected: Vec<_> = self.members.iter().map(|member| format!("{FOLDER}/{}", member.file())).collect();
        expected.push(format!("{FOLDER}/{RECORD_FILE}"));
        expected.sort();
        assert_eq!(files_in(&self.home), expected, "nothing else is left");
    }
}

/// A package with `files` in `folder`, and the path of its wheel.
fn package(home: &TempDir, name: &'static str, folder: &str, files: &[&str]) -> (Vec<Member>, PathBuf) {
    let contents = |file: &str| format!("the contents of {file}").into_bytes();
    let mut wheel: Vec<_> = files.iter().map(|file| (format!("{folder}/{file}"), contents(file))).collect();
    wheel.push((format!("{folder}/libunused.so"), b"unused".to_vec()));
    let (package, path) = shelve(home, name, wheel);
    let members = files.iter().map(|file| {
        let bytes = contents(file);
        let path = leak(&format!("{folder}/{file}"));
        Member { package, path, bytes: bytes.len() as u64, sha256: sha256(&bytes) }
    });
    (members.collect(), path)
}

/// A Python that adds a line to the file `runs` whenever it runs.
fn counting_python(home: &TempDir) -> PathBuf {
    let runs = home.path().join("runs");
    script(home, &format!("echo run >> '{}'\nexec python3 \"$@\"", runs.display()))
}

fn script(home: &TempDir, commands: &str) -> PathBuf {
    let draft = home.path().join("draft");
    let path = home.path().join("python");
    fs::write(&draft, format!("#!/bin/sh\n{commands}\n")).expect("a draft");
    // A program that this process wrote itself could not be executed while a child of another test has it open.
    let installed = Command::new("install").args(["-m", "755"]).args([&draft, &path]).status();
    assert!(installed.expect("install").success());
    path
}

#[test]
fn files_of_several_packages_are_stored_in_one_folder() {
    let build = Build::new();
    let library = build.fetch().expect("the library");
    build.assert_is_complete();
    assert_eq!(build.downloads(), 2, "each package is downloaded once");
    let folder = build.path(FOLDER);
    assert_eq!(library.path, folder.join("libsmall.so.1"));
    assert_eq!(library.sha256.expect("a digest").as_str(), build.members[0].sha256);
    assert_eq!(library.dependencies, ["libneeded.so.13", "libprovider.so"].map(|file| folder.join(file)));
    let record = Record::read(&folder).expect("a record").expect("a record");
    let packages = ["small-gpu==1.0", "small-nvidia==1.0"].map(str::to_owned).to_vec();
    assert_eq!(record.source, Source::Pip { packages });
    build.fetch().expect("the library");
    assert_eq!(build.downloads(), 2, "a second start needs no pip");
}

#[test]
fn a_package_that_was_fetched_completely_is_not_downloaded_again() {
    let build = Build::new();
    let nvidia = fs::read(&build.wheels[1]).expect("a wheel");
    fs::remove_file(&build.wheels[1]).expect("a removal");
    let text = build.fetch().expect_err("a package is missing").to_string();
    assert!(text.contains("small-nvidia==1.0") && text.contains("No matching distribution"), "{text}");
    assert_eq!(files_in(&build.home), build.kept(0..2), "no archive is kept");

    fs::write(&build.wheels[1], nvidia).expect("a wheel");
    fs::remove_file(&build.wheels[0]).expect("a removal");
    build.fetch().expect("the library");
    build.assert_is_complete();
    assert_eq!(build.downloads(), 3);
}

#[test]
fn a_package_with_a_missing_or_damaged_file_is_downloaded_again() {
    for damage in [|path: &Path| fs::write(path, "damaged"), |path: &Path| fs::remove_file(path)] {
        let build = Build::new();
        let nvidia = fs::read(&build.wheels[1]).expect("a wheel");
        fs::remove_file(&build.wheels[1]).expect("a removal");
        build.fetch().expect_err("a package is missing");
        fs::write(&build.wheels[1], nvidia).expect("a wheel");
        damage(&build.path(&format!("{PARTS}/{}", build.members[1].sha256))).expect("damage");
        build.fetch().expect("the library");
        build.assert_is_complete();
        assert_eq!(build.downloads(), 4);
    }
}

#[test]
fn a_file_with_a_wrong_digest_is_rejected() {
    let build = Build::new();
    let provider = "small/capi/libprovider.so".to_owned();
    let files = vec![
        ("small/capi/libsmall.so.1".to_owned(), b"the contents of libsmall.so.1".to_vec()),
        (provider.clone(), b"other contents".to_vec()),
    ];
    shelve(&build.home, "small-gpu", files);
    let error = build.fetch().expect_err("other contents");
    let FetchError::Checksum { what, file, .. } = &error else { panic!("{error}") };
    assert_eq!((what.as_str(), file), ("small-gpu==1.0", &provider));
    assert_eq!(files_in(&build.home), build.kept(0..1), "only the intact file is kept");
}

#[test]
fn a_damaged_library_is_fetched_again() {
    let build = Build::new();
    build.fetch().expect("the library");
    let needed = build.path(FOLDER).join("libneeded.so.13");
    let bytes = needed.metadata().expect("a file").len();
    fs::write(&needed, vec![0; usize::try_from(bytes).expect("a length")]).expect("a file");
    build.fetch().expect("the size is right");
    let offline = build.fetcher.clone().verify(true).offline(true);
    let text = offline.runtime(RuntimeBuild::Cuda).expect_err("the contents are wrong").to_string();
    for part in ["ONNX Runtime 9.9-cuda13", "`libneeded.so.13`: expected sha256", "fetching is disabled"] {
        assert!(text.contains(part), "{text}");
    }
    build.fetcher.clone().verify(true).runtime(RuntimeBuild::Cuda).expect("the library");
    build.assert_is_complete();
    fs::write(&needed, "short").expect("a file");
    build.fetch().expect("the library");
    build.assert_is_complete();
}

#[test]
fn the_error_on_a_full_disk_includes_the_space_for_all_packages() {
    let build = Build::new();
    let full = script(&build.home, "echo 'OSError: [Errno 28] No space left on device'; exit 1");
    let error = build.fetcher.clone().python(Some(full)).runtime(RuntimeBuild::Cuda).expect_err("a full disk");
    let largest = build.members.iter().map(|member| member.package.bytes).max().expect("a package");
    let total = build.members.iter().map(|member| member.bytes).sum::<u64>() + 2 * largest;
    assert!(matches!(error, FetchError::DiskFull { needed: Some(needed), .. } if needed == total), "{error}");
}

#[test]
fn gpu_builds_are_for_linux_on_x86_64() {
    let home = TempDir::new().expect("a folder");
    let fetcher = catalog_fetcher(&home, CATALOG);
    let known = |os, arch| fetcher.known_runtime(RuntimeBuild::Cuda, Platform { os, arch });
    assert_eq!(known("linux", "x86_64").expect("a build").library, "libonnxruntime.so.1.31.1");
    for (os, arch) in [("linux", "aarch64"), ("macos", "aarch64")] {
        let text = known(os, arch).expect_err("no build").to_string();
        for part in ["only for Linux on x86_64", &format!("not for {os} on {arch}"), "use the CPU", "ORT_DYLIB_PATH"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn a_configured_library_replaces_every_build() {
    let build = Build::new();
    let library = build.home.path().join("libonnxruntime.so");
    fs::write(&library, "").expect("a file");
    let configured = RuntimeLibrary { path: library.clone(), sha256: None, dependencies: Vec::new() };
    let fetcher = build.fetcher.clone().runtime_library(Some(library));
    for build in [RuntimeBuild::Cpu, RuntimeBuild::Cuda] {
        assert_eq!(fetcher.runtime(build).expect("the library"), configured);
    }
    assert_eq!(build.downloads(), 0);
}
