//! `tuplegen`: load one can trust.
//!
//! * [`model`]: what is sent when. Schedules, fields and keys, sizes, traces; pure values of a seed, without a clock.
//! * [`measure`]: one run. The loop that sends what is due and takes in what returns ([`measure::drive`]) has its clock and its link given to it,
//!   so its tests run in virtual time; accounts, latencies, SLOs, the verdict; the search for a knee, the comparison of runs.
//! * [`target`]: what is measured. Built-in scenarios in this process, topologies started for the run, running ones.
//! * [`report`]: what is written. `run.json` and its schema, histogram logs, one offline HTML page, text, CSV.
//! * [`verbs`]: the command line.
//!
//! Rules: latency counts from the time a tuple was *due*; what was not sent is not left out, it makes the run invalid; a percentile needs ten
//! samples beyond it; the exit code says what the verdict says.
//!
//! Limits: one generating thread per run; sequence numbers cost a bit each ([`measure::account`]).
#![forbid(unsafe_code)]

// The derives write `::squall::…`.
extern crate squall_api as squall;

pub mod measure;
pub mod model;
pub mod report;
pub mod target;
pub mod verbs;
