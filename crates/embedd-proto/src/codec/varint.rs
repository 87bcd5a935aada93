//! Reads variable-length integers exactly as prost does.

/// At most this many bytes; the last one holds a single bit.
const MAX_BYTES: usize = 10;

/// Removes an integer from the beginning of `bytes`, or returns `None` if there is no valid one.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let fits = index + 1 < MAX_BYTES || byte < 2;
            *bytes = &bytes[index + 1..];
            return fits.then_some(value);
        }
    }
    None
}

/// The number of integers in packed bytes, or `None` if the last one is incomplete.
pub(super) fn count(packed: &[u8]) -> Option<usize> {
    let complete = packed.last().is_none_or(|&last| last < 0x80);
    complete.then(|| packed.iter().filter(|&&byte| byte < 0x80).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_prost_reads_them() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let length = random.usize(0..13);
            let bytes: Vec<u8> = (0..length).map(|_| random.u8(..) | [0, 0x80, 0x80][random.usize(..3)]).collect();
            let mut ours = &bytes[..];
            let mut theirs = &bytes[..];
            let value = take(&mut ours);
            let expected = prost::encoding::decode_varint(&mut theirs).ok();
            assert_eq!(value, expected, "{bytes:02x?}");
            assert!(value.is_none() || ours == theirs, "{bytes:02x?}");
        }
    }

    #[test]
    fn packed_integers_are_counted() {
        assert_eq!((count(&[]), count(&[1]), count(&[0x80, 1, 5])), (Some(0), Some(1), Some(2)));
        assert_eq!((count(&[0x80]), count(&[1, 0xff])), (None, None));
    }
}
