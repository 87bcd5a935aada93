//! Whether this process may use the matrix registers of AMX, which the standard library cannot tell yet.
#![allow(unsafe_code)]

use crate::cpu::Feature;

/// Whether the CPU has `feature`, one of AMX, and the operating system allows this process to use it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn is_available(feature: Feature) -> bool {
    // The bits of EDX for leaf 7 of CPUID.
    let bit = match feature {
        Feature::AmxBf16 => 22,
        Feature::AmxTile => 24,
        Feature::AmxInt8 => 25,
        _ => return false,
    };
    // A CPU with AMX has AVX-512, which is detected only if the system saves its registers.
    is_x86_feature_detected!("avx512f") && std::arch::x86_64::__cpuid_count(7, 0).edx >> bit & 1 == 1 && is_permitted()
}

/// The registers exist on x86-64; only Linux is supported.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn is_available(_: Feature) -> bool {
    false
}

/// Asks Linux, once, for permission to use the matrix registers. False if it knows no such registers, or if it refuses.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    static PERMITTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    // SAFETY: the request touches no memory of this process. From then on, the signal frames of threads that use the
    // registers are larger; Linux refuses if an alternate signal stack is too small for them.
    *PERMITTED
        .get_or_init(|| unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 })
}
