//! The weights of a native model: a safetensors file in memory and its tensors by name.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::{Pod, PodCastError};
use safetensors::{Dtype, SafeTensors};

use embedd_kernels::PageBuffer;

const _: () = assert!(cfg!(target_endian = "little"), "tensors are used in the file's little-endian byte order");

/// The number of bytes before the header of a safetensors file.
const PREFIX: usize = size_of::<u64>();

/// A model's weights, shared by all its sessions.
#[derive(Debug)]
pub struct NativeWeights {
    file: PageBuffer,
    tensors: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// A tensor whose name, type and alignment have been checked.
#[derive(Debug, Clone)]
pub(super) struct Tensor<T> {
    bytes: Range<usize>,
    shape: Vec<usize>,
    elements: PhantomData<T>,
}

impl<T> Tensor<T> {
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// An element type of tensors.
pub(super) trait Element: Pod {
    const DTYPE: Dtype;
}

impl Element for i8 {
    const DTYPE: Dtype = Dtype::I8;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

/// The weights do not match the graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum WeightsError {
    #[error("not a safetensors file: {0}")]
    Malformed(String),
    #[error("tensor `{0}` not found")]
    Missing(String),
    #[error("tensor `{name}` has type {found}; expected {expected}")]
    Type { name: String, found: String, expected: String },
    #[error("tensor `{name}` has shape {found:?}; expected {expected}")]
    Shape { name: String, found: Vec<usize>, expected: String },
    #[error("tensor `{name}` is not aligned in the file: {reason}")]
    Alignment { name: String, reason: PodCastError },
}

impl NativeWeights {
    /// Parses a whole safetensors file.
    ///
    /// # Errors
    /// [`WeightsError::Malformed`].
    pub fn parse(file: PageBuffer) -> Result<Self, WeightsError> {
        let malformed = |error: safetensors::SafeTensorError| WeightsError::Malformed(error.to_string());
        // Checks that the tensors are contiguous and within the file.
        let (header, metadata) = SafeTensors::read_metadata(&file).map_err(malformed)?;
        let data = PREFIX + header;
        let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            let bytes = data + info.data_offsets.0..data + info.data_offsets.1;
            (name, Entry { dtype: info.dtype, shape: info.shape.clone(), bytes })
        };
        let tensors = metadata.tensors().into_iter().map(entry).collect();
        Ok(Self { file, tensors })
    }

    /// The tensor with this name and type, of any shape.
    pub(super) fn find<T: Element>(&self, name: &str) -> Result<Tensor<T>, WeightsError> {
        let entry = self.tensors.get(name).ok_or_else(|| WeightsError::Missing(name.to_owned()))?;
        if entry.dtype != T::DTYPE {
            let found = format!("{:?}", entry.dtype);
            let expected = format!("{:?}", T::DTYPE);
            return Err(WeightsError::Type { name: name.to_owned(), found, expected });
        }
        let misaligned = |reason| WeightsError::Alignment { name: name.to_owned(), reason };
        bytemuck::try_cast_slice::<u8, T>(&self.file[entry.bytes.clone()]).map_err(misaligned)?;
        Ok(Tensor { bytes: entry.bytes.clone(), shape: entry.shape.clone(), elements: PhantomData })
    }

    /// The tensor with this name, type and shape.
    pub(super) fn expect<T: Element>(&self, name: &str, shape: &[usize]) -> Result<Tensor<T>, WeightsError> {
        let tensor = self.find(name)?;
        if tensor.shape == shape {
            return Ok(tensor);
        }
        Err(WeightsError::Shape { name: name.to_owned(), found: tensor.shape, expected: format!("{shape:?}") })
    }

    /// The two-dimensional tensor with this name and type, and with `columns` columns if given.
    pub(super) fn matrix<T: Element>(&self, name: &str, columns: Option<usize>) -> Result<Tensor<T>, WeightsError> {
        let tensor = self.find(name)?;
        match tensor.shape[..] {
            [_, found] if columns.is_none_or(|columns| columns == found) => Ok(tensor),
            _ => {
                let columns = columns.map_or("_".to_owned(), |columns| columns.to_string());
                let expected = format!("[_, {columns}]");
                Err(WeightsError::Shape { name: name.to_owned(), found: tensor.shape, expected })
            }
        }
    }

    /// The elements of a tensor that was found in these weights.
    pub(super) fn get<T: Element>(&self, tensor: &Tensor<T>) -> &[T] {
        // Cannot fail: the same cast succeeded when the tensor was found.
        bytemuck::cast_slice(&self.file[tensor.bytes.clone()])
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl NativeWeights {
    /// Reads every tensor of a file by every type, and checks that its elements match its shape.
    pub(crate) fn read_all(file: PageBuffer) -> Result<(), WeightsError> {
        let weights = Self::parse(file)?;
        for name in weights.tensors.keys() {
            weights.read_as::<i8>(name);
            weights.read_as::<f32>(name);
        }
        Ok(())
    }

    fn read_as<T: Element>(&self, name: &str) {
        if let Ok(tensor) = self.find::<T>(name) {
            assert_eq!(self.get(&tensor).len(), tensor.shape().iter().product::<usize>());
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn weights(bytes: &[u8]) -> Result<NativeWeights, WeightsError> {
        let mut buffer = PageBuffer::zeroed(bytes.len()).expect("memory");
        buffer.copy_from_slice(bytes);
        NativeWeights::parse(buffer)
    }

    fn file() -> Vec<u8> {
        let floats: Vec<u8> = [1.0f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let floats = TensorView::new(Dtype::F32, vec![2, 1], &floats).expect("a tensor");
        let integers = TensorView::new(Dtype::I8, vec![3], &[1, 255, 3]).expect("a tensor");
        safetensors::serialize([("floats", floats), ("integers", integers)], None).expect("a file")
    }

    #[test]
    fn tensors_are_found_by_name_type_and_shape() {
        let weights = weights(&file()).expect("weights");
        let floats = weights.expect::<f32>("floats", &[2, 1]).expect("a tensor");
        assert_eq!(weights.get(&floats), [1.0, -2.0]);
        let integers = weights.find::<i8>("integers").expect("a tensor");
        assert_eq!((integers.shape(), weights.get(&integers)), (&[3][..], &[1, -1, 3][..]));
        let error = |error: WeightsError| error.to_string();
        let missing = error(weights.find::<f32>("other").expect_err("missing"));
        assert_eq!(missing, "tensor `other` not found");
        let of_type = error(weights.find::<i8>("floats").expect_err("floats"));
        assert_eq!(of_type, "tensor `floats` has type F32; expected I8");
        let shape = error(weights.matrix::<f32>("floats", Some(2)).expect_err("one column"));
        assert_eq!(shape, "tensor `floats` has shape [2, 1]; expected [_, 2]");
    }

    #[test]
    fn a_truncated_file_is_rejected() {
        let file = file();
        for length in 0..file.len() {
            let error = weights(&file[..length]).expect_err("truncated").to_string();
            assert!(error.contains("not a safetensors file"), "{error}");
        }
    }
}
