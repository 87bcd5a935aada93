//! Where a file stores a tensor, and how to read its values in row-major order.

use std::fs::File;
use std::io;
use std::iter;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use half::{bf16, f16};
use safetensors::Dtype;

/// A view that covers more than this many elements for each of its own is read element by element, so that memory
/// stays in proportion to the tensor.
const MAX_SPREAD: usize = 16;

/// Where and how a file stores a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) dtype: Dtype,
    /// The dimensions, outermost first. Their product fits in a `usize`, also in bytes.
    pub(super) shape: Vec<usize>,
    /// The position of the first element, from the start of the file.
    pub(super) offset: u64,
    pub(super) layout: Layout,
}

/// The order of a tensor's elements in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    /// Contiguous, in row-major order.
    RowMajor,
    /// The distance in elements between neighbors, for each dimension.
    Strided(Vec<usize>),
    /// The tensor has more elements than the file stores for it. They are not read: the number of elements is limited
    /// by nothing.
    Repeated,
}

impl Layout {
    /// The layout of a view of the first elements of a storage. `stored` is the number of elements from the view's
    /// first one to the storage's end.
    ///
    /// # Errors
    /// Why the view does not fit in the storage.
    pub(super) fn of_view(shape: &[usize], strides: &[usize], stored: u64) -> Result<Self, String> {
        if shape.len() != strides.len() {
            return Err(format!("shape {shape:?} does not match strides {strides:?}"));
        }
        if shape.contains(&0) {
            return Ok(Self::RowMajor);
        }
        let too_large = || format!("shape {shape:?} with strides {strides:?} is too large");
        let elements = elements(shape).ok_or_else(too_large)?;
        let last = last_offset(shape, strides).ok_or_else(too_large)?;
        if last as u64 >= stored {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} needs {} elements, but its storage has {stored} from there on",
                last as u64 + 1
            ));
        }
        if elements as u64 > stored {
            Ok(Self::Repeated)
        } else if is_row_major(shape, strides) {
            Ok(Self::RowMajor)
        } else {
            Ok(Self::Strided(strides.to_vec()))
        }
    }
}

impl Stored {
    /// The values in row-major order. The type must be one of [`is_float`], and the layout not [`Layout::Repeated`].
    pub(super) fn read(&self, file: &File) -> io::Result<Vec<f32>> {
        let bytes = match &self.layout {
            Layout::RowMajor => read_at(file, self.offset, self.elements() * self.width())?,
            Layout::Strided(strides) => self.gather(file, strides)?,
            Layout::Repeated => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        Ok(decode(&bytes, self.dtype))
    }

    /// A range of the outermost dimension.
    pub(super) fn rows(&self, rows: Range<usize>) -> Self {
        let stride = match &self.layout {
            Layout::Strided(strides) => strides[0],
            Layout::RowMajor | Layout::Repeated => self.shape[1..].iter().product(),
        };
        let offset = self.offset + (rows.start * stride * self.width()) as u64;
        let shape = [&[rows.len()], &self.shape[1..]].concat();
        Self { shape, offset, ..self.clone() }
    }

    fn gather(&self, file: &File, strides: &[usize]) -> io::Result<Vec<u8>> {
        let width = self.width();
        let covered = last_offset(&self.shape, strides).unwrap_or_default() + 1;
        let mut bytes = Vec::with_capacity(self.elements() * width);
        if covered / MAX_SPREAD <= self.elements() {
            let all = read_at(file, self.offset, covered * width)?;
            for at in offsets(&self.shape, strides) {
                bytes.extend_from_slice(&all[at * width..][..width]);
            }
        } else {
            for at in offsets(&self.shape, strides) {
                bytes.extend(read_at(file, self.offset + (at * width) as u64, width)?);
            }
        }
        Ok(bytes)
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of an element.
    fn width(&self) -> usize {
        self.dtype.bitsize() / 8
    }
}

/// Whether tensors of this type can be read.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

fn read_at(file: &File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}

/// `None` if the number of elements, or of bytes in the widest type, is out of range.
fn elements(shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length))?;
    elements.checked_mul(size_of::<f64>())?;
    Some(elements)
}

/// The offset of the last element from the first one, in elements. `None` if it is out of range.
fn last_offset(shape: &[usize], strides: &[usize]) -> Option<usize> {
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(0_usize, |sum, (&length, &stride)| sum.checked_add((length - 1).checked_mul(stride)?))?;
    last.checked_add(1)?.checked_mul(size_of::<f64>())?;
    Some(last)
}

/// Strides of dimensions of length 1 do not matter.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&length, &stride)| {
        let matches = length == 1 || stride == expected;
        expected *= length;
        matches
    })
}

/// The offsets of all elements in row-major order, in elements. No dimension is 0.
fn offsets(shape: &[usize], strides: &[usize]) -> impl Iterator<Item = usize> {
    let mut index = vec![0; shape.len()];
    let first = Some(0);
    iter::successors(first, move |&offset| {
        let mut offset = offset;
        for dimension in (0..shape.len()).rev() {
            index[dimension] += 1;
            offset += strides[dimension];
            if index[dimension] < shape[dimension] {
                return Some(offset);
            }
            offset -= strides[dimension] * shape[dimension];
            index[dimension] = 0;
        }
        None
    })
}

/// Decodes values of one of the types of [`is_float`].
fn decode(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let pairs = || bytes.as_chunks::<2>().0.iter().copied();
    match dtype {
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        _ => bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect(),
    }
}

#[cfg(test)]
mod tests;
