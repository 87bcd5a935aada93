use super::*;

const JSON: &str = r#"{"threads": 2, "model": "all-mpnet-base-v2", "engines": {
    "pytorch": {"cos_min": 1.0, "cos_mean": 1.0, "L11": {"p50": 37.9, "p95": 40.4, "min": 34.9}},
    "pytorch_encode_short": {"p50": 31.5, "p95": 32.9, "min": 31.3},
    "other": {"L11": {"p50": 4.0, "p95": 5.0, "min": 3.0}, "L384": {"p50": 80.0, "p95": 81.0, "min": 79.0}}}}"#;

fn reason(json: &str) -> String {
    Baseline::parse(json.as_bytes(), "x.json").expect_err("malformed").to_string()
}

#[test]
fn engines_and_lengths_are_read() {
    let baseline = Baseline::parse(JSON.as_bytes(), "x.json").expect("a baseline");
    assert_eq!((baseline.threads, baseline.model.as_deref()), (Some(2), Some("all-mpnet-base-v2")));
    assert_eq!(baseline.engines.keys().collect::<Vec<_>>(), ["other", "pytorch"]);
    assert_eq!(baseline.pytorch(11).map(|timing| timing.p95), Some(40.4));
    assert_eq!(baseline.pytorch(32), None);
    assert_eq!(baseline.engines["other"].lengths.keys().collect::<Vec<_>>(), [&11, &384]);
    assert_eq!(baseline.pytorch_encode_short.map(|timing| timing.min), Some(31.3));
}

#[test]
fn other_json_is_rejected_with_the_reason() {
    assert!(reason("no").starts_with("x.json is not a baseline"));
    assert!(reason("{}").contains("no object `engines`"));
    assert!(reason(r#"{"engines": {}}"#).contains("empty"));
    let no_p95 = reason(r#"{"engines": {"a": {"L11": {"p50": 1, "min": 1}}}}"#);
    assert!(no_p95.contains("`a`: `L11`: missing field `p95`"), "{no_p95}");
    assert!(reason(r#"{"engines": {"a": {"L11": {"p50": -1, "p95": 1, "min": 1}}}}"#).contains("not positive times"));
}

#[test]
fn a_baseline_of_another_model_is_rejected() {
    let baseline = Baseline::parse(JSON.as_bytes(), "x.json").expect("a baseline");
    assert!(baseline.check_model("sentence-transformers/all-mpnet-base-v2").is_ok());
    let error = baseline.check_model("sentence-transformers/all-MiniLM-L6-v2").expect_err("another").to_string();
    assert!(error.contains("all-MiniLM-L6-v2") && error.contains("`all-mpnet-base-v2`"), "{error}");
}

#[test]
fn a_file_is_named_in_errors_and_in_the_report() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peers.json");
    let error = Baseline::read(&path).expect_err("missing").to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    std::fs::write(&path, JSON).expect("written");
    assert_eq!(Baseline::read(&path).expect("a baseline").origin, "peers.json");
}

#[test]
fn input_that_is_too_long_is_rejected() {
    let error = Baseline::read_from(io::repeat(b' '), "endless").expect_err("too much");
    assert!(error.to_string().contains("more than 8388608 bytes"), "{error}");
}
