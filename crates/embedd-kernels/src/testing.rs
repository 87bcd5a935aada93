//! What the kernels' tests share.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;

use super::math::gelu_vector;
use super::simd::{Simd, Vectorized};
use super::{InstructionSet, Kernels, Parallel};

/// Calls `test` with the kernels of every instruction set that this CPU has, and says loudly which it lacks; panics
/// where the system says that the CPU has one of those.
pub(super) fn every_available(mut test: impl FnMut(Kernels)) {
    for set in InstructionSet::ALL {
        match Kernels::of(set) {
            Some(kernels) => test(kernels),
            None => {
                assert_ne!(told_by_system(set), Some(true), "{set} is not tested, and this CPU has it");
                not_tested(format_args!("this CPU has no {set}"));
            }
        }
    }
}

/// Reports what this machine cannot test: on stderr, and in the file that `TEST_SKIPS` names, because libtest hides the
/// output of tests that pass. `.ci/run` prints the file at its end.
fn not_tested(reason: impl Display) {
    eprintln!("NOT TESTED: {reason}");
    if let Some(path) = std::env::var_os("TEST_SKIPS") {
        // libtest names threads after their tests.
        let thread = std::thread::current();
        let line = format!("{reason}\t{}\n", thread.name().unwrap_or("?"));
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("TEST_SKIPS names a file");
        // In one write, because other tests and processes append to the same file.
        file.write_all(line.as_bytes()).expect("the skip is recorded");
    }
}

/// Whether the system says that this CPU has an instruction set; `None` where it does not tell.
fn told_by_system(set: InstructionSet) -> Option<bool> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return None;
    }
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags: Vec<&str> = cpuinfo.lines().find(|line| line.starts_with("flags"))?.split_whitespace().collect();
    Some(set.features().iter().all(|feature| flags.contains(&feature.linux_name())))
}

#[test]
fn what_is_detected_is_what_the_system_tells() {
    for set in InstructionSet::ALL {
        if let Some(told) = told_by_system(set) {
            assert_eq!(set.is_available(), told, "{set}");
        }
    }
}

/// `release` in a release build, `debugging` in others, where kernels take a hundred times as long.
pub(super) fn by_build(release: usize, debugging: usize) -> usize {
    if cfg!(debug_assertions) { debugging } else { release }
}

/// Numbers that look random and are the same in every run.
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

    /// One of the numbers below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// `count` floats between -1 and 1.
    pub(super) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }
}

struct Gelu<'a>(&'a mut [f32]);

impl Vectorized for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for values in self.0.chunks_mut(S::LANES) {
            s.store_part(values, gelu_vector(s, s.load_part(values)));
        }
    }
}

/// The kernels' GELU, in place.
pub(super) fn gelu(kernels: Kernels, values: &mut [f32]) {
    kernels.vectorize(Gelu(values));
}

/// Threads of its own for every call, which take the tasks in a shuffled order.
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
