//! A slice that several threads write to, each to its own part.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// Hands out mutable parts of a slice. The caller guarantees that they do not overlap.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: this is a `&mut [T]` whose parts are handed out by `slice`, whose callers guarantee that no two overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// # Safety
    /// No element may be in two slices that are alive at the same time.
    ///
    /// # Panics
    /// If the range is not within the slice.
    #[allow(clippy::mut_from_ref, reason = "the caller guarantees that the parts do not overlap")]
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "range {range:?} is out of bounds for length {}",
            self.len
        );
        // SAFETY: the range is within the slice, which is mutably borrowed for `'a`; by the caller's guarantee it
        // overlaps no other part.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
