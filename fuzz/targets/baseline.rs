//! libFuzzer calls this with what it makes up.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use policy_baseline_fuzz::{baseline, mutate};

fuzz_target!(|bytes: &[u8]| {
    baseline(bytes);
});

fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // One in four is changed as bytes: not everything that comes is JSON.
    let changed = if seed.is_multiple_of(4) { None } else { mutate(&bytes[..size], seed) };
    match changed.filter(|text| text.len() <= max_size) {
        Some(text) => {
            bytes[..text.len()].copy_from_slice(&text);
            text.len()
        }
        None => fuzzer_mutate(bytes, size, max_size),
    }
});
