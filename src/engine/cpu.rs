//! What this CPU can do.

/// The widest instruction set of this CPU that matters to matrix products, for example `avx512-vnni`.
pub fn instruction_set() -> &'static str {
    detect()
}

#[cfg(target_arch = "x86_64")]
fn detect() -> &'static str {
    if is_x86_feature_detected!("avx512vnni") {
        "avx512-vnni"
    } else if is_x86_feature_detected!("avxvnni") {
        "avx-vnni"
    } else if is_x86_feature_detected!("avx512f") {
        "avx512"
    } else if is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "sse2"
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> &'static str {
    if std::arch::is_aarch64_feature_detected!("i8mm") {
        "neon-i8mm"
    } else if std::arch::is_aarch64_feature_detected!("dotprod") {
        "neon-dotprod"
    } else {
        "neon"
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> &'static str {
    std::env::consts::ARCH
}
