//! The shapes of all messages, derived from the descriptors of the protocols: which fields a message has, and the
//! memory that they take once decoded. A new protocol is measured as soon as its descriptors are listed here.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::{Message as _, Name};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto};

/// The messages of all protocols.
pub(super) static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::of_sets([
        crate::FILE_DESCRIPTOR_SET,
        crate::tei::FILE_DESCRIPTOR_SET,
        crate::open_inference::FILE_DESCRIPTOR_SET,
    ])
});

/// The sizes of Rust's types on 64-bit machines.
const POINTER: usize = 8;
const STRING: usize = 24;
const VEC: usize = 24;
const HASH_MAP: usize = 48;

#[derive(Debug)]
pub(super) struct Shapes {
    messages: Vec<Shape>,
    /// Indices in `messages`, by name.
    index: HashMap<String, usize>,
}

/// The shape of a message.
#[derive(Debug)]
pub(super) struct Shape {
    /// The size of the decoded struct, without what it points to.
    pub(super) size: usize,
    /// In the order of their numbers.
    pub(super) fields: Vec<Field>,
    pub(super) direction: Direction,
}

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) count: Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A variable-length integer of this size in memory.
    Varint(usize),
    Fixed32,
    Fixed64,
    /// A string or bytes.
    Bytes,
    /// The message with this index.
    Message(usize),
    /// A group of proto2. The protocols have none.
    Group,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Stored in the struct of its message.
    One,
    /// Stored in a box, because the message contains messages of its own type.
    Boxed,
    /// Stored in a vector.
    Repeated,
    /// An entry of a map.
    Entry,
}

impl Shapes {
    /// The shape of this type. Every generated type has one, which a test checks.
    pub(super) fn of<M: Name>(&self) -> &Shape {
        let name = M::full_name();
        let index = self.index.get(&name).unwrap_or_else(|| panic!("{name} is not in the descriptors"));
        &self.messages[*index]
    }

    pub(super) fn message(&self, index: usize) -> &Shape {
        &self.messages[index]
    }

    fn of_sets<const N: usize>(sets: [&[u8]; N]) -> Self {
        let sets = sets.map(|set| FileDescriptorSet::decode(set).expect("compiled descriptors"));
        let mut described = Described::default();
        for file in sets.iter().flat_map(|set| &set.file) {
            for message in &file.message_type {
                described.add(file.package(), message);
            }
        }
        let calls = sets.iter().flat_map(|set| &set.file).flat_map(|file| &file.service);
        let requests = calls.flat_map(|service| &service.method).map(MethodDescriptorProto::input_type);
        let requests: Vec<usize> = requests.map(|name| described.index_of(name)).collect();
        described.shapes(&requests)
    }
}

impl Shape {
    /// The field with this number, and its position.
    pub(super) fn field(&self, number: u32) -> Option<(usize, &Field)> {
        let position = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        Some((position, &self.fields[position]))
    }
}

/// The messages of the descriptors, nested ones and map entries included.
#[derive(Default)]
struct Described<'d> {
    messages: Vec<&'d DescriptorProto>,
    index: HashMap<String, usize>,
}

impl<'d> Described<'d> {
    fn add(&mut self, outer: &str, message: &'d DescriptorProto) {
        let name = format!("{outer}.{}", message.name());
        // Several sets include the same well-known types.
        if self.index.contains_key(&name) {
            return;
        }
        message.nested_type.iter().for_each(|nested| self.add(&name, nested));
        self.index.insert(name, self.messages.len());
        self.messages.push(message);
    }

    /// Descriptors write names with a dot in front.
    fn index_of(&self, name: &str) -> usize {
        self.index[name.trim_start_matches('.')]
    }

    fn shapes(&self, requests: &[usize]) -> Shapes {
        let shape = |(index, message): (usize, &&DescriptorProto)| {
            let mut fields: Vec<Field> = message.field.iter().map(|field| self.field(index, field)).collect();
            fields.sort_by_key(|field| field.number);
            let direction = if requests.contains(&index) { Direction::Request } else { Direction::Response };
            Shape { size: self.size(index), fields, direction }
        };
        let messages = self.messages.iter().enumerate().map(shape).collect();
        Shapes { messages, index: self.index.clone() }
    }

    fn field(&self, message: usize, field: &FieldDescriptorProto) -> Field {
        let kind = self.kind(field);
        let count = match kind {
            Kind::Message(entry) if self.is_map_entry(entry) => Count::Entry,
            _ if field.label() == Label::Repeated => Count::Repeated,
            Kind::Message(inner) if self.contains(inner, message) => Count::Boxed,
            _ => Count::One,
        };
        Field { name: field.name().to_owned(), number: field.number().unsigned_abs(), kind, count }
    }

    fn kind(&self, field: &FieldDescriptorProto) -> Kind {
        match field.r#type() {
            Type::Bool => Kind::Varint(1),
            Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Enum => Kind::Varint(4),
            Type::Int64 | Type::Uint64 | Type::Sint64 => Kind::Varint(8),
            Type::Float | Type::Fixed32 | Type::Sfixed32 => Kind::Fixed32,
            Type::Double | Type::Fixed64 | Type::Sfixed64 => Kind::Fixed64,
            Type::String | Type::Bytes => Kind::Bytes,
            Type::Message => Kind::Message(self.index_of(field.type_name())),
            Type::Group => Kind::Group,
        }
    }

    fn is_map_entry(&self, message: usize) -> bool {
        self.messages[message].options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
    }

    /// Whether the fields of `outer`, or the fields of their messages, include a message `inner`.
    fn contains(&self, outer: usize, inner: usize) -> bool {
        let mut pending = vec![outer];
        let mut seen = vec![false; self.messages.len()];
        while let Some(message) = pending.pop() {
            if message == inner {
                return true;
            }
            if !std::mem::replace(&mut seen[message], true) {
                pending.extend(self.messages[message].field.iter().filter_map(|field| match self.kind(field) {
                    Kind::Message(next) => Some(next),
                    _ => None,
                }));
            }
        }
        false
    }

    /// The size of a message's struct, or a little more: Rust orders fields without padding between them.
    fn size(&self, message: usize) -> usize {
        let mut size = 0;
        // Only the largest variant of a oneof counts, and its tag.
        let mut oneofs: HashMap<i32, usize> = HashMap::new();
        for field in &self.messages[message].field {
            let bytes = self.field_size(message, field);
            match field.oneof_index.filter(|_| !field.proto3_optional()) {
                Some(oneof) => {
                    let largest = oneofs.entry(oneof).or_default();
                    *largest = bytes.max(*largest);
                }
                None => size += bytes,
            }
        }
        let oneofs: usize = oneofs.values().map(|largest| largest.next_multiple_of(POINTER) + POINTER).sum();
        (size + oneofs).next_multiple_of(POINTER)
    }

    fn field_size(&self, message: usize, field: &FieldDescriptorProto) -> usize {
        let Field { kind, count, .. } = self.field(message, field);
        let optional = if field.proto3_optional() { 2 } else { 1 };
        match (count, kind) {
            (Count::Entry, _) => HASH_MAP,
            (Count::Repeated, _) => VEC,
            (Count::Boxed, _) | (_, Kind::Group) => POINTER,
            (Count::One, Kind::Varint(bytes)) => bytes * optional,
            (Count::One, Kind::Fixed32) => 4 * optional,
            (Count::One, Kind::Fixed64) => 8 * optional,
            (Count::One, Kind::Bytes) => STRING,
            // With the tag of the option.
            (Count::One, Kind::Message(inner)) => self.size(inner) + POINTER,
        }
    }
}
