use std::fs;
use std::path::Path;

use super::*;

/// The contents of two files as one text; the word `bad` is none.
#[derive(Debug)]
struct Both([NamedFile; 2]);

#[derive(Debug, thiserror::Error)]
enum BothError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("it is bad")]
    Bad,
}

impl Recipe for Both {
    type Made = String;
    type Error = BothError;

    fn files(&self) -> Vec<&NamedFile> {
        self.0.iter().collect()
    }

    fn make(&self, contents: &[Vec<u8>]) -> Result<String, BothError> {
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

/// Follows for so many looks.
async fn looks(reloaded: &Reloaded<Both>, looks: u32) {
    let time = INTERVAL * looks + INTERVAL / 2;
    tokio::time::timeout(time, reloaded.follow()).await.expect_err("it never ends");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_taken_up_and_what_is_bad_or_gone_changes_nothing() {
    let folder = folder("1", "2");
    let reloaded = Reloaded::open(both(folder.path())).expect("readable");
    assert_eq!(*reloaded.current(), "12");
    let held = reloaded.current();

    fs::write(folder.path().join("b"), "3").expect("write");
    looks(&reloaded, 3).await;
    assert_eq!((reloaded.current().as_str(), held.as_str()), ("13", "12"));

    fs::write(folder.path().join("a"), "bad").expect("write");
    looks(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "13");

    fs::remove_file(folder.path().join("a")).expect("remove");
    looks(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "13");

    fs::write(folder.path().join("a"), "4").expect("write");
    looks(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "43");
}

#[tokio::test(start_paused = true)]
async fn a_change_counts_once_it_was_seen_twice() {
    let folder = folder("1", "2");
    let reloaded = Reloaded::open(both(folder.path())).expect("readable");
    fs::write(folder.path().join("b"), "half").expect("write");
    looks(&reloaded, 1).await;
    assert_eq!(*reloaded.current(), "12");
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn links_that_are_swapped_above_the_files_are_a_change() {
    let folder = folder("", "");
    let volume = folder.path().join("volume");
    for (version, text) in [("v1", "1"), ("v2", "2")] {
        fs::create_dir(folder.path().join(version)).expect("a folder");
        for name in ["a", "b"] {
            fs::write(folder.path().join(version).join(name), text).expect("write");
        }
    }
    std::os::unix::fs::symlink("v1", &volume).expect("a link");
    let reloaded = Reloaded::open(both(&volume)).expect("readable");
    std::os::unix::fs::symlink("v2", folder.path().join("new")).expect("a link");
    fs::rename(folder.path().join("new"), &volume).expect("swapped");
    looks(&reloaded, 3).await;
    assert_eq!(*reloaded.current(), "22");
}

#[test]
fn a_file_that_is_missing_is_told_with_its_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = Reloaded::open(both(folder.path())).expect_err("missing").to_string();
    assert!(error.contains("/a (--file) cannot be read: No such file"), "{error}");
}

#[test]
fn where_one_file_ends_and_the_next_begins_matters() {
    let digests = [["ab", "c"], ["a", "bc"]].map(|parts| digest(&Ok(parts.map(Vec::from).to_vec())));
    assert_ne!(digests[0], digests[1]);
}
