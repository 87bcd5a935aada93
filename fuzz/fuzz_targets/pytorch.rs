#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| embedd_convert::fuzzing::pytorch(bytes));
