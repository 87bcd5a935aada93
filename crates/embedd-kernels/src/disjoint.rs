//! A slice that several threads write to, each its own part.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// Gives out parts of a slice that the caller promises not to overlap.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` whose parts are handed out by `slice`, whose callers see to it that no two overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// # Safety
    /// No element may be part of two slices that live at the same time.
    ///
    /// # Panics
    /// Where the range does not lie in the slice.
    #[allow(clippy::mut_from_ref, reason = "the caller promises that the parts do not overlap")]
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: the range lies in the slice, which is borrowed mutably for `'a`; it overlaps no other part.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
