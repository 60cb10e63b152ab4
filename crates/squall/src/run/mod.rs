//! Running a topology on this machine: a parent process and its workers.
//!
//! `parent` and `worker` are the two sides, `control` and `channel` what they say and how, `course` what the parent decides, `watch` what it
//! has seen, `watchdog` whom it finds standing still, `budget` how often one may come back, `engine` the seam to the code that moves tuples.

pub(crate) mod budget;
pub(crate) mod channel;
pub(crate) mod control;
pub(crate) mod course;
pub(crate) mod dataplane;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod job;
pub(crate) mod live;
pub(crate) mod outcome;
pub(crate) mod panics;
pub(crate) mod parent;
pub(crate) mod record;
pub(crate) mod sample;
pub(crate) mod sockets;
pub(crate) mod stats;
pub(crate) mod system;
#[cfg(test)]
mod tests;
pub(crate) mod watch;
pub(crate) mod watchdog;
pub(crate) mod worker;
