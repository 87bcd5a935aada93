//! Models in the user's own folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::FetchError;
use super::layout;
use embedd_common::files::read_bounded;

/// Checks that `path` is a complete sentence-transformers folder. `user_home` replaces a leading `~`.
pub(super) fn open(path: &Path, user_home: Option<&Path>) -> Result<PathBuf, FetchError> {
    let path = expand(path, user_home)?;
    let not_a_folder = |reason: &str| FetchError::NoFolder { path: path.clone(), reason: reason.to_owned() };
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(not_a_folder("it is a file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_a_folder("it does not exist")),
        Err(error) => return Err(FetchError::io("inspect", &path, error)),
    }
    let missing = missing_files(&path)?;
    if missing.is_empty() { Ok(path) } else { Err(FetchError::FolderIncomplete { path, missing }) }
}

/// The required files that do not exist.
fn missing_files(folder: &Path) -> Result<Vec<String>, FetchError> {
    let modules = folder.join(layout::MODULES);
    let (mut missing, modules) = match read_bounded(&modules, layout::max_bytes(layout::MODULES)) {
        Ok(modules) => (Vec::new(), modules),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (vec![layout::MODULES.to_owned()], layout::USUAL_MODULES.to_vec())
        }
        Err(error) => return Err(FetchError::io("read", &modules, error)),
    };
    let invalid = |reason| FetchError::Modules { what: folder.display().to_string(), reason };
    let wanted = layout::wanted(&modules).map_err(invalid)?;
    let transformer = folder.join(layout::transformer(&modules).map_err(invalid)?);
    let (modules, of_transformer): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .filter(|wanted| wanted.required)
        .map(|wanted| wanted.file)
        .partition(|file| file.contains('/'));
    let of_transformer = of_transformer.into_iter().chain(weights(&transformer)?);
    let of_transformer: Vec<_> = of_transformer.filter(|file| !has(&transformer, file)).collect();
    if of_transformer.is_empty() && !missing.is_empty() {
        // A transformer without a list of modules: sentence-transformers uses the mean.
        return Ok(Vec::new());
    }
    missing.extend(of_transformer);
    missing.extend(modules.into_iter().filter(|file| !folder.join(file).is_file()));
    Ok(missing)
}

/// Whether the transformer's folder has the file, or one that replaces it.
fn has(transformer: &Path, file: &str) -> bool {
    let replacements: &[&str] = if file == layout::TOKENIZER { &layout::VOCABULARIES } else { &[] };
    std::iter::once(&file).chain(replacements).any(|file| transformer.join(file).is_file())
}

/// The files with weights that the folder should have: those of an index, if it has one.
fn weights(folder: &Path) -> Result<Vec<String>, FetchError> {
    let found = layout::ALL_WEIGHTS.into_iter().find(|file| folder.join(file).is_file());
    let file = found.unwrap_or(layout::WEIGHTS);
    if !layout::is_index(file) {
        return Ok(vec![file.to_owned()]);
    }
    let path = folder.join(file);
    let contents =
        read_bounded(&path, layout::max_bytes(file)).map_err(|error| FetchError::io("read", &path, error))?;
    let what = folder.display().to_string();
    let shards =
        layout::shards(file, &contents).map_err(|reason| FetchError::Index { what, file: file.to_owned(), reason })?;
    Ok(shards.into_iter().collect())
}

fn expand(path: &Path, user_home: Option<&Path>) -> Result<PathBuf, FetchError> {
    let Ok(below) = path.strip_prefix("~") else { return Ok(path.to_owned()) };
    let reason = || "`~` cannot be expanded, because this user has no home folder".to_owned();
    let home = user_home.ok_or_else(|| FetchError::NoFolder { path: path.to_owned(), reason: reason() })?;
    Ok(home.join(below))
}
