//! The entries of a zip archive whose contents are stored uncompressed.
//!
//! This does not use the zip crate: it keeps the whole directory, extra fields and comments of an archive in memory,
//! whatever their size. An archive of `torch.save` needs little of the format.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::{Failure, printable};

/// An entry takes about 70 bytes.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;

const END: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: u64 = 22;
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const LOCATOR_64_BYTES: u64 = 20;
const END_64: [u8; 4] = *b"PK\x06\x06";
const END_64_BYTES: u64 = 56;
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;

/// The extra field with values that need 64 bits.
const EXTRA_64: u16 = 1;
/// Marks a value that is in the extra field.
const IN_EXTRA: u64 = u32::MAX as u64;
const ENCRYPTED: u16 = 1;
const UNCOMPRESSED: u16 = 0;

/// All entries by name.
pub(super) type Entries = BTreeMap<String, Entry>;

/// The contents of an entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    /// From the start of the file.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// The part of the file that lists the entries.
struct Directory {
    start: u64,
    bytes: u64,
    entries: u64,
}

/// An entry as the directory lists it.
struct Listed<'d> {
    name: &'d str,
    /// The position of the local header.
    header: u64,
    bytes: u64,
}

/// Reads the directory of an archive that ends with the file, without a comment.
///
/// # Errors
/// [`Failure::Malformed`], also for entries that overlap or share a name; [`Failure::Unsupported`] for compressed
/// entries.
pub(super) fn read(file: &File, length: u64) -> Result<Entries, Failure> {
    let directory = find(file, length)?;
    let end = directory.start.checked_add(directory.bytes);
    if end.is_none_or(|end| end > length) {
        return Err(malformed("its directory is beyond its end"));
    }
    if directory.bytes > MAX_DIRECTORY_BYTES {
        let reason = format!("its directory has {} bytes; the maximum is {MAX_DIRECTORY_BYTES}", directory.bytes);
        return Err(malformed(&reason));
    }
    let bytes = read_at(file, directory.start, directory.bytes as usize)?;
    let mut rest = Fields(&bytes);
    let mut entries = Entries::new();
    let mut ranges = Vec::new();
    // Each entry takes bytes of the directory, so a wrong number ends the loop.
    for _ in 0..directory.entries {
        let listed = listed(&mut rest)?;
        let entry = locate(file, &listed, directory.start)?;
        ranges.push((listed.header, entry.offset + entry.bytes));
        if entries.insert(listed.name.to_owned(), entry).is_some() {
            return Err(malformed(&format!("it has two entries `{}`", printable(listed.name))));
        }
    }
    ranges.sort_unstable();
    if ranges.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return Err(malformed("its entries overlap"));
    }
    Ok(entries)
}

fn find(file: &File, length: u64) -> Result<Directory, Failure> {
    let truncated = || malformed("its end is missing, so it is truncated or has been changed");
    let at = length.checked_sub(END_BYTES).ok_or_else(truncated)?;
    let bytes = read_at(file, at, END_BYTES as usize)?;
    let mut fields = Fields(&bytes);
    if fields.array()? != END {
        return Err(truncated());
    }
    fields.skip(6)?; // numbers of disks, and of entries on this one
    let entries = u64::from(fields.u16()?);
    let bytes = u64::from(fields.u32()?);
    let start = u64::from(fields.u32()?);
    if entries < u64::from(u16::MAX) && bytes < IN_EXTRA && start < IN_EXTRA {
        return Ok(Directory { start, bytes, entries });
    }
    find_64(file, at)
}

/// The directory of an archive that needs numbers of 64 bits. Its locator ends at `end`.
fn find_64(file: &File, end: u64) -> Result<Directory, Failure> {
    let wrong = || malformed("its ZIP64 record is missing");
    let at = end.checked_sub(LOCATOR_64_BYTES).ok_or_else(wrong)?;
    let bytes = read_at(file, at, LOCATOR_64_BYTES as usize)?;
    let mut fields = Fields(&bytes);
    if fields.array()? != LOCATOR_64 {
        return Err(wrong());
    }
    fields.skip(4)?; // number of the disk
    let record = fields.u64()?;
    if record.checked_add(END_64_BYTES).is_none_or(|end| end > at) {
        return Err(wrong());
    }
    let bytes = read_at(file, record, END_64_BYTES as usize)?;
    let mut fields = Fields(&bytes);
    if fields.array()? != END_64 {
        return Err(wrong());
    }
    fields.skip(28)?; // size, versions, numbers of disks, and of entries on this one
    let entries = fields.u64()?;
    let bytes = fields.u64()?;
    let start = fields.u64()?;
    Ok(Directory { start, bytes, entries })
}

