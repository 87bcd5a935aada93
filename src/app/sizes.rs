//! Sizes of the session pool, of batches and of the queue, from the settings, the device and the CPU quota.

use std::num::NonZeroUsize;

use crate::batch::{BatchLimits, QueueLimits};
use crate::config::Settings;
use embedd_kernels::CpuInstructions;
use embedd_model::bundle::Variant;
use embedd_model::threads::default_threads;

// Used unless the settings say otherwise. The comments on the settings give the reasons.
const CPU_BATCH_TOKENS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
const SLOW_CPU_BATCH_TOKENS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
const CPU_BATCH_TEXTS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
const CPU_QUEUED_REQUESTS: NonZeroUsize = NonZeroUsize::new(40).expect("not zero");
const GPU_BATCH_TOKENS: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
const GPU_BATCH_TEXTS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
const GPU_QUEUED_REQUESTS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
const GPU_SESSIONS: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");

/// The CPUs of this process according to its cgroup quota and its affinity, not the CPUs of the host.
pub(crate) fn cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Sessions, and threads per session. On CPUs, their product is the number of CPUs unless the settings say otherwise.
pub(super) fn pool_size(settings: &Settings, cpus: NonZeroUsize) -> (NonZeroUsize, NonZeroUsize) {
    if settings.device.is_gpu() {
        return (settings.sessions.unwrap_or(GPU_SESSIONS), settings.threads.unwrap_or(NonZeroUsize::MIN));
    }
    let share = |of: NonZeroUsize| NonZeroUsize::new(cpus.get() / of).unwrap_or(NonZeroUsize::MIN);
    match (settings.sessions, settings.threads) {
        (Some(sessions), Some(threads)) => (sessions, threads),
        (Some(sessions), None) => (sessions, share(sessions)),
        (None, Some(threads)) => (share(threads), threads),
        (None, None) => {
            let threads = default_threads(cpus);
            (share(threads), threads)
        }
    }
}

pub(super) fn batch_limits(settings: &Settings, engine: Variant, cpu: CpuInstructions) -> BatchLimits {
    let (tokens, texts) = match settings.device.is_gpu() {
        true => (GPU_BATCH_TOKENS, GPU_BATCH_TEXTS),
        false if cpu.has_int8_dot_products() => (CPU_BATCH_TOKENS, CPU_BATCH_TEXTS),
        false => (SLOW_CPU_BATCH_TOKENS, CPU_BATCH_TEXTS),
    };
    BatchLimits {
        tokens: settings.batch_tokens.unwrap_or(tokens),
        texts: settings.batch_texts.unwrap_or(texts),
        padded: engine != Variant::Native,
    }
}

pub(super) fn queue_limits(settings: &Settings, cpus: NonZeroUsize) -> QueueLimits {
    let queued = if settings.device.is_gpu() { GPU_QUEUED_REQUESTS } else { cpus.saturating_mul(CPU_QUEUED_REQUESTS) };
    let ahead = settings.queue_requests.unwrap_or(queued);
    QueueLimits { ahead, total: settings.queue_total_texts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn batch_tokens(cpu: CpuInstructions, settings: &[(&str, &str)]) -> usize {
        let env = settings.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let settings = Settings::resolve(&Sources { env, ..Sources::default() }).expect("settings");
        batch_limits(&settings, Variant::Native, cpu).tokens.get()
    }

    #[test]
    fn batches_are_smaller_on_slower_cpus() {
        assert_eq!(batch_tokens(CpuInstructions::Avx512Vnni, &[]), 256);
        assert_eq!(batch_tokens(CpuInstructions::NeonDotprod, &[]), 256);
        assert_eq!(batch_tokens(CpuInstructions::Avx512, &[]), 64);
        assert_eq!(batch_tokens(CpuInstructions::Avx2, &[]), 64);
        assert_eq!(batch_tokens(CpuInstructions::Avx2, &[("EMBEDD_BATCH_TOKENS", "512")]), 512);
        assert_eq!(batch_tokens(CpuInstructions::Avx2, &[("EMBEDD_DEVICE", "cuda")]), 16_384);
    }
}
