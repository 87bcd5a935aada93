use std::fs;

use serde_json::{Value, json};

use super::*;

fn read_from(config: &Value) -> Result<(BTreeMap<String, String>, Option<String>), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config_sentence_transformers.json");
    fs::write(&path, config.to_string()).expect("write");
    read(&path).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_error(config: &Value, expected: &str) {
    let error = read_from(config).expect_err("an error");
    assert!(error.contains(&format!("config_sentence_transformers.json: {expected}")), "{error}");
}

#[test]
fn prompts_and_their_default_are_read() {
    let prompts = json!({ "query": "query: ", "document": "", "tag": null });
    let (read, default) = read_from(&json!({ "prompts": prompts, "default_prompt_name": "query" })).expect("prompts");
    let expected = [("document", ""), ("query", "query: "), ("tag", "")];
    assert_eq!(read, expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
    assert_eq!(default.as_deref(), Some("query"));
}

#[test]
fn a_folder_without_prompts_has_none() {
    let none = Ok((BTreeMap::new(), None));
    for config in [json!({}), json!({ "prompts": {}, "default_prompt_name": null }), json!({ "prompts": null })] {
        assert_eq!(read_from(&config), none, "{config}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(read(&folder.path().join("config.json")).map_err(|error| error.to_string()), none);
}

#[test]
fn the_default_may_be_a_prompt_that_every_model_has() {
    for name in ALWAYS {
        let (prompts, default) = read_from(&json!({ "default_prompt_name": name })).expect("prompts");
        assert_eq!((prompts, default), ([(name.to_owned(), String::new())].into(), Some(name.to_owned())));
    }
}

#[test]
fn an_unknown_default_is_rejected_with_the_known_names() {
    let config = |prompts: Value| json!({ "prompts": prompts, "default_prompt_name": "tag" });
    let expected = "default_prompt_name is `tag`, but the prompts are `a`, `b`";
    assert_error(&config(json!({ "b": "", "a": "x" })), expected);
    assert_error(&config(json!({})), "default_prompt_name is `tag`, but the file has no prompts");
    let many: serde_json::Map<_, _> = (10..30).map(|number| (format!("p{number}"), json!("text"))).collect();
    let expected = "default_prompt_name is `tag`, but the prompts are `p10`, `p11`, `p12`, `p13`, `p14`, `p15`, \
                    `p16`, `p17`, `p18`, `p19` and 10 more";
    assert_error(&config(many.into()), expected);
}

#[test]
fn prompts_beyond_the_limits_are_rejected_by_name() {
    let config = |name: &str, text: String| json!({ "prompts": { name: text } });
    read_from(&config("tag", "x".repeat(4096))).expect("a prompt of the maximum size");
    assert_error(&config("tag", "x".repeat(4097)), "prompts.tag is 4097 bytes long, but at most 4096 are supported");
    let name = "the name of a prompt is";
    let expected = "but it must have 1 to 128 bytes and no control characters";
    assert_error(&config("", "x".to_owned()), &format!("{name} ``, {expected}"));
    assert_error(&config("a\nb", "x".to_owned()), &format!("{name} `a\\nb`, {expected}"));
    let long = format!("{name} `{}...`, {expected}", "n".repeat(128));
    assert_error(&config(&"n".repeat(1 << 20), "x".to_owned()), &long);
    let many: serde_json::Map<_, _> = (0..65).map(|number| (number.to_string(), json!("text"))).collect();
    assert_error(&json!({ "prompts": many }), "prompts is a list of 65, but at most 64 are supported");
    let error = read_from(&json!({ "prompts": ["query"] })).expect_err("a list");
    assert!(error.contains("invalid type"), "{error}");
}

#[test]
fn prompts_are_pooled_unless_the_pooling_says_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.json");
    for (config, expected) in
        [("{}", false), (r#"{"include_prompt": true}"#, false), (r#"{"include_prompt": false}"#, true)]
    {
        fs::write(&path, config).expect("write");
        assert_eq!(excluded_by(&path).expect(config), expected, "{config}");
    }
}
