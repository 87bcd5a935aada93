//! What several crates of embedd share: checksummed files, locks, progress, pages of figures, this process.

pub mod checksum;
pub mod lock;
pub mod page;
pub mod process;
pub mod progress;
