use std::io::Write as _;

use super::*;

fn write(folder: &mut StagedFolder, name: &str, text: &str) {
    let written = folder.write::<PathError>(name, |out| {
        out.write_all(text.as_bytes()).expect("a write");
        Ok(())
    });
    assert_eq!(written.expect("a file").bytes, text.len() as u64);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_committed_file_replaces_the_old_one_and_a_dropped_one_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let destination = folder.path().join("below/file");
    let staged = StagedFile::create(&destination).expect("a staging file");
    staged.file().write_all(b"one").expect("a write");
    assert!(!destination.exists());
    assert_eq!(staged.commit().expect("a commit"), destination);

    let staged = StagedFile::create(&destination).expect("a staging file");
    staged.file().write_all(b"two").expect("a write");
    drop(staged);
    assert_eq!(fs::read_to_string(&destination).expect("the file"), "one");
    assert_eq!(names_in(&folder.path().join("below")), ["file"]);
}

#[test]
fn a_file_left_by_a_killed_process_is_reused_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    let destination = folder.path().join("file");
    fs::write(folder.path().join(".file.partial"), "leftover").expect("a leftover");
    let staged = StagedFile::create(&destination).expect("a staging file");
    staged.file().write_all(b"new").expect("a write");
    staged.commit().expect("a commit");
    assert_eq!(fs::read_to_string(&destination).expect("the file"), "new");
    assert_eq!(names_in(folder.path()), ["file"]);
}

#[test]
fn a_waiting_writer_never_gets_the_file_that_the_other_one_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let destination = folder.path().join("file");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let destination = &destination;
            scope.spawn(move || {
                for turn in 0..10 {
                    let staged = StagedFile::create(destination).expect("a staging file");
                    staged.file().write_all(format!("{writer} {turn}").as_bytes()).expect("a write");
                    staged.commit().expect("a commit");
                }
            });
        }
    });
    let text = fs::read_to_string(&destination).expect("the file");
    assert_eq!(text.len(), 3, "the file holds one write, not several: {text:?}");
    assert_eq!(names_in(folder.path()), ["file"]);
}

#[test]
fn a_committed_folder_replaces_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let destination = folder.path().join("model");
    for (name, text) in [("a", "one"), ("sub/b", "two")] {
        let staging = sibling(&destination, "converting");
        let mut staged = StagedFolder::create(staging, sibling(&destination, "replaced")).expect("a staging folder");
        write(&mut staged, name, text);
        assert_eq!(staged.files()[name], FileRecord::of(&staged.path(name)).expect("a record"));
        staged.commit(&destination).expect("a commit");
        assert_eq!(fs::read_to_string(destination.join(name)).expect("the file"), text);
        assert_eq!(names_in(folder.path()), ["model"]);
    }
    assert!(!destination.join("a").exists(), "nothing of the old folder is left");
}

#[test]
fn a_folder_that_is_not_committed_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let destination = folder.path().join("model");
    let create = || StagedFolder::create(sibling(&destination, "converting"), sibling(&destination, "replaced"));
    // A killed process leaves these behind.
    fs::create_dir_all(folder.path().join(".model.converting/sub")).expect("a leftover");
    fs::write(folder.path().join(".model.replaced"), "").expect("a leftover");
    let mut staged = create().expect("a staging folder");
    assert_eq!(names_in(folder.path()), [".model.converting"]);
    write(&mut staged, "a", "one");
    staged.discard("a").expect("a removal");
    assert!(staged.files().is_empty() && !staged.path("a").exists());
    drop(staged);
    assert_eq!(names_in(folder.path()), Vec::<String>::new());
}

#[test]
fn only_leftovers_with_the_prefix_are_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["scratch-1", "scratch-2/below", "parts"] {
        fs::create_dir_all(folder.path().join(name)).expect("a folder");
    }
    remove_leftovers(folder.path(), "scratch-");
    assert_eq!(names_in(folder.path()), ["parts"]);
}

#[test]
fn links_at_staging_names_are_not_followed() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().expect("a folder");
    let victim = folder.path().join("victim");
    fs::create_dir(&victim).expect("a folder");
    fs::write(victim.join("file"), "text").expect("a file");
    let destination = folder.path().join("model");

    symlink(victim.join("file"), folder.path().join(".model.partial")).expect("a link");
    let error = StagedFile::create(&destination).expect_err("a link").to_string();
    assert!(error.contains(".model.partial") && error.contains("it is a symbolic link; remove it"), "{error}");
    symlink(victim.join("file"), folder.path().join(".model.lock")).expect("a link");
    lock_file(&folder.path().join(".model.lock"), || {}).expect_err("a link");

    for name in [".model.converting", ".model.replaced"] {
        symlink(&victim, folder.path().join(name)).expect("a link");
    }
    fs::create_dir(&destination).expect("an earlier folder");
    let staging = sibling(&destination, "converting");
    let mut staged = StagedFolder::create(staging, sibling(&destination, "replaced")).expect("a staging folder");
    symlink(victim.join("file"), staged.path("a")).expect("a link");
    let written = staged.write::<PathError>("a", |_| Ok(()));
    assert!(written.expect_err("a link").to_string().contains("symbolic link"));
    write(&mut staged, "b", "new");
    staged.commit(&destination).expect("a commit");
    assert_eq!(names_in(&victim), ["file"]);
    assert_eq!(fs::read_to_string(victim.join("file")).expect("the file"), "text");
    assert!(destination.join("b").exists() && destination.symlink_metadata().expect("a folder").is_dir());
}
