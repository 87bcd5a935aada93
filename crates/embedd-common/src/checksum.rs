//! SHA-256 digests of files and streams, and records of checksummed files.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::open_regular;

/// A SHA-256 digest: 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Sha256Hex(String);

/// Text that is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest of 64 hexadecimal digits")]
pub struct InvalidSha256(String);

impl Sha256Hex {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&Sha256::digest(bytes))
    }

    /// The digest of a regular file's contents.
    ///
    /// # Errors
    /// The file cannot be opened or read, or is not a regular file.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_reader(open_regular(path)?)
    }

    /// The digest of everything up to the reader's end.
    ///
    /// # Errors
    /// The reader fails.
    pub fn of_reader(reader: impl Read) -> io::Result<Self> {
        let mut reader = HashingReader::new(reader);
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.finish())
    }

    /// Fills `buffer` from `reader` and returns the digest of its contents. Each part is hashed while the next one is
    /// read.
    ///
    /// # Errors
    /// The reader fails, or ends before the buffer is full.
    pub fn of_filling(buffer: &mut [u8], mut reader: impl Read) -> io::Result<Self> {
        /// A few milliseconds of hashing.
        const PART: usize = 4 << 20;
        std::thread::scope(|scope| {
            let (sender, parts) = std::sync::mpsc::channel::<&[u8]>();
            let hashing = scope.spawn(move || {
                let mut hasher = Sha256::new();
                parts.iter().for_each(|part| hasher.update(part));
                Self::from_digest(&hasher.finalize())
            });
            for part in buffer.chunks_mut(PART) {
                reader.read_exact(part)?;
                // The receiver outlives the sender.
                let _ = sender.send(part);
            }
            drop(sender);
            hashing.join().map_err(|_| io::Error::other("the hashing thread panicked"))
        })
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_digest(digest: &[u8]) -> Self {
        use fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in digest {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }
}

impl FromStr for Sha256Hex {
    type Err = InvalidSha256;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidSha256(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = InvalidSha256;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reader that hashes everything read through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> HashingReader<R> {
    /// Wraps a reader. Hashing starts at its current position.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// The digest of everything read so far.
    pub fn finish(self) -> Sha256Hex {
        Sha256Hex::from_digest(&self.hasher.finalize())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A writer that hashes and counts everything written through it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps a writer. Hashing starts at its current position.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), written: 0 }
    }

    /// The inner writer, and the digest and number of the bytes written so far.
    pub fn finish(self) -> (W, Sha256Hex, u64) {
        (self.inner, Sha256Hex::from_digest(&self.hasher.finalize()), self.written)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The digest and length of one file, as manifests record them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// The digest of the contents.
    pub sha256: Sha256Hex,
    /// The length in bytes.
    pub bytes: u64,
}

/// A file that differs from its record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: expected {expected}, found {found}", path.display())]
pub struct ChangedFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The recorded length or digest.
    pub expected: String,
    /// The actual length or digest.
    pub found: String,
}

impl FileRecord {
    /// Records a file.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { sha256: Sha256Hex::of_reader(file.take(bytes))?, bytes })
    }

    /// Compares the length of the file at `path` with the record. Cheap, so check it before the digest.
    ///
    /// # Errors
    /// [`ChangedFile`] if the lengths differ.
    pub fn check_length(&self, path: &Path, found: u64) -> Result<(), ChangedFile> {
        Self::compare(path, found == self.bytes, || (format!("{} bytes", self.bytes), format!("{found} bytes")))
    }

    /// Compares the digest of the file at `path` with the record.
    ///
    /// # Errors
    /// [`ChangedFile`] if the digests differ.
    pub fn check_digest(&self, path: &Path, found: &Sha256Hex) -> Result<(), ChangedFile> {
        Self::compare(path, *found == self.sha256, || (format!("sha256 {}", self.sha256), format!("sha256 {found}")))
    }

    fn compare(path: &Path, equal: bool, texts: impl FnOnce() -> (String, String)) -> Result<(), ChangedFile> {
        if equal {
            return Ok(());
        }
        let (expected, found) = texts();
        Err(ChangedFile { path: path.to_owned(), expected, found })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_digest_matches_the_standard() {
        assert_eq!(Sha256Hex::of(b"abc").as_str(), ABC);
    }

    #[test]
    fn readers_and_writers_hash_the_bytes_that_pass_through() {
        let mut reader = HashingReader::new(&b"abc"[..]);
        let mut writer = HashingWriter::new(Vec::new());
        io::copy(&mut reader, &mut writer).expect("memory to memory");
        assert_eq!(reader.finish().as_str(), ABC);
        let (bytes, digest, written) = writer.finish();
        assert_eq!((bytes.as_slice(), digest.as_str(), written), (&b"abc"[..], ABC, 3));
    }

    #[test]
    fn a_buffer_is_hashed_while_it_is_filled() {
        let contents: Vec<u8> = (0..9_000_000u32).map(|i| (i % 251) as u8).collect();
        for length in [0, 1, 4 << 20, contents.len()] {
            let mut buffer = vec![0; length];
            let digest = Sha256Hex::of_filling(&mut buffer, &contents[..]).expect("memory to memory");
            assert_eq!(digest, Sha256Hex::of(&contents[..length]));
            assert_eq!(buffer, contents[..length]);
        }
        let mut longer = vec![0; contents.len() + 1];
        let error = Sha256Hex::of_filling(&mut longer, &contents[..]).expect_err("too short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_changed_file_is_reported_with_both_lengths_or_digests() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "abc").expect("a write");
        let record = FileRecord::of(file.path()).expect("a record");
        assert_eq!(record, FileRecord { sha256: ABC.parse().expect("a digest"), bytes: 3 });
        let path = Path::new("model.onnx");
        assert_eq!(record.check_length(path, 3), Ok(()));
        assert_eq!(record.check_digest(path, &Sha256Hex::of(b"abc")), Ok(()));
        let error = record.check_length(path, 4).expect_err("another length");
        assert_eq!(error.to_string(), "`model.onnx`: expected 3 bytes, found 4 bytes");
        let error = record.check_digest(path, &Sha256Hex::of(b"abd")).expect_err("another digest");
        assert_eq!(error.expected, format!("sha256 {ABC}"));
    }

    #[test]
    fn a_record_keeps_its_json_form() {
        let json = format!("{{\"sha256\":\"{ABC}\",\"bytes\":3}}");
        let record: FileRecord = serde_json::from_str(&json).expect("a record");
        assert_eq!(serde_json::to_string(&record).expect("JSON"), json);
    }

    #[test]
    fn only_64_hexadecimal_digits_are_a_digest() {
        assert_eq!(ABC.to_uppercase().parse::<Sha256Hex>().expect("a digest").as_str(), ABC);
        assert!(ABC[1..].parse::<Sha256Hex>().is_err());
        assert!(format!("{}g", &ABC[1..]).parse::<Sha256Hex>().is_err());
    }
}
