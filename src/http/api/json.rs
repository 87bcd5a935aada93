//! Reads the fields of JSON requests. A field is parsed when its protocol asks for it, straight from the body: a
//! `serde_json::Value` of a list of numbers or of empty texts would take many times the memory of the body. Texts beyond
//! the limit are counted and dropped.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::refusal::{self, Refusal};
use crate::request::{Input, Limits, TextField, Violations, quoted, too_many_texts};

/// Lists and objects in each other. No request has more than a few.
const MAX_DEPTH: usize = 128;
/// 2^53: all integers up to it can be stored in a float64.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The value of a field. Null counts as absent.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
pub(in crate::http) struct Field<'b>(#[serde(borrow)] Option<&'b RawValue>);

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    Null,
    Boolean,
    Number,
    Text,
    List,
    Object,
}

/// Parses a body that is a JSON object. Unknown fields are ignored, as other servers do: clients keep adding new ones.
///
/// # Errors
/// If it is not one, or has a field twice. `fields` says what to send.
pub(in crate::http) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8], fields: &str) -> Result<T, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(refusal::not_an_object(fields));
    }
    let text = str::from_utf8(body).map_err(|error| refusal::unreadable(&error))?;
    if is_too_deep(text) {
        return Err(refusal::unreadable(&format!("it has more than {MAX_DEPTH} nested lists or objects")));
    }
    serde_json::from_str(text).map_err(|error| refusal::unreadable(&error))
}

/// `RawValue` skips values without recursion, and so without a limit.
fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut is_text = false;
    let mut is_escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

impl Kind {
    fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'"') => Self::Text,
            Some(b'[') => Self::List,
            Some(b'{') => Self::Object,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        })
    }
}

impl<'b> Field<'b> {
    pub(in crate::http) fn kind(self) -> Option<Kind> {
        self.0.map(Kind::of)
    }

    pub(in crate::http) fn is_given(self) -> bool {
        self.0.is_some()
    }

