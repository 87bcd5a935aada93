//! Imports go one way: what `docs/ARCHITECTURE.md` says must not be imported is not.

use std::fs;
use std::path::{Path, PathBuf};

/// The rows of the table behind a marker of the document: the first cell, and the second one's parts.
fn table(marker: &str) -> Vec<(String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let document = fs::read_to_string(path).expect("the document");
    let (_, behind) = document.split_once(marker).expect("the marker");
    let rows: Vec<_> = behind
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0].to_owned(), cells[1].split(", ").map(str::to_owned).collect())
        })
        .collect();
    assert!(rows.len() > 5, "the table behind {marker} was found");
    rows
}

struct SourceFile {
    path: PathBuf,
    /// The module of the crate that the file is part of.
    module: String,
    /// Its code without comments.
    code: String,
}

fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).expect("a path below src");
                let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
                let module = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("text");
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
                files.push(SourceFile { path, module, code: code.join("\n") });
            }
        }
    }
    assert!(files.len() > 30, "the sources were found");
    files
}

/// Whether the code names `path` as the beginning of a path: `crate::grpc` but not `crate::grpc_web`.
fn names(code: &str, path: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        let ends = path.ends_with(':') || !after.is_some_and(is_word);
        !before.is_some_and(|c| is_word(c) || c == ':') && ends
    })
}

#[test]
fn imports_inside_the_crate_go_one_way() {
    let files = source_files();
    for (module, absent) in table("<!-- absences -->") {
        let own: Vec<_> = files.iter().filter(|file| file.module == module).collect();
        assert!(!own.is_empty(), "there is a module {module}");
        for file in own {
            for other in &absent {
                let exists = files.iter().any(|file| file.module == *other);
                assert!(exists, "there is a module {other}");
                let named = names(&file.code, &format!("crate::{other}"));
                assert!(!named, "{} imports {other}, which {module} must not", file.path.display());
            }
        }
    }
    for file in files.iter().filter(|file| file.module != "main") {
        assert!(!names(&file.code, "crate::{"), "{}: one `use` line for each module", file.path.display());
    }
}

#[test]
fn outside_crates_stay_where_they_belong() {
    let crates = table("<!-- crates -->");
    for file in source_files() {
        for (name, allowed) in &crates {
            if !allowed.contains(&file.module) {
                let named = names(&file.code, &format!("{name}::")) || names(&file.code, &format!("use {name};"));
                assert!(!named, "{} names {name}, which only {allowed:?} may", file.path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_the_kernels_alone() {
    for file in source_files().iter().filter(|file| file.module != "kernels") {
        assert!(!names(&file.code, "unsafe_code"), "{} allows unsafe code", file.path.display());
        assert!(!names(&file.code, "unsafe"), "{} has unsafe code", file.path.display());
    }
}

#[test]
fn names_are_found_as_whole_words() {
    assert!(names("use crate::grpc::X;", "crate::grpc"));
    assert!(!names("use crate::grpc_web::X;", "crate::grpc"));
    assert!(names("tonic::include_proto!()", "tonic::"));
    assert!(!names("my_tonic::x", "tonic::"));
}
