//! The fastest engines for a device.

use crate::bundle::{AccuracyRecord, ModelRecord, Variant};
use embedd_kernels::{CpuInstructions, InstructionSet};

/// The engines worth using on a GPU, fastest first.
pub(super) const ON_GPU: [Variant; 2] = [Variant::Fp16, Variant::Fp32];

/// The engines worth using on a CPU, fastest first, given the instruction set of the native kernels.
pub(super) fn fastest_first(kernels: InstructionSet, cpu: CpuInstructions) -> Vec<Variant> {
    match kernels {
        // Not measured with NEON; the native model is the more accurate one.
        InstructionSet::AmxBf16
        | InstructionSet::AmxInt8
        | InstructionSet::Avx512Vnni
        | InstructionSet::AvxVnni
        | InstructionSet::NeonI8mm
        | InstructionSet::NeonDotprod => vec![Variant::Native, Variant::Portable, Variant::Fp32],
        // Only for those who ask for it.
        InstructionSet::EmulatedAmxBf16 => vec![Variant::Native],
        // ONNX Runtime has INT8 dot products; these native kernels do not.
        _ if cpu.has_int8_dot_products() => vec![Variant::Portable, Variant::Fp32],
        InstructionSet::Avx2 => vec![Variant::Native, Variant::Fp32],
        // ONNX Runtime's float32 kernels are faster than the plain kernels.
        InstructionSet::Plain => vec![Variant::Fp32],
    }
}

/// The instruction set `fastest`, or the next one for which the accuracy of the native model was measured.
pub(super) fn proved_set(fastest: InstructionSet, native: &ModelRecord) -> InstructionSet {
    let is_proved = |accuracy: Option<AccuracyRecord>| accuracy.is_some_and(|accuracy| accuracy.passed());
    if fastest.uses_bf16() && !is_proved(native.accuracy_bf16) { InstructionSet::best_for_int8() } else { fastest }
}

#[cfg(test)]
mod tests;
