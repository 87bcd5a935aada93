//! Shared by the crates of embedd: checksums, atomic files, locks, progress, HTML pages of figures, process statistics.

pub mod atomic;
pub mod checksum;
pub mod lock;
pub mod page;
pub mod process;
pub mod progress;
