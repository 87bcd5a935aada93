//! Measures the peak multiply-accumulate rate of one thread on this CPU. Runs the instructions of the innermost loop of
//! a matrix product on registers only, with enough of them in flight to keep every execution unit busy.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use embedd_kernels::InstructionSet;

/// The duration of a measurement.
const TIME: Duration = Duration::from_millis(50);

/// Multiply-accumulates per second; `None` if the kernels use no dedicated instructions for them.
pub(crate) fn peak(set: InstructionSet) -> Option<f64> {
    if !set.is_available() {
        return None;
    }
    match set {
        // SAFETY: this CPU has the set, as just checked.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::AmxBf16 => Some(max_rate(|| unsafe { x86_64::amx_bf16() })),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::AmxInt8 => Some(max_rate(|| unsafe { x86_64::amx_int8() })),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512Vnni => Some(max_rate(|| unsafe { x86_64::avx512_vnni() })),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::AvxVnni => Some(max_rate(|| unsafe { x86_64::avx_vnni() })),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => Some(max_rate(|| unsafe { x86_64::avx2() })),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        InstructionSet::NeonI8mm => Some(max_rate(|| unsafe { aarch64::usdot() })),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        InstructionSet::NeonDotprod => Some(max_rate(|| unsafe { aarch64::sdot() })),
        _ => None,
    }
}

/// The maximum rate: other load on the machine and a low clock frequency can only reduce it.
fn max_rate(products: impl Fn() -> usize) -> f64 {
    let end = Instant::now() + TIME;
    let mut max = 0.0_f64;
    while Instant::now() < end {
        let started = Instant::now();
        let products = products();
        max = max.max(products as f64 / started.elapsed().as_secs_f64());
    }
    max
}

/// Independent sums: more than the latency of an instruction times the number that start per cycle.
const SUMS: usize = 12;
/// About 0.3 ms.
const ITERATIONS: usize = 100_000;

/// In assembly, because a compiler would see that all iterations are the same. Each function returns its number of
/// multiplications.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;
    use std::arch::x86_64::{_mm256_setzero_si256, _mm512_setzero_si512};

    use super::{ITERATIONS, SUMS};

    /// As long: a matrix instruction takes 16 cycles.
    const MATRIX_ITERATIONS: usize = 15_000;

    /// Defines a function for an instruction that multiplies `$products` numbers for each of 256 sums. With zeros, the CPU
    /// would keep a higher clock frequency than with any other data.
    macro_rules! matrices {
        ($(fn $name:ident = $instruction:literal, $products:literal;)*) => {$(
            /// # Safety
            /// This CPU must have the registers, and this process must have permission to use them.
            pub(super) unsafe fn $name() -> usize {
                #[repr(align(64))]
                struct Aligned<T>(T);
                // Palette 1 with 16 rows of 64 bytes in all 8 registers: 16-bit lengths from byte 16 on, numbers of rows
                // from byte 48 on.
                let configuration = Aligned(std::array::from_fn::<u8, 64, _>(|at| match at {
                    0 => 1,
                    16..32 if at % 2 == 0 => 64,
                    48..56 => 16,
                    _ => 0,
                }));
                // As bfloat16, these are numbers between 2^-7 and 1.
                let factors = Aligned(std::array::from_fn::<u8, 1024, _>(|at| match at % 2 {
                    0 => (at * 167 % 251) as u8,
                    _ => 0x3c + (at * 167 % 251 % 4) as u8,
                }));
                // SAFETY: by the caller's guarantee; the configuration and the factors are as long as the instructions
                // expect.
                unsafe {
                    asm!(
                        "ldtilecfg [{configuration}]",
                        "tileloadd tmm4, [{factors} + {stride}]",
                        "tileloadd tmm5, [{factors} + {stride}]",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        concat!($instruction, " tmm0, tmm4, tmm5"),
                        concat!($instruction, " tmm1, tmm4, tmm5"),
                        concat!($instruction, " tmm2, tmm4, tmm5"),
                        concat!($instruction, " tmm3, tmm4, tmm5"),
                        "dec {iterations}",
                        "jnz 2b",
                        "tilerelease",
                        configuration = in(reg) &raw const configuration,
                        factors = in(reg) &raw const factors,
                        stride = in(reg) 64_usize,
                        iterations = inout(reg) MATRIX_ITERATIONS => _,
                        options(nostack, readonly),
                    );
                }
                MATRIX_ITERATIONS * 4 * 256 * $products
            }
        )*};
    }

    matrices! {
        fn amx_int8 = "tdpbusd", 64;
        fn amx_bf16 = "tdpbf16ps", 32;
    }

    /// One instruction multiplies four bytes for each of 16 sums.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512_vnni() -> usize {
        let factors = _mm512_setzero_si512();
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..ITERATIONS {
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
        ITERATIONS * SUMS * 64
    }

    /// One instruction multiplies four bytes for each of 8 sums.
    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn avx_vnni() -> usize {
        let factors = _mm256_setzero_si256();
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..ITERATIONS {
            for sum in &mut sums {
                // SAFETY: no memory is touched.
                unsafe {
                    asm!(
                        "{{vex}} vpdpbusd {sum}, {factors}, {factors}",
                        sum = inout(ymm_reg) *sum, factors = in(ymm_reg) factors,
                        options(nomem, nostack, preserves_flags),
                    );
                }
            }
        }
        ITERATIONS * SUMS * 32
    }

    /// One instruction multiplies two widened bytes for each of 8 sums; a second one adds the products to the sums.
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2() -> usize {
        let factors = _mm256_setzero_si256();
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..ITERATIONS {
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
        ITERATIONS * SUMS * 16
    }
}

/// As for x86-64.
#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::aarch64::{vdupq_n_s8, vdupq_n_s32};
    use std::arch::asm;

    use super::{ITERATIONS, SUMS};

    /// Defines a function that runs an instruction, which multiplies four bytes for each of 4 sums.
    macro_rules! dot {
        ($name:ident, $features:literal) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name() -> usize {
                let factors = vdupq_n_s8(1);
                let mut sums = [vdupq_n_s32(0); SUMS];
                for _ in 0..ITERATIONS {
                    for sum in &mut sums {
                        // SAFETY: no memory is touched.
                        unsafe {
                            asm!(
                                concat!(stringify!($name), " {sum:v}.4s, {factors:v}.16b, {factors:v}.16b"),
                                sum = inout(vreg) *sum, factors = in(vreg) factors,
                                options(nomem, nostack, preserves_flags),
                            );
                        }
                    }
                }
                ITERATIONS * SUMS * 16
            }
        };
    }

    dot!(sdot, "neon,dotprod");
    dot!(usdot, "neon,dotprod,i8mm");
}
