//! The machine that figures were measured on. What cannot be found out is left out.

use std::collections::BTreeSet;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use embedd_kernels::{CpuInstructions, Feature};

/// A machine, and when and with what it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Cores of the machine, without their second threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<usize>,
    /// CPUs that this process may use.
    pub cpus_available: usize,
    /// The widest instruction set that matters, as the server names it.
    pub instruction_set: String,
    /// All instruction sets that matter, as the system names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instruction_sets: Vec<String>,
    /// The operating system and the architecture.
    pub os: String,
    /// Version of embedd.
    pub embedd: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// When this was recorded, in UTC: `2026-01-31T12:00:00Z`.
    pub date: String,
}

impl Machine {
    /// This machine, now.
    pub fn now(onnxruntime: &str) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cpu: cpu_name(&cpuinfo),
            cores: cores(&cpuinfo),
            cpus_available: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            instruction_set: CpuInstructions::widest().to_string(),
            instruction_sets: instruction_sets(&cpuinfo),
            os: operating_system(),
            embedd: env!("CARGO_PKG_VERSION").to_owned(),
            onnxruntime: onnxruntime.to_owned(),
            date: utc(SystemTime::now()),
        }
    }

    /// The CPU's name, or that it is not known.
    pub fn cpu_name(&self) -> &str {
        self.cpu.as_deref().unwrap_or("unknown")
    }
}

fn values<'c>(cpuinfo: &'c str, key: &'static str) -> impl Iterator<Item = &'c str> {
    let pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let named = ["model name", "Model", "Hardware"].iter().find_map(|key| values(cpuinfo, key).next());
    let part = || Some(format!("ARM part {}", values(cpuinfo, "CPU part").next()?));
    named.map(str::to_owned).or_else(part)
}

/// Pairs of socket and core: the threads of one core share them.
fn cores(cpuinfo: &str) -> Option<usize> {
    let pairs: BTreeSet<_> = values(cpuinfo, "physical id").zip(values(cpuinfo, "core id")).collect();
    (!pairs.is_empty()).then_some(pairs.len())
}

fn instruction_sets(cpuinfo: &str) -> Vec<String> {
    let flags = values(cpuinfo, "flags").chain(values(cpuinfo, "Features")).next().unwrap_or_default();
    let flags: BTreeSet<&str> = flags.split_whitespace().collect();
    Feature::ALL
        .iter()
        .map(|feature| feature.linux_name())
        .filter(|name| flags.contains(name))
        .map(str::to_owned)
        .collect()
}

fn operating_system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.map_or(std::env::consts::OS, |name| name.trim_matches('"'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = if kernel.is_empty() { String::new() } else { format!(", kernel {}", kernel.trim()) };
    format!("{name}{kernel}, {}", std::env::consts::ARCH)
}

/// A time as `2026-01-31T12:00:00Z`; times before 1970 are told as its beginning.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`: years begin in
/// March, so that a leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu \
                           avx2 avx512f avx512_vnni\n\nprocessor\t: 1\nmodel name\t: A CPU @ 2 GHz\nphysical id\t: \
                           0\ncore id\t\t: 0\nflags\t\t: fpu avx2\n";

    #[test]
    fn a_cpu_is_described_by_what_the_system_tells() {
        assert_eq!(cpu_name(CPUINFO).as_deref(), Some("A CPU @ 2 GHz"));
        assert_eq!(cores(CPUINFO), Some(1));
        assert_eq!(instruction_sets(CPUINFO), ["avx2", "avx512f", "avx512_vnni"]);
        assert_eq!((cpu_name(""), cores(""), instruction_sets("").len()), (None, None, 0));
        assert_eq!(cpu_name("CPU part : 0xd0c\n").as_deref(), Some("ARM part 0xd0c"));
        assert_eq!(instruction_sets("Features : fp asimd asimddp i8mm\n"), ["asimd", "asimddp", "i8mm"]);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
