//! Requests as they come, to checked ones.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{self, Refusal};
use crate::embed::ModelInfo;
use crate::request::{EmbedOptions, EmbedRequest, Limits, TextField, Violations, quoted};

const INPUT: &str = "input";

/// What a caller asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: EmbedRequest,
    /// How its texts are named where something is wrong with them.
    pub(super) texts: TextField,
    pub(super) encoding: Encoding,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// A list of numbers.
    Float,
    /// The bytes of its numbers, little-endian, in base64.
    Base64,
}

/// The fields that matter. Others are passed over, as other servers of this API do: clients send more of them each year.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Fields {
    input: Option<Value>,
    model: Option<Value>,
    encoding_format: Option<Value>,
    dimensions: Option<Value>,
}

/// A JSON value as far as a field may need it; nothing is kept of what none needs.
#[derive(Debug, PartialEq)]
enum Value {
    Null,
    Bool,
    /// `None`: no whole number, or a negative one.
    Number(Option<u64>),
    Text(String),
    List(List),
    Object,
}

#[derive(Debug, Default, PartialEq)]
struct List {
    texts: Vec<String>,
    /// The first that is no text, and its place.
    other: Option<(usize, Box<Value>)>,
}

/// The body of a request for embeddings.
pub(super) fn embeddings(body: &[u8], model: &ModelInfo, limits: &Limits) -> Result<Asked, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(error::no_object());
    }
    let fields: Fields = serde_json::from_slice(body).map_err(|error| error::unreadable(&error))?;
    if let Some(Value::Text(name)) = &fields.model {
        model.check_name(name).map_err(|error| error::from_no_such_model(&error))?;
    }
    check(fields, model, limits).map_err(|violations| error::invalid(&violations))
}

fn check(fields: Fields, model: &ModelInfo, limits: &Limits) -> Result<Asked, Violations> {
    let is_single = matches!(fields.input, Some(Value::Text(_)));
    let texts = if is_single { TextField::Single(INPUT) } else { TextField::List(INPUT) };
    let mut violations = Violations::of(texts);
    check_model(fields.model.as_ref(), model, &mut violations);
    let encoding = encoding(fields.encoding_format.as_ref(), &mut violations);
    let dimensions = dimensions(fields.dimensions.as_ref(), limits, &mut violations);
    let options = EmbedOptions { truncation: model.default_truncation, dimensions, ..EmbedOptions::default() };
    // Where there is no text to check, any will do, so that what is wrong beside it is told as well.
    let input = input(fields.input, &mut violations).unwrap_or_else(|| vec![String::new()]);
    let request = EmbedRequest::check(input, options, limits, &mut violations).filter(|_| violations.is_empty());
    request.map(|request| Asked { request, texts, encoding }).ok_or(violations)
}

fn check_model(name: Option<&Value>, model: &ModelInfo, violations: &mut Violations) {
    match name {
        Some(Value::Text(_)) => {}
        None => violations.add("model", format!("is missing; this server has {}", model.known_as())),
        Some(other) => violations.add("model", format!("is {other}; send a string")),
    }
}

fn encoding(format: Option<&Value>, violations: &mut Violations) -> Encoding {
    match format {
        None => return Encoding::Float,
        Some(Value::Text(name)) => match name.as_str() {
            "float" => return Encoding::Float,
            "base64" => return Encoding::Base64,
            _ => violations.add("encoding_format", format!("is {}; there are `float` and `base64`", quoted(name))),
        },
        Some(other) => violations.add("encoding_format", format!("is {other}; send `float` or `base64`")),
    }
    Encoding::Float
}

fn dimensions(value: Option<&Value>, limits: &Limits, violations: &mut Violations) -> Option<u32> {
    let problem = match value {
        None => return None,
        Some(Value::Number(Some(number))) => match u32::try_from(*number) {
            Ok(dimensions) => return Some(dimensions),
            Err(_) => number.to_string(),
        },
        Some(Value::Number(None)) => "no whole number above zero".to_owned(),
        Some(other) => other.to_string(),
    };
    violations.add("dimensions", format!("is {problem}; the model's vectors allow 1 to {}", limits.dimension));
    None
}

fn input(value: Option<Value>, violations: &mut Violations) -> Option<Vec<String>> {
    let (field, problem) = match value {
        Some(Value::Text(text)) => return Some(vec![text]),
        Some(Value::List(List { texts, other: None })) => return Some(texts),
        Some(Value::List(List { other: Some((index, other)), .. })) => match *other {
            Value::Number(_) | Value::List(_) => {
                let problem =
                    "has tokens instead of texts; they are those of another model's tokeniser: send the texts";
                (INPUT.to_owned(), problem.to_owned())
            }
            other => (format!("{INPUT}[{index}]"), format!("is {other}; send a string")),
        },
        Some(other) => (INPUT.to_owned(), format!("is {other}; send a string or a list of strings")),
        None => (INPUT.to_owned(), "is missing; send a string or a list of strings".to_owned()),
    };
    violations.add(field, problem);
    None
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object => "an object",
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(Some(number)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Number(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = List::default();
        while let Some(element) = elements.next_element()? {
            match element {
                Value::Text(text) => list.texts.push(text),
                other => {
                    list.other = Some((list.texts.len(), Box::new(other)));
                    break;
                }
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object)
    }
}

#[cfg(test)]
mod tests;
