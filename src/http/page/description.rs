//! The description of the APIs (OpenAPI) as a page.

use serde_json::Value;
use utoipa::openapi::OpenApi;

use embedd_common::page::{escape, table};

mod examples;
mod schema;

#[cfg(test)]
pub(super) use examples::UNSUPPORTED;
use schema::Schemas;

const INTRODUCTION: &str = "\
<p>All APIs share one path through the server: the same validation, queue, cache, limits and tokens. If the server \
requires a token, send it as <code>authorization: Bearer TOKEN</code>. Errors have the form of their own protocol; 429 \
and 503 have the headers <code>retry-after</code> (seconds) and <code>retry-after-ms</code>. This page shows \
<a href=\"openapi.json\">openapi.json</a> (OpenAPI 3.1).</p>";

/// One route with one method.
struct Operation<'d> {
    method: String,
    path: &'d str,
    value: &'d Value,
}

/// The page.
pub(super) fn render(described: &OpenApi) -> String {
    // A description that cannot be serialized, which is not known to happen, leaves the page empty.
    let document = serde_json::to_value(described).unwrap_or_default();
    let schemas = Schemas::of(&document);
    let groups = groups(&document);
    let mut contents = String::new();
    let mut sections = String::new();
    for (tag, operations) in &groups {
        let links: String = operations.iter().map(Operation::link).collect();
        contents += &format!("<section><h3>{}</h3><ul>{links}</ul></section>\n", escape(tag));
        let articles: String = operations.iter().map(|operation| operation.article(&schemas)).collect();
        sections += &format!("<section><h2>{}</h2>\n{articles}</section>\n", escape(tag));
    }
    let version = escape(document["info"]["version"].as_str().unwrap_or_default());
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/><title>embedd: APIs</title>\n\
         <link rel=\"icon\" href=\"page/icon.svg\"/><link rel=\"stylesheet\" href=\"page/style.css\"/>\n\
         <script type=\"module\" src=\"page/docs.js\"></script></head>\n<body><main class=\"docs\">\n\
         <header><h1>embedd {version}: APIs of the HTTP port</h1>\
         <p class=\"sub\"><a href=\"./\">Overview</a></p></header>\n\
         {INTRODUCTION}\n<nav class=\"contents\" aria-label=\"Routes\">\n{contents}</nav>\n{sections}\
         </main></body></html>\n"
    )
}

/// All operations by their tags, in the order of the first route of each tag.
fn groups(document: &Value) -> Vec<(&str, Vec<Operation<'_>>)> {
    let mut groups: Vec<(&str, Vec<Operation<'_>>)> = Vec::new();
    let paths = document["paths"].as_object().into_iter().flatten();
    for (path, methods) in paths {
        for (method, value) in methods.as_object().into_iter().flatten() {
            let tag = value["tags"][0].as_str().unwrap_or("other");
            let operation = Operation { method: method.to_uppercase(), path, value };
            match groups.iter_mut().find(|(known, _)| *known == tag) {
                Some((_, operations)) => operations.push(operation),
                None => groups.push((tag, vec![operation])),
            }
        }
    }
    groups.sort_by_key(|(tag, _)| order(tag));
    groups
}

/// The API with the most clients first.
fn order(tag: &str) -> usize {
    let tags = ["OpenAI", "text-embeddings-inference", "Cohere", "Open Inference Protocol"];
    tags.iter().position(|known| *known == tag).unwrap_or(tags.len())
}

impl Operation<'_> {
    fn id(&self) -> String {
        let path: String = self.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("{}{path}", self.method.to_lowercase())
    }

    fn name(&self) -> String {
        format!("<span class=\"method\">{}</span> <code>{}</code>", escape(&self.method), escape(self.path))
    }

    fn link(&self) -> String {
        format!("<li><a href=\"#{}\">{}</a></li>", self.id(), self.name())
    }

    fn article(&self, schemas: &Schemas<'_>) -> String {
        let text = |key: &str| self.value[key].as_str().map(|text| format!("<p>{}</p>\n", prose(text)));
        let mut out = format!("<article id=\"{}\"><h3>{}</h3>\n", self.id(), self.name());
        out += &text("summary").unwrap_or_default();
        out += &text("description").unwrap_or_default();
        out += &self.parameters();
        let content = |of: &Value| of["content"].as_object().and_then(|types| types.values().next()).cloned();
        if let Some(body) = content(&self.value["requestBody"]) {
            out += &part("Request", &schemas.describe(&body["schema"]));
        }
        let responses = self.value["responses"].as_object().into_iter().flatten();
        let mut others = Vec::new();
        for (status, response) in responses {
            match content(response) {
                Some(body) => out += &part(&format!("Reply ({status})"), &schemas.describe(&body["schema"])),
                None => others.push([status.clone(), reason(status, &response["description"])]),
            }
        }
        if let Some(command) = examples::command(&self.method, self.path) {
            out += &format!("<h4>Example</h4>\n<pre class=\"call\" tabindex=\"0\"><code>{command}</code></pre>\n");
        }
        if !others.is_empty() {
            out += &format!(
                "<details><summary>Other replies</summary>{}</details>\n",
                table(["status", "when"], others, 0..0)
            );
        }
        out + "</article>\n"
    }

    fn parameters(&self) -> String {
        let parameters = self.value["parameters"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows: Vec<[String; 3]> = parameters
            .map(|parameter| [text(&parameter["name"]), text(&parameter["in"]), text(&parameter["description"])])
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        part("Parameters", &table(["name", "in", "meaning"], rows, 0..0))
    }
}

fn reason(status: &str, description: &Value) -> String {
    let description = description.as_str().unwrap_or_default();
    let known = match status {
        "200" => "Yes.",
        "501" => "Always: the model or its engine cannot do this.",
        _ => description,
    };
    if description.is_empty() { known.to_owned() } else { description.to_owned() }
}

fn part(title: &str, body: &str) -> String {
    format!("<h4>{}</h4>\n{body}", escape(title))
}

/// Text of a doc comment, with the code in it marked.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for (number, piece) in text.split('`').enumerate() {
        let piece = escape(piece);
        out += &if number % 2 == 1 { format!("<code>{piece}</code>") } else { piece };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_in_prose_is_marked_and_escaped() {
        assert_eq!(prose("a `b<c` & d"), "a <code>b&lt;c</code> &amp; d");
    }

    #[test]
    fn unknown_replies_have_a_reason() {
        assert_eq!(reason("501", &Value::Null), "Always: the model or its engine cannot do this.");
        assert_eq!(reason("400", &Value::from("because")), "because");
    }
}
