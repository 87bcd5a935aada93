//! Page-aligned memory for packed weights.
#![allow(
    unsafe_code,
    reason = "pages are mapped directly, because allocators neither provide huge pages nor return all freed memory"
)]

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The size of a huge page, and a multiple of every regular page size.
const HUGE_PAGE: usize = 2 << 20;

/// A zero-initialized byte buffer, aligned to 2 MiB. On Linux it requests huge pages. With them, a pass over all of a
/// model's weights needs about fifty address translations instead of thirty thousand.
pub struct PageBuffer {
    start: NonNull<u8>,
    length: usize,
    /// The whole mapping; `start` is within its first 2 MiB.
    mapping: NonNull<libc::c_void>,
    mapped: usize,
}

// SAFETY: the buffer owns its mapping, which is not tied to a thread.
unsafe impl Send for PageBuffer {}
// SAFETY: a shared buffer hands out only shared slices.
unsafe impl Sync for PageBuffer {}

impl PageBuffer {
    /// Maps `length` zero bytes. A page uses physical memory only once it is accessed.
    ///
    /// # Errors
    /// The operating system's error if it cannot map that much memory.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        let too_large = || io::Error::new(io::ErrorKind::OutOfMemory, format!("cannot allocate {length} bytes"));
        let whole = length.max(1).checked_next_multiple_of(HUGE_PAGE).ok_or_else(too_large)?;
        let mapped = whole.checked_add(HUGE_PAGE).ok_or_else(too_large)?;
        // SAFETY: a private anonymous mapping at an address chosen by the system affects no other memory.
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

    /// Best effort: if huge pages are disabled, the buffer keeps its regular pages.
    #[cfg(target_os = "linux")]
    fn ask_for_huge_pages(&self, whole: usize) {
        // SAFETY: the range is part of the buffer's own mapping; the advice does not change its contents.
        unsafe { libc::madvise(self.start.cast().as_ptr(), whole, libc::MADV_HUGEPAGE) };
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `length` mapped, initialized bytes, and nothing changes them during the borrow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` points to `length` mapped, initialized bytes, and only this borrow can access them.
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
        // SAFETY: the buffer owns the whole mapping, and no slice of it outlives the buffer.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.mapped) };
    }
}

/// Returns freed memory to the operating system if the allocator would keep it. Worth calling after loading or dropping
/// a model, which leaves tens of MiB of fragmented free memory.
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` releases only free memory, and glibc allows calling it at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Limits the arenas of the allocator, each of which keeps freed memory that threads of other arenas cannot use. glibc
/// makes up to eight per CPU. Arenas that exist already stay, so call it before starting threads.
pub fn limit_arenas(arenas: usize) {
    let arenas = i32::try_from(arenas.max(1)).unwrap_or(i32::MAX);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets a parameter of the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = arenas;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri cannot map pages")]
    fn a_buffer_is_aligned_zeroed_and_of_the_requested_length() {
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
    #[cfg_attr(miri, ignore = "Miri cannot map pages")]
    fn an_impossible_length_is_an_error() {
        assert!(PageBuffer::zeroed(usize::MAX).is_err());
        assert!(PageBuffer::zeroed(usize::MAX / 2).is_err());
    }
}
