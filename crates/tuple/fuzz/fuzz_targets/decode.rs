//! Any bytes, taken as a batch. In `crates/tuple`, with cargo-fuzz installed:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run decode fuzz/corpus/decode fuzz/seeds/decode -- -max_total_time=60`
//! (plain `cargo fuzz run decode` works too, without the seeds; on a nightly toolchain drop RUSTC_BOOTSTRAP).
#![no_main]

#[path = "../check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check::check(input);
});
