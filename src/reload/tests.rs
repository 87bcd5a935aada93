use std::fs;
use std::path::Path;

use super::*;

/// The concatenated contents of two files; invalid if they contain `bad`.
#[derive(Debug)]
struct Both([NamedFile; 2]);

#[derive(Debug, thiserror::Error)]
enum BothError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("contains `bad`")]
    Bad,
}

impl Source for Both {
    type Value = String;
    type Error = BothError;

    fn files(&self) -> Vec<&NamedFile> {
        self.0.iter().collect()
    }

    fn parse(&self, contents: &[Vec<u8>]) -> Result<String, BothError> {
        let text: String = contents.iter().map(|content| String::from_utf8_lossy(content)).collect();
        if text.contains("bad") { Err(BothError::Bad) } else { Ok(text) }
    }
}

fn both(folder: &Path) -> Both {
    Both(["a", "b"].map(|name| NamedFile { path: folder.join(name), flag: "--file" }))
}

fn folder(a: &str, b: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a"), a).expect("write");
    fs::write(folder.path().join("b"), b).expect("write");
    folder
}

/// Follows the files for this many reads.
async fn follow(reloaded: &HotReload<Both>, reads: u32) {
    let time = INTERVAL * reads + INTERVAL / 2;
    tokio::time::timeout(time, reloaded.follow()).await.expect_err("following never ends");
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_reloaded_and_invalid_or_missing_ones_ignored() {
    let folder = folder("1", "2");
    let reloaded = HotReload::open(both(folder.path())).expect("readable");
    assert_eq!(*reloaded.current(), "12");
    let held = reloaded.current();

    fs::write(folder.path().join("b"), "3").expect("write");
    follow(&reloaded, 3).await;
    assert_eq!((reloaded.current().as_str(), held.as_str()), ("13", "12"));

    fs::write(folder.path().join("a"), "bad").expect("write");
    follow(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "13");

    fs::remove_file(folder.path().join("a")).expect("remove");
    follow(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "13");

    fs::write(folder.path().join("a"), "4").expect("write");
    follow(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "43");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_ignored_until_it_has_been_read_twice() {
    let folder = folder("1", "2");
    let reloaded = HotReload::open(both(folder.path())).expect("readable");
    fs::write(folder.path().join("b"), "half").expect("write");
    follow(&reloaded, 1).await;
    assert_eq!(*reloaded.current(), "12");
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn swapping_a_symbolic_link_above_the_files_is_a_change() {
    let folder = folder("", "");
    let volume = folder.path().join("volume");
    for (version, text) in [("v1", "1"), ("v2", "2")] {
        fs::create_dir(folder.path().join(version)).expect("a folder");
        for name in ["a", "b"] {
            fs::write(folder.path().join(version).join(name), text).expect("write");
        }
    }
    std::os::unix::fs::symlink("v1", &volume).expect("a link");
    let reloaded = HotReload::open(both(&volume)).expect("readable");
    std::os::unix::fs::symlink("v2", folder.path().join("new")).expect("a link");
    fs::rename(folder.path().join("new"), &volume).expect("swapped");
    follow(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "22");
}

#[test]
fn the_error_for_a_missing_file_names_its_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = HotReload::open(both(folder.path())).expect_err("missing").to_string();
    assert!(error.contains("/a (--file) cannot be read: No such file"), "{error}");
}

#[test]
fn the_digest_depends_on_the_boundary_between_files() {
    let digests = [["ab", "c"], ["a", "bc"]].map(|parts| digest(&Ok(parts.map(Vec::from).to_vec())));
    assert_ne!(digests[0], digests[1]);
}
