use serde_json::{Value, json};

use super::*;

fn prompts(names: &[&str]) -> Prompts {
    Prompts::plain(names.iter().map(|&name| (name, name)))
}

#[derive(serde::Deserialize)]
struct Fields<'b> {
    #[serde(borrow)]
    prompt_name: Field<'b>,
    #[serde(borrow)]
    input_type: Field<'b>,
}

/// The prompt of a request with these fields, or its violations.
fn read_from(prompt_name: &Value, input_type: &Value, prompts: &Prompts) -> Result<PromptChoice, String> {
    let mut violations = Violations::default();
    let body = json!({"prompt_name": prompt_name, "input_type": input_type}).to_string();
    let fields: Fields<'_> = serde_json::from_str(&body).expect("JSON");
    let choice = read(fields.prompt_name, fields.input_type, prompts, &mut violations);
    if violations.is_empty() { Ok(choice) } else { Err(violations.to_string()) }
}

const NONE: Value = Value::Null;

#[test]
fn a_prompt_is_named_directly() {
    let prompts = prompts(&["query", "tag"]);
    assert_eq!(read_from(&NONE, &NONE, &prompts), Ok(PromptChoice::Default));
    assert_eq!(read_from(&json!(""), &NONE, &prompts), Ok(PromptChoice::None));
    assert_eq!(read_from(&json!("tag"), &NONE, &prompts), Ok(PromptChoice::named("tag")));
    assert_eq!(read_from(&json!("tag"), &json!("query"), &prompts), Ok(PromptChoice::named("tag")));
    assert_eq!(read_from(&json!(""), &json!("query"), &prompts), Ok(PromptChoice::None));
}

#[test]
fn the_input_type_selects_the_prompt_of_that_name_or_purpose() {
    let cases: [(&[&str], &str, Option<&str>); 12] = [
        (&["query", "document"], "query", Some("query")),
        (&["query", "document"], "search_query", Some("query")),
        (&["query", "search_query"], "search_query", Some("search_query")),
        (&["query", "document", "passage"], "passage", Some("passage")),
        (&["query", "document"], "passage", Some("document")),
        (&["query", "passage"], "document", Some("passage")),
        (&["query", "passage"], "search_document", Some("passage")),
        (&["query", "clustering"], "clustering", Some("clustering")),
        // As in sentence-transformers, models may need a prompt for one of the two, or for neither.
        (&["query"], "document", None),
        (&["passage"], "query", None),
        (&[], "query", None),
        (&["query"], "", None),
    ];
    for (names, input_type, expected) in cases {
        let expected = expected.map_or(PromptChoice::None, PromptChoice::named);
        assert_eq!(read_from(&NONE, &json!(input_type), &prompts(names)), Ok(expected), "{names:?} {input_type}");
    }
}

#[test]
fn an_unknown_input_type_is_a_violation_that_lists_the_prompts() {
    let error =
        |names: &[&str], input_type| read_from(&NONE, &json!(input_type), &prompts(names)).expect_err(input_type);
    let known = "the model has the prompts `query`";
    assert_eq!(error(&["query"], "clustering"), format!("input_type is `clustering`; {known}"));
    assert_eq!(error(&["query"], "Query"), format!("input_type is `Query`; {known}"));
    assert_eq!(error(&[], "image"), "input_type is `image`; the model has no prompts");
    // None of its prompts is for searching, as far as their names tell.
    assert_eq!(error(&["STS"], "query"), "input_type is `query`; the model has the prompts `STS`");
}

#[test]
fn other_types_are_violations() {
    let error = read_from(&json!(true), &json!(1), &prompts(&["query"]));
    let expected = "prompt_name is a boolean; send a string; input_type is a number; send a string";
    assert_eq!(error, Err(expected.to_owned()));
}
