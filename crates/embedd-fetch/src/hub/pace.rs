//! The minimum rate of a download.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// How often the rate is checked.
const WINDOW: Duration = Duration::from_secs(60);
/// The minimum number of bytes per window: a rate that no connection in use has. The idle timeout alone would let a hub
/// send one byte every few seconds, for years.
const MIN_BYTES: u64 = 64 << 10;

/// A reader that fails if its source is too slow.
pub(super) struct PacedReader<R> {
    inner: R,
    pace: Pace,
}

impl<R: Read> PacedReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, pace: Pace::starting(Instant::now()) }
    }
}

impl<R: Read> Read for PacedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        // At the end, nothing is left to wait for.
        if read > 0 && !self.pace.keeps_up(read as u64, Instant::now()) {
            let reason = format!("fewer than {MIN_BYTES} bytes in {} s", WINDOW.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
        Ok(read)
    }
}

/// Counts the bytes of one window after the other.
struct Pace {
    window_start: Instant,
    received: u64,
}

impl Pace {
    fn starting(now: Instant) -> Self {
        Self { window_start: now, received: 0 }
    }

    /// Adds received bytes. False if a window has ended with too few.
    fn keeps_up(&mut self, bytes: u64, now: Instant) -> bool {
        self.received += bytes;
        if now.duration_since(self.window_start) < WINDOW {
            return true;
        }
        let enough = self.received >= MIN_BYTES;
        *self = Self::starting(now);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_must_send_the_minimum_in_every_window() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::starting(start);
        assert!(pace.keeps_up(1, at(59)), "the first window is not over");
        assert!(pace.keeps_up(MIN_BYTES, at(60)));
        assert!(pace.keeps_up(MIN_BYTES - 1, at(100)));
        assert!(pace.keeps_up(1, at(120)));
        assert!(pace.keeps_up(MIN_BYTES - 2, at(179)));
        assert!(!pace.keeps_up(1, at(180)), "bytes of earlier windows do not count");
    }

    #[test]
    fn a_fast_source_is_read_to_its_end() {
        let mut read = Vec::new();
        PacedReader::new(&[7; 1000][..]).read_to_end(&mut read).expect("the bytes");
        assert_eq!(read, [7; 1000]);
    }
}
