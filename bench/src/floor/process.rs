//! What floors of one and of two processes share: the other process's job, how long a round lasts, and whether everything
//! arrived.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::{shm, sockets};
use crate::error::BenchError;
use crate::machine::pin;
use crate::measure::{Outcome, Settings};
use crate::scenario::Row;

/// What the other process does. Its socket, or its shared memory, is its stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// Sends each message back over the socket.
    Echo,
    /// Reads messages to the end.
    Sink,
    /// Sends all bytes back, as many at a time as come.
    Relay,
    /// The same three over shared memory.
    ShmEcho,
    ShmSink,
    ShmRelay,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) role: Role,
    pub(super) size: usize,
    core: usize,
    pub(super) warmup_ns: u64,
}

impl Job {
    pub(super) fn new(role: Role, row: &Row, settings: &Settings, core: usize) -> Job {
        Job { role, size: row.size, core, warmup_ns: settings.warmup.as_nanos() as u64 }
    }
}

/// What the other process has seen.
#[derive(Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) rate: Option<f64>,
}

/// The other process.
pub(crate) fn peer_main(job: &str) -> Result<(), BenchError> {
    let job: Job = serde_json::from_str(job).map_err(|e| BenchError::Peer(e.to_string()))?;
    pin(job.core);
    let seen = match job.role {
        Role::ShmEcho | Role::ShmSink | Role::ShmRelay => shm::serve(&job)?,
        Role::Echo | Role::Sink | Role::Relay => sockets::serve(&job)?,
    };
    let line = serde_json::to_string(&seen).map_err(|e| BenchError::Peer(e.to_string()))?;
    writeln!(std::io::stdout(), "{line}").map_err(BenchError::io("telling the result"))
}

/// Runs `work` on a thread of its own and tells it to stop when the round is over.
pub(super) fn timed<T: Send>(settings: &Settings, work: impl FnOnce(&AtomicBool) -> T + Send) -> Result<T, BenchError> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let thread = s.spawn(|| work(&stop));
        std::thread::sleep(settings.warmup + settings.slice);
        stop.store(true, Ordering::Relaxed);
        thread.join().map_err(|_| BenchError::Failed("the floor panicked, see above".to_owned()))
    })
}

/// The outcome, if everything that was sent arrived and there was time to measure something.
pub(super) fn checked(outcome: Outcome, received: u64) -> Result<Outcome, BenchError> {
    if outcome.emitted != received {
        return Err(BenchError::Counts { emitted: outcome.emitted, executed: received });
    }
    let measured = outcome.rate.is_some() || outcome.latency.as_ref().is_some_and(|l| !l.is_empty());
    measured.then_some(outcome).ok_or(BenchError::TooShort)
}
