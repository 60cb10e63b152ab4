//! Why a run failed: what happened, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a run failed.
///
/// The text names the worker, the cause and the remedy. New variants may be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The topology function failed or declared something impossible.
    #[error("the topology cannot be built: {0}")]
    Topology(String),
    /// The report's path cannot be written. Found before anything starts.
    #[error("the report cannot be written to {}: {source}; choose another --report path", path.display())]
    ReportPath {
        /// The path given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The record's path cannot be written. Found before anything starts.
    #[error("the record cannot be written to {}: {source}; choose another --record path", path.display())]
    RecordPath {
        /// The path given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A worker process could not be started.
    #[error(
        "worker {worker} could not be started: {source}; /proc must be mounted, and the limits on processes (ulimit -u) \
         and open files (ulimit -n) must leave room"
    )]
    Spawn {
        /// Index of the worker.
        worker: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A worker process was killed.
    #[error("worker {worker} (pid {pid}) was killed by {}: {}", SignalName(*signal), remedy(*signal))]
    Killed {
        /// Index of the worker.
        worker: u32,
        /// Its process.
        pid: u32,
        /// Number of the signal.
        signal: i32,
    },
    /// A worker process ended before its work did.
    #[error(
        "worker {worker} (pid {pid}) ended by itself with exit code {code} before its work was done; \
         its last words are on stderr above"
    )]
    Exited {
        /// Index of the worker.
        worker: u32,
        /// Its process.
        pid: u32,
        /// Its exit code.
        code: i32,
    },
    /// A worker did not leave after all work was done.
    #[error(
        "worker {worker} did not end within 10 s of the end of all work: the cleanup of a component hangs; mend it"
    )]
    Stuck {
        /// Index of the worker.
        worker: u32,
    },
    /// A worker said that the run cannot go on.
    #[error("worker {worker}: {cause}")]
    Worker {
        /// Index of the worker.
        worker: u32,
        /// Cause and remedy in its words.
        cause: String,
    },
    /// A worker was replaced as often as the budget allows, and died again.
    #[error(
        "{cause} (after {restarts} restarts within a minute, which is the limit: mend the cause, or allow more with --restarts)"
    )]
    GivenUp {
        /// Restarts within the last minute.
        restarts: usize,
        /// Why it died last.
        cause: Box<RunError>,
    },
    /// The control socket of a worker carried something else than messages.
    #[error("control socket of worker {worker}: {cause}")]
    Control {
        /// Index of the worker.
        worker: u32,
        /// What was wrong.
        cause: String,
    },
    /// A call to the kernel that the runner cannot do without failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried, and what to do.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The app's hook failed.
    #[error("after the run: {0}")]
    AfterRun(String),
}

/// A signal by its name, or by its number where it has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignalName(pub i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal_hook::low_level::signal_name(self.0) {
            Some(name) => write!(f, "{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

fn remedy(signal: i32) -> &'static str {
    use signal_hook::consts::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGXCPU, SIGXFSZ};
    match signal {
        SIGKILL => {
            "someone sent it, or the kernel was out of memory (see `dmesg`): give the run more memory or smaller \
             buffers (`plan` shows them), and run again"
        }
        SIGSEGV | SIGBUS | SIGILL | SIGFPE => {
            "a stack overflow or a bug in native code: allow a core dump (`ulimit -c unlimited`) and run again"
        }
        SIGABRT => "it aborted itself (a panic during a panic, or out of memory): the reason is on stderr above",
        SIGSYS => "a seccomp filter forbids a system call it made: `squall doctor` shows which I/O driver is allowed",
        SIGXCPU | SIGXFSZ => "it passed a limit set by ulimit: raise it and run again",
        _ => "someone sent it; run again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_worker_is_named_with_its_signal_and_what_to_do() {
        let text = |signal| RunError::Killed { worker: 1, pid: 77, signal }.to_string();
        assert!(text(9).starts_with("worker 1 (pid 77) was killed by SIGKILL: someone sent it, or the kernel was out"));
        assert!(text(11).contains("SIGSEGV: a stack overflow"));
        assert_eq!(text(64), "worker 1 (pid 77) was killed by signal 64: someone sent it; run again");
    }
}
