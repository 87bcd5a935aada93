use std::io::Write as _;

use super::*;

/// A file of float32 values: 0, 1, 2 and so on.
fn counting(values: usize) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    let bytes: Vec<u8> = (0..values).flat_map(|value| (value as f32).to_le_bytes()).collect();
    file.write_all(&bytes).expect("write");
    file
}

fn read(shape: &[usize], strides: &[usize], first: u64, values: usize) -> Vec<f32> {
    let layout = Layout::of_view(shape, strides, values as u64 - first).expect("a view in range");
    let stored = Stored { dtype: Dtype::F32, shape: shape.to_vec(), offset: first * 4, layout };
    stored.read(&counting(values)).expect("read")
}

#[test]
fn views_are_read_in_row_major_order() {
    assert_eq!(read(&[2, 3], &[3, 1], 0, 6), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(read(&[3, 2], &[1, 3], 0, 6), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], "transposed");
    assert_eq!(read(&[2, 2], &[4, 1], 1, 8), [1.0, 2.0, 5.0, 6.0], "some columns");
    assert_eq!(read(&[2, 2, 2], &[1, 4, 2], 0, 8), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0], "three dimensions");
    assert_eq!(read(&[], &[], 5, 6), [5.0], "a scalar");
    assert_eq!(read(&[0, 4], &[4, 1], 6, 6), [0.0; 0], "an empty tensor");
    assert_eq!(read(&[1, 2], &[99, 1], 1, 6), [1.0, 2.0], "the stride of one row does not matter");
}

#[test]
fn a_few_elements_of_a_large_storage_are_read_one_by_one() {
    const { assert!(1999 / MAX_SPREAD > 3) };
    assert_eq!(read(&[3], &[999], 1, 2000), [1.0, 1000.0, 1999.0]);
}

#[test]
fn views_beyond_their_storage_are_rejected() {
    let cases: [(&[usize], &[usize], u64); 5] = [
        (&[2, 3], &[3, 1], 5),
        (&[2], &[5], 5),
        (&[1 << 40], &[1], 100),
        (&[usize::MAX, 2], &[1, 1], 100),
        (&[2, 2], &[usize::MAX, usize::MAX], 100),
    ];
    for (shape, strides, stored) in cases {
        assert!(Layout::of_view(shape, strides, stored).is_err(), "{shape:?} {strides:?}");
    }
    assert!(Layout::of_view(&[2, 3], &[1], 100).is_err(), "a stride is missing");
}

#[test]
fn repeated_elements_are_recognized_before_memory_is_allocated() {
    assert_eq!(Layout::of_view(&[1 << 40], &[0], 1), Ok(Layout::Repeated));
    assert_eq!(Layout::of_view(&[4, 4], &[1, 1], 7), Ok(Layout::Repeated));
}

#[test]
fn all_floating_point_types_become_float32() {
    let cases: [(Dtype, Vec<u8>); 4] = [
        (Dtype::F64, [0.5_f64, -3.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
        (Dtype::F32, [0.5_f32, -3.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
        (Dtype::F16, [0.5_f32, -3.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
        (Dtype::BF16, [0.5_f32, -3.0].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
    ];
    for (dtype, bytes) in cases {
        assert!(is_float(dtype));
        assert_eq!(decode(&bytes, dtype), [0.5, -3.0], "{dtype:?}");
    }
    assert!(!is_float(Dtype::I64));
}
