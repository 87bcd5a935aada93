//! Accuracy of embeddings compared with a reference: cosines, mean squared errors, rankings and the accuracy gate.

use serde::{Deserialize, Serialize};

use crate::bundle::{AccuracyRecord, ReferenceKind};
use embedd_common::percentile::{mean, quantile, sorted};

mod ranking;

pub use ranking::{TOP, top_overlap};

/// The default minimum cosine of a text to its reference.
pub const DEFAULT_THRESHOLD: f64 = 0.99;

/// How closely one text's embedding matches its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextAccuracy {
    /// The text's position in the set.
    pub index: usize,
    /// The text's name in the set.
    pub id: String,
    /// The number of tokens, including special tokens.
    pub tokens: u32,
    /// See [`cosine`]; NaN is null in JSON.
    #[serde(with = "nan_as_null")]
    pub cosine: f64,
    /// See [`mse`]; NaN is null in JSON.
    #[serde(with = "nan_as_null")]
    pub mse: f64,
    /// Whether the cosine reaches the threshold.
    pub passed: bool,
}

/// How closely a set of embeddings matches its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The figures over all texts.
    pub summary: Summary,
    /// The texts, in the order of the set.
    pub texts: Vec<TextAccuracy>,
}

/// The figures over all texts. If the cosine of any text is NaN, so are the figures, and the accuracy gate fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The number of texts.
    pub texts: usize,
    /// The minimum cosine.
    #[serde(with = "nan_as_null")]
    pub min_cosine: f64,
    /// The 1st percentile of the cosines, interpolated between neighbors.
    #[serde(with = "nan_as_null")]
    pub p1_cosine: f64,
    /// The mean cosine.
    #[serde(with = "nan_as_null")]
    pub mean_cosine: f64,
    /// The maximum mean squared error.
    #[serde(with = "nan_as_null")]
    pub max_mse: f64,
    /// The mean of the mean squared errors.
    #[serde(with = "nan_as_null")]
    pub mean_mse: f64,
    /// The minimum cosine that every text must reach.
    pub threshold: f64,
    /// Whether there is at least one text and every text reaches the threshold.
    pub passed: bool,
}

impl TextAccuracy {
    /// Compares an embedding with its reference. Both vectors are scaled to norm 1 for the mean squared error; the
    /// cosine does not depend on the norms.
    pub fn compare(index: usize, id: &str, tokens: u32, embedding: &[f32], reference: &[f32], threshold: f64) -> Self {
        let cosine = cosine(embedding, reference);
        let mse = mse(&normalized(embedding), &normalized(reference));
        Self { index, id: id.to_owned(), tokens, cosine, mse, passed: cosine >= threshold }
    }
}

impl Accuracy {
    /// Summarizes the texts.
    pub fn of(texts: Vec<TextAccuracy>, threshold: f64) -> Self {
        let cosines: Vec<f64> = texts.iter().map(|text| text.cosine).collect();
        let errors: Vec<f64> = texts.iter().map(|text| text.mse).collect();
        let sorted_cosines = sorted(&cosines);
        let sorted_errors = sorted(&errors);
        let summary = Summary {
            texts: texts.len(),
            min_cosine: quantile(&sorted_cosines, 0.0),
            p1_cosine: quantile(&sorted_cosines, 0.01),
            mean_cosine: mean(&cosines),
            max_mse: quantile(&sorted_errors, 1.0),
            mean_mse: mean(&errors),
            threshold,
            passed: !texts.is_empty() && texts.iter().all(|text| text.passed),
        };
        Self { summary, texts }
    }

    /// The `count` texts with the lowest cosines, worst first. NaN counts as lower than any number.
    pub fn worst(&self, count: usize) -> Vec<&TextAccuracy> {
        let mut texts: Vec<&TextAccuracy> = self.texts.iter().collect();
        let rank = |text: &TextAccuracy| if text.cosine.is_nan() { f64::NEG_INFINITY } else { text.cosine };
        texts.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        texts.truncate(count);
        texts
    }
}

impl Accuracy {
    /// The record for a manifest.
    pub fn record(&self, reference: ReferenceKind) -> AccuracyRecord {
        let Summary { texts, min_cosine, p1_cosine, mean_cosine, threshold, .. } = self.summary;
        let texts = texts.try_into().unwrap_or(u32::MAX);
        AccuracyRecord { reference, texts, min_cosine, p1_cosine, mean_cosine, threshold }
    }
}

/// The cosine of the angle between two vectors, computed in double precision. NaN if a vector is zero, a component is
/// not finite, or the lengths differ.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let cosine = dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt());
    // Rounding can push the cosine of a vector with itself above 1; `clamp` preserves NaN.
    cosine.clamp(-1.0, 1.0)
}

/// The mean of the squared differences of the components. NaN if the lengths differ or are 0.
pub fn mse(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let squares = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>() / a.len() as f64
}

/// A vector scaled to L2 norm 1; all NaN if the vector is zero.
pub fn normalized(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    vector.iter().map(|&value| (f64::from(value) / norm) as f32).collect()
}

/// JSON cannot represent NaN: it is written as null, and null is read as NaN.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() { serializer.serialize_f64(*value) } else { serializer.serialize_none() }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests;
