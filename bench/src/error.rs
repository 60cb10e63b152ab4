//! What can keep a row from being measured.

use std::io;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("no scenario is named {0:?}; `squall-bench list` shows them")]
    UnknownScenario(String),
    #[error("no row fits --link, --size and --tuple; `squall-bench list` shows the rows")]
    NoRows,
    #[error("no workload is named {0:?}; `squall-bench list` shows them")]
    UnknownWorkload(String),
    #[error("{0}")]
    Workload(String),
    #[error("interrupted; the rows until then are printed")]
    Interrupted,
    #[error("nobody reads stdout any more")]
    ReaderGone,
    #[error("--secs is {0}: give between 0.1 and 3600")]
    Secs(f64),
    #[error("--rounds is {0}: give 5 to 1000; fewer say nothing about spread")]
    Rounds(u32),
    #[error("{0} of {1} rows failed, see above")]
    RowsFailed(usize, usize),
    #[error("this row needs two cores and {0} may be used here; check taskset and cgroup cpusets")]
    Cores(usize),
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    #[error("the topology was refused: {0}")]
    Topology(String),
    #[error(
        "the plan put {component} on reactors {got:?} and this row needs it on {wanted}; \
         change the order of the components in bench"
    )]
    Placement { component: String, got: Vec<u32>, wanted: u32 },
    #[error("the plan made a {got:?} link where this row needs {wanted:?}")]
    LinkKind { got: squall_topology::LinkKind, wanted: squall_topology::LinkKind },
    #[error("the two workers could not share memory and used the socket instead; see the warning above")]
    NoSharedMemory,
    #[error("the worker could not start: {0}")]
    Start(#[from] squall_engine::StartError),
    #[error("the run failed: {0}")]
    Failed(String),
    #[error("{0} did not end within {1} s; see whether its process hangs (gdb -p, perf top)")]
    Stuck(&'static str, u64),
    #[error("{emitted} tuples were emitted and {executed} executed: tuples were lost or doubled")]
    Counts { emitted: u64, executed: u64 },
    #[error("{emitted} tuples were emitted with a message id and {acked} of them acknowledged")]
    Acks { emitted: u64, acked: u64 },
    #[error("the round was too short to measure anything; give more --secs")]
    TooShort,
    #[error("these are no result lines: {0}; give what `squall-bench run --json` printed")]
    Lines(String),
    #[error("{0} has no marks between which the results belong; see docs/performance.md for them")]
    Marks(String),
    #[error("the other process: {0}")]
    Peer(String),
    #[error("{what} totals differ: {squall} on Squall's side, {floor} on the floor's")]
    Totals { what: &'static str, squall: u64, floor: u64 },
}

impl BenchError {
    /// For `map_err`: what was being done.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> BenchError {
        move |e| BenchError::Io(what, e)
    }
}
