//! What the system knows of this process: on Linux by `/proc`, elsewhere nothing.

use std::time::Duration;

/// As Prometheus has it of every process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessStats {
    /// Of all threads, in user space and in the kernel.
    pub cpu_time: Duration,
    /// Memory that is in use.
    pub resident_bytes: u64,
    /// Addresses that are in use.
    pub virtual_bytes: u64,
    /// File descriptors in use.
    pub open_fds: u64,
    /// File descriptors that may be in use; `None`: any number.
    pub max_fds: Option<u64>,
    /// Since 1970-01-01 00:00 UTC.
    pub start_time: Duration,
    /// Threads now.
    pub threads: u64,
}

/// CPU time of this process, where the system tells; in steps of 10 ms, as a rule.
pub fn cpu_time() -> Option<Duration> {
    system::cpu_time()
}

/// All of it, where the system tells.
pub fn stats() -> Option<ProcessStats> {
    system::stats()
}

#[cfg(target_os = "linux")]
mod system {
    use std::time::Duration;

    use procfs::WithCurrentSystemInfo as _;
    use procfs::process::{LimitValue, Process, Stat};

    use super::ProcessStats;

    pub(super) fn cpu_time() -> Option<Duration> {
        Some(cpu_time_of(&Process::myself().ok()?.stat().ok()?))
    }

    pub(super) fn stats() -> Option<ProcessStats> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        Some(ProcessStats {
            cpu_time: cpu_time_of(&stat),
            resident_bytes: stat.rss_bytes().get(),
            virtual_bytes: stat.vsize,
            open_fds: process.fd_count().ok()? as u64,
            max_fds: match process.limits().ok()?.max_open_files.soft_limit {
                LimitValue::Value(limit) => Some(limit),
                LimitValue::Unlimited => None,
            },
            start_time: Duration::from_secs(procfs::boot_time_secs().ok()?) + ticks(stat.starttime),
            threads: u64::try_from(stat.num_threads).ok()?,
        })
    }

    fn cpu_time_of(stat: &Stat) -> Duration {
        ticks(stat.utime + stat.stime)
    }

    fn ticks(ticks: u64) -> Duration {
        Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Duration;

    use super::ProcessStats;

    pub(super) fn cpu_time() -> Option<Duration> {
        None
    }

    pub(super) fn stats() -> Option<ProcessStats> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn figures_are_those_of_this_process() {
        let stats = stats().expect("Linux tells");
        assert!(stats.resident_bytes > 1 << 20 && stats.virtual_bytes > stats.resident_bytes, "{stats:?}");
        // A test runs in a thread of its own.
        assert!(stats.threads >= 2 && stats.open_fds >= 3, "{stats:?}");
        assert!(stats.max_fds.is_none_or(|max| max > stats.open_fds), "{stats:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        // The time of the boot is known to a second.
        assert!(stats.start_time <= now + Duration::from_secs(2) && stats.start_time.as_secs() > 1 << 30, "{stats:?}");
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = cpu_time().expect("Linux tells");
        let mut sum = 0u64;
        while cpu_time().expect("Linux tells") < before + Duration::from_millis(20) {
            sum = (0..1_000_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
        assert!(stats().expect("Linux tells").cpu_time > before);
    }
}
