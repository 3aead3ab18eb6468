#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| murano_messaging_fuzz::targets::uri::run(bytes));
