//! The libFuzzer target for manifests: what `lint` reads, and what `diff` compares.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use policy_baseline_fuzz::{manifests, mutate_within};

fuzz_target!(|bytes: &[u8]| {
    manifests(bytes);
});

fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_within(bytes, size, max_size, seed).unwrap_or_else(|| fuzzer_mutate(bytes, size, max_size))
});
