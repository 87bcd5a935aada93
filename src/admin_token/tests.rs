use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_token_is_created_once_for_this_user_alone_and_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("new/home");
    let created = find_or_create(Some(home.clone())).expect("a token");
    assert_eq!(created.path, home.join("admin.token"));
    assert_eq!((created.token.len(), mode(&created.path), mode(&home)), (64, 0o600, 0o700));
    let again = find_or_create(Some(home.clone())).expect("a token");
    assert_eq!(again.token, created.token, "restarts keep it");
    let found = find(Some(home.clone())).expect("a token");
    assert_eq!((found.path, found.token), (created.path.clone(), created.token.clone()));

    fs::remove_file(&created.path).expect("a removal");
    assert_ne!(find_or_create(Some(home)).expect("a token").token, created.token);
}

#[test]
fn servers_that_start_at_the_same_time_agree_on_one_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let servers = [(); 8].map(|()| scope.spawn(|| store(&folder.path().join(FILE)).expect("a token")));
        servers.into_iter().map(|server| server.join().expect("no panic")).collect()
    });
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
}

#[test]
fn a_token_that_others_may_know_is_neither_used_nor_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    let known = "k".repeat(64);
    fs::write(&path, &known).expect("a file");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
    let home = Some(folder.path().to_owned());
    assert!(find(home.clone()).is_none_or(|found| found.path != path));
    let token = store(&path).expect("a token");
    assert_ne!(token, known);
    assert_eq!((mode(&path), find(home).expect("a token").token), (0o600, token));
    for damaged in ["", "short", "two words of more than thirty-two characters"] {
        fs::write(&path, damaged).expect("a write");
        assert_eq!(store(&path).expect("a token").len(), 64, "{damaged:?}");
    }
}

#[test]
fn a_stored_token_that_cannot_be_opened_for_writing_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    let token = store(&path).expect("a token");
    // Stands for a read-only file system: a second name keeps the file from being opened for writing.
    fs::hard_link(&path, folder.path().join("second")).expect("a link");
    store(&path).expect_err("it cannot be written");
    let found = find_or_create(Some(folder.path().to_owned())).expect("a token");
    assert_eq!((found.path, found.token), (path, token));
}

#[test]
fn links_are_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let victim = folder.path().join("victim");
    fs::write(&victim, "text").expect("a file");
    let path = folder.path().join(FILE);
    symlink(&victim, &path).expect("a link");
    assert!(store(&path).expect_err("a link").to_string().contains("symbolic link"));
    assert_eq!(fs::read_to_string(&victim).expect("the file"), "text");
}

#[test]
fn the_error_names_every_file_and_what_to_do() {
    let error = NoTokenFile(vec!["/a: read-only".to_owned(), "/b: denied".to_owned()]).to_string();
    for part in ["/a: read-only; /b: denied", "--admin-token-file FILE", "--admin-token-file none"] {
        assert!(error.contains(part), "{error}");
    }
}
