//! Statistics about this process, read from `/proc`. Available on Linux only.

use std::time::Duration;

/// The standard process metrics of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessStats {
    /// User and system time of all threads.
    pub cpu_time: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Virtual address space in use.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The limit on open file descriptors; `None` if unlimited.
    pub max_fds: Option<u64>,
    /// When the process started, since the Unix epoch.
    pub start_time: Duration,
    /// Current number of threads.
    pub threads: u64,
}

/// CPU time of this process, usually in steps of 10 ms; `None` if the system does not report it.
pub fn cpu_time() -> Option<Duration> {
    system::cpu_time()
}

/// All statistics; `None` if the system does not report them.
pub fn stats() -> Option<ProcessStats> {
    system::stats()
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::time::Duration;

    use super::ProcessStats;

    /// `USER_HZ`: the kernel reports times in this unit, regardless of its own tick rate. It is 100 on x86-64 and Arm.
    const TICKS_PER_SECOND: f64 = 100.0;

    pub(super) fn cpu_time() -> Option<Duration> {
        Some(Times::parse(&read("/proc/self/stat")?)?.cpu)
    }

    pub(super) fn stats() -> Option<ProcessStats> {
        let times = Times::parse(&read("/proc/self/stat")?)?;
        let status = read("/proc/self/status")?;
        let boot = Duration::from_secs(number(&read("/proc/stat")?, "btime ")?);
        Some(ProcessStats {
            cpu_time: times.cpu,
            resident_bytes: number(&status, "VmRSS:")? * 1024,
            virtual_bytes: number(&status, "VmSize:")? * 1024,
            // Reading the folder itself takes one descriptor.
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64,
            // The first value is the soft limit: a number or "unlimited".
            max_fds: number(&read("/proc/self/limits")?, "Max open files "),
            start_time: boot + times.start,
            threads: number(&status, "Threads:")?,
        })
    }

    fn read(path: &str) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    /// The number after `name` at the start of a line.
    pub(super) fn number(text: &str, name: &str) -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    }

    /// The times in `/proc/self/stat`.
    #[derive(Debug, PartialEq)]
    pub(super) struct Times {
        pub(super) cpu: Duration,
        /// Since the system booted.
        pub(super) start: Duration,
    }

    impl Times {
        pub(super) fn parse(stat: &str) -> Option<Self> {
            // The second field is the program's name in parentheses. The name itself may contain spaces and parentheses.
            let (_, after_name) = stat.rsplit_once(')')?;
            let fields: Vec<&str> = after_name.split_whitespace().collect();
            // proc_pid_stat(5) numbers the fields from 1.
            let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
            let duration = |ticks: u64| Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND);
            Some(Self { cpu: duration(ticks(14)? + ticks(15)?), start: duration(ticks(22)?) })
        }
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
    use std::fs::File;
    use std::process::Command;
    use std::sync::Barrier;
    use std::thread;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::system::{Times, number};
    use super::*;

    /// The output of a shell that inherits this process's limits.
    fn shell(command: &str) -> String {
        let output = Command::new("sh").args(["-c", command]).output().expect("a shell");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    #[test]
    fn statistics_include_the_files_memory_and_threads_of_this_process() {
        const THREADS: usize = 10;
        let files: Vec<File> = (0..40).map(|_| File::open("/proc/self/stat").expect("a file")).collect();
        let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
        let barrier = Barrier::new(THREADS + 1);
        let stats = thread::scope(|scope| {
            (0..THREADS).for_each(|_| drop(scope.spawn(|| barrier.wait())));
            let stats = stats();
            barrier.wait();
            stats.expect("Linux reports them")
        });
        assert!(stats.open_fds as usize >= files.len() + 3, "{stats:?}");
        assert!(stats.resident_bytes as usize >= memory.len(), "{stats:?}");
        assert!(stats.virtual_bytes > stats.resident_bytes, "{stats:?}");
        assert!(stats.threads as usize > THREADS, "{stats:?}");
    }

    #[test]
    fn the_descriptor_limit_is_the_one_that_a_shell_inherits() {
        // "unlimited" does not parse as a number.
        assert_eq!(stats().expect("Linux reports them").max_fds, shell("ulimit -S -n").parse().ok());
    }

    #[test]
    fn the_process_started_in_the_past() {
        let stats = stats().expect("Linux reports them");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        // The boot time is accurate to one second.
        assert!(stats.start_time <= now + Duration::from_secs(2) && stats.start_time.as_secs() > 1 << 30, "{stats:?}");
    }

    #[test]
    fn times_are_in_kernel_ticks() {
        assert_eq!(shell("getconf CLK_TCK"), "100");
        let stat = "7 (a) b) R (c) S 1 2 3 4 5 6 7 8 9 10 250 31 14 15 16 17 18 19 123456 21 22\n";
        let times = Times { cpu: Duration::from_millis(2810), start: Duration::from_millis(1_234_560) };
        assert_eq!(Times::parse(stat), Some(times));
        for damaged in ["", "7 (a) R 1 2 3", &stat.replace("250", "-"), &stat.replace(')', "")] {
            assert_eq!(Times::parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn numbers_are_found_after_their_names_at_the_start_of_a_line() {
        let status = "Name:\tVmRSS: 1\nVmSize:\t   40 kB\nVmRSS:\t    1696 kB\n";
        assert_eq!(number(status, "VmRSS:"), Some(1696));
        let limits = "Limit      Soft Limit   Hard Limit   Units\nMax open files     1024     4096     files\n";
        assert_eq!(number(limits, "Max open files "), Some(1024));
        assert_eq!(number(&limits.replace("1024", "unlimited"), "Max open files "), None);
        assert_eq!(number(status, "Threads:"), None);
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = cpu_time().expect("Linux reports it");
        let mut sum = 0u64;
        while cpu_time().expect("Linux reports it") < before + Duration::from_millis(20) {
            sum = (0..1_000_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
        assert!(stats().expect("Linux reports them").cpu_time > before);
    }
}
