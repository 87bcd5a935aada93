use std::num::NonZeroUsize;

use super::*;
use embedd_proto::tei::EmbedRequest as Message;

const LIMITS: Limits =
    Limits { max_texts: NonZeroUsize::MIN, max_text_bytes: 8, truncates_any_size: false, dimension: 4 };

fn good() -> Message {
    Message { inputs: "text".to_owned(), ..Message::default() }
}

#[test]
fn missing_options_have_the_defaults_of_the_protocol() {
    let left = proto::TruncationDirection::Left.into();
    let right = proto::TruncationDirection::Right.into();
    let default =
        EmbedOptions { truncation: TruncationChoice::Requested(Truncation::Reject), ..EmbedOptions::default() };
    let requested =
        |truncation| EmbedOptions { truncation: TruncationChoice::Requested(truncation), ..default.clone() };
    let cases = [
        (good(), default.clone()),
        (Message { truncate: true, ..good() }, requested(Truncation::End)),
        (Message { truncate: true, truncation_direction: right, ..good() }, requested(Truncation::End)),
        (Message { truncate: true, truncation_direction: left, ..good() }, requested(Truncation::Start)),
        (Message { truncation_direction: left, ..good() }, default.clone()),
        (Message { normalize: Some(false), ..good() }, EmbedOptions { normalize: false, ..default.clone() }),
        (
            Message { prompt_name: Some(String::new()), ..good() },
            EmbedOptions { prompt: PromptChoice::None, ..default.clone() },
        ),
        (
            Message { normalize: Some(true), dimensions: Some(4), ..good() },
            EmbedOptions { dimensions: Some(4), ..default.clone() },
        ),
    ];
    for (message, expected) in cases {
        let valid = check_embed(message.clone(), &LIMITS, &Prompts::default()).expect("valid");
        assert_eq!((valid.inputs(), valid.options()), (&["text".to_owned().into()][..], &expected), "{message:?}");
    }
}

#[test]
fn every_invalid_field_is_reported_at_once() {
    let cases = [
        (Message::default(), vec!["inputs"]),
        (Message { inputs: "123456789".to_owned(), ..good() }, vec!["inputs"]),
        (Message { prompt_name: Some("query".to_owned()), ..good() }, vec!["prompt_name"]),
        (Message { dimensions: Some(0), ..good() }, vec!["dimensions"]),
        (Message { dimensions: Some(5), ..good() }, vec!["dimensions"]),
        (Message { truncation_direction: 2, ..good() }, vec!["truncation_direction"]),
        (
            Message { dimensions: Some(9), truncate: true, truncation_direction: -1, ..Message::default() },
            vec!["inputs", "truncation_direction", "dimensions"],
        ),
    ];
    for (message, expected) in cases {
        let violations = check_embed(message.clone(), &LIMITS, &Prompts::default()).expect_err("invalid");
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, expected, "{message:?}");
    }
}
