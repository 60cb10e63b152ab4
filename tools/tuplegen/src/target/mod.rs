//! What is measured: a built-in scenario or a captured topology in this process, a topology started for the run, or one that runs.

pub mod builtin;
pub mod genload;
pub mod hops;
pub mod outside;
pub mod running;
pub mod standard;
pub mod wire;
pub mod workloads;

use crate::measure::drive::Outcome;
use crate::target::wire::Wire;

/// A hop of a run that was followed by samples.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Hop {
    /// From where to where.
    pub name: String,
    /// Median, in nanoseconds.
    pub p50_ns: Option<u64>,
    /// 99 %.
    pub p99_ns: Option<u64>,
    /// Number of samples.
    pub count: u64,
}

/// What a target tells at its end.
#[derive(Debug, Default)]
pub struct Finished {
    /// What broke it.
    pub error: Option<String>,
    /// What the workload's oracle found wrong.
    pub wrong: Option<String>,
    /// Hops within it.
    pub hops: Vec<Hop>,
    /// I/O driver in use.
    pub io: String,
    /// How its reactors waited.
    pub wait: String,
    /// What it says beside: totals of an oracle, warnings.
    pub notes: Vec<String>,
}

/// Gives the first bodies of a run once more, one after another; `false`: they depended on how fast the target was.
pub type Replay<'a> = dyn Fn(u64, &mut dyn FnMut(&[u8])) -> bool + 'a;

/// A target that runs.
pub trait Session {
    /// The two ends of the link to it; once.
    fn wire(&mut self) -> Option<Wire>;

    /// What it has to say while it runs: an error ends the run.
    fn look(&mut self) -> Option<String>;

    /// The load is over. `replay` gives the bodies of the run once more, for an oracle.
    fn finish(self: Box<Self>, outcome: &Outcome, replay: &Replay<'_>) -> Finished;
}
