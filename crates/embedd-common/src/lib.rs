//! Shared by the crates of embedd: atomic files, checksums, locks, progress, percentiles, HTML pages of figures, sample texts,
//! process statistics.

pub mod atomic;
pub mod checksum;
pub mod lock;
pub mod page;
pub mod percentile;
pub mod process;
pub mod progress;
pub mod sample_texts;
