//! What one thread of this CPU can multiply and add at most: the instructions of the innermost loop of a product, from
//! registers alone, as many at once as it takes to keep every unit busy.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use embedd_kernels::InstructionSet;

/// How long it is looked for.
const TIME: Duration = Duration::from_millis(50);

/// Multiply-accumulates of bytes in a second; `None` where the kernels use no instruction made for them.
pub(crate) fn peak(set: InstructionSet) -> Option<f64> {
    if !set.is_available() {
        return None;
    }
    match set {
        // SAFETY: this CPU has the set, as just checked.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512Vnni => Some(greatest(|| unsafe { x86_64::avx512_vnni() })),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => Some(greatest(|| unsafe { x86_64::avx2() })),
        _ => None,
    }
}

/// The greatest rate: what else the machine does, and a clock that has yet to rise, can only make it less.
fn greatest(products: impl Fn() -> usize) -> f64 {
    let end = Instant::now() + TIME;
    let mut greatest = 0.0_f64;
    while Instant::now() < end {
        let started = Instant::now();
        let products = products();
        greatest = greatest.max(products as f64 / started.elapsed().as_secs_f64());
    }
    greatest
}

/// In assembly, because a compiler sees that every turn of such a loop is the same. Each returns its multiplications.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;
    use std::arch::x86_64::{_mm256_setzero_si256, _mm512_setzero_si512};

    /// Sums that do not wait for each other: more than an instruction's latency times those that start in one cycle.
    const SUMS: usize = 12;
    /// Some 0.3 ms.
    const TURNS: usize = 100_000;

    /// Four bytes for each of 16 sums, in one instruction.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512_vnni() -> usize {
        let factors = _mm512_setzero_si512();
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                // SAFETY: no memory is touched.
                unsafe {
                    asm!(
                        "vpdpbusd {sum}, {factors}, {factors}",
                        sum = inout(zmm_reg) *sum, factors = in(zmm_reg) factors,
                        options(nomem, nostack, preserves_flags),
                    );
                }
            }
        }
        TURNS * SUMS * 64
    }

    /// Bytes that were widened before: two for each of 8 sums, and a second instruction for the sums.
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2() -> usize {
        let factors = _mm256_setzero_si256();
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                // SAFETY: no memory is touched.
                unsafe {
                    asm!(
                        "vpmaddwd {products}, {factors}, {factors}",
                        "vpaddd {sum}, {sum}, {products}",
                        products = out(ymm_reg) _, sum = inout(ymm_reg) *sum, factors = in(ymm_reg) factors,
                        options(nomem, nostack, preserves_flags),
                    );
                }
            }
        }
        TURNS * SUMS * 16
    }
}
