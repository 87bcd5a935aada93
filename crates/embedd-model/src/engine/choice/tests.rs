use super::*;
use crate::bundle::ReferenceKind;

#[test]
fn engines_are_ordered_fastest_first() {
    let all = &[Variant::Native, Variant::Portable, Variant::Fp32][..];
    let native = &[Variant::Native, Variant::Fp32][..];
    let portable = &all[1..];
    let fp32 = &all[2..];
    let cases = [
        (InstructionSet::AmxBf16, CpuInstructions::Avx512Vnni, all),
        (InstructionSet::AmxInt8, CpuInstructions::Avx512Vnni, all),
        (InstructionSet::Avx512Vnni, CpuInstructions::Avx512Vnni, all),
        (InstructionSet::AvxVnni, CpuInstructions::AvxVnni, all),
        (InstructionSet::NeonI8mm, CpuInstructions::NeonI8mm, all),
        (InstructionSet::NeonDotprod, CpuInstructions::NeonDotprod, all),
        // The user selected a narrower instruction set than the CPU's best.
        (InstructionSet::Avx2, CpuInstructions::Avx512Vnni, portable),
        (InstructionSet::Plain, CpuInstructions::Avx512Vnni, portable),
        (InstructionSet::Plain, CpuInstructions::Avx2, fp32),
        // The CPU's best instruction set was selected.
        (InstructionSet::Avx2, CpuInstructions::AvxVnni, portable),
        (InstructionSet::Avx2, CpuInstructions::Avx512, native),
        (InstructionSet::Avx2, CpuInstructions::Avx2, native),
        (InstructionSet::Plain, CpuInstructions::Sse2, fp32),
        (InstructionSet::Plain, CpuInstructions::NeonI8mm, portable),
        (InstructionSet::Plain, CpuInstructions::NeonDotprod, portable),
        (InstructionSet::Plain, CpuInstructions::Neon, fp32),
        (InstructionSet::Plain, CpuInstructions::Other, fp32),
    ];
    for (kernels, cpu, expected) in cases {
        assert_eq!(fastest_first(kernels, cpu), expected, "kernels for {kernels} on a CPU with {cpu}");
    }
}

#[test]
fn a_set_with_bfloat16_needs_an_accuracy_of_its_own() {
    let accuracy = |min_cosine: f64| AccuracyRecord {
        reference: ReferenceKind::PyTorch,
        texts: 1,
        min_cosine,
        p1_cosine: min_cosine,
        mean_cosine: min_cosine,
        threshold: 0.99,
    };
    let record = |bf16: Option<f64>| ModelRecord {
        file: String::new(),
        weights: None,
        quantization: String::new(),
        accuracy: Some(accuracy(0.999)),
        accuracy_bf16: bf16.map(accuracy),
    };
    let int8 = InstructionSet::best_for_int8();
    for fastest in [InstructionSet::AmxBf16, InstructionSet::EmulatedAmxBf16] {
        assert_eq!(proved_set(fastest, &record(Some(0.995))), fastest);
        assert_eq!(proved_set(fastest, &record(Some(0.98))), int8, "it failed the gate");
        assert_eq!(proved_set(fastest, &record(None)), int8, "it was not measured");
    }
    assert_eq!(proved_set(InstructionSet::Avx2, &record(None)), InstructionSet::Avx2);
}
