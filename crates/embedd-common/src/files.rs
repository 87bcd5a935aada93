//! Opens and reads files that others may have prepared: links that lead elsewhere, pipes that block, devices that never
//! end, and files that are larger than expected.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a regular file for reading. Symbolic links are followed. A pipe or device is an error and does not block.
///
/// # Errors
/// The file cannot be opened, or is not a regular file ([`io::ErrorKind::InvalidInput`]).
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a named pipe would wait for its writer.
    let file = File::options().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(invalid("it is not a regular file")) }
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// As [`open_regular`]; also if the file is larger ([`io::ErrorKind::FileTooLarge`]).
pub fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let too_large =
        || io::Error::new(io::ErrorKind::FileTooLarge, format!("the file has more than {max} bytes, the maximum"));
    let length = file.metadata()?.len();
    if length > max {
        return Err(too_large());
    }
    let mut contents = Vec::with_capacity(length as usize);
    // The file may grow in the meantime, and some file systems report no length.
    file.take(max + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > max { Err(too_large()) } else { Ok(contents) }
}

/// Opens a file for writing at a name that others can predict. If something else is at that name, such as a symbolic
/// link or a hard link to another file, opening fails and changes nothing. Do not set `truncate`, which takes effect
/// before the check.
///
/// # Errors
/// The file cannot be opened, or writing to it would change another file ([`io::ErrorKind::InvalidInput`]).
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let options = options.custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK));
    let file = options.open(path).map_err(explain_link)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(invalid("it is not a regular file; remove it"));
    }
    if found.nlink() > 1 {
        return Err(invalid("it is a hard link to another file; remove it"));
    }
    Ok(file)
}

/// Creates or empties a file, but does not follow a symbolic link.
///
/// # Errors
/// The file cannot be created, or is a symbolic link.
pub fn create_own(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).custom_flags(flags(OFlags::NOFOLLOW));
    options.open(path).map_err(explain_link)
}

/// The space that this user can still fill on the file system of an existing path; `None` if the system does not
/// report it.
pub fn available_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// The user id that this process acts as.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn explain_link(error: io::Error) -> io::Error {
    // FreeBSD reports EMLINK.
    let is_link = [Errno::LOOP, Errno::MLINK].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    if is_link { invalid("it is a symbolic link; remove it") } else { error }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

#[cfg(test)]
mod tests;
