//! Types of the description, as tables of their fields.

use serde_json::Value;

use super::prose;
use embedd_common::page::escape;

/// Types within types are listed up to this depth.
const MAX_DEPTH: usize = 4;

/// The named types of a document.
pub(super) struct Schemas<'d>(&'d Value);

impl<'d> Schemas<'d> {
    pub(super) fn of(document: &'d Value) -> Self {
        Self(&document["components"]["schemas"])
    }

    /// The type in words and, if it has fields, their table. Fields of fields have names such as `data[].index`.
    pub(super) fn describe(&self, schema: &Value) -> String {
        let mut rows = String::new();
        self.rows(schema, "", MAX_DEPTH, &mut rows);
        let kind = escape(&self.kind(schema));
        if rows.is_empty() {
            return format!("<p>{kind}</p>\n");
        }
        let head = "<tr><th>field</th><th>type</th><th>meaning</th></tr>";
        // The table shows that it is an object.
        let kind = if kind == "object" { String::new() } else { format!("<p>{kind}</p>\n") };
        format!(
            "{kind}<div class=\"scroll\"><table class=\"fields\"><thead>{head}</thead><tbody>\n{rows}\
             </tbody></table></div>\n"
        )
    }

    fn rows(&self, schema: &Value, prefix: &str, depth: usize, rows: &mut String) {
        let (schema, brackets) = self.element(schema);
        let prefix = match prefix {
            "" if brackets.is_empty() => String::new(),
            "" => format!("{brackets}."),
            prefix => format!("{prefix}{brackets}."),
        };
        let variants = schema["oneOf"].as_array().into_iter().flatten();
        for variant in variants.map(|variant| self.resolve(variant)).filter(|variant| variant["properties"].is_object())
        {
            self.fields(variant, &prefix, depth, rows);
        }
        self.fields(schema, &prefix, depth, rows);
    }

    fn fields(&self, schema: &Value, prefix: &str, depth: usize, rows: &mut String) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let name = format!("{prefix}{name}");
            let kind = escape(&self.kind(field));
            let meaning = field["description"].as_str().or_else(|| self.resolve(field)["description"].as_str());
            let meaning = prose(meaning.unwrap_or_default());
            *rows += &format!("<tr><td><code>{}</code></td><td>{kind}</td><td>{meaning}</td></tr>\n", escape(&name));
            if depth > 1 {
                self.rows(field, &name, depth - 1, rows);
            }
        }
    }

    /// The type within lists, and a pair of brackets for each list.
    fn element<'v>(&'v self, schema: &'v Value) -> (&'v Value, String) {
        let mut schema = self.resolve(schema);
        let mut brackets = String::new();
        while schema["items"].is_object() {
            schema = self.resolve(&schema["items"]);
            brackets += "[]";
        }
        (schema, brackets)
    }

    fn resolve<'v>(&'v self, schema: &'v Value) -> &'v Value {
        let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        name.map_or(schema, |name| &self.0[name])
    }

    /// A type in words: `list of strings, or null`.
    fn kind(&self, schema: &Value) -> String {
        let schema = self.resolve(schema);
        if let Some(variants) = schema["oneOf"].as_array() {
            let mut kinds: Vec<String> = Vec::new();
            for kind in variants.iter().map(|variant| self.kind(variant)) {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(", or ");
        }
        match &schema["type"] {
            Value::Array(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(|kind| self.single(schema, kind, false)).collect();
                kinds.join(", or ")
            }
            kind => self.single(schema, kind, false),
        }
    }

    fn single(&self, schema: &Value, kind: &Value, is_plural: bool) -> String {
        let plural = if is_plural { "s" } else { "" };
        match kind.as_str() {
            Some("array") => {
                let items = self.resolve(&schema["items"]);
                let of = match &items["type"] {
                    Value::String(_) => self.single(items, &items["type"], true),
                    _ => self.kind(items),
                };
                format!("list{plural} of {of}")
            }
            Some(kind) => format!("{kind}{plural}"),
            None => format!("value{plural}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_are_described_in_words() {
        let document = json!({"components": {"schemas": {
            "Item": {"type": "object", "properties": {"index": {"type": "integer"}}},
            "Inputs": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        }}});
        let schemas = Schemas::of(&document);
        let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        for (schema, expected) in [
            (json!({"type": ["string", "null"]}), "string, or null"),
            (
                json!({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
                "list of lists of numbers",
            ),
            (reference("Inputs"), "string, or list of strings"),
            (json!({"oneOf": [reference("Item"), {"type": "null"}]}), "object, or null"),
            (json!({"type": "array", "items": reference("Item")}), "list of objects"),
            (json!({}), "value"),
        ] {
            assert_eq!(schemas.kind(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn fields_of_fields_are_listed_with_their_paths() {
        let document = json!({"components": {"schemas": {
            "Tree": {"type": "object", "properties": {
                "name": {"type": "string", "description": "Its `name`."},
                "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
            }},
        }}});
        let described = Schemas::of(&document).describe(&json!({"$ref": "#/components/schemas/Tree"}));
        assert!(described.contains("<td><code>children[].children[].name</code></td><td>string</td>"), "{described}");
        assert!(described.contains("<td>Its <code>name</code>.</td>"), "{described}");
        assert_eq!(described.matches("<td>string</td>").count(), MAX_DEPTH, "it ends: {described}");
    }
}
