//! The format of PyTorch before 1.6: five pickles in sequence, then the storages.
//!
//! The pickles are a magic number, the version, facts about the machine, the state dict, and the keys of the storages
//! in the order in which these follow. Each storage is preceded by its number of elements.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::heap::Value;
use super::pickle::{Unpickled, load};
use super::{Failure, MAX_PICKLE_BYTES, Positions, Stored, located, printable, storage_bytes};

const MAGIC_NUMBER: Value<'static> = Value::LongInt(b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
const VERSION: Value<'static> = Value::Int(1001);
/// The number of elements before each storage, a little-endian u64.
const COUNT_BYTES: u64 = 8;

pub(super) fn read(file: &File, length: u64) -> Result<Vec<(String, Stored)>, Failure> {
    let mut start = vec![0; length.min(MAX_PICKLE_BYTES) as usize];
    file.read_exact_at(&mut start, 0).map_err(Failure::Io)?;
    let mut rest = start.as_slice();
    if next(&mut rest)?.root() != MAGIC_NUMBER {
        return Err(Failure::Malformed("it does not start with the magic number of torch.save".to_owned()));
    }
    let version = next(&mut rest)?.root();
    if version != VERSION {
        return Err(Failure::Unsupported("it has a version other than 1001".to_owned()));
    }
    check_byte_order(&next(&mut rest)?)?;
    let state = next(&mut rest)?;
    let keys = next(&mut rest)?;
    let pickles = (start.len() - rest.len()) as u64;
    let positions = positions(file, pickles, length, &state, &keys)?;
    located(&state, &positions)
}

/// Reads the next pickle.
fn next<'b>(rest: &mut &'b [u8]) -> Result<Unpickled<'b>, Failure> {
    let unpickled = load(rest)?;
    *rest = &rest[unpickled.bytes..];
    Ok(unpickled)
}

fn check_byte_order(machine: &Unpickled<'_>) -> Result<(), Failure> {
    let entries = machine.dict().unwrap_or_default();
    if entries.contains(&(Value::Text("little_endian"), Value::Bool(false))) {
        return Err(Failure::Unsupported("it was written by a big-endian machine".to_owned()));
    }
    Ok(())
}

/// The positions of the storages, of which the first is at `start`.
fn positions(
    file: &File,
    start: u64,
    length: u64,
    state: &Unpickled<'_>,
    keys: &Unpickled<'_>,
) -> Result<Positions, Failure> {
    let malformed = |reason: String| Failure::Malformed(reason);
    let keys = keys.list().ok_or_else(|| malformed("it has no list of storages".to_owned()))?;
    let mut positions = Positions::new();
    let mut at = start;
    for key in keys {
        let storage = key.text().and_then(|key| state.storage(key));
        let storage = storage.ok_or_else(|| malformed("it lists a storage that no tensor uses".to_owned()))?;
        let key = printable(storage.key);
        let end = at + COUNT_BYTES + storage_bytes(storage, length)?;
        if end > length {
            return Err(malformed(format!("it ends within storage {key}")));
        }
        let mut count = [0; COUNT_BYTES as usize];
        file.read_exact_at(&mut count, at).map_err(Failure::Io)?;
        let count = u64::from_le_bytes(count);
        if count != storage.elements {
            return Err(malformed(format!(
                "storage {key} has {count} elements, but its tensors require {}",
                storage.elements
            )));
        }
        positions.insert(storage.key.to_owned(), at + COUNT_BYTES);
        at = end;
    }
    if at != length {
        return Err(malformed(format!("{} bytes follow the last storage", length - at)));
    }
    Ok(positions)
}
