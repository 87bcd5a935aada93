use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::super::outcome::describe;
use super::*;

fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), content).expect("write");
    file
}

fn path(file: &NamedTempFile) -> Option<PathBuf> {
    Some(file.path().to_owned())
}

async fn error(credentials: &Credentials) -> String {
    describe(&connect("https://127.0.0.1:1", credentials).await.expect_err("an error"))
}

#[tokio::test]
async fn errors_about_unusable_files_name_the_flag() {
    let empty = file("");
    let message = error(&Credentials { ca: path(&empty), ..Credentials::default() }).await;
    assert!(message.contains("--ca") && message.contains("BEGIN CERTIFICATE"), "{message}");
    let certificate = file("-----BEGIN CERTIFICATE-----\n");
    let swapped = Credentials { certificate: path(&certificate), key: path(&certificate), ..Credentials::default() };
    let message = error(&swapped).await;
    assert!(message.contains("--key") && message.contains("BEGIN PRIVATE KEY"), "{message}");
    let message = error(&Credentials { ca: Some("does/not/exist".into()), ..Credentials::default() }).await;
    assert!(message.contains("--ca does/not/exist: No such file"), "{message}");
    for wrong in ["", " \n", "two words", "ö"] {
        let token = file(wrong);
        let message = error(&Credentials { token_file: path(&token), ..Credentials::default() }).await;
        assert!(message.contains("--token-file") && message.contains("token"), "{wrong:?}: {message}");
    }
}

#[tokio::test]
async fn certificates_need_a_tls_address() {
    let certificate = file("-----BEGIN CERTIFICATE-----\n");
    let credentials = Credentials { ca: path(&certificate), ..Credentials::default() };
    let error = connect("http://127.0.0.1:1", &credentials).await.expect_err("an error").to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("`https://`"), "{error}");
}
