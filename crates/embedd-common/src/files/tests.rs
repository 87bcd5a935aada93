use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
}

#[test]
fn only_regular_files_are_opened_and_a_pipe_does_not_block() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    let link = folder.path().join("link");
    let fifo = folder.path().join("pipe");
    let device = folder.path().join("device");
    fs::write(&file, "text").expect("a write");
    symlink(&file, &link).expect("a link");
    symlink("/dev/zero", &device).expect("a link");
    pipe(&fifo);
    for path in [&file, &link] {
        assert_eq!(read_bounded(path, 4).expect("a regular file"), b"text");
    }
    for path in [fifo.as_path(), &device, folder.path()] {
        let error = open_regular(path).expect_err("not a regular file");
        assert_eq!(error.to_string(), "it is not a regular file", "{}", path.display());
    }
    assert_eq!(open_regular(&folder.path().join("none")).expect_err("missing").kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_above_the_maximum_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    fs::write(&path, "text").expect("a write");
    let error = read_bounded(&path, 3).expect_err("too large");
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    // Its length is reported as 0.
    #[cfg(target_os = "linux")]
    {
        let status = Path::new("/proc/self/status");
        assert_eq!(read_bounded(status, 10).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        assert!(read_bounded(status, 1 << 20).expect("all of it").len() > 10);
    }
}

#[test]
fn a_link_at_a_predictable_name_is_an_error_and_its_target_is_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let victim = folder.path().join("victim");
    let name = folder.path().join("name");
    fs::write(&victim, "text").expect("a write");
    let open = || open_own(&name, File::options().create(true).write(true));

    symlink(&victim, &name).expect("a link");
    let error = open().expect_err("a symbolic link").to_string();
    assert_eq!(error, "it is a symbolic link; remove it");
    assert_eq!(create_own(&name).expect_err("a symbolic link").to_string(), error);
    fs::remove_file(&name).expect("a removal");

    symlink(folder.path().join("not yet"), &name).expect("a link");
    open().expect_err("a link to a file that does not exist");
    assert!(!folder.path().join("not yet").exists());
    fs::remove_file(&name).expect("a removal");

    fs::hard_link(&victim, &name).expect("a link");
    assert_eq!(open().expect_err("a hard link").to_string(), "it is a hard link to another file; remove it");
    fs::remove_file(&name).expect("a removal");

    pipe(&name);
    open().expect_err("a pipe");
    fs::remove_file(&name).expect("a removal");

    open().expect("a new file");
    open().expect("its own file");
    assert_eq!(fs::read_to_string(&victim).expect("the file"), "text");
}

#[test]
fn the_available_space_of_a_folder_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(available_bytes(folder.path()).is_some());
    assert!(available_bytes(&folder.path().join("none")).is_none());
}
