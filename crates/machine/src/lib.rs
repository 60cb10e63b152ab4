//! What a measurement must carry with it: the machine, its clocks, the distance of its cores, its own noise.
//!
//! * [`Machine`]: CPU, kernel, cores, limits and what else decides figures, read from `/proc` and `/sys`; nothing is changed.
//! * [`now_ns`], [`cpu_ns`]: the clocks of a measurement.
//! * [`round_trip_ns`]: how long a cache line takes between two cores; a virtual machine's cores move.
//! * [`Stolen`]: what the host and the control group took away during a run.
//! * [`noise`]: how long a thread that has nothing to do is kept from running.
//!
//! Limits: Linux. What cannot be read is `None` or "unknown", never a guess.
//!
//! Deliberately absent: judging. Who prints a figure says what it is worth.
#![forbid(unsafe_code)]

mod clock;
mod machine;
pub mod noise;
mod probe;
mod stolen;

pub use clock::{cpu_ns, now_ns, resident_bytes};
pub use machine::{Machine, load, pin};
pub use probe::{FAR_NS, round_trip_ns};
pub use stolen::{Stolen, StolenSince};
