//! Shared by several crates of embedd: checksummed files, locks, progress, percentiles, pages of figures, sample texts,
//! and statistics of this process.

pub mod checksum;
pub mod lock;
pub mod page;
pub mod percentile;
pub mod process;
pub mod progress;
pub mod sample_texts;
