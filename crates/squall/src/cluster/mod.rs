//! Topologies in a cluster: workers that a supervisor leads, and the daemons and commands around them.
//!
//! `talk` is what supervisor and worker say, `seat` the worker's side; every program has them. The rest is built with feature `cluster`.

pub(crate) mod seat;
pub(crate) mod talk;
