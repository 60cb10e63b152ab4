//! Input for Squall's tests, benchmarks and `make run`, and an independent check of what was counted.
//!
//! - [`generate`]: deterministic text, Zipf-distributed words over a fixed vocabulary. The same
//!   [`GeneratorOptions`] give the same bytes on every machine: golden tests pin them.
//! - [`count`]: a plain word count that shares no code with the stock line reader, so that the two
//!   can be compared.
//! - [`sources`]: the text files of all packages of a lock file, found through `cargo metadata`:
//!   real text that every machine able to build Squall already has.
//! - [`size`]: byte sizes as people write them (`200M`, `64KiB`).
//!
//! Limits: the generator makes text for word counts, not language; a line never exceeds
//! [`generate::LINE_BYTES_MAX`]. Deliberately absent: any dependency on the other crates of the
//! workspace.

#![forbid(unsafe_code)]

pub mod count;
pub mod generate;
pub mod size;
pub mod sources;

pub use count::{CountError, WordCount};
pub use generate::{Generator, GeneratorOptions, OptionsError, generate_text};
