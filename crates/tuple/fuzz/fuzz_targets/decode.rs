//! Any bytes, taken as a batch: `RUSTC_BOOTSTRAP=1 cargo fuzz run decode` in `crates/tuple`.
#![no_main]

#[path = "../check.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    check::check(input);
});
