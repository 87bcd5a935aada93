//! Describes the machine that measurements were made on. Unknown properties are omitted.

use std::collections::BTreeSet;
use std::fs;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use embedd_kernels::{CpuInstructions, Feature};
use embedd_model::engine::OnnxRuntime;

/// A machine, the software versions, and the date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Physical cores of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<usize>,
    /// CPUs that this process may use.
    pub cpus_available: usize,
    /// The widest supported instruction set, by the server's name for it.
    pub instruction_set: String,
    /// All relevant instruction sets, by the operating system's names for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instruction_sets: Vec<String>,
    /// The operating system and the architecture.
    pub os: String,
    /// The GPU that ran the models, such as `cuda:0 (NVIDIA L4)`; `None` if CPUs did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Version of embedd.
    pub embedd: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// Date and time in UTC, such as `2026-01-31T12:00:00Z`.
    pub date: String,
}

impl Machine {
    /// The machine on which the runtime's sessions run, and the current date.
    pub fn of(runtime: &OnnxRuntime) -> Self {
        Self { gpu: runtime.gpu().map(ToString::to_string), ..Self::now(runtime.version()) }
    }

    /// The current machine and date.
    pub fn now(onnxruntime: &str) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cpu: cpu_name(&cpuinfo),
            cores: cores(&cpuinfo),
            cpus_available: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            instruction_set: CpuInstructions::widest().to_string(),
            instruction_sets: instruction_sets(&cpuinfo),
            os: operating_system(),
            gpu: None,
            embedd: env!("CARGO_PKG_VERSION").to_owned(),
            onnxruntime: onnxruntime.to_owned(),
            date: utc(SystemTime::now()),
        }
    }

    /// The CPU model, or `unknown`.
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

/// Counts distinct pairs of socket and core. Hardware threads of the same core have the same pair.
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

fn utc(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (year, month, day) = time.to_calendar_date();
    let month = u8::from(month);
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu \
                           avx2 avx512f avx512_vnni\n\nprocessor\t: 1\nmodel name\t: A CPU @ 2 GHz\nphysical id\t: \
                           0\ncore id\t\t: 0\nflags\t\t: fpu avx2\n";

    #[test]
    fn the_cpu_is_described_from_cpuinfo() {
        assert_eq!(cpu_name(CPUINFO).as_deref(), Some("A CPU @ 2 GHz"));
        assert_eq!(cores(CPUINFO), Some(1));
        assert_eq!(instruction_sets(CPUINFO), ["avx2", "avx512f", "avx512_vnni"]);
        assert_eq!((cpu_name(""), cores(""), instruction_sets("").len()), (None, None, 0));
        assert_eq!(cpu_name("CPU part : 0xd0c\n").as_deref(), Some("ARM part 0xd0c"));
        assert_eq!(instruction_sets("Features : fp asimd asimddp i8mm\n"), ["asimd", "asimddp", "i8mm"]);
    }

    #[test]
    fn dates_are_formatted_in_utc() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
