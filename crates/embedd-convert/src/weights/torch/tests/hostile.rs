//! Pickles that must be rejected in bounded memory and time.

use std::cell::Cell;
use std::io::Read as _;

use embedd_common::mutation;

use super::*;

/// A file of the format before PyTorch 1.6, with these storages: key, number of elements, bytes.
fn legacy(state: &[u8], storages: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let keys = storages.iter().fold(Pickle::default().raw(b"]("), |pickle, (key, ..)| pickle.text(key)).raw(b"e.");
    let mut file = [&magic[..], b"M\xe9\x03.", b"}.", state, &keys.0].concat();
    for (_, elements, bytes) in storages {
        file.extend_from_slice(&elements.to_le_bytes());
        file.extend_from_slice(bytes);
    }
    file
}

#[track_caller]
fn assert_pickle_rejected(pickle: &[u8], reason: &str) {
    assert_rejected(&archive_of(pickle), reason);
}

#[test]
fn a_function_that_is_not_a_tensor_is_rejected_by_name() {
    let cases: [(&[u8], &str); 8] = [
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.", "os.system"),
        (b"cposix\nsystem\nU\x02id\x85R.", "posix.system"),
        (b"cbuiltins\neval\n0.", "builtins.eval"),
        (b"\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"(X\x02\0\0\0idios\nsystem\n.", "os.system"),
        (b"(icollections\nOrderedDict\n.", "collections.OrderedDict"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"cos\x1b[2J\nsystem\n.", "os\\u{1b}[2J.system"),
    ];
    for (pickle, name) in cases {
        let reason =
            format!("contains `{name}`, which is not a tensor; embedd reads tensors only and executes nothing");
        assert_pickle_rejected(pickle, &reason);
        assert_rejected(&legacy(pickle, &[]), &reason);
    }
    let first = [b"\x80\x02cos\nsystem\n.".to_vec(), vec![0; 100]].concat();
    assert_rejected(&first, "contains `os.system`");
}

#[test]
fn a_function_that_is_hidden_in_attributes_or_metadata_is_rejected() {
    let hidden = Pickle::default().raw(b"}").text("a").tensor(6, 0, &[6], &[1]).raw(b"s}").text("_metadata");
    assert_pickle_rejected(&hidden.global("os", "system").raw(b"sb.").0, "contains `os.system`");
}

#[test]
fn opcodes_that_torch_does_not_write_are_rejected() {
    for opcode in b"0123IFLVPdlop\x81\x82\x83\x84\x8b\x8d\x8e\x8f\x90\x91\x92\x96\x97\x98\xff" {
        let reason = format!("opcode {opcode:#04x}, which torch.save does not write");
        assert_pickle_rejected(&[b"\x80\x02}", &[*opcode][..], b"\x04\0\0\0...."].concat(), &reason);
    }
}

#[test]
fn an_empty_stack_or_a_missing_mark_is_rejected() {
    for pickle in
        [&b"."[..], b"R.", b"Q.", b"q\0.", b"a.", b"s.", b"b.", b"\x85.", b"N\x86.", b"}(.", b"N(\x85.", b"\x93."]
    {
        assert_pickle_rejected(pickle, "empty stack");
    }
    for pickle in [&b"t."[..], b"e.", b"u."] {
        assert_pickle_rejected(pickle, "without a start");
    }
    for pickle in [&b"NNa."[..], b"]NNs.", b"}(Nu.", b"}Na.", b"NNb.", b")Nb.", b")(NNu."] {
        assert_pickle_rejected(pickle, "its pickle");
    }
}

#[test]
fn the_memo_is_bounded() {
    assert_pickle_rejected(b"Nr\xff\xff\xff\xff.", "memorizes more than 524288 values");
    let endless = b"\x94".repeat(600_000);
    assert_pickle_rejected(&[b"N", &endless[..]].concat(), "memorizes more than 524288 values");
    assert_pickle_rejected(b"h\x07.", "value 7 of the memo, which is not set");
    assert_pickle_rejected(b"Nq\x09j\x08\0\0\0.", "value 8 of the memo, which is not set");
}

#[test]
fn the_numbers_of_opcodes_objects_and_bytes_are_bounded() {
    assert_pickle_rejected(&b"N".repeat(2_200_000), "more than 2097152 opcodes");
    assert_pickle_rejected(&b")".repeat(600_000), "more than 524288 objects");
    assert_pickle_rejected(&vec![b'N'; 9 << 20], "its pickle has 9437184 bytes; the maximum is 8388608");
}

#[test]
fn deep_nesting_and_cycles_do_not_exhaust_the_stack() {
    let deep = [b"N", &b"\x85".repeat(500_000)[..], b"."].concat();
    assert_pickle_rejected(&deep, "state dict");
    let marks = b"(".repeat(2_000_000);
    assert_pickle_rejected(&marks, "ends early");
    let cycle = b"}q\0X\x01\0\0\0ah\0s.";
    assert_pickle_rejected(cycle, "a dict without tensors; it has a");
}

#[test]
fn copies_of_one_list_do_not_multiply_its_memory() {
    // The list of pairs of the second dict is the first one's, which has taken its items.
    let pairs = Pickle::default().raw(b"]q\0(](").text("a").tensor(6, 0, &[6], &[1]).raw(b"eeq\0");
    let dict = |pickle: Pickle| pickle.global("collections", "OrderedDict").raw(b"h\0\x85R");
    let twice = dict(dict(pairs)).raw(b".").0;
    assert_pickle_rejected(&twice, "a dict without tensors");
}

#[test]
fn impossible_numbers_are_rejected() {
    let huge = [&b"\x8a\xff"[..], &[0x7f; 255]].concat();
    let number = |number: &[u8]| {
        Pickle::state("a", |pickle| {
            let pickle = pickle.raw(b"(").text("storage").global("torch", "FloatStorage").text("0").text("cpu");
            pickle.raw(number).raw(b"tQ")
        })
    };
    for bytes in [&huge[..], b"\x8a\x01\xff", b"J\xff\xff\xff\xff", b"G\0\0\0\0\0\0\0\0", b"N", b"\x88"] {
        assert_pickle_rejected(&number(bytes), "invalid reference to a storage");
    }
    assert_pickle_rejected(&number(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"), "more than the file");
    assert_pickle_rejected(&number(b"\x8a\xff\x7f"), "ends early");
}

#[test]
fn a_tensor_beyond_its_storage_is_rejected() {
    let reason = "needs 7 elements, but its storage has 6";
    assert_pickle_rejected(&state_of_tensor(6, 0, &[7], &[1]), reason);
    assert_pickle_rejected(&state_of_tensor(6, 0, &[2, 2], &[5, 1]), reason);
    assert_pickle_rejected(&state_of_tensor(6, 1, &[6], &[1]), "needs 6 elements, but its storage has 5");
    assert_pickle_rejected(&state_of_tensor(6, 7, &[0], &[1]), "offset 7 is beyond the 6 elements");
    assert_pickle_rejected(&state_of_tensor(6, i64::MAX, &[1], &[1]), "is beyond the 6 elements");
    assert_pickle_rejected(&state_of_tensor(6, 0, &[1 << 40], &[1]), "needs 1099511627776 elements");
    assert_pickle_rejected(&state_of_tensor(6, 0, &[i64::MAX, i64::MAX], &[1, 1]), "too large");
    assert_pickle_rejected(&state_of_tensor(6, 0, &[2, 2], &[i64::MAX, i64::MAX]), "too large");
    assert_pickle_rejected(&state_of_tensor(6, 0, &[2, 3], &[1]), "does not match strides");
}

#[test]
fn negative_or_too_many_dimensions_are_rejected() {
    let reason = "unexpected arguments";
    for (offset, shape, strides) in [(0, [-1], [1]), (0, [2], [-1]), (-1, [2], [1])] {
        assert_pickle_rejected(&state_of_tensor(6, offset, &shape, &strides), reason);
    }
    assert_pickle_rejected(&state_of_tensor(6, 0, &[1; 9], &[1; 9]), reason);
    assert_pickle_rejected(b"ctorch._utils\n_rebuild_tensor_v2\n)R.", reason);
    assert_pickle_rejected(b"ctorch._utils\n_rebuild_tensor_v2\nNR.", reason);
    assert_pickle_rejected(b"ctorch._utils\n_rebuild_parameter\nN\x85R.", reason);
    assert_pickle_rejected(b"ctorch\nFloatStorage\n)R.", reason);
    assert_pickle_rejected(b"NNR.", reason);
}

#[test]
fn a_tensor_of_repeated_elements_is_listed_but_not_read() {
    let weights = open(&archive_of(&state_of_tensor(6, 0, &[1 << 40], &[0]))).expect("valid weights");
    assert_eq!(weights.names(), ["a"]);
    let error = weights.tensor("a", &[1 << 40], "the test").expect_err("too large").to_string();
    assert!(error.contains("more elements than the file stores"), "{error}");
}

#[test]
fn a_reference_that_contradicts_the_storage_is_rejected() {
    assert_pickle_rejected(&state_of_tensor(5, 0, &[5], &[1]), "storage 0 has 24 bytes, but its tensors require 20");
    let reference = |kind: &str, key: &str| {
        let pickle = Pickle::default().raw(b"}").text("a").tensor(6, 0, &[6], &[1]).raw(b"s").text("b");
        pickle.storage(kind, key, 6).raw(b"s.").0
    };
    assert_pickle_rejected(&reference("HalfStorage", "0"), "describes storage 0 in two ways");
    assert_pickle_rejected(&reference("FloatStorage", "../../data.pkl"), "no storage ../../data.pkl");
    let other = Pickle::default().raw(b"(").text("module").global("torch", "FloatStorage").raw(b"tQ.").0;
    assert_pickle_rejected(&other, "invalid reference to a storage");
    assert_pickle_rejected(b"NQ.", "invalid reference to a storage");
}

#[test]
fn storages_of_the_legacy_format_are_checked_against_the_file() {
    let state = state_of_tensor(6, 0, &[6], &[1]);
    assert_values(&legacy(&state, &[("0", 6, &six())]), "a", &[6], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_rejected(&legacy(&state, &[]), "there is no storage 0");
    assert_rejected(&legacy(&state, &[("0", 7, &six())]), "storage 0 has 7 elements, but its tensors require 6");
    assert_rejected(&legacy(&state, &[("0", 6, &six()[..20])]), "it ends within storage 0");
    assert_rejected(&legacy(&state, &[("0", 6, &six()), ("1", 0, b"")]), "it lists a storage that no tensor uses");
    assert_rejected(&[legacy(&state, &[("0", 6, &six())]), vec![0]].concat(), "1 bytes follow the last storage");
    let big_endian = legacy(&state, &[("0", 6, &six())]);
    let at = big_endian.windows(2).position(|bytes| bytes == b"}.").expect("the facts about the machine");
    let facts = Pickle::default().raw(b"}").text("little_endian").raw(b"\x89s.").0;
    assert_rejected(&[&big_endian[..at], &facts, &big_endian[at + 2..]].concat(), "big-endian");
}

#[test]
fn a_part_of_a_storage_in_the_legacy_format_stays_inside() {
    let part = |first: i64, elements: i64| {
        let state = Pickle::state("a", |pickle| {
            let pickle = pickle.global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage");
            let pickle = pickle.global("torch", "FloatStorage").text("0").text("cpu").int(6);
            let pickle = pickle.raw(b"(").text("part").int(first).int(elements).raw(b"ttQ");
            pickle.int(1).ints(&[2]).ints(&[1]).raw(b"\x89NtR")
        });
        legacy(&state, &[("0", 6, &six())])
    };
    assert_values(&part(2, 3), "a", &[2], &[3.0, 4.0]);
    assert_rejected(&part(2, 2), "needs 2 elements, but its storage has 1");
    assert_rejected(&part(4, 3), "invalid reference to a storage");
    assert_rejected(&part(i64::MAX, i64::MAX), "invalid reference to a storage");
}

#[test]
fn a_file_truncated_anywhere_is_rejected() {
    for whole in [ARCHIVE, LEGACY] {
        for length in 0..whole.len() {
            assert_rejected(&whole[..length], "pytorch_model.bin");
        }
    }
}

/// Mutations of whole files seldom reach the pickle, because the archive must be intact.
#[test]
fn any_pickle_in_a_valid_archive_is_read_or_rejected() {
    let mut seed = zip::ZipArchive::new(Cursor::new(ARCHIVE)).expect("an archive");
    let mut contents = |name: &str| {
        let mut bytes = Vec::new();
        seed.by_name(&format!("archive/{name}")).expect("an entry").read_to_end(&mut bytes).expect("its contents");
        bytes
    };
    let pickle = contents("data.pkl");
    let storages = ["data/0", "data/1", "data/2"].map(|name| (name, contents(name)));
    let accepted = Cell::new(0);
    mutation::check(&[&pickle, &state_of_tensor(8, 0, &[2, 2], &[1, 2])], 4000, |pickle| {
        let mut entries: Vec<(&str, &[u8])> = storages.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        entries.push(("data.pkl", pickle));
        if let Ok(weights) = open(&archive(&entries)) {
            weights.read_all();
            accepted.set(accepted.get() + 1);
        }
    });
    assert!(accepted.get() > 20, "only {} mutations were accepted", accepted.get());
}
