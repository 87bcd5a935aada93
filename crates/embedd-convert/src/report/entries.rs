//! The report's entries for models and for their worst texts.

use super::{VariantReport, WORST_TEXTS, WorstText, format};
use crate::recipe::precision_of;
use embedd_model::accuracy::{Accuracy, TextAccuracy};
use embedd_model::bundle::{Manifest, ModelRecord, Variant};
use embedd_model::reference::ReferenceSet;

/// Maximum number of characters of an excerpt.
const EXCERPT: usize = 60;

pub(super) fn variants(manifest: &Manifest) -> Vec<VariantReport> {
    let bytes = |file: &str| manifest.files.get(file).map_or(0, |record| record.bytes);
    let float32 = manifest.models.get(&Variant::Fp32).map(|model| bytes(&model.file));
    let entry = |(&variant, model): (&Variant, &ModelRecord)| {
        let own = model.files().map(bytes).sum();
        let saved = float32.filter(|_| variant != Variant::Fp32).map(|float32| 1.0 - own as f64 / float32 as f64);
        VariantReport {
            variant,
            file: model.file.clone(),
            recipe: model.quantization.clone(),
            precision: precision_of(&model.quantization).map(str::to_uppercase),
            bytes: own,
            reduction: saved,
            accuracy: None,
            worst: Vec::new(),
            top10_overlap: None,
            batch_agreement: None,
        }
    };
    manifest.models.iter().map(entry).collect()
}

/// The worst texts of a comparison, with excerpts.
pub fn worst(accuracy: &Accuracy, reference: &ReferenceSet) -> Vec<WorstText> {
    let entry = |figures: &TextAccuracy| {
        let text = reference.texts.get(figures.index).map_or("", |text| text.text.as_str());
        WorstText { figures: figures.clone(), excerpt: format::excerpt(text, EXCERPT) }
    };
    accuracy.worst(WORST_TEXTS).into_iter().map(entry).collect()
}
