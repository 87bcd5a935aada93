//! Finds references to external data in an ONNX file.
//!
//! ONNX Runtime would read such data from any file that the graph names. A bundle's manifest cannot list those files, so
//! they would be used unverified.

use std::path::Path;

use super::LoadError;

/// A part of an ONNX file that can contain tensors, directly or in nested parts.
#[derive(Clone, Copy)]
enum Part {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Training,
    Tensor,
}

/// The file is not a valid protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a valid ONNX file")]
struct Malformed;

/// Graphs nest by one level per control-flow operator.
const MAX_DEPTH: usize = 64;
/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Part {
    /// The part in a field, by the numbers in onnx.proto.
    fn nested(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) | (Self::Training, 1 | 2) => Some(Self::Graph),
            (Self::Model, 20) => Some(Self::Training),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Some(Self::Tensor),
            _ => None,
        }
    }

    /// Whether the field says that a tensor's data are in another file: `external_data` or `data_location`.
    fn is_external(self, field: u64, value: &Value<'_>) -> bool {
        match (self, field, value) {
            (Self::Tensor, 13, _) => true,
            (Self::Tensor, 14, Value::Number(location)) => *location != 0,
            _ => false,
        }
    }
}

/// The value of a field.
enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// Whether a tensor of the model is stored in another file.
///
/// # Errors
/// [`Malformed`].
fn has_external_data(model: &[u8]) -> Result<bool, Malformed> {
    find(Part::Model, model, MAX_DEPTH)
}

/// Rejects a bundle's graph with tensors in other files. `path` is used in error messages.
///
/// # Errors
/// [`LoadError::Model`].
pub(super) fn check_self_contained(model: &[u8], path: &Path) -> Result<(), LoadError> {
    let reason = match has_external_data(model) {
        Ok(false) => return Ok(()),
        Ok(true) => "its tensors are in other files, which the bundle's manifest does not verify".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(LoadError::Model { path: path.to_owned(), reason })
}

fn find(part: Part, mut message: &[u8], depth: usize) -> Result<bool, Malformed> {
    while !message.is_empty() {
        let (field, value) = next_field(&mut message)?;
        if part.is_external(field, &value) {
            return Ok(true);
        }
        if let (Some(nested), Value::Bytes(bytes)) = (part.nested(field), &value) {
            let depth = depth.checked_sub(1).ok_or(Malformed)?;
            if find(nested, bytes, depth)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Takes the next field from the start of the message.
fn next_field<'m>(message: &mut &'m [u8]) -> Result<(u64, Value<'m>), Malformed> {
    let key = varint(message)?;
    let value = match key & 7 {
        VARINT => Value::Number(varint(message)?),
        FIXED64 => Value::Bytes(take(message, 8)?),
        FIXED32 => Value::Bytes(take(message, 4)?),
        BYTES => {
            let length = varint(message)?;
            Value::Bytes(take(message, length)?)
        }
        _ => return Err(Malformed),
    };
    Ok((key >> 3, value))
}

fn take<'m>(message: &mut &'m [u8], length: u64) -> Result<&'m [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (taken, rest) = message.split_at_checked(length).ok_or(Malformed)?;
    *message = rest;
    Ok(taken)
}

fn varint(message: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first().ok_or(Malformed)?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        // Both numbers take two bytes, as larger ones do.
        let key = u16::from(number) << 3 | 2;
        let two = |value: u16| [value as u8 | 0x80, (value >> 7) as u8];
        [&two(key), &two(contents.len() as u16), contents].concat()
    }

    fn nested(path: &[u8], innermost: &[u8]) -> Vec<u8> {
        path.iter().rev().fold(innermost.to_vec(), |message, &number| field(number, &message))
    }

    #[test]
    fn external_data_are_found_in_every_part_that_can_hold_tensors() {
        let location = [14 << 3, 1];
        let entry = field(13, b"\x0a\x08location\x12\x0b/etc/passwd");
        for path in [
            &[7, 5][..],             // initializers
            &[7, 15, 1],             // sparse initializers: values
            &[7, 15, 2],             // and indices
            &[7, 1, 5, 5],           // a tensor in an attribute of a node
            &[7, 1, 5, 10],          // tensors
            &[7, 1, 5, 22, 1],       // a sparse tensor
            &[7, 1, 5, 6, 5],        // a graph, as in If and Loop
            &[7, 1, 5, 11, 1, 5, 5], // graphs
            &[25, 7, 5, 5],          // nodes of functions
            &[25, 11, 5],            // default attributes of functions
            &[20, 1, 5],             // training
        ] {
            for external in [&location[..], &entry] {
                assert_eq!(has_external_data(&nested(path, external)), Ok(true), "{path:?}");
            }
            let inside = [&[14 << 3, 0][..], &field(9, b"raw data")].concat();
            assert_eq!(has_external_data(&nested(path, &inside)), Ok(false), "{path:?}");
        }
    }

    #[test]
    fn the_same_numbers_elsewhere_mean_something_else() {
        // The model's field 14 is its metadata; field 13 of a graph is its value information.
        assert_eq!(has_external_data(&field(14, b"\x0a\x01k")), Ok(false));
        assert_eq!(has_external_data(&nested(&[7, 13], b"\x0a\x01k")), Ok(false));
        assert_eq!(has_external_data(b""), Ok(false));
    }

    #[test]
    fn a_damaged_or_deeply_nested_file_is_rejected() {
        let model = nested(&[7, 5], b"\x08\x01");
        for length in 1..model.len() {
            assert_eq!(has_external_data(&model[..length]), Err(Malformed), "{length} bytes");
        }
        for model in [&b"\x0b"[..], b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x3a\xff\xff\xff\xff\x0f"] {
            assert_eq!(has_external_data(model), Err(Malformed), "{model:?}");
        }
        let deep: Vec<u8> = std::iter::once(7).chain([1, 5, 6].into_iter().cycle().take(90)).collect();
        assert_eq!(has_external_data(&nested(&deep, b"")), Err(Malformed));
    }
}
