use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A folder with the roots `one` and `two`, a folder `other`, and a bundle in each.
fn folders() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().canonicalize().expect("a path");
    for root in ["one", "two", "other"] {
        fs::create_dir_all(path.join(root).join("bundle")).expect("a folder");
    }
    (folder, path)
}

fn roots(path: &Path) -> BundleRoots {
    BundleRoots(vec![path.join("one"), path.join("two")])
}

#[test]
fn a_root_and_the_folders_below_it_are_found() {
    let (_folder, path) = folders();
    for below in ["one", "one/bundle", "two/bundle/"] {
        assert_eq!(roots(&path).find(&path.join(below)), Some(path.join(below)), "{below}");
    }
}

#[test]
fn folders_elsewhere_missing_folders_and_files_are_not_found() {
    let (_folder, path) = folders();
    fs::write(path.join("one/file"), "").expect("a file");
    for elsewhere in ["other/bundle", "one/../other/bundle", "one/none", "one/file", "oneself", "", "one/bundle/.."] {
        assert_eq!(roots(&path).find(&path.join(elsewhere)), None, "{elsewhere}");
    }
    for relative in ["", ".", "..", "bundle", "a\0b"] {
        assert_eq!(roots(&path).find(Path::new(relative)), None, "{relative:?}");
    }
}

#[test]
fn links_are_resolved_before_the_comparison() {
    let (_folder, path) = folders();
    symlink(path.join("other"), path.join("one/out")).expect("a link");
    symlink(path.join("two"), path.join("one/across")).expect("a link");
    symlink(path.join("one"), path.join("alias")).expect("a link");
    assert_eq!(roots(&path).find(&path.join("one/out/bundle")), None, "a way out of the roots");
    assert_eq!(roots(&path).find(&path.join("one/across/bundle")), Some(path.join("two/bundle")));
    assert_eq!(roots(&path).find(&path.join("alias/bundle")), None, "its path does not begin with a root");
    let alias = BundleRoots(vec![path.join("alias")]);
    assert_eq!(alias.find(&path.join("alias/bundle")), Some(path.join("one/bundle")), "the root may be a link");
    assert_eq!(alias.find(&path.join("one/bundle")), Some(path.join("one/bundle")), "or its target may be named");
}
