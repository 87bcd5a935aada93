//! Whether our .proto files say what the protocols of others are: names, numbers and types are what a client and a
//! server have to have in common.

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
fn our_files_say_what_the_protocols_are() {
    for (descriptors, package, facts) in [
        (super::tei::FILE_DESCRIPTOR_SET, "tei.v1", TEI),
        (super::open_inference::FILE_DESCRIPTOR_SET, "inference", OPEN_INFERENCE),
    ] {
        let set = FileDescriptorSet::decode(descriptors).expect("descriptors");
        let file = set.file.iter().find(|file| file.package() == package).expect("the package");
        assert_eq!(lines(file), facts.lines().collect::<Vec<_>>());
    }
}

/// A line for each call, enum and message.
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
        let takes = side(method.client_streaming(), method.input_type());
        let gives = side(method.server_streaming(), method.output_type());
        format!("rpc {}/{}: {takes} -> {gives}", service.name(), method.name())
    })
}

fn values(of: &EnumDescriptorProto) -> String {
    let values: Vec<String> = of.value.iter().map(|value| format!("{} {}", value.number(), value.name())).collect();
    format!("enum {}: {}", of.name(), values.join("; "))
}

/// The message, and those inside it.
fn messages(message: &DescriptorProto, outer: &str, package: &str) -> Vec<String> {
    let name = format!("{outer}{}", message.name());
    let fields: Vec<String> = message.field.iter().map(|field| field_line(field, message, package)).collect();
    let inside = message.nested_type.iter().filter(|inside| !is_map_entry(inside));
    let inside = inside.flat_map(|inside| messages(inside, &format!("{name}."), package));
    let line = format!("message {name}: {}", fields.join("; ")).trim_end().to_owned();
    std::iter::once(line).chain(inside).collect()
}

fn field_line(field: &FieldDescriptorProto, message: &DescriptorProto, package: &str) -> String {
    let kind = kind(field, package);
    let entry =
        message.nested_type.iter().find(|inside| is_map_entry(inside) && field.type_name().ends_with(inside.name()));
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
    message.options.as_ref().is_some_and(|options| options.map_entry())
}
