//! Zip archives that `torch.save` does not write.

use zip::CompressionMethod;

use super::*;

const CENTRAL: &[u8] = b"PK\x01\x02";
/// Positions of fields in an entry of the directory.
const FLAGS: usize = 8;
const COMPRESSED_BYTES: usize = 20;
const BYTES: usize = 24;
const HEADER: usize = 42;

fn valid() -> Vec<u8> {
    archive_of(&state_of_tensor(6, 0, &[6], &[1]))
}

/// Overwrites a field of the last entry in the directory.
fn patched(mut archive: Vec<u8>, field: usize, value: &[u8]) -> Vec<u8> {
    let entry = archive.windows(4).rposition(|bytes| bytes == CENTRAL).expect("an entry");
    archive[entry + field..][..value.len()].copy_from_slice(value);
    archive
}

#[test]
fn a_valid_archive_is_read() {
    assert_values(&valid(), "a", &[6], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn compressed_and_encrypted_entries_are_rejected() {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let compressed = archive_with(options, &[("data.pkl", b"}."), ("data/0", &[0; 1 << 20])]);
    assert_rejected(&compressed, "entry `archive/data.pkl` is compressed; torch.save never does that");
    assert_rejected(&patched(valid(), FLAGS, &[1]), "entry `archive/data/0` is encrypted");
}

#[test]
fn wrong_sizes_and_positions_are_rejected() {
    assert_rejected(&patched(valid(), BYTES, &[25]), "entry `archive/data/0` has two sizes");
    let both = |bytes: u32| {
        let archive = patched(valid(), BYTES, &bytes.to_le_bytes());
        patched(archive, COMPRESSED_BYTES, &bytes.to_le_bytes())
    };
    assert_rejected(&both(20), "storage 0 has 20 bytes, but its tensors require 24");
    assert_rejected(&both(1000), "`archive/data/0` is not where the directory places it");
    assert_rejected(&both(u32::MAX), "its directory ends early");
    for header in [0_u32, 1, 0x7fff_ffff] {
        assert_rejected(&patched(valid(), HEADER, &header.to_le_bytes()), "is not where the directory places it");
    }
}

#[test]
fn overlapping_entries_are_rejected() {
    // The contents of the storage are the local header of another entry.
    let inner = [b"PK\x03\x04", &[0; 22][..], &[13, 0, 0, 0], b"archive/inner"].concat();
    let archive = archive(&[("data.pkl", b"}."), ("data/0", &inner), ("inner", b"")]);
    let contents = archive.windows(inner.len()).position(|bytes| bytes == inner).expect("the contents");
    let position = (contents as u32).to_le_bytes();
    assert_rejected(&patched(archive, HEADER, &position), "its entries overlap");
}

#[test]
fn two_entries_with_one_name_are_rejected() {
    let archive = archive(&[("data.pkl", b"}."), ("data.pkx", b"N.")]);
    let name = archive.windows(8).enumerate().filter(|(_, bytes)| bytes == b"data.pkx").map(|(at, _)| at + 7);
    let mut twice = archive.clone();
    for at in name {
        twice[at] = b'l';
    }
    assert_rejected(&twice, "it has two entries `archive/data.pkl`");
}

#[test]
fn an_archive_without_exactly_one_pickle_is_rejected() {
    assert_rejected(&archive(&[("data/0", b"")]), "the archive has no data.pkl");
    assert_rejected(&archive(&[("data.pkl", b"}."), ("x/data.pkl", b"}.")]), "more than one data.pkl");
}

#[test]
fn the_byte_order_must_be_little() {
    let state = state_of_tensor(6, 0, &[6], &[1]);
    let with = |order: &[u8]| archive(&[("data.pkl", &state), ("byteorder", order), ("data/0", &six())]);
    assert_values(&with(b"little"), "a", &[6], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    for order in [&b"big"[..], b"", b"middle", &[0; 1000]] {
        assert_rejected(&with(order), "its byte order is not little-endian; save the model as safetensors");
    }
}

#[test]
fn bytes_after_the_archive_are_rejected() {
    assert_rejected(&[valid(), vec![0]].concat(), "its end is missing");
}

#[test]
fn an_archive_that_claims_a_large_directory_is_rejected_before_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pytorch_model.bin");
    let end = [b"PK\x05\x06", &[0; 4][..], &[0xfe, 0xff, 0xfe, 0xff], &(64_u32 << 20).to_le_bytes(), &[0; 6]].concat();
    assert_eq!(end.len(), 22);
    let mut file = fs::File::create(&path).expect("create");
    file.write_all(ZIP_START).expect("write");
    file.set_len(128 << 20).expect("a sparse file");
    fs::OpenOptions::new().append(true).open(&path).expect("open").write_all(&end).expect("write");
    let error = Weights::open(&path).expect_err("a large directory").to_string();
    assert!(error.contains("its directory has 67108864 bytes; the maximum is 16777216"), "{error}");
}
