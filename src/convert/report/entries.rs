//! The report's entries for models and for their worst texts.

use super::{VariantReport, WORST_TEXTS, WorstText, format};
use crate::accuracy::{Accuracy, TextAccuracy};
use crate::bundle::{Manifest, ModelRecord, Variant};
use crate::reference::ReferenceSet;

/// Characters of a text that are shown.
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
            precision: precision(variant, &model.quantization),
            bytes: own,
            reduction: saved,
            accuracy: None,
            worst: Vec::new(),
            batch_agreement: None,
        }
    };
    manifest.models.iter().map(entry).collect()
}

fn precision(variant: Variant, recipe: &str) -> Option<String> {
    let known = [("int8", "INT8"), ("int4", "INT4"), ("fp16", "FP16"), ("f16", "FP16"), ("bf16", "BF16")];
    let named = known.iter().rev().find(|(part, _)| recipe.to_lowercase().contains(part));
    let plain = (variant == Variant::Fp32 && recipe == "none").then_some("FP32");
    named.map(|(_, precision)| *precision).or(plain).map(str::to_owned)
}

/// The worst texts of a comparison, with their beginnings.
pub fn worst(accuracy: &Accuracy, reference: &ReferenceSet) -> Vec<WorstText> {
    let entry = |figures: &TextAccuracy| {
        let text = reference.texts.get(figures.index).map_or("", |text| text.text.as_str());
        WorstText { figures: figures.clone(), excerpt: format::excerpt(text, EXCERPT) }
    };
    accuracy.worst(WORST_TEXTS).into_iter().map(entry).collect()
}
