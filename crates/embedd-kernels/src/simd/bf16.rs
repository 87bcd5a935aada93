//! Vectors of floats and bfloat16, which has the exponent of float32 and 8 significant bits.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(test)]
pub(crate) mod plain;
#[cfg(test)]
mod tests;

use super::Simd;

/// Columns whose weights are widened together.
pub(crate) const COLUMNS: usize = 16;
/// Adjacent channels of a column in packed weights.
pub(crate) const CHANNELS: usize = crate::layout::QUAD;

/// The operations that kernels need besides those of [`Simd`]. All rounding is to nearest, ties to even; numbers below
/// 2^-126 become 0.
pub(crate) trait Bf16: Copy {
    type Simd: Simd;

    /// Scales of 16 columns, prepared for [`Bf16::widen`].
    type Scales: Copy;

    fn simd(self) -> Self::Simd;

    /// Rounds every lane to a bfloat16.
    fn round(self, vector: <Self::Simd as Simd>::F32) -> <Self::Simd as Simd>::F32;

    /// Stores every lane, rounded; panics if `to` is shorter than a vector.
    fn store(self, to: &mut [u16], vector: <Self::Simd as Simd>::F32);

    /// Stores the first lane of `even`, the first one of `odd`, the second one of `even` and so on, rounded; panics if
    /// `to` is shorter than two vectors.
    fn store_pairs(self, to: &mut [u16], even: <Self::Simd as Simd>::F32, odd: <Self::Simd as Simd>::F32);

    /// Prepares the scales of 16 columns, which are rounded by [`rounded_scale`]. Panics if there are fewer.
    fn scales(self, scales: &[f32]) -> Self::Scales;

    /// Multiplies weights by the scales of their columns and rounds the products. `weights` has 4 channels for each of 16
    /// columns. `to` gets the first two channels of every column, followed by the other two of every column. Panics if a
    /// slice is too short.
    fn widen(self, weights: &[i8], scales: Self::Scales, to: &mut [u16]);
}

/// Rounds a scale to 15 significant bits, so that its product with 16 bits needs no rounding. That is far more precise than
/// a bfloat16.
#[inline(always)]
pub(crate) fn rounded_scale(scale: f32) -> f32 {
    const DROPPED: u32 = 1 << 9;
    f32::from_bits((scale.to_bits() + DROPPED / 2) & !(DROPPED - 1))
}
