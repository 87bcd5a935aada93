//! The TOML file.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Given, Mistake, Origin};
use super::reader::Reader;
use super::setting::{Kind, Setting};
use super::suggest::nearest_key;
use super::table::by_key;

/// Offers the values in the file. A file that is not valid TOML offers nothing: half a file would lead to bogus
/// errors.
pub(super) fn offer(reader: &mut Reader, path: &Path, text: &str) {
    let document = Document { path, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let (line, column) = line_and_column(text, error.span().map_or(text.len(), |span| span.start));
        let problem = error.message().trim().to_owned();
        reader.reject(Mistake::Syntax { path: path.to_owned(), line, column, problem });
    }
    if !errors.is_empty() {
        return;
    }
    // The table is sorted by key; messages should follow the order of the file.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        match by_key(name) {
            Some(setting) => offer_value(reader, setting, value, &document),
            None => reader.reject(Mistake::Unknown {
                name: name.to_owned(),
                origin: document.origin(&key.span()),
                suggestion: nearest_key(name).map(str::to_owned),
            }),
        }
    }
}

struct Document<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Document<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let (line, column) = line_and_column(self.text, span.start);
        Origin::File { path: self.path.to_owned(), line, column }
    }
}

fn offer_value(reader: &mut Reader, setting: &'static Setting, value: &Spanned<DeValue<'_>>, document: &Document<'_>) {
    let origin = document.origin(&value.span());
    match plain_text(value.get_ref(), setting.kind) {
        Some(text) => reader.offer(setting, text, origin),
        None => {
            let text = document.text.get(value.span()).unwrap_or_default().to_owned();
            let expected = accepted_types(setting);
            let given = Given { setting: setting.name(), text, origin };
            reader.reject_value(setting, Mistake::Value { given, expected });
        }
    }
}

/// The text of a flag with the same value, if the setting accepts the value's type.
fn plain_text(value: &DeValue<'_>, kind: Kind) -> Option<String> {
    match (value, kind) {
        (DeValue::String(text), _) => Some(text.clone().into_owned()),
        (DeValue::Boolean(switch), Kind::Switch) => Some(switch.to_string()),
        (DeValue::Float(number), Kind::Number) => Some(number.to_string()),
        (DeValue::Integer(number), Kind::Number) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix());
            Some(decimal.map_or_else(|_| number.to_string(), |decimal| decimal.to_string()))
        }
        _ => None,
    }
}

fn accepted_types(setting: &Setting) -> String {
    let default = setting.default;
    match setting.kind {
        Kind::Text => format!("text in quotes, such as `\"{default}\"`"),
        Kind::Number => format!("a number, or text in quotes such as `\"{default}\"`"),
        Kind::Switch => "`true` or `false`".to_owned(),
    }
}

/// Both are counted from 1, the column in characters, as in editors.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
