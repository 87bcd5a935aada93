//! Utilities shared by embedd's crates: atomic files, checksums, locks, progress, percentiles, HTML pages of figures,
//! sample texts, jitter, bounded reads, process statistics, and mutations for property tests.

pub mod atomic;
pub mod checksum;
pub mod files;
pub mod jitter;
pub mod lock;
pub mod mutation;
pub mod page;
pub mod percentile;
pub mod process;
pub mod progress;
pub mod sample_texts;
