use super::*;

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
