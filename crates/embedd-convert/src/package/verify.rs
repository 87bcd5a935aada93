//! Verifies a whole tarball in one pass, without unpacking it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::error::PackageError;
use super::{Package, REQUIRED, ROOT, SUMS_FILE, is_file_name};
use embedd_common::checksum::{HashingReader, Sha256Hex};
use embedd_common::files::open_regular;
use embedd_model::bundle::FileRecord;

/// Far more than any tarball has, but few enough for memory.
const MAX_FILES: usize = 100;
/// Far more than [`MAX_FILES`] lines need.
const MAX_SUMS_BYTES: u64 = 64 << 10;
/// The limit of most systems.
const MAX_PATH_BYTES: u64 = 4096;
/// More than all files of the largest model. Reading compressed zeros could otherwise take hours.
const MAX_BYTES: u64 = 32 << 30;
/// An archive ends with zeros up to the end of a record, which usually has 10 KiB.
const MAX_PADDING: usize = 1 << 20;

/// Checks that the file is a tarball as written by [`package`](super::package()): it contains exactly the files that
/// [`SUMS_FILE`] lists, with matching checksums, in one folder, including all required ones.
///
/// # Errors
/// [`PackageError::Archive`], or [`PackageError::Io`] if the file cannot be opened.
pub fn verify(path: &Path) -> Result<Package, PackageError> {
    let io = |source| PackageError::Io { path: path.to_owned(), source, advice: "" };
    let file = open_regular(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let broken = |reason: String| PackageError::Archive { path: path.to_owned(), reason };
    let mut whole = BufReader::with_capacity(1 << 20, HashingReader::new(file));
    let contents = Contents::read(&mut whole).map_err(broken)?;
    let (folder, files) = contents.check().map_err(broken)?;
    let record = FileRecord { sha256: whole.into_inner().finish(), bytes };
    Ok(Package { path: path.to_owned(), record, folder, files })
}

/// The contents of an archive.
#[derive(Default)]
struct Contents {
    folder: Option<String>,
    files: BTreeMap<String, FileRecord>,
    sums: Option<BTreeMap<String, Sha256Hex>>,
    /// The lengths of all files.
    bytes: u64,
}

impl Contents {
    /// Reads to the end of the file, to detect any damage.
    fn read(whole: &mut impl BufRead) -> Result<Self, String> {
        let mut contents = Self::default();
        let mut archive = tar::Archive::new(GzDecoder::new(whole));
        let mut long_path = None;
        // Without `raw`, names of any length would be read into memory.
        for entry in intact(archive.entries())?.raw(true) {
            let mut entry = intact(entry)?;
            if entry.header().entry_type().is_gnu_longname() {
                long_path = Some(read_path(&mut entry)?);
                continue;
            }
            let path = long_path.take().unwrap_or_else(|| entry.path_bytes().into_owned());
            contents.add(&String::from_utf8_lossy(&path), entry)?;
        }
        // Reading the rest verifies gzip's own checksum.
        let mut rest = archive.into_inner();
        if intact(has_more_than_padding(&mut rest))? {
            return Err("trailing data after the end of the archive".to_owned());
        }
        if !intact(rest.into_inner().fill_buf())?.is_empty() {
            return Err("trailing data after the end of the compressed data".to_owned());
        }
        Ok(contents)
    }

    fn add(&mut self, path: &str, mut entry: tar::Entry<'_, impl Read>) -> Result<(), String> {
        if !entry.header().entry_type().is_file() {
            return Err(format!("`{path}` is not a regular file"));
        }
        let name = self.enter(path)?;
        let known = self.files.contains_key(&name) || (name == SUMS_FILE && self.sums.is_some());
        if known || self.files.len() == MAX_FILES {
            return Err(format!("`{path}` appears twice, or there are more than {MAX_FILES} files"));
        }
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > MAX_BYTES {
            return Err(format!("its files have more than {MAX_BYTES} bytes"));
        }
        if name == SUMS_FILE {
            self.sums = Some(read_sums(&mut entry)?);
            return Ok(());
        }
        let mut reader = HashingReader::new(&mut entry);
        let bytes = intact(io::copy(&mut reader, &mut io::sink()))?;
        let sha256 = reader.finish();
        self.files.insert(name, FileRecord { sha256, bytes });
        Ok(())
    }

    /// The file name of an entry, which must be in the same folder as all others.
    fn enter(&mut self, path: &str) -> Result<String, String> {
        let parts: Vec<&str> = path.split('/').collect();
        let (model, file) = match parts[..] {
            [ROOT, model, file] if is_file_name(model) && is_file_name(file) => (model, file),
            _ => return Err(format!("`{path}` is not in a folder {ROOT}/MODEL")),
        };
        let folder = self.folder.get_or_insert_with(|| format!("{ROOT}/{model}"));
        if *folder != format!("{ROOT}/{model}") {
            return Err(format!("`{path}` is not in the same folder as the other files ({folder})"));
        }
        Ok(file.to_owned())
    }

    fn check(self) -> Result<(String, BTreeMap<String, FileRecord>), String> {
        let (Some(folder), Some(sums)) = (self.folder, self.sums) else {
            return Err(format!("{SUMS_FILE} is missing"));
        };
        for (name, expected) in &sums {
            match self.files.get(name) {
                None => return Err(format!("{SUMS_FILE} lists {name}, which is missing")),
                Some(file) if file.sha256 != *expected => {
                    return Err(format!("{name} is damaged: expected sha256 {expected}, found {}", file.sha256));
                }
                Some(_) => {}
            }
        }
        if let Some(name) = self.files.keys().find(|name| !sums.contains_key(*name)) {
            return Err(format!("{SUMS_FILE} does not list {name}"));
        }
        match REQUIRED.iter().find(|name| !sums.contains_key(**name)) {
            Some(name) => Err(format!("{name} is missing")),
            None => Ok((folder, self.files)),
        }
    }
}

/// Describes a read error, which means that the archive is truncated, damaged or not an archive.
fn intact<T>(read: io::Result<T>) -> Result<T, String> {
    read.map_err(|error| format!("the archive is truncated or damaged ({error})"))
}

fn has_more_than_padding(reader: &mut impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let mut zeros = 0;
    while zeros <= MAX_PADDING {
        match reader.read(&mut buffer)? {
            0 => return Ok(false),
            read if buffer[..read].iter().any(|&byte| byte != 0) => return Ok(true),
            read => zeros += read,
        }
    }
    Ok(true)
}

/// The path in an entry of its own, for a path that does not fit into a header.
fn read_path(entry: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut path = Vec::new();
    intact(entry.take(MAX_PATH_BYTES + 1).read_to_end(&mut path))?;
    if path.len() as u64 > MAX_PATH_BYTES {
        return Err(format!("a path has more than {MAX_PATH_BYTES} bytes"));
    }
    // It ends with a zero.
    path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
    Ok(path)
}

fn read_sums(entry: &mut impl Read) -> Result<BTreeMap<String, Sha256Hex>, String> {
    let mut text = String::new();
    let read = intact(entry.take(MAX_SUMS_BYTES + 1).read_to_string(&mut text))?;
    if read as u64 > MAX_SUMS_BYTES {
        return Err(format!("{SUMS_FILE} is too long"));
    }
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        let wrong = || format!("`{line}` in {SUMS_FILE} is not a checksum and a file name");
        let (sha256, name) = line.split_once("  ").ok_or_else(wrong)?;
        let sha256: Sha256Hex = sha256.parse().map_err(|_| wrong())?;
        if !is_file_name(name) || name == SUMS_FILE || sums.insert(name.to_owned(), sha256).is_some() {
            return Err(wrong());
        }
    }
    Ok(sums)
}
