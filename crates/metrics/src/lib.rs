//! Counters, gauges and latency histograms, and the way people read their numbers.
//!
//! What it is: values that the threads of a worker write and its main thread reads ([`Counter`], [`Gauge`],
//! [`SharedHistogram`]), the histogram as a plain value that merges and crosses processes ([`Histogram`],
//! [`Percentiles`]), a small one of sizes ([`SizeHistogram`]), and [`format`](mod@format), which writes `12.3 M/s`,
//! `8.4 µs` and `1.2 GiB`.
//!
//! Limits: a histogram holds 1 ns to 100 s with three significant digits in about 230 KiB of address space, of which
//! only the touched part is resident; what lies beyond is recorded at the limit.
//!
//! Invariants: counts are exact (semantics D10): a counter or gauge has one writing thread at a time, so its
//! increments are a relaxed load and store and never a locked instruction.
//!
//! Deliberately absent: registries, names, labels and export formats. Whoever owns a metric knows its name.
#![forbid(unsafe_code)]

mod cell;
pub mod format;
mod histogram;
mod percentiles;
mod sizes;

pub use cell::{Counter, Gauge};
pub use histogram::{DecodeError, Histogram, SharedHistogram};
pub use percentiles::{Percentiles, SAMPLES_BEYOND_MIN};
pub use sizes::SizeHistogram;
