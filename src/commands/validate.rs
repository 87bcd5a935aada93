//! `embedd validate`

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{Outcome, proof, start_logging};
use crate::cli::Validate;
use crate::config::Configuration;
use embedd_convert::report::WORST_TEXTS;
use embedd_convert::validate::{Comparison, parse_texts, validate_against};
use embedd_model::accuracy::TextAccuracy;
use embedd_model::bundle::Variant;

/// What a comparison found.
struct Found {
    /// What the model was compared with.
    against: String,
    comparison: Comparison,
}

pub(super) fn run(command: &Validate, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let bench = proof::Bench::open(configuration)?;
    // The last one is quantised where one of them is: the one that needs proof.
    let variant = command.variant.or_else(|| bench.variants().last().copied()).context("the bundle has no model")?;
    let found = match &command.texts_against_fp32 {
        Some(texts) => against_fp32(&bench, command, variant, texts)?,
        None => against_pytorch(&bench, command, variant)?,
    };
    if command.json {
        let json = serde_json::json!({
            "model": bench.bundle.manifest().name,
            "variant": variant,
            "against": found.against,
            "summary": found.comparison.accuracy.summary,
            "batch_agreement": found.comparison.batch_agreement,
            "texts": found.comparison.accuracy.texts,
        });
        println!("{json:#}");
    } else {
        let shown = if command.all { usize::MAX } else { WORST_TEXTS };
        print!("{}", table(&bench.bundle.manifest().name, variant, &found, shown));
    }
    Ok(Outcome::of_gate(found.comparison.accuracy.summary.passed))
}

fn against_pytorch(bench: &proof::Bench, command: &Validate, variant: Variant) -> anyhow::Result<Found> {
    let (reference, summary) = bench.reference(command.reference.as_deref())?;
    let comparison = bench.validate(&[variant], &reference, command.min_cosine)?.pop().context("nothing compared")?;
    Ok(Found { against: summary.origin, comparison })
}

fn against_fp32(bench: &proof::Bench, command: &Validate, variant: Variant, texts: &Path) -> anyhow::Result<Found> {
    let contents = fs::read_to_string(texts).with_context(|| texts.display().to_string())?;
    let texts = parse_texts(&contents, texts)?;
    let (mut session, mut float32) = (bench.session(variant)?, bench.session(Variant::Fp32)?);
    let threshold = bench.threshold(command.min_cosine, variant);
    let tokenizer = bench.tokenizer(None)?;
    let comparison = validate_against(&mut *session, &mut *float32, &tokenizer, &texts, threshold, &bench.progress)?;
    Ok(Found { against: "the bundle's fp32 model".to_owned(), comparison })
}

fn table(model: &str, variant: Variant, found: &Found, shown: usize) -> String {
    let Comparison { accuracy, batch_agreement } = &found.comparison;
    let summary = &accuracy.summary;
    let mut out = format!("{model}, {variant}, against {}\n\n", found.against);
    let mut line = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {what:22}{value}");
    };
    line("texts", summary.texts.to_string());
    line("least cosine", format!("{:.8}", summary.min_cosine));
    line("1 % are under", format!("{:.8}", summary.p1_cosine));
    line("mean cosine", format!("{:.8}", summary.mean_cosine));
    line("greatest MSE", format!("{:.2e}", summary.max_mse));
    line("mean MSE", format!("{:.2e}", summary.mean_mse));
    if let Some(agreement) = batch_agreement {
        line("alone and in a batch", format!("{agreement:.8} (least cosine)"));
    }
    line("threshold", summary.threshold.to_string());
    let failed = accuracy.texts.iter().filter(|text| !text.passed).count();
    line("status", if summary.passed { "PASS".to_owned() } else { format!("FAIL ({failed} texts)") });
    out + &texts(&accuracy.worst(shown))
}

fn texts(worst: &[&TextAccuracy]) -> String {
    let width = worst.iter().map(|text| text.id.chars().count()).max().unwrap_or(0).max(5);
    let mut out = format!("\n  {:width$}  tokens      cosine       MSE\n", "worst");
    for text in worst {
        let mark = if text.passed { "" } else { "  FAIL" };
        let TextAccuracy { id, tokens, cosine, mse, .. } = text;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {id:width$}  {tokens:6}  {cosine:.8}  {mse:8.2e}{mark}");
    }
    out
}