fn listed<'d>(rest: &mut Fields<'d>) -> Result<Listed<'d>, Failure> {
    let mut fields = Fields(rest.take(CENTRAL_BYTES)?);
    if fields.array()? != CENTRAL {
        return Err(malformed("its directory has an invalid entry"));
    }
    fields.skip(4)?; // versions
    let flags = fields.u16()?;
    let method = fields.u16()?;
    fields.skip(8)?; // time and checksum
    let mut compressed = u64::from(fields.u32()?);
    let mut bytes = u64::from(fields.u32()?);
    let name_length = usize::from(fields.u16()?);
    let extra_length = usize::from(fields.u16()?);
    let comment_length = usize::from(fields.u16()?);
    fields.skip(8)?; // number of the disk, and attributes
    let mut header = u64::from(fields.u32()?);
    let name = str::from_utf8(rest.take(name_length)?).map_err(|_| malformed("it has a name that is not UTF-8"))?;
    widen(rest.take(extra_length)?, [&mut bytes, &mut compressed, &mut header])?;
    rest.skip(comment_length)?;
    let unsupported =
        |what: &str| Failure::Unsupported(format!("entry `{}` is {what}; torch.save never does that", printable(name)));
    match (flags & ENCRYPTED, method) {
        (ENCRYPTED, _) => Err(unsupported("encrypted")),
        (_, UNCOMPRESSED) if compressed == bytes => Ok(Listed { name, header, bytes }),
        (_, UNCOMPRESSED) => Err(malformed(&format!("entry `{}` has two sizes", printable(name)))),
        _ => Err(unsupported("compressed")),
    }
}

/// Replaces the values that are in the extra field, where they are in this order.
fn widen(extra: &[u8], values: [&mut u64; 3]) -> Result<(), Failure> {
    let mut wide = Fields(&[]);
    let mut rest = Fields(extra);
    // Padding may be shorter than a field.
    while rest.0.len() >= 4 {
        let id = rest.u16()?;
        let length = usize::from(rest.u16()?);
        let contents = rest.take(length)?;
        if id == EXTRA_64 {
            wide = Fields(contents);
        }
    }
    for value in values.into_iter().filter(|value| **value == IN_EXTRA) {
        *value = wide.u64()?;
    }
    Ok(())
}

/// Finds the contents after the local header, whose name must be the same. They end before the directory.
fn locate(file: &File, listed: &Listed<'_>, directory: u64) -> Result<Entry, Failure> {
    let wrong = || malformed(&format!("entry `{}` is not where the directory places it", printable(listed.name)));
    let header_bytes = LOCAL_BYTES + listed.name.len();
    if listed.header.checked_add(header_bytes as u64).is_none_or(|end| end > directory) {
        return Err(wrong());
    }
    let bytes = read_at(file, listed.header, header_bytes)?;
    let mut fields = Fields(&bytes);
    if fields.array()? != LOCAL {
        return Err(wrong());
    }
    fields.skip(22)?; // what the directory has as well
    let name_length = usize::from(fields.u16()?);
    let extra_length = fields.u16()?;
    if name_length != listed.name.len() || fields.0 != listed.name.as_bytes() {
        return Err(wrong());
    }
    let offset = listed.header + header_bytes as u64 + u64::from(extra_length);
    if offset.checked_add(listed.bytes).is_none_or(|end| end > directory) {
        return Err(wrong());
    }
    Ok(Entry { offset, bytes: listed.bytes })
}

/// Little-endian numbers in sequence.
struct Fields<'d>(&'d [u8]);

impl<'d> Fields<'d> {
    fn take(&mut self, length: usize) -> Result<&'d [u8], Failure> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed("its directory ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), Failure> {
        self.take(length).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let taken = self.take(N)?;
        taken.first_chunk().copied().ok_or_else(|| malformed("its directory ends early"))
    }

    fn u16(&mut self) -> Result<u16, Failure> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Failure> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Failure> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

fn read_at(file: &File, offset: u64, bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, offset).map_err(Failure::Io)?;
    Ok(buffer)
}

fn malformed(reason: &str) -> Failure {
    Failure::Malformed(format!("as a zip archive, {reason}"))
}
