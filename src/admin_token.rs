//! The token of the admin service. The server generates it and stores it where only this user can read it, and
//! `embedd admin` finds it there.
//!
//! The token is kept across restarts, and all servers of one cache folder share it. Removing the file and restarting
//! the servers replaces the token.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use embedd_common::files::{open_own, open_regular, user_id};
use embedd_common::lock::lock;
use embedd_fetch::home::Home;

/// The name of the file in the cache folder.
const FILE: &str = "admin.token";
/// As many bits as a SHA-256 digest has.
const RANDOM_BYTES: usize = 32;
/// A shorter token could be guessed.
const MIN_LENGTH: usize = 32;
/// More than any token has.
const MAX_LENGTH: u64 = 4096;
/// Access for other users.
const OTHERS: u32 = 0o077;

/// The token, and the file that holds it.
pub(crate) struct AdminToken {
    pub path: PathBuf,
    pub token: String,
}

/// No file could be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot store a token for the admin service: {}; make one of these files writable, name a file with tokens \
     (--admin-token-file FILE), or let every user of this machine call the service (--admin-token-file none)",
    .0.join("; ")
)]
pub(crate) struct NoTokenFile(Vec<String>);

/// The token that an earlier server stored, else a new one.
///
/// # Errors
/// [`NoTokenFile`].
pub(crate) fn find_or_create(home: Option<PathBuf>) -> Result<AdminToken, NoTokenFile> {
    let mut failures = Vec::new();
    if let Ok(home) = Home::find(home.clone()) {
        // If it fails, so does creating the file, with the same reason.
        let _ = home.create();
    }
    for path in candidates(home) {
        // A file system may have become read-only since the token was stored.
        match store(&path).or_else(|error| stored(&path).ok_or(error)) {
            Ok(token) => return Ok(AdminToken { path, token }),
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    Err(NoTokenFile(failures))
}

/// The token that a server of this user has stored.
pub(crate) fn find(home: Option<PathBuf>) -> Option<AdminToken> {
    candidates(home).into_iter().find_map(|path| stored(&path).map(|token| AdminToken { path, token }))
}

/// The token in the file, if it is valid and nobody else can have written or read it.
fn stored(path: &Path) -> Option<String> {
    let mut file = open_regular(path).ok()?;
    if is_private(&file).ok()? { read(&mut file).ok()? } else { None }
}

/// Where the token may be stored. Servers in containers often have a read-only cache folder; every container has
/// `/dev/shm`.
fn candidates(home: Option<PathBuf>) -> Vec<PathBuf> {
    let in_home = Home::find(home).ok().map(|home| home.root().join(FILE));
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    let in_runtime = runtime.map(|folder| Path::new(&folder).join(format!("embedd-{FILE}")));
    // All users share these folders.
    let shared = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
    let in_shared = shared.map(|folder| folder.join(format!("embedd-{}-{FILE}", user_id())));
    in_home.into_iter().chain(in_runtime).chain(in_shared).collect()
}

/// The token in the file, which is created if necessary. The file is locked, so that servers that start at the same time
/// agree on one token.
fn store(path: &Path) -> io::Result<String> {
    let mut file = open_own(path, File::options().read(true).write(true).create(true).mode(0o600))?;
    lock(&file, || {})?;
    if file.metadata()?.uid() != user_id() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    if is_private(&file)? {
        if let Some(token) = read(&mut file)? {
            return Ok(token);
        }
    } else {
        // Others may have read the token.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let token = random()?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    Ok(token)
}

/// Whether only this user can have written and read the file.
fn is_private(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    Ok(found.uid() == user_id() && found.permissions().mode() & OTHERS == 0)
}

/// The token in the file, if it is valid.
fn read(file: &mut File) -> io::Result<Option<String>> {
    let mut text = String::new();
    file.take(MAX_LENGTH).read_to_string(&mut text)?;
    let token = text.trim_end();
    let is_valid = token.len() >= MIN_LENGTH && token.bytes().all(|byte| byte.is_ascii_graphic());
    Ok(is_valid.then(|| token.to_owned()))
}

fn random() -> io::Result<String> {
    use std::fmt::Write as _;

    let mut bytes = [0; RANDOM_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut token = String::with_capacity(2 * RANDOM_BYTES);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