    /// The value as it is written, without white space around it.
    pub(in crate::http) fn raw(self) -> Option<&'b str> {
        self.0.map(RawValue::get)
    }

    /// A string; `None` if it is absent. `hint` says what to send.
    pub(in crate::http) fn text(self, name: &str, hint: &str, violations: &mut Violations) -> Option<String> {
        let value = self.0?;
        let text = match Kind::of(value) {
            Kind::Text => text_of(value),
            kind => Err(format!("is {kind}; {hint}")),
        };
        text.map_err(|problem| violations.add(name, problem)).ok()
    }

    /// One of the words; `None` if it is absent.
    pub(in crate::http) fn word<T: Copy>(
        self,
        name: &str,
        words: &[(&str, T)],
        violations: &mut Violations,
    ) -> Option<T> {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let hint = match known.as_slice() {
            [first @ .., last] if !first.is_empty() => format!("send {} or {last}", first.join(", ")),
            _ => format!("send {}", known.concat()),
        };
        let text = self.text(name, &hint, violations)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            violations.add(name, format!("is {}; {hint}", quoted(&text)));
        }
        found
    }

    /// A boolean, or the default.
    pub(in crate::http) fn boolean(self, name: &str, default: bool, violations: &mut Violations) -> bool {
        match self.0.map(|value| (value.get(), Kind::of(value))) {
            None => default,
            Some(("true", _)) => true,
            Some(("false", _)) => false,
            Some((_, kind)) => {
                violations.add(name, format!("is {kind}; send true or false"));
                default
            }
        }
    }

    /// The number of dimensions. Some clients write integers as `16.0`.
    pub(in crate::http) fn dimensions(self, name: &str, limits: &Limits, violations: &mut Violations) -> Option<u32> {
        let value = self.0?;
        let problem = match (Kind::of(value), integer_of(value.get())) {
            (Kind::Number, Some(number)) => match u32::try_from(number) {
                Ok(number) => return Some(number),
                Err(_) => number.to_string(),
            },
            (Kind::Number, None) => "not a positive integer".to_owned(),
            (kind, _) => kind.to_string(),
        };
        let max = limits.dimension;
        violations.add(name, format!("is {problem}; must be from 1 to {max}, the model's dimension"));
        None
    }

    /// The fields of an object; `None` if it is absent or another type.
    pub(in crate::http) fn object<T: Deserialize<'b>>(self, name: &str, violations: &mut Violations) -> Option<T> {
        let value = self.0?;
        match (Kind::of(value), serde_json::from_str(value.get())) {
            (Kind::Object, Ok(object)) => return Some(object),
            (Kind::Object, Err(error)) => violations.add(name, format!("is not valid: {error}")),
            (kind, _) => violations.add(name, format!("is {kind}; send an object")),
        }
        None
    }

    /// The name of the texts in error messages: that of one text, or of a list.
    pub(in crate::http) fn texts_named(self, name: &'static str) -> TextField {
        match self.0 {
            Some(value) if Kind::of(value) == Kind::Text || begins_with_number(value) => TextField::Single(name),
            _ => TextField::List(name),
        }
    }

    /// A text, the token ids of one, or a list of them.
    pub(in crate::http) fn inputs(
        self,
        name: &str,
        limits: &Limits,
        violations: &mut Violations,
    ) -> Option<Vec<Input>> {
        const HINT: &str = "send a string, a list of strings, or token ids";
        let Some(value) = self.0 else {
            violations.add(name, format!("is missing; {HINT}"));
            return None;
        };
        match Kind::of(value) {
            Kind::Text => Some(vec![self.text(name, HINT, violations)?.into()]),
            Kind::List if begins_with_number(value) => match ids_of(value, limits) {
                Ok(ids) => Some(vec![ids.into()]),
                Err(problem) => add(violations, name.to_owned(), &problem),
            },
            Kind::List => list_of(value, name, limits, violations, |value| match Kind::of(value) {
                Kind::Text => text_of(value).map(Input::from),
                Kind::List => ids_of(value, limits).map(Input::from),
                kind => Err(format!("is {kind}; send a string or a list of token ids")),
            }),
            kind => add(violations, name.to_owned(), &format!("is {kind}; {HINT}")),
        }
    }

    /// A list of texts.
    pub(in crate::http) fn texts(
        self,
        name: &str,
        limits: &Limits,
        violations: &mut Violations,
    ) -> Option<Vec<String>> {
        match self.0.map(|value| (value, Kind::of(value))) {
            Some((value, Kind::List)) => list_of(value, name, limits, violations, text_of),
            Some((_, kind)) => add(violations, name.to_owned(), &format!("is {kind}; send a list of strings")),
            None => add(violations, name.to_owned(), "is missing; send a list of strings"),
        }
    }

    /// A list of texts, or of lists of one text each.
    pub(in crate::http) fn nested_texts(
        self,
        name: &str,
        limits: &Limits,
        violations: &mut Violations,
    ) -> Option<Vec<String>> {
        list_of(self.0?, name, limits, violations, |value| {
            if Kind::of(value) != Kind::List {
                return text_of(value);
            }
            let mut only = None;
            let count = each(value, 1, |_, element| only = Some(text_of(element)));
            only.filter(|_| count == 1).unwrap_or_else(|| Err(format!("has {count} elements; send one string")))
        })
    }

    /// The token ids of one text, or of several.
    pub(in crate::http) fn ids(
        self,
        name: &str,
        limits: &Limits,
        violations: &mut Violations,
    ) -> Option<Vec<Vec<u32>>> {
        match self.0.map(|value| (value, Kind::of(value))) {
            Some((value, Kind::List)) if begins_with_number(value) => match ids_of(value, limits) {
                Ok(ids) => Some(vec![ids]),
                Err(problem) => add(violations, name.to_owned(), &problem),
            },
            Some((value, Kind::List)) => list_of(value, name, limits, violations, |value| match Kind::of(value) {
                Kind::List => ids_of(value, limits),
                kind => Err(format!("is {kind}; send a list of token ids")),
            }),
            Some((_, kind)) => add(violations, name.to_owned(), &format!("is {kind}; send a list of token ids")),
            None => add(violations, name.to_owned(), "is missing; send a list of token ids"),
        }
    }

    /// The elements of a list, at most `max`. Nothing else may be a list in its place.
    pub(in crate::http) fn elements(
        self,
        name: &str,
        max: usize,
        violations: &mut Violations,
    ) -> Option<Vec<Field<'b>>> {
        let value = self.0?;
        if Kind::of(value) != Kind::List {
            return add(violations, name.to_owned(), &format!("is {}; send a list", Kind::of(value)));
        }
        let mut elements = Vec::new();
        let count = each(value, max, |_, element| elements.push(Self(Some(element))));
        if count > max {
            return add(violations, name.to_owned(), &format!("has {count} elements; send at most {max}"));
        }
        Some(elements)
    }
}

