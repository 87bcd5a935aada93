//! Streams a safetensors file with one linear layer in memory at a time.

use std::io::{self, Write};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::onnx::WriteError;
use crate::weights::WeightsError;

/// The size in bytes of a cache line and of the widest vector. Tensors start at a multiple of it where their lengths
/// allow.
const ALIGNMENT: usize = 64;
/// The size in bytes of the header's length, which is at the start of the file.
const LENGTH_BYTES: usize = 8;

/// Tensors that are produced together.
pub(super) struct Part<'w> {
    tensors: Vec<(String, Dtype, Vec<usize>)>,
    /// Returns their concatenated bytes.
    fill: Box<dyn Fn() -> Result<Vec<u8>, WeightsError> + 'w>,
}

/// A file under construction.
#[derive(Default)]
pub(crate) struct TensorFile<'w> {
    parts: Vec<Part<'w>>,
}

impl<'w> Part<'w> {
    /// Tensors by name, type and shape, and a function that returns their concatenated bytes.
    pub(super) fn new(
        tensors: impl Into<Vec<(String, Dtype, Vec<usize>)>>,
        fill: impl Fn() -> Result<Vec<u8>, WeightsError> + 'w,
    ) -> Self {
        Self { tensors: tensors.into(), fill: Box::new(fill) }
    }

    /// One tensor.
    pub(super) fn of(
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        fill: impl Fn() -> Result<Vec<u8>, WeightsError> + 'w,
    ) -> Self {
        Self::new([(name.to_owned(), dtype, shape.to_vec())], fill)
    }

    /// One float32 tensor.
    pub(super) fn of_floats(
        name: &str,
        shape: &[usize],
        fill: impl Fn() -> Result<Vec<f32>, WeightsError> + 'w,
    ) -> Self {
        Self::of(name, Dtype::F32, shape, move || Ok(fill()?.iter().flat_map(|value| value.to_le_bytes()).collect()))
    }

    fn bytes(&self) -> usize {
        self.tensors.iter().map(|(_, dtype, shape)| bytes(*dtype, shape)).sum()
    }

    /// The sort key that determines the position in the file. Parts whose lengths are multiples of the alignment come
    /// first, so that the next part stays aligned; bytes come last, so that floats stay aligned to their size.
    fn rank(&self) -> (bool, bool) {
        let aligned = self.tensors.iter().all(|(_, dtype, shape)| bytes(*dtype, shape).is_multiple_of(ALIGNMENT));
        (!aligned, !aligned && self.tensors.iter().any(|(_, dtype, _)| dtype.bitsize() == 8))
    }
}

fn bytes(dtype: Dtype, shape: &[usize]) -> usize {
    shape.iter().product::<usize>() * dtype.bitsize() / 8
}

impl<'w> TensorFile<'w> {
    pub(super) fn add(&mut self, part: Part<'w>) {
        self.parts.push(part);
    }

    /// Total size of the tensors in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes() as u64).sum()
    }

    /// Writes the file. Calls `written` with the size of each written part.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn write(&self, out: &mut impl Write, mut written: impl FnMut(u64)) -> Result<(), WriteError> {
        let mut parts: Vec<&Part<'w>> = self.parts.iter().collect();
        parts.sort_by_key(|part| part.rank());
        let mut header = header(&parts)?;
        header.resize((LENGTH_BYTES + header.len()).next_multiple_of(ALIGNMENT) - LENGTH_BYTES, b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for part in parts {
            let bytes = (part.fill)()?;
            if bytes.len() != part.bytes() {
                let (name, _, _) = &part.tensors[0];
                let what = format!("tensor `{name}` has {} bytes instead of {}", bytes.len(), part.bytes());
                return Err(WriteError::Io(io::Error::other(what)));
            }
            out.write_all(&bytes)?;
            written(bytes.len() as u64);
        }
        Ok(out.flush()?)
    }
}

fn header(parts: &[&Part<'_>]) -> io::Result<Vec<u8>> {
    let mut start = 0;
    let tensors = parts.iter().flat_map(|part| &part.tensors).map(|(name, dtype, shape)| {
        let end = start + bytes(*dtype, shape);
        let info = TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (start, end) };
        start = end;
        (name.clone(), info)
    });
    let metadata = Metadata::new(None, tensors.collect()).map_err(io::Error::other)?;
    Ok(serde_json::to_vec(&metadata)?)
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn written(file: &TensorFile<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut reported = 0;
        file.write(&mut out, |bytes| reported += bytes).expect("to memory");
        assert_eq!(reported, file.bytes());
        out
    }

    #[test]
    fn tensors_are_aligned_where_lengths_allow_and_are_read_back() {
        let mut file = TensorFile::default();
        file.add(Part::of("odd", Dtype::I8, &[3], || Ok(vec![1, 2, 3])));
        file.add(Part::of_floats("uneven", &[5], || Ok(vec![0.5; 5])));
        let both = [("a".to_owned(), Dtype::I8, vec![128]), ("b".to_owned(), Dtype::F32, vec![2, 8])];
        file.add(Part::new(both, || Ok((0..192).collect())));
        file.add(Part::of_floats("c", &[16], || Ok(vec![2.0; 16])));

        let bytes = written(&file);
        let (length, _) = SafeTensors::read_metadata(&bytes).expect("a header");
        assert!((8 + length).is_multiple_of(64));
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let offset =
            |name: &str| tensors.tensor(name).expect("there").data().as_ptr() as usize - bytes.as_ptr() as usize;
        let begin: Vec<_> = ["a", "b", "c", "uneven", "odd"].map(offset).into();
        let expected: Vec<_> = [0, 128, 192, 256, 276].map(|offset| 8 + length + offset).into();
        assert_eq!(begin, expected);
        assert_eq!(tensors.tensor("b").expect("there").shape(), [2, 8]);
        assert_eq!(tensors.tensor("odd").expect("there").data(), [1, 2, 3]);
    }

    #[test]
    fn a_part_whose_length_does_not_match_its_shape_is_an_error() {
        let mut file = TensorFile::default();
        file.add(Part::of("short", Dtype::I8, &[3], || Ok(vec![1])));
        let error = file.write(&mut Vec::new(), |_| {}).expect_err("too short").to_string();
        assert!(error.contains("`short` has 1 bytes instead of 3"), "{error}");
    }
}
