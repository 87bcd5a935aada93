//! `embedd validate`

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::measured::MeasuredBundle;
use super::outcome::Outcome;
use super::setup::start_logging;
use crate::cli::Validate;
use crate::config::Configuration;
use embedd_convert::report::WORST_TEXTS;
use embedd_convert::validate::{Comparison, TokenizedSet, parse_texts, validate_against};
use embedd_model::accuracy::TextAccuracy;
use embedd_model::bundle::Variant;

/// The result of a comparison.
struct Found {
    /// What the engine was compared with.
    against: String,
    comparison: Comparison,
}

pub(super) fn run(command: &Validate, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let measured = MeasuredBundle::open(configuration)?;
    // If any engine is quantized, the last one is, and quantized engines are the ones that need proof.
    let last = || measured.engines().last().copied();
    let engine = command.variant.or_else(last).context("the bundle has no engine")?;
    let found = match &command.texts {
        Some(texts) => against_fp32(&measured, command, engine, texts)?,
        None => against_pytorch(&measured, command, engine)?,
    };
    if command.json {
        let json = serde_json::json!({
            "model": measured.bundle.manifest().name,
            "variant": engine,
            "against": found.against,
            "summary": found.comparison.accuracy.summary,
            "batch_agreement": found.comparison.batch_agreement,
            "texts": found.comparison.accuracy.texts,
        });
        println!("{json:#}");
    } else {
        let shown = if command.all { usize::MAX } else { WORST_TEXTS };
        print!("{}", table(&measured.bundle.manifest().name, engine, &found, shown));
    }
    Ok(Outcome::of_gate(found.comparison.accuracy.summary.passed))
}

fn against_pytorch(measured: &MeasuredBundle, command: &Validate, engine: Variant) -> anyhow::Result<Found> {
    let (reference, summary) = measured.reference(command.reference.as_deref())?;
    let comparisons = measured.validate(&[engine], &reference, command.min_cosine)?;
    let comparison = comparisons.into_iter().next().context("nothing was compared")?;
    Ok(Found { against: summary.origin, comparison })
}

fn against_fp32(measured: &MeasuredBundle, command: &Validate, engine: Variant, texts: &Path) -> anyhow::Result<Found> {
    let contents = fs::read_to_string(texts).with_context(|| texts.display().to_string())?;
    let texts = parse_texts(&contents, texts)?;
    let mut session = measured.session(engine)?;
    let mut fp32 = measured.session(Variant::Fp32)?;
    let threshold = measured.threshold(command.min_cosine, engine);
    let tokenizer = measured.tokenizer(None)?;
    let prompt = measured.default_prompt(&tokenizer)?;
    let texts = texts.iter().map(|text| (text.id.as_str(), text.text.as_str()));
    let texts = TokenizedSet::of(texts, &tokenizer, prompt.as_deref())?;
    let comparison = validate_against(&mut *session, &mut *fp32, &texts, threshold, &measured.progress)?;
    Ok(Found { against: "the bundle's fp32 engine".to_owned(), comparison })
}

fn table(model: &str, engine: Variant, found: &Found, shown: usize) -> String {
    let Comparison { accuracy, top10_overlap, batch_agreement } = &found.comparison;
    let summary = &accuracy.summary;
    let mut out = format!("{model}, {engine}, against {}\n\n", found.against);
    let mut line = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {what:22}{value}");
    };
    line("texts", summary.texts.to_string());
    line("minimum cosine", format!("{:.8}", summary.min_cosine));
    line("1st percentile", format!("{:.8}", summary.p1_cosine));
    line("mean cosine", format!("{:.8}", summary.mean_cosine));
    line("maximum MSE", format!("{:.2e}", summary.max_mse));
    line("mean MSE", format!("{:.2e}", summary.mean_mse));
    if let Some(share) = top10_overlap {
        line("top-10 overlap", format!("{share:.4}"));
    }
    if let Some(agreement) = batch_agreement {
        line("alone and in a batch", format!("{agreement:.8} (minimum cosine)"));
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
