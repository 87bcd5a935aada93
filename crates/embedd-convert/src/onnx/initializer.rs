//! The weights of a graph, as fields of the ONNX file.

use std::collections::BTreeMap;
use std::io::{self, Write};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::WriteError;
use crate::onnx_proto::tensor_proto::DataLocation;
use crate::onnx_proto::{StringStringEntryProto, TensorProto};
use crate::weights::WeightsError;

/// The maximum size of the weights that are part of a model even if it is written without its weights.
const MAX_INLINE_BYTES: u64 = 1024;
/// Field numbers of the parts that are not encoded by prost.
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// Produces a weight's values when it is written.
pub(crate) type Fill<'w> = Box<dyn Fn() -> Result<Vec<u8>, WeightsError> + 'w>;

/// A weight of the graph.
pub(super) struct Initializer<'w> {
    /// Without `raw_data`.
    pub(super) header: TensorProto,
    pub(super) raw_bytes: u64,
    pub(super) fill: Fill<'w>,
}

/// The location of a written weight's values in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WeightLocation {
    /// From the start of the file, in bytes.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// The locations of a file's weights by name.
pub(crate) type WeightLocations = BTreeMap<String, WeightLocation>;

impl Initializer<'_> {
    /// The tensor, with its data in `file` unless it is small.
    pub(super) fn external(&self, file: &str, locations: &WeightLocations) -> Result<TensorProto, WriteError> {
        let name = &self.header.name;
        // ONNX Runtime reads small tensors, such as axes and shapes, while it infers shapes.
        if self.raw_bytes <= MAX_INLINE_BYTES {
            return Ok(TensorProto { raw_data: (self.fill)()?.into(), ..self.header.clone() });
        }
        let location = locations
            .get(name)
            .filter(|location| location.bytes == self.raw_bytes)
            .ok_or_else(|| WriteError::NotInFile { name: name.clone(), file: file.to_owned() })?;
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        Ok(TensorProto {
            data_location: DataLocation::External.into(),
            external_data: vec![
                entry("location", file.to_owned()),
                entry("offset", location.offset.to_string()),
                entry("length", location.bytes.to_string()),
            ],
            ..self.header.clone()
        })
    }

    /// The size of the TensorProto in bytes.
    fn message_bytes(&self) -> u64 {
        self.header.encoded_len() as u64 + field_bytes(TENSOR_RAW_DATA, self.raw_bytes)
    }

    /// The size in bytes of the TensorProto as a field of the graph.
    pub(super) fn field_bytes(&self) -> u64 {
        field_bytes(GRAPH_INITIALIZER, self.message_bytes())
    }

    pub(super) fn write(&self, out: &mut impl Write) -> Result<(), WriteError> {
        write_field_start(GRAPH_INITIALIZER, self.message_bytes(), out)?;
        out.write_all(&self.header.encode_to_vec())?;
        write_field_start(TENSOR_RAW_DATA, self.raw_bytes, out)?;
        let raw = (self.fill)()?;
        if raw.len() as u64 != self.raw_bytes {
            let what = format!("weight `{}` has {} bytes instead of {}", self.header.name, raw.len(), self.raw_bytes);
            return Err(WriteError::Io(io::Error::other(what)));
        }
        Ok(out.write_all(&raw)?)
    }
}

/// The size in bytes of a length-delimited field whose contents have `length` bytes.
fn field_bytes(field: u32, length: u64) -> u64 {
    (key_len(field) + encoded_len_varint(length)) as u64 + length
}

pub(super) fn write_field_start(field: u32, length: u64, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&field_start(field, length))
}

/// The bytes that precede the contents of a length-delimited field.
pub(super) fn field_start(field: u32, length: u64) -> Vec<u8> {
    let mut start = Vec::with_capacity(16);
    encode_key(field, WireType::LengthDelimited, &mut start);
    encode_varint(length, &mut start);
    start
}
