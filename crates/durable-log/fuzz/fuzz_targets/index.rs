//! Any index files beside a whole log: reading it. What is done with the bytes, and what must hold, is in `hostile`.
#![no_main]
#![expect(clippy::unwrap_used, reason = "a fuzz target is a test")]

#[path = "../../tests/it/hostile.rs"]
#[expect(dead_code, reason = "each target runs one of its functions")]
mod hostile;

libfuzzer_sys::fuzz_target!(|program: &[u8]| hostile::index(program));
