//! The reference in `docs/API.md` is generated from the protos; this test keeps it up to date.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

const BEGIN: &str = "<!-- generated from proto/embedd/v1 -->\n";
const END: &str = "<!-- end -->";
/// If set, the test writes the reference instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";
const PACKAGE: &str = "embedd.v1";

// Field numbers in descriptor.proto. The paths of comments consist of them.
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const FIELDS: i32 = 2;

#[test]
fn the_api_reference_matches_the_protos() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/API.md");
    let page = fs::read_to_string(&path).expect("docs/API.md");
    let (before, rest) = page.split_once(BEGIN).expect("the start of the reference");
    let (_, after) = rest.split_once(END).expect("the end of the reference");
    let expected = format!("{before}{BEGIN}{}{END}{after}", reference());
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, expected).expect("docs/API.md is writable");
        return;
    }
    assert!(
        expected == page,
        "docs/API.md is out of date; run `{UPDATE}=1 cargo test --release --test it api_reference` and commit the page"
    );
}

fn reference() -> String {
    let set = FileDescriptorSet::decode(embedd_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut page = String::new();
    for file in set.file.iter().filter(|file| file.package() == PACKAGE) {
        File::of(file).write(&mut page);
    }
    page
}

/// A file and its comments, by path.
struct File<'f> {
    file: &'f FileDescriptorProto,
    comments: HashMap<&'f [i32], &'f str>,
}

impl<'f> File<'f> {
    fn of(file: &'f FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations.filter_map(|at| Some((&at.path[..], at.leading_comments.as_deref()?))).collect();
        Self { file, comments }
    }

    fn write(&self, page: &mut String) {
        for (service, index) in self.file.service.iter().zip(0..) {
            self.write_service(page, service, index);
        }
        for (message, index) in self.file.message_type.iter().zip(0..) {
            self.write_message(page, message, index);
        }
        for (one, index) in self.file.enum_type.iter().zip(0..) {
            self.write_enum(page, one, index);
        }
    }

    fn write_service(&self, page: &mut String, service: &ServiceDescriptorProto, index: i32) {
        self.write_heading(page, &format!("{PACKAGE}.{}", service.name()), &[SERVICES, index]);
        for (method, place) in service.method.iter().zip(0..) {
            let stream = |streams| if streams { "stream " } else { "" };
            let (takes, gives) = (short(method.input_type()), short(method.output_type()));
            let _ = writeln!(
                page,
                "* **`{}`**(`{}{takes}`) → `{}{gives}`: {}",
                method.name(),
                stream(method.client_streaming()),
                stream(method.server_streaming()),
                self.comment(&[SERVICES, index, FIELDS, place]),
            );
        }
        page.push('\n');
    }

    fn write_message(&self, page: &mut String, message: &DescriptorProto, index: i32) {
        self.write_heading(page, message.name(), &[MESSAGES, index]);
        if message.field.is_empty() {
            page.push_str("This message has no fields.\n\n");
            return;
        }
        page.push_str("| field | number | type | meaning |\n|---|---|---|---|\n");
        for (field, place) in message.field.iter().zip(0..) {
            let meaning = self.comment(&[MESSAGES, index, FIELDS, place]);
            let _ =
                writeln!(page, "| `{}` | {} | {} | {meaning} |", field.name(), field.number(), kind(field, message));
        }
        page.push('\n');
    }

    fn write_enum(&self, page: &mut String, one: &EnumDescriptorProto, index: i32) {
        self.write_heading(page, one.name(), &[ENUMS, index]);
        page.push_str("| value | number | meaning |\n|---|---|---|\n");
        for (value, place) in one.value.iter().zip(0..) {
            let meaning = self.comment(&[ENUMS, index, FIELDS, place]);
            let _ = writeln!(page, "| `{}` | {} | {meaning} |", value.name(), value.number());
        }
        page.push('\n');
    }

    fn write_heading(&self, page: &mut String, name: &str, path: &[i32]) {
        let _ = write!(page, "### {name}\n\n");
        for paragraph in self.comments.get(path).into_iter().flat_map(|comment| comment.split("\n\n")) {
            let _ = write!(page, "{}\n\n", one_line(paragraph));
        }
    }

    fn comment(&self, path: &[i32]) -> String {
        self.comments.get(path).copied().map(one_line).unwrap_or_default()
    }
}

/// The text on one line, escaped for use in a table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn kind(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| short(field.type_name()) == nested.name());
    if let Some([key, value]) = entry.map(|entry| &entry.field[..]) {
        return format!("map of {} to {}", scalar(key), scalar(value));
    }
    let word = match field.label() {
        Label::Repeated => "repeated ",
        _ if field.proto3_optional() => "optional ",
        _ => "",
    };
    format!("{word}{}", scalar(field))
}

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => {
            let name = field.type_name().trim_start_matches('.');
            format!("`{}`", name.strip_prefix("embedd.v1.").unwrap_or(name))
        }
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

/// The last part of a qualified name.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
