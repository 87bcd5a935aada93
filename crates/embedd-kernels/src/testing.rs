//! Helpers for the tests of the kernels.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;

use super::{InstructionSet, Kernels, Parallel};

/// Calls `test` with the kernels of every instruction set that this CPU supports, and reports the other sets as not
/// tested. Panics if the operating system reports that the CPU supports one of the other sets.
pub(super) fn every_available(mut test: impl FnMut(Kernels)) {
    for set in InstructionSet::ALL {
        match Kernels::of(set) {
            Some(kernels) => test(kernels),
            None => {
                assert_ne!(reported_by_os(set), Some(true), "{set} is not tested although this CPU supports it");
                not_tested(format_args!("this CPU does not support {set}"));
            }
        }
    }
}

/// Reports a skipped test on stderr and in the file named by `TEST_SKIPS`, because libtest hides the output of passing
/// tests. `.ci/run` prints the file at the end.
fn not_tested(reason: impl Display) {
    eprintln!("NOT TESTED: {reason}");
    if let Some(path) = std::env::var_os("TEST_SKIPS") {
        // libtest names threads after their tests.
        let thread = std::thread::current();
        let line = format!("{reason}\t{}\n", thread.name().unwrap_or("?"));
        let mut file =
            OpenOptions::new().append(true).create(true).open(path).expect("TEST_SKIPS must name a writable file");
        // A single write, because other tests and processes append to the same file.
        file.write_all(line.as_bytes()).expect("write to TEST_SKIPS");
    }
}

/// Whether the operating system reports that this CPU supports `set`; `None` if it does not report features.
fn reported_by_os(set: InstructionSet) -> Option<bool> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return None;
    }
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags: Vec<&str> = cpuinfo.lines().find(|line| line.starts_with("flags"))?.split_whitespace().collect();
    Some(set.features().iter().all(|feature| flags.contains(&feature.linux_name())))
}

#[test]
fn detected_features_match_the_operating_system() {
    for set in InstructionSet::ALL {
        if let Some(reported) = reported_by_os(set) {
            assert_eq!(set.is_available(), reported, "{set}");
        }
    }
}

/// `release` in release builds; `debug` in other builds, in which kernels take a hundred times as long.
pub(super) fn by_build(release: usize, debug: usize) -> usize {
    if cfg!(debug_assertions) { debug } else { release }
}

/// Pseudo-random numbers that are the same in every run.
#[derive(Debug, Clone)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// `count` floats between -1 and 1.
    pub(super) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }
}

/// Starts threads for every call. They run the tasks in shuffled order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shuffled {
    pub(super) threads: usize,
    pub(super) seed: u64,
}

impl Parallel for Shuffled {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let mut order: Vec<usize> = (0..count).collect();
        let mut numbers = Numbers::new(self.seed);
        for last in (1..count).rev() {
            order.swap(last, numbers.below(last + 1));
        }
        std::thread::scope(|scope| {
            for first in 0..self.threads {
                let order = &order;
                scope.spawn(move || order.iter().skip(first).step_by(self.threads).for_each(|&index| task(index)));
            }
        });
    }
}
