//! Reads the fields of a request, keeping no more of them than is needed. As a `serde_json::Value`, a list of numbers or
//! of empty texts would take many times the memory of the request body; here, texts beyond the limit are counted and dropped.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Bytes of a text that are kept outside of lists of texts and `input`: more than any valid value has, and more than an
/// error message quotes.
const MAX_WORD_BYTES: usize = 512;

/// 2^53: all integers up to it can be stored in a float64.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The known fields; `None` if they are absent or null. Others are ignored, as other servers of this API do: clients
/// keep adding new ones.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) input: Option<Value>,
    pub(super) model: Option<Value>,
    pub(super) encoding_format: Option<Value>,
    pub(super) dimensions: Option<Value>,
    pub(super) prompt_name: Option<Value>,
    pub(super) input_type: Option<Value>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool,
    /// `None` if it is negative or not an integer. Some clients write integers as `16.0`.
    Number(Option<u64>),
    Text(String),
    List(List),
    Object,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct List {
    /// The texts before the first other element, up to the maximum.
    pub(super) texts: Vec<String>,
    /// The first element that is not a text, and its index, unless it comes after the maximum.
    pub(super) other: Option<(usize, Box<Value>)>,
    /// The number of elements.
    pub(super) count: usize,
}

impl Fields {
    /// Parses an object; of a list, up to `max_texts` texts are kept.
    pub(super) fn parse(body: &[u8], max_texts: usize) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let fields = deserializer.deserialize_map(FieldsVisitor { max_texts })?;
        deserializer.end()?;
        Ok(fields)
    }
}

impl Value {
    /// Whether an element of a list may be a token id, or a list of token ids.
    pub(super) fn may_be_token_ids(&self) -> bool {
        match self {
            Self::Number(_) => true,
            Self::List(List { texts, other, .. }) => {
                texts.is_empty() && other.as_ref().is_none_or(|(_, first)| matches!(**first, Self::Number(_)))
            }
            Self::Null | Self::Bool | Self::Text(_) | Self::Object => false,
        }
    }
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

/// The names of the fields.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Input,
    Model,
    EncodingFormat,
    Dimensions,
    PromptName,
    InputType,
    #[serde(other)]
    Other,
}

struct FieldsVisitor {
    max_texts: usize,
}

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = entries.next_key()? {
            let whole = Keep { texts: self.max_texts, text_bytes: usize::MAX };
            let (field, keep, name) = match name {
                Key::Input => (&mut fields.input, whole, "input"),
                Key::Model => (&mut fields.model, Keep::WORD, "model"),
                Key::EncodingFormat => (&mut fields.encoding_format, Keep::WORD, "encoding_format"),
                Key::Dimensions => (&mut fields.dimensions, Keep::WORD, "dimensions"),
                Key::PromptName => (&mut fields.prompt_name, Keep::WORD, "prompt_name"),
                Key::InputType => (&mut fields.input_type, Keep::WORD, "input_type"),
                Key::Other => {
                    entries.next_value::<Skipped>()?;
                    continue;
                }
            };
            let value = entries.next_value_seed(keep)?;
            if field.is_some() {
                return Err(A::Error::duplicate_field(name));
            }
            *field = Some(value);
        }
        let Fields { input, model, encoding_format, dimensions, prompt_name, input_type } = fields;
        let given = |value: Option<Value>| value.filter(|value| *value != Value::Null);
        Ok(Fields {
            input: given(input),
            model: given(model),
            encoding_format: given(encoding_format),
            dimensions: given(dimensions),
            prompt_name: given(prompt_name),
            input_type: given(input_type),
        })
    }
}

/// How much of a value to keep.
#[derive(Debug, Clone, Copy)]
struct Keep {
    /// Texts of a list.
    texts: usize,
    /// Bytes of a text that is not in a list.
    text_bytes: usize,
}

impl Keep {
    const WORD: Self = Self { texts: 0, text_bytes: MAX_WORD_BYTES };
}

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep {
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

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        let is_integer = (0.0..=MAX_EXACT).contains(&number) && number.fract() == 0.0;
        Ok(Value::Number(is_integer.then_some(number as u64)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text[..text.floor_char_boundary(self.text_bytes)].to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = List::default();
        // The first element tells what a list in a list contains.
        let element = Self { texts: 1, text_bytes: usize::MAX };
        while list.count < self.texts && list.other.is_none() {
            match elements.next_element_seed(element)? {
                Some(Value::Text(text)) => list.texts.push(text),
                Some(other) => list.other = Some((list.count, Box::new(other))),
                None => return Ok(Value::List(list)),
            }
            list.count += 1;
        }
        while elements.next_element::<Skipped>()?.is_some() {
            list.count += 1;
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        Skipped.visit_map(entries).map(|Skipped| Value::Object)
    }
}

/// A value of which nothing is kept. Unlike `IgnoredAny`, it is subject to the parser's limit for nested values.
struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Skipped {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}
