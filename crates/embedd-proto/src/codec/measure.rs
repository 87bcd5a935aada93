//! Adds up the memory that a message would take, from its tags and lengths alone. Allocates nothing, and reads each byte
//! at most once. What it accepts is a superset of what prost accepts, up to the content of strings and one leniency of
//! prost: a map field must have the wire type of a map.

use super::shapes::{Count, Field, Kind, Shape, Shapes};
use super::varint;

/// prost's limit for nested messages and groups.
const MAX_DEPTH: u32 = 100;
/// What an allocation takes in addition to its bytes: the allocator's header, and its minimum size.
const ALLOCATION: usize = 32;
/// The capacity of a vector after its first element. Later elements at most double it.
const FIRST_CAPACITY: usize = 4;
const FIRST_CAPACITY_BYTES: usize = 8;
/// A map has at least four buckets, and up to 2.3 for each entry, with a byte of control data each.
const BUCKETS_PER_ENTRY: usize = 4;

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const DELIMITED: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED_32: u8 = 5;

/// Why a message is not decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The reason, after the path of the field.
    Malformed(String),
    /// The path of the field that exceeds the limit.
    TooLarge(String),
}

impl Obstacle {
    fn malformed(reason: &str) -> Self {
        Self::Malformed(reason.to_owned())
    }

    /// Adds the name of a field to the path.
    fn within(self, field: &Field) -> Self {
        let name = &field.name;
        match self {
            Self::Malformed(reason) => Self::Malformed(format!("{name}: {reason}")),
            Self::TooLarge(inner) if inner.is_empty() => Self::TooLarge(name.clone()),
            Self::TooLarge(inner) => Self::TooLarge(format!("{name}.{inner}")),
        }
    }
}

/// Counts the memory of one message.
pub(super) struct Meter<'s> {
    shapes: &'s Shapes,
    bytes: usize,
    max: usize,
}

/// The fields of a message that have occurred, by position. Those beyond 64 always count as new.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    /// Whether this is the first occurrence.
    fn is_first(&mut self, position: usize) -> bool {
        let Some(bit) = 1_u64.checked_shl(position as u32) else { return true };
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first
    }
}

impl<'s> Meter<'s> {
    pub(super) fn new(shapes: &'s Shapes, max: usize) -> Self {
        Self { shapes, bytes: 0, max }
    }

    /// The memory that the fields of the message would take.
    pub(super) fn measure(mut self, shape: &Shape, message: &[u8]) -> Result<usize, Obstacle> {
        self.message(shape, message, MAX_DEPTH)?;
        Ok(self.bytes)
    }

