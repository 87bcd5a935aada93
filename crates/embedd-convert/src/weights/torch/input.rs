//! The bytes of a pickle, read in sequence.

use super::Failure;

/// Of a module, or of a name in it.
const MAX_NAME_BYTES: usize = 256;

pub(super) struct Input<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Input<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The number of bytes that were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, Failure> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let bytes = self.bytes[self.at..].first_chunk::<N>().ok_or_else(|| self.malformed("ends early"))?;
        self.at += N;
        Ok(*bytes)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'b [u8], Failure> {
        let bytes = self.bytes[self.at..].get(..length).ok_or_else(|| self.malformed("ends early"))?;
        self.at += length;
        Ok(bytes)
    }

    pub(super) fn line(&mut self) -> Result<&'b str, Failure> {
        let rest = &self.bytes[self.at..];
        let rest = &rest[..rest.len().min(MAX_NAME_BYTES + 1)];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| self.malformed("names a global that is too long or ends early"))?;
        let line = str::from_utf8(&rest[..end]).map_err(|_| self.malformed("names a global that is not UTF-8"))?;
        self.at += end + 1;
        Ok(line)
    }

    pub(super) fn malformed(&self, what: &str) -> Failure {
        Failure::Malformed(format!("its pickle {what} (before byte {})", self.at))
    }
}
