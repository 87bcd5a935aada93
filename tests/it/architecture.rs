//! Enforces what Cargo cannot: the tables of `docs/ARCHITECTURE.md`, no circular imports between files, no unsafe code
//! outside the kernels.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/imports.rs"]
mod imports;

use imports::Imports;

/// Every crate of the workspace: its name in paths, and the folder of its sources.
fn crates() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut crates = vec![("embedd".to_owned(), root.join("src"))];
    for entry in fs::read_dir(root.join("crates")).expect("the folder crates") {
        let folder = entry.expect("an entry").path();
        let name = folder.file_name().expect("a name").to_string_lossy().replace('-', "_");
        crates.push((name, folder.join("src")));
    }
    assert!(crates.len() > 5, "found only {} crates", crates.len());
    crates
}

/// The rows of the table that follows a marker in the document: the first cell, and the names in the second.
fn table(marker: &str) -> Vec<(String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let document = fs::read_to_string(path).expect("docs/ARCHITECTURE.md");
    let (_, rest) = document.split_once(marker).expect("the marker");
    let rows: Vec<_> = rest
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0].to_owned(), cells[1].split(", ").map(|name| name.trim_matches('`').to_owned()).collect())
        })
        .collect();
    assert!(rows.len() > 3, "the table after {marker} has {} rows", rows.len());
    rows
}

struct SourceFile {
    path: PathBuf,
    /// The crate, and for the root package the module: `embedd_model`, `grpc`.
    owner: String,
    /// The code without comments.
    code: String,
}

fn source_files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (name, root) in crates() {
        for path in imports::rust_files(&root) {
            let first = path.strip_prefix(&root).expect("a path below the root").components().next().expect("a name");
            let module = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
            let owner = if name == "embedd" { module } else { name.clone() };
            let text = fs::read_to_string(&path).expect("text");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
            files.push(SourceFile { path, owner, code: code.join("\n") });
        }
    }
    files
}

/// Whether the code contains a path that begins with `path`: `crate::grpc` but not `crate::grpc_web`.
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
fn modules_of_the_server_import_in_one_direction() {
    let files = source_files();
    for (module, forbidden) in table("<!-- absences -->") {
        let own: Vec<_> = files.iter().filter(|file| file.owner == module).collect();
        assert!(!own.is_empty(), "docs/ARCHITECTURE.md names the module {module}, which does not exist");
        for other in &forbidden {
            let exists = files.iter().any(|file| file.owner == *other);
            assert!(exists, "docs/ARCHITECTURE.md names the module {other}, which does not exist");
            for file in &own {
                let named = names(&file.code, &format!("crate::{other}"));
                assert!(!named, "{} imports {other}, which {module} must not", file.path.display());
            }
        }
    }
}

#[test]
fn external_crates_are_used_only_where_the_document_allows_it() {
    let files = source_files();
    for (name, allowed) in table("<!-- crates -->") {
        for file in &files {
            let named = names(&file.code, &format!("{name}::")) || names(&file.code, &format!("use {name};"));
            assert!(
                !named || allowed.contains(&file.owner),
                "{} uses {name}, which is allowed only in {allowed:?}",
                file.path.display()
            );
        }
        for owner in allowed {
            let used = files.iter().any(|file| file.owner == owner && names(&file.code, &format!("{name}::")));
            assert!(used, "docs/ARCHITECTURE.md allows {name} in {owner}, which does not use it");
        }
    }
}

#[test]
fn files_of_a_crate_do_not_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    let mut edges = 0;
    for (name, root) in crates() {
        let imports = Imports::read(&root);
        edges += imports.edges();
        found.extend(imports.circles().into_iter().map(|circle| format!("{name}:\n{circle}")));
    }
    assert!(edges > 300, "found only {edges} imports");
    assert!(found.is_empty(), "circular imports:\n{}", found.join("\n"));
}

#[test]
fn circles_are_found_through_reexports_modules_and_expressions() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let circles = || Imports::read(folder.path()).circles();
    write("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n");
    write("a.rs", "use crate::b;\npub struct A;\nfn f() { b::g(); }\n");
    write("b.rs", "pub fn g() {}\n#[cfg(test)]\nmod tests { use crate::a::A; }\n");
    write("c.rs", "mod d;\npub struct C(d::D);\n");
    write("c/d.rs", "use super::C;\npub struct D;\n");
    assert_eq!(circles(), Vec::<String>::new(), "a test's imports and those between a module and its child");

    write("b.rs", "pub fn g() -> crate::A { todo!() }\n");
    assert_eq!(circles(), ["  a.rs -> b.rs: g\n  b.rs -> a.rs: A"], "through a re-export and an expression");

    write("b.rs", "use crate::c::D;\npub fn g() {}\n");
    write("c.rs", "mod d;\npub use d::D;\n");
    write("c/d.rs", "pub struct D;\nfn f() { crate::a::f() }\n");
    assert_eq!(circles(), ["  a.rs -> b.rs: g\n  b.rs -> c/d.rs: D\n  c/d.rs -> a.rs: f"], "through a third file");
}

#[test]
fn only_the_kernels_have_unsafe_code() {
    for file in source_files().iter().filter(|file| file.owner != "embedd_kernels") {
        assert!(!names(&file.code, "unsafe_code"), "{} allows unsafe code", file.path.display());
        assert!(!names(&file.code, "unsafe"), "{} has unsafe code", file.path.display());
    }
}

#[test]
fn names_match_whole_words() {
    assert!(names("use crate::grpc::X;", "crate::grpc"));
    assert!(!names("use crate::grpc_web::X;", "crate::grpc"));
    assert!(names("tonic::include_proto!()", "tonic::"));
    assert!(!names("my_tonic::x", "tonic::"));
}