    fn add(&mut self, bytes: usize) -> Result<(), Obstacle> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.max { Err(Obstacle::TooLarge(String::new())) } else { Ok(()) }
    }

    /// `depth` is the number of levels that may follow.
    fn message(&mut self, shape: &Shape, mut bytes: &[u8], depth: u32) -> Result<(), Obstacle> {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            let (number, wire_type) = key(&mut bytes)?;
            match shape.field(number) {
                Some((position, field)) => {
                    let first = seen.is_first(position);
                    self.field(field, first, wire_type, &mut bytes, depth).map_err(|error| error.within(field))?;
                }
                None => skip(number, wire_type, &mut bytes, depth)?,
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        first: bool,
        wire_type: u8,
        bytes: &mut &[u8],
        depth: u32,
    ) -> Result<(), Obstacle> {
        match field.kind {
            Kind::Varint(size) => self.number(field.count, size, VARINT, first, wire_type, bytes),
            Kind::Fixed32 => self.number(field.count, 4, FIXED_32, first, wire_type, bytes),
            Kind::Fixed64 => self.number(field.count, 8, FIXED_64, first, wire_type, bytes),
            Kind::Bytes => {
                let content = delimited(wire_type, bytes)?;
                if field.count == Count::Repeated {
                    self.elements(size_of::<String>(), 1, first)?;
                }
                // A later value of a single field reuses the memory of the earlier one.
                let new = (first || field.count == Count::Repeated) && !content.is_empty();
                self.add(content.len() + if new { ALLOCATION } else { 0 })
            }
            Kind::Message(index) => {
                let content = delimited(wire_type, bytes)?;
                let inner = self.shapes.message(index);
                match field.count {
                    Count::One => {}
                    Count::Boxed => self.add(inner.size + ALLOCATION)?,
                    Count::Repeated => self.elements(inner.size, 1, first)?,
                    Count::Entry => self.add(BUCKETS_PER_ENTRY * (inner.size + 1) + ALLOCATION)?,
                }
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                self.message(inner, content, depth)
            }
            Kind::Group => Err(Obstacle::malformed("groups are not supported")),
        }
    }

    /// One number or, if the field is repeated, perhaps several in packed form.
    fn number(
        &mut self,
        count: Count,
        size: usize,
        expected: u8,
        first: bool,
        wire_type: u8,
        bytes: &mut &[u8],
    ) -> Result<(), Obstacle> {
        if count == Count::Repeated && wire_type == DELIMITED {
            let packed = delimited(wire_type, bytes)?;
            let elements = if expected == VARINT {
                varint::count(packed)
            } else {
                packed.len().is_multiple_of(size).then(|| packed.len() / size)
            };
            let elements = elements.ok_or_else(|| Obstacle::malformed("ends inside a number"))?;
            return self.elements(size, elements, first);
        }
        if wire_type != expected {
            return Err(wrong_wire_type());
        }
        if expected == VARINT {
            take_varint(bytes)?;
        } else {
            take(size as u64, bytes)?;
        }
        if count == Count::Repeated { self.elements(size, 1, first) } else { Ok(()) }
    }

    /// Elements of a vector; `first` if it has none yet.
    fn elements(&mut self, size: usize, count: usize, first: bool) -> Result<(), Obstacle> {
        let reserved = if size == 1 { FIRST_CAPACITY_BYTES } else { FIRST_CAPACITY };
        let extra = if first && count > 0 { size * (reserved - 1) + ALLOCATION } else { 0 };
        self.add(size.saturating_mul(count).saturating_add(extra))
    }
}

fn key(bytes: &mut &[u8]) -> Result<(u32, u8), Obstacle> {
    let key = u32::try_from(take_varint(bytes)?).map_err(|_| Obstacle::malformed("a field number is too large"))?;
    match (key >> 3, (key & 7) as u8) {
        (0, _) => Err(Obstacle::malformed("a field has the number 0")),
        (_, 6 | 7) => Err(Obstacle::malformed("a field has an unknown wire type")),
        key => Ok(key),
    }
}

/// Skips an unknown field.
fn skip(number: u32, wire_type: u8, bytes: &mut &[u8], depth: u32) -> Result<(), Obstacle> {
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    match wire_type {
        VARINT => take_varint(bytes).map(drop),
        FIXED_64 => take(8, bytes).map(drop),
        FIXED_32 => take(4, bytes).map(drop),
        DELIMITED => delimited(wire_type, bytes).map(drop),
        START_GROUP => loop {
            match key(bytes)? {
                (inner, END_GROUP) if inner == number => return Ok(()),
                (inner, wire_type) => skip(inner, wire_type, bytes, depth)?,
            }
        },
        _ => Err(Obstacle::malformed("a group ends that did not begin")),
    }
}

fn delimited<'b>(wire_type: u8, bytes: &mut &'b [u8]) -> Result<&'b [u8], Obstacle> {
    if wire_type != DELIMITED {
        return Err(wrong_wire_type());
    }
    let length = take_varint(bytes)?;
    take(length, bytes)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Obstacle> {
    varint::take(bytes).ok_or_else(|| Obstacle::malformed("an integer is incomplete or too large"))
}

fn take<'b>(length: u64, bytes: &mut &'b [u8]) -> Result<&'b [u8], Obstacle> {
    let split = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (taken, rest) = split.ok_or_else(|| Obstacle::malformed("ends inside a field"))?;
    *bytes = rest;
    Ok(taken)
}

fn wrong_wire_type() -> Obstacle {
    Obstacle::malformed("has the wire type of another type")
}

fn too_deep() -> Obstacle {
    Obstacle::malformed("is nested too deeply")
}
