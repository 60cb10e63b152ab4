//! Faults that are done to a tracked word count of two worker processes, by `tools/chaos`, which this program is for the time
//! of a round.

use squall_chaos::{Done, Kind, Plan, disturb};
use squall_metrics::Histogram;

use crate::error::BenchError;
use crate::measure::{Counters, Outcome, Settings};
use crate::scenario::{Fault, Row};

/// Seconds that a fault takes: the pause before it, and itself.
const FAULT_SECS: f64 = 1.5;
/// Sentences of 8 words a second, and milliseconds between the sink's groups of acks: so little that neither is what is
/// measured.
const RATE: u64 = 22_000;
const GROUP_MS: u64 = 1;

/// One round: as many faults of the kind as its time allows, one at least.
pub(crate) fn run(fault: Fault, row: &Row, settings: &Settings) -> Result<Outcome, BenchError> {
    let dir = tempfile::tempdir().map_err(BenchError::io("making a folder for the record"))?;
    let kind = match fault {
        Fault::Kill | Fault::Standby => Kind::Kill,
        Fault::Stop => Kind::Stop,
        Fault::Panic => Kind::Panic,
        Fault::Cut => Kind::Cut,
    };
    let standby = (fault == Fault::Standby).then(|| "--standby".to_owned());
    let wait = ["--wait".to_owned(), settings.wait(row).to_string()];
    let plan = Plan {
        faults: ((settings.slice.as_secs_f64() / FAULT_SECS) as usize).max(1),
        // Another victim and another moment each round.
        seed: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64),
        rate: RATE,
        group_ms: GROUP_MS,
        dir: dir.path().to_owned(),
        only: vec![kind],
        run: wait.into_iter().chain(standby).collect(),
    };
    let disturbed = disturb(&plan).map_err(BenchError::io("disturbing a run"))?;
    if !disturbed.wrong.is_empty() {
        return Err(BenchError::Failed(disturbed.wrong.join("; ")));
    }
    let mut latency = Histogram::new();
    disturbed.done.iter().for_each(|done| latency.record(took_ns(fault, done)));
    Ok(Outcome {
        latency: Some(latency),
        emitted: disturbed.checked.emitted,
        counters: Counters::default(),
        ..Outcome::default()
    })
}

/// An executor that panicked works again when its next instance has executed a tuple; everything else is over when what was
/// under way is acked.
fn took_ns(fault: Fault, done: &Done) -> u64 {
    match done.executor_ns.filter(|_| fault == Fault::Panic) {
        Some((broke_ns, back_ns)) => back_ns.saturating_sub(broke_ns),
        None => done.recovery_ns(),
    }
}
