use super::*;

fn collect(file: Option<&Path>, env: &[(&str, &str)]) -> (Sources, Vec<Mistake>) {
    let flags = Flags { values: BTreeMap::new(), file: file.map(Path::to_owned) };
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Sources::collect(&flags, env)
}

#[test]
fn the_file_of_the_flag_overrides_the_file_of_the_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = folder.path().join("one.toml");
    let two = folder.path().join("two.toml");
    std::fs::write(&one, "threads = 1").expect("written");
    std::fs::write(&two, "threads = 2").expect("written");
    let variable = [("EMBEDD_CONFIG", two.to_str().expect("text"))];
    let text = |(sources, mistakes): (Sources, Vec<Mistake>)| {
        assert_eq!(mistakes, []);
        sources.file.map(|(_, text)| text)
    };
    assert_eq!(text(collect(Some(&one), &variable)).as_deref(), Some("threads = 1"));
    assert_eq!(text(collect(None, &variable)).as_deref(), Some("threads = 2"));
    assert_eq!(text(collect(None, &[("EMBEDD_CONFIG", "")])), None);
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_that_names_the_flag_or_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("latin1.toml"), b"# caf\xe9").expect("written");
    std::fs::write(path("huge.toml"), vec![b'#'; 1 + MAX_FILE_BYTES as usize]).expect("written");
    for (file, problem) in [
        (path("missing.toml"), "no such file"),
        (folder.path().to_owned(), "it is a folder"),
        (path("latin1.toml"), "it is not UTF-8 text (byte 5)"),
        (path("huge.toml"), "larger than 1 MiB"),
    ] {
        let (sources, mistakes) = collect(Some(&file), &[("EMBEDD_THREADS", "x")]);
        assert_eq!((sources.env.len(), sources.file), (1, None));
        let [mistake] = &mistakes[..] else { panic!("{mistakes:?}") };
        let text = mistake.to_string();
        assert!(text.contains(problem) && text.contains("(from flag `--config`)"), "{text}");
    }
    let (_, mistakes) = collect(None, &[("EMBEDD_CONFIG", "/no/such/file")]);
    let text = mistakes[0].to_string();
    assert!(text.contains("file `/no/such/file` (from variable `EMBEDD_CONFIG`)"), "{text}");
}

#[cfg(unix)]
#[test]
fn only_variables_that_matter_must_be_text() {
    use std::os::unix::ffi::OsStringExt as _;
    let not_text = || OsString::from_vec(vec![0xff]);
    let mistakes = |name: OsString, value: OsString| Sources::collect(&Flags::default(), [(name, value)].into_iter()).1;
    assert_eq!(mistakes("PATH".into(), not_text()), []);
    assert_eq!(mistakes(not_text(), "x".into()), []);
    for name in ["EMBEDD_MODEL", "ORT_DYLIB_PATH"] {
        assert_eq!(mistakes(name.into(), not_text()), [Mistake::NotText { name: name.to_owned() }]);
    }
}
