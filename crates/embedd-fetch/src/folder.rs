//! Models in the user's own folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::FetchError;
use super::layout::{self, Layout};
use super::record::Record;
use embedd_common::files::read_bounded;

/// The files that a folder must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    All,
    AllButWeights,
}

/// Checks that `path` is a sentence-transformers folder with the needed files. `user_home` replaces a leading `~`.
pub(super) fn open(path: &Path, user_home: Option<&Path>, needed: Needed) -> Result<PathBuf, FetchError> {
    let path = expand(path, user_home)?;
    let not_a_folder = |reason: &str| FetchError::NoFolder { path: path.clone(), reason: reason.to_owned() };
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(not_a_folder("it is a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_a_folder("it does not exist")),
        Err(error) => return Err(FetchError::io("inspect", &path, error)),
    }
    let missing = missing_files(&path, needed)?;
    if missing.is_empty() { Ok(path) } else { Err(FetchError::FolderIncomplete { path, missing }) }
}

/// The required files that do not exist.
fn missing_files(folder: &Path, needed: Needed) -> Result<Vec<String>, FetchError> {
    let modules = folder.join(layout::MODULES);
    let (mut missing, modules) = match read_bounded(&modules, layout::max_bytes(layout::MODULES)) {
        Ok(modules) => (Vec::new(), modules),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (vec![layout::MODULES.to_owned()], layout::USUAL_MODULES.to_vec())
        }
        Err(error) => return Err(FetchError::io("read", &modules, error)),
    };
    let invalid = |reason| FetchError::Modules { what: folder.display().to_string(), reason };
    let layout = Layout::parse(&modules).map_err(invalid)?;
    let of_transformer = missing_of_transformer(folder, &layout, needed)?;
    if of_transformer.is_empty() && !missing.is_empty() {
        // A transformer without a list of modules: sentence-transformers uses the mean.
        return Ok(Vec::new());
    }
    missing.extend(of_transformer);
    missing.extend(missing_of_modules(folder, &layout, needed));
    Ok(missing)
}

fn missing_of_transformer(folder: &Path, layout: &Layout, needed: Needed) -> Result<Vec<String>, FetchError> {
    if !layout.has_transformer() {
        // Conversion rejects the kind of model.
        return Ok(Vec::new());
    }
    let has = |file: &str| folder.join(file).is_file();
    let config = layout.of_transformer(layout::CONFIG);
    let mut missing: Vec<String> = Some(config).filter(|config| !has(config)).into_iter().collect();
    let tokenizer = layout.of_transformer(layout::TOKENIZER);
    let vocabularies = layout::VOCABULARIES.map(|file| layout.of_transformer(file));
    if !std::iter::once(&tokenizer).chain(&vocabularies).any(|file| has(file)) {
        missing.push(tokenizer);
    }
    if needed == Needed::All {
        missing.extend(weights(folder, layout)?.into_iter().filter(|file| !has(file)));
    }
    Ok(missing)
}

fn missing_of_modules(folder: &Path, layout: &Layout, needed: Needed) -> Vec<String> {
    let has = |file: &str| folder.join(file).is_file();
    let config = layout.of_transformer(layout::CONFIG);
    let configuration = layout.configuration().into_iter().filter(|wanted| wanted.required && wanted.file != config);
    let weights = layout.module_weights().filter(|_| needed == Needed::All);
    let weights = weights.filter(|files| !files.iter().any(|file| has(file)));
    let missing = configuration.map(|wanted| wanted.file).filter(|file| !has(file));
    missing.chain(weights.map(|[first, _]| first)).collect()
}

/// The files with the transformer's weights that the folder should have: those of an index, if it has one.
fn weights(folder: &Path, layout: &Layout) -> Result<Vec<String>, FetchError> {
    let found = layout::ALL_WEIGHTS.into_iter().find(|file| folder.join(layout.of_transformer(file)).is_file());
    let file = found.unwrap_or(layout::WEIGHTS);
    if !layout::is_index(file) {
        return Ok(vec![layout.of_transformer(file)]);
    }
    let file = layout.of_transformer(file);
    let path = folder.join(&file);
    let contents =
        read_bounded(&path, layout::max_bytes(&file)).map_err(|error| FetchError::io("read", &path, error))?;
    let what = folder.display().to_string();
    let shards = layout::shards(&file, &contents).map_err(|reason| FetchError::Index { what, file, reason })?;
    Ok(shards.iter().map(|shard| layout.of_transformer(shard)).collect())
}

/// The weights that the record of a fetched model lacks: earlier versions of embedd did not fetch those of modules.
pub(super) fn unfetched(folder: &Path, record: &Record) -> Vec<String> {
    if !record.files.contains_key(layout::MODULES) {
        return Vec::new();
    }
    let modules = read_bounded(&folder.join(layout::MODULES), layout::max_bytes(layout::MODULES));
    let Some(layout) = modules.ok().and_then(|modules| Layout::parse(&modules).ok()) else { return Vec::new() };
    let missing = layout.module_weights().filter(|files| !files.iter().any(|file| record.files.contains_key(file)));
    missing.map(|[first, _]| format!("`{first}` was not fetched")).collect()
}

fn expand(path: &Path, user_home: Option<&Path>) -> Result<PathBuf, FetchError> {
    let Ok(below) = path.strip_prefix("~") else { return Ok(path.to_owned()) };
    let reason = || "`~` cannot be expanded, because this user has no home folder".to_owned();
    let home = user_home.ok_or_else(|| FetchError::NoFolder { path: path.to_owned(), reason: reason() })?;
    Ok(home.join(below))
}
