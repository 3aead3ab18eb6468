//! Bytes off the wire: the frame reader, the table guard, and the parser behind it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| murano_messaging::fuzzing::decode(bytes));
