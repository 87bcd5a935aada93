//! The format of PyTorch since 1.6: a zip archive with a pickle, and one entry for each storage.

mod directory;

use std::fs::File;
use std::os::unix::fs::FileExt;

use self::directory::{Entries, Entry};
use super::pickle::{Unpickled, load};
use super::{Failure, MAX_PICKLE_BYTES, Positions, Stored, located, printable, storage_bytes};

/// In a folder named like the file, at the time when it was saved.
const PICKLE: &str = "/data.pkl";
const LITTLE_ENDIAN: &[u8] = b"little";

pub(super) fn read(file: &File, length: u64) -> Result<Vec<(String, Stored)>, Failure> {
    let entries = directory::read(file, length)?;
    let (folder, pickle) = find_pickle(&entries)?;
    if let Some(entry) = entries.get(&format!("{folder}/byteorder")) {
        check_byte_order(file, entry)?;
    }
    if pickle.bytes > MAX_PICKLE_BYTES {
        let reason = format!("its pickle has {} bytes; the maximum is {MAX_PICKLE_BYTES}", pickle.bytes);
        return Err(Failure::Malformed(reason));
    }
    let pickle = contents(file, pickle)?;
    let state = load(&pickle)?;
    let positions = positions(&state, &entries, folder, length)?;
    located(&state, &positions)
}

/// The folder of the archive, and the pickle in it.
fn find_pickle(entries: &Entries) -> Result<(&str, &Entry), Failure> {
    let pickle = |(name, entry)| Some((str::strip_suffix(name, PICKLE)?, entry));
    let mut pickles = entries.iter().map(|(name, entry)| (name.as_str(), entry)).filter_map(pickle);
    match (pickles.next(), pickles.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(Failure::Malformed("the archive has no data.pkl".to_owned())),
        (Some(_), Some(_)) => Err(Failure::Malformed("the archive has more than one data.pkl".to_owned())),
    }
}

fn check_byte_order(file: &File, entry: &Entry) -> Result<(), Failure> {
    if entry.bytes == LITTLE_ENDIAN.len() as u64 && contents(file, entry)? == LITTLE_ENDIAN {
        return Ok(());
    }
    Err(Failure::Unsupported("its byte order is not little-endian".to_owned()))
}

fn positions(state: &Unpickled<'_>, entries: &Entries, folder: &str, length: u64) -> Result<Positions, Failure> {
    let mut positions = Positions::new();
    for storage in state.storages() {
        let key = printable(storage.key);
        let entry = entries
            .get(&format!("{folder}/data/{}", storage.key))
            .ok_or_else(|| Failure::Malformed(format!("the archive has no storage {key}")))?;
        let bytes = storage_bytes(storage, length)?;
        if entry.bytes != bytes {
            let reason = format!("storage {key} has {} bytes, but its tensors require {bytes}", entry.bytes);
            return Err(Failure::Malformed(reason));
        }
        positions.insert(storage.key.to_owned(), entry.offset);
    }
    Ok(positions)
}

/// The caller bounds the size.
fn contents(file: &File, entry: &Entry) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; entry.bytes as usize];
    file.read_exact_at(&mut bytes, entry.offset).map_err(Failure::Io)?;
    Ok(bytes)
}
