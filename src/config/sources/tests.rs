use super::super::Settings;
use super::*;

fn collect(file: Option<&Path>, env: &[(&str, &str)]) -> Result<Settings, String> {
    let flags = Flags { values: BTreeMap::new(), file: file.map(Path::to_owned) };
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Configuration::collect(&flags, env).map(|all| all.settings).map_err(|errors| errors.to_string())
}

#[test]
fn the_file_of_the_flag_outdoes_the_file_of_the_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (folder.path().join("one.toml"), folder.path().join("two.toml"));
    std::fs::write(&one, "threads = 1").expect("written");
    std::fs::write(&two, "threads = 2").expect("written");
    let variable = [("EMBEDD_CONFIG", two.to_str().expect("text"))];
    let threads = |settings: Result<Settings, String>| settings.expect("valid").threads.map(usize::from);
    assert_eq!(threads(collect(Some(&one), &variable)), Some(1));
    assert_eq!(threads(collect(None, &variable)), Some(2));
    assert_eq!(threads(collect(None, &[("EMBEDD_CONFIG", "")])), None);
}

#[test]
fn a_file_that_cannot_be_read_is_told_beside_the_other_mistakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("latin1.toml"), b"# caf\xe9").expect("written");
    std::fs::write(path("huge.toml"), vec![b'#'; 1 + LARGEST_FILE as usize]).expect("written");
    for (file, problem) in [
        (path("missing.toml"), "there is no such file"),
        (folder.path().to_owned(), "it is a folder"),
        (path("latin1.toml"), "it is not UTF-8 text (byte 5)"),
        (path("huge.toml"), "larger than 1 MiB"),
    ] {
        let text = collect(Some(&file), &[("EMBEDD_THREADS", "x")]).expect_err(problem);
        assert!(text.contains("2 mistakes") && text.contains("EMBEDD_THREADS"), "{text}");
        assert!(text.contains(problem) && text.contains("(from flag `--config`)"), "{text}");
    }
    let text = collect(None, &[("EMBEDD_CONFIG", "/no/such/file")]).expect_err("missing");
    assert!(text.contains("file `/no/such/file` (from variable `EMBEDD_CONFIG`)"), "{text}");
}

#[cfg(unix)]
#[test]
fn only_variables_that_matter_must_be_text() {
    use std::os::unix::ffi::OsStringExt as _;
    let not_text = || OsString::from_vec(vec![0xff]);
    let told = |name: &str| Configuration::collect(&Flags::default(), [(name.into(), not_text())].into_iter());
    assert!(told("PATH").is_ok());
    assert!(told("EMBEDD_MODEL").expect_err("not text").to_string().contains("EMBEDD_MODEL"));
    assert!(told("ORT_DYLIB_PATH").is_err());
    assert!(Configuration::collect(&Flags::default(), [(not_text(), "x".into())].into_iter()).is_ok());
}
