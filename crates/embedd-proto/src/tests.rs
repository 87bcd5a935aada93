//! Checks our .proto files for the protocols of other projects: names, numbers and types must match for a client and a
//! server to understand each other.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

/// The protocol of text-embeddings-inference, without the services Predict and Rerank.
const TEI: &str = include_str!("tests/tei.txt");
/// The Open Inference Protocol.
const OPEN_INFERENCE: &str = include_str!("tests/open_inference.txt");

#[test]
fn our_files_match_the_original_protocols() {
    for (descriptors, package, facts) in [
        (super::tei::FILE_DESCRIPTOR_SET, "tei.v1", TEI),
        (super::open_inference::FILE_DESCRIPTOR_SET, "inference", OPEN_INFERENCE),
    ] {
        let set = FileDescriptorSet::decode(descriptors).expect("descriptors");
        let file = set.file.iter().find(|file| file.package() == package).expect("the package");
        assert_eq!(lines(file), facts.lines().collect::<Vec<_>>());
    }
}

/// One line per call, enum and message.
fn lines(file: &FileDescriptorProto) -> Vec<String> {
    let package = format!(".{}.", file.package());
    let calls = file.service.iter().flat_map(|service| calls(service, &package));
    let enums = file.enum_type.iter().map(values);
    let messages = file.message_type.iter().flat_map(|message| messages(message, "", &package));
    let mut lines: Vec<String> = calls.chain(enums).chain(messages).collect();
    lines.sort();
    lines
}

fn calls<'a>(service: &'a ServiceDescriptorProto, package: &'a str) -> impl Iterator<Item = String> + 'a {
    service.method.iter().map(move |method| {
        let side =
            |streaming, name: &str| format!("{}{}", if streaming { "stream " } else { "" }, name.replace(package, ""));
        let input = side(method.client_streaming(), method.input_type());
        let output = side(method.server_streaming(), method.output_type());
        format!("rpc {}/{}: {input} -> {output}", service.name(), method.name())
    })
}

fn values(descriptor: &EnumDescriptorProto) -> String {
    let values: Vec<String> =
        descriptor.value.iter().map(|value| format!("{} {}", value.number(), value.name())).collect();
    format!("enum {}: {}", descriptor.name(), values.join("; "))
}

/// The message and its nested messages.
fn messages(message: &DescriptorProto, outer: &str, package: &str) -> Vec<String> {
    let name = format!("{outer}{}", message.name());
    let fields: Vec<String> = message.field.iter().map(|field| field_line(field, message, package)).collect();
    let nested = message.nested_type.iter().filter(|nested| !is_map_entry(nested));
    let nested = nested.flat_map(|nested| messages(nested, &format!("{name}."), package));
    let line = format!("message {name}: {}", fields.join("; ")).trim_end().to_owned();
    std::iter::once(line).chain(nested).collect()
}

fn field_line(field: &FieldDescriptorProto, message: &DescriptorProto, package: &str) -> String {
    let kind = kind(field, package);
    let entry =
        message.nested_type.iter().find(|nested| is_map_entry(nested) && field.type_name().ends_with(nested.name()));
    let kind = match (entry, field.oneof_index) {
        (Some(entry), _) => {
            format!("map<{}, {}>", self::kind(&entry.field[0], package), self::kind(&entry.field[1], package))
        }
        _ if field.label() == Label::Repeated => format!("repeated {kind}"),
        _ if field.proto3_optional() => format!("optional {kind}"),
        (_, Some(index)) => format!("{} {kind}", message.oneof_decl[index as usize].name()),
        _ => kind,
    };
    format!("{} {kind} {}", field.number(), field.name())
}

fn kind(field: &FieldDescriptorProto, package: &str) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().replace(package, ""),
        plain => plain.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}
