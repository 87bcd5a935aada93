//! The ranges of a model's components, for vectors of 8-bit integers: those of the bundle's reference set. All servers of
//! a bundle have the same ranges, whatever CPU and engine they use.

use std::sync::Arc;

use embedd_model::reference::ReferenceSet;
use embedd_model::vector::normalize;

/// Steps between the smallest and the largest value, as in sentence-transformers' `quantize_embeddings`.
const STEPS: f32 = 255.0;

/// A model's reference set, and the scale that is derived from it.
#[derive(Debug)]
pub(crate) struct Ranges {
    reference: Arc<ReferenceSet>,
    /// The scale of whole vectors.
    whole: Arc<Scale>,
}

/// Where the values of each component begin, and the size of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    start: Vec<f32>,
    step: Vec<f32>,
}

impl Ranges {
    pub(crate) fn of(reference: Arc<ReferenceSet>) -> Self {
        let whole = Arc::new(Scale::of(&reference, reference.dimension));
        Self { reference, whole }
    }

    /// The scale of vectors that are cut to this many components and have norm 1.
    pub(super) fn scale(&self, dimensions: usize) -> Arc<Scale> {
        if dimensions == self.reference.dimension {
            return Arc::clone(&self.whole);
        }
        Arc::new(Scale::of(&self.reference, dimensions))
    }
}

impl Scale {
    fn of(reference: &ReferenceSet, dimensions: usize) -> Self {
        let mut min = vec![f32::INFINITY; dimensions];
        let mut max = vec![f32::NEG_INFINITY; dimensions];
        for text in &reference.texts {
            let mut cut = text.embedding[..dimensions].to_vec();
            if dimensions < reference.dimension {
                normalize(&mut cut);
            }
            for (index, value) in cut.into_iter().enumerate() {
                min[index] = min[index].min(value);
                max[index] = max[index].max(value);
            }
        }
        // A component that is always the same has no range.
        let step = |(min, max): (&f32, f32)| if max > *min { (max - min) / STEPS } else { 1.0 };
        let step = min.iter().zip(max).map(step).collect();
        Self { start: min, step }
    }

    /// Whole steps from the beginning of the range, 0 to 255; values outside of the range are clipped.
    pub(super) fn steps(&self, vector: &[f32]) -> impl Iterator<Item = u8> {
        let scales = self.start.iter().zip(&self.step);
        // The conversion clips.
        vector.iter().zip(scales).map(|(value, (start, step))| ((value - start) / step).floor() as u8)
    }
}
