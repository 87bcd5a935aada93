//! Memory for packed weights.
#![allow(
    unsafe_code,
    reason = "the system is asked for pages itself: no allocator hands out huge ones, or gives all of its own back"
)]

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The size of a huge page, and a multiple of every ordinary one.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes that begin at a multiple of 2 MiB, zero at first. On Linux the system is asked to back them with huge pages:
/// a pass over all weights of a model then needs some fifty address translations instead of thirty thousand.
pub struct PageBuffer {
    start: NonNull<u8>,
    length: usize,
    /// What was mapped; `start` lies in its first 2 MiB.
    mapping: NonNull<libc::c_void>,
    mapped: usize,
}

// SAFETY: the buffer owns its mapping, which is bound to no thread.
unsafe impl Send for PageBuffer {}
// SAFETY: a shared buffer gives out shared slices only.
unsafe impl Sync for PageBuffer {}

impl PageBuffer {
    /// So many bytes, all zero. Pages take memory once they are touched.
    ///
    /// # Errors
    /// What the system says where it has no room for them.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        let too_large = || io::Error::new(io::ErrorKind::OutOfMemory, format!("{length} bytes are too many"));
        let whole = length.max(1).checked_next_multiple_of(HUGE_PAGE).ok_or_else(too_large)?;
        let mapped = whole.checked_add(HUGE_PAGE).ok_or_else(too_large)?;
        // SAFETY: a private anonymous mapping at an address of the system's choice touches no other memory.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(mapping).ok_or_else(too_large)?;
        let skipped = mapping.cast::<u8>().as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: `skipped` is less than HUGE_PAGE, and the mapping is that much longer than `whole`.
        let start = unsafe { mapping.cast::<u8>().add(skipped) };
        let buffer = Self { start, length, mapping, mapped };
        #[cfg(target_os = "linux")]
        buffer.ask_for_huge_pages(whole);
        Ok(buffer)
    }

    /// The system may be set not to give any: then the pages are ordinary ones.
    #[cfg(target_os = "linux")]
    fn ask_for_huge_pages(&self, whole: usize) {
        // SAFETY: the range is part of the buffer's own mapping; the advice does not change what it holds.
        unsafe { libc::madvise(self.start.cast().as_ptr(), whole, libc::MADV_HUGEPAGE) };
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `length` mapped, initialised bytes, which nothing changes while the buffer is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `length` mapped, initialised bytes, which this borrow alone reaches.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl AsMut<[u8]> for PageBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for PageBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageBuffer").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Drop for PageBuffer {
    fn drop(&mut self) {
        // SAFETY: the whole mapping is the buffer's own, and no slice of it outlives the buffer.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.mapped) };
    }
}

/// Gives memory that was freed back to the system, where the allocator would keep it: worth it after a model has been
/// loaded, or has ended, which leaves tens of MiB free in pieces.
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes nothing that is allocated, and glibc allows it at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no pages")]
    fn a_buffer_is_aligned_zero_and_as_long_as_asked() {
        for length in [0, 1, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1] {
            let mut buffer = PageBuffer::zeroed(length).expect("memory");
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr().addr() % HUGE_PAGE, 0);
            assert!(buffer.iter().all(|&byte| byte == 0));
            buffer.fill(7);
            assert!(buffer.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no pages")]
    fn more_than_there_can_be_is_an_error() {
        assert!(PageBuffer::zeroed(usize::MAX).is_err());
        assert!(PageBuffer::zeroed(usize::MAX / 2).is_err());
    }
}
