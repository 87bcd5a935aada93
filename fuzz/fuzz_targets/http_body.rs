#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| embedd::fuzzing::http_body(bytes));