fn add<T>(violations: &mut Violations, field: String, problem: &str) -> Option<T> {
    violations.add(field, problem);
    None
}

/// The elements as `read` returns them, unless there are too many or one is not valid.
fn list_of<'b, T>(
    list: &'b RawValue,
    name: &str,
    limits: &Limits,
    violations: &mut Violations,
    read: impl Fn(&'b RawValue) -> Result<T, String>,
) -> Option<Vec<T>> {
    let max = limits.max_texts.get();
    let mut elements = Vec::new();
    let mut invalid = None;
    let count = each(list, max, |index, value| {
        if invalid.is_none() {
            match read(value) {
                Ok(element) => elements.push(element),
                Err(problem) => invalid = Some((index, problem)),
            }
        }
    });
    match invalid {
        Some((index, problem)) => add(violations, format!("{name}[{index}]"), &problem),
        None if count > max => add(violations, name.to_owned(), &too_many_texts(count, limits)),
        None => Some(elements),
    }
}

/// Calls `visit` with the first `max` elements of a list, and returns the number of all.
fn each<'b>(list: &'b RawValue, max: usize, visit: impl FnMut(usize, &'b RawValue)) -> usize {
    // The list is valid JSON: the whole body has been parsed.
    serde_json::Deserializer::from_str(list.get()).deserialize_seq(Each { max, visit }).unwrap_or_default()
}

struct Each<V> {
    max: usize,
    visit: V,
}

impl<'b, V: FnMut(usize, &'b RawValue)> Visitor<'b> for Each<V> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'b>>(mut self, mut elements: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while count < self.max {
            let Some(element) = elements.next_element()? else { return Ok(count) };
            (self.visit)(count, element);
            count += 1;
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

fn begins_with_number(list: &RawValue) -> bool {
    let first = list.get().strip_prefix('[').and_then(|rest| rest.trim_ascii_start().bytes().next());
    first.is_some_and(|first| first == b'-' || first.is_ascii_digit())
}

/// A string of a list.
fn text_of(value: &RawValue) -> Result<String, String> {
    match Kind::of(value) {
        Kind::Text => serde_json::from_str(value.get()).map_err(|_| {
            "has half of a surrogate pair, as when a string is cut inside an emoji; cut it between characters"
                .to_owned()
        }),
        kind => Err(format!("is {kind}; send a string")),
    }
}

fn integer_of(number: &str) -> Option<u64> {
    let whole = |number: f64| ((0.0..=MAX_EXACT).contains(&number) && number.fract() == 0.0).then_some(number as u64);
    number.parse().ok().or_else(|| whole(number.parse().ok()?))
}

/// The ids of a list of numbers.
fn ids_of(list: &RawValue, limits: &Limits) -> Result<Vec<u32>, String> {
    let max = limits.max_text_bytes;
    let mut ids = Vec::new();
    let mut invalid = None;
    let count = each(list, max, |index, value| match integer_of(value.get()).and_then(|id| u32::try_from(id).ok()) {
        Some(id) if Kind::of(value) == Kind::Number => ids.push(id),
        _ if invalid.is_none() => invalid = Some((index, value)),
        _ => {}
    });
    match invalid {
        Some((0, value)) if Kind::of(value) != Kind::Number => {
            Err(format!("is a list that begins with {}; send a string or a list of token ids", Kind::of(value)))
        }
        Some((index, value)) => {
            Err(format!("has {} at position {index}, which is not a token id", quoted(value.get())))
        }
        None if ids.is_empty() => Err("is an empty list; send a string or a list of token ids".to_owned()),
        None if count > max => Err(format!("has {count} token ids; the maximum is {max}")),
        None => Ok(ids),
    }
}
