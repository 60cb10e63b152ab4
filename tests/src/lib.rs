//! Whole-system tests: real processes, real kernel. What they run is in `src/bin`, what they check in `tests`.
#![forbid(unsafe_code)]
