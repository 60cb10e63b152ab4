//! One slot: from what it runs to what it is to run.
//!
//! ```text
//!            want, blobs              started                exited
//!   Idle ───────────────► Starting ───────────► Up ─────────────────────► Idle (pause, next epoch)
//!                            │ failed            │ other want, or none
//!                            ▼                   ▼
//!                           Idle             Stopping ──grace──► killed ──exited──► Idle
//! ```
//! Invariants: there is one process at most; an epoch is written to disk before a process gets it; no epoch is used twice.

use std::time::Duration;

use super::{Found, Liveness, Process, SupervisorOptions, WorkerFile, WorkerOrder, WorkerReport, WorkerState};
use crate::epoch::Epoch;
use crate::record::{Assignment, Spouts, TopologyRecord};

/// What a slot is to run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Want {
    pub(super) record: TopologyRecord,
    pub(super) generation: u32,
    pub(super) assignment: Assignment,
}

/// What a slot gives out, as [`super::Output`] has it.
pub(super) enum Command {
    Persist(Option<WorkerFile>),
    Start(Box<WorkerOrder>),
    Spouts(Spouts),
    Peers(Assignment),
    Stop(Process),
    Kill(Process),
    Announce { topology: String, epoch: Epoch, runs: bool },
}

/// A worker that has a process.
struct Worker {
    process: Process,
    /// Since when it says that it runs.
    runs: Option<Duration>,
    since: Duration,
    /// What it was told of its spouts last. `None`: nothing, as after a take-over.
    spouts: Option<Spouts>,
    peers: Option<Assignment>,
    drained: Option<u64>,
}

enum State {
    Idle,
    Starting,
    Up(Worker),
    Stopping { process: Process, until: Duration, killed: bool },
}

/// A slot.
pub(super) struct Slot {
    at: u16,
    want: Option<Want>,
    /// It is known what is wanted. Until then a worker that was taken over is left alone.
    decided: bool,
    /// A process that ended before its start was told of.
    gone: Option<Process>,
    /// The blobs of what is wanted are here.
    ready: bool,
    state: State,
    /// The last incarnation, which is on disk: its topology and epoch.
    last: Option<(String, Epoch)>,
    /// Starts in a row that did not last.
    failures: u32,
    restarts: u32,
    not_before: Duration,
    now: Duration,
}

impl Slot {
    pub(super) fn new(at: u16) -> Slot {
        let zero = Duration::ZERO;
        let (want, last, state) = (None, None, State::Idle);
        Slot {
            at,
            want,
            decided: false,
            gone: None,
            ready: false,
            state,
            last,
            failures: 0,
            restarts: 0,
            not_before: zero,
            now: zero,
        }
    }

    /// Takes over what was there before this supervisor.
    pub(super) fn adopt(&mut self, found: Found, now: Duration) {
        self.now = now;
        self.last = Some((found.file.topology, found.file.epoch));
        if let Liveness::Alive(process) = found.liveness {
            let runs = Some(now);
            self.state = State::Up(Worker { process, runs, since: now, spouts: None, peers: None, drained: None });
        }
    }

    /// What it is to run from now on.
    pub(super) fn want(&mut self, want: Option<Want>, ready: bool, out: &mut Vec<Command>) {
        (self.ready, self.decided) = (ready, true);
        let same = |a: &Option<Want>, b: &Option<Want>| match (a, b) {
            (Some(a), Some(b)) => a.record.id == b.record.id && a.generation == b.generation,
            (None, None) => true,
            _ => false,
        };
        if !same(&self.want, &want) {
            (self.failures, self.restarts, self.not_before) = (0, 0, Duration::ZERO);
        }
        if want.is_none() && matches!(self.state, State::Idle) && self.last.take().is_some() {
            out.push(Command::Persist(None));
        }
        self.want = want;
    }

    /// Does what is due.
    pub(super) fn step(&mut self, now: Duration, options: &SupervisorOptions, out: &mut Vec<Command>) {
        self.now = now;
        match &mut self.state {
            State::Idle => self.start(out),
            State::Starting => {}
            State::Up(_) if !self.decided => {}
            State::Up(worker) => {
                let (wanted, epoch) = (self.want.as_ref(), self.last.as_ref());
                let (topology, epoch) = epoch.expect("what runs was written down");
                match wanted.filter(|w| w.record.id == *topology && w.generation == epoch.generation) {
                    Some(want) => {
                        let spouts = want.record.status.spouts();
                        if worker.spouts != Some(spouts) {
                            worker.spouts = Some(spouts);
                            worker.drained = None;
                            out.push(Command::Spouts(spouts));
                        }
                        if worker.peers.as_ref() != Some(&want.assignment) {
                            worker.peers = Some(want.assignment.clone());
                            out.push(Command::Peers(want.assignment.clone()));
                        }
                        if worker.runs.is_none() && worker.since + options.start_limit <= now {
                            out.push(Command::Kill(worker.process));
                            self.state = State::Stopping { process: worker.process, until: now, killed: true };
                        }
                    }
                    None => {
                        let process = worker.process;
                        out.push(Command::Stop(process));
                        self.state = State::Stopping { process, until: now + options.stop_grace, killed: false };
                    }
                }
            }
            State::Stopping { process, until, killed } => {
                if !*killed && *until <= now {
                    *killed = true;
                    out.push(Command::Kill(*process));
                }
            }
        }
        // A worker that was replaced too often pauses; how long is known here only.
        if let (State::Idle, true) = (&self.state, self.failures > 0 && self.not_before == Duration::MAX) {
            let pauses = &options.backoff;
            let at = (self.failures as usize - 1).min(pauses.len().saturating_sub(1));
            self.not_before = now + pauses.get(at).copied().unwrap_or_default();
            self.start(out);
        }
        if let State::Up(Worker { runs: Some(since), .. }) = &self.state
            && *since + options.stable <= now
        {
            self.failures = 0;
        }
    }

    /// Starts what is wanted, if it may be.
    fn start(&mut self, out: &mut Vec<Command>) {
        let Some(want) = self.want.as_ref().filter(|_| self.ready && self.not_before <= self.now) else { return };
        let Some(epoch) = self.next_epoch(want) else { return };
        let topology = want.record.id.clone();
        let file = WorkerFile { slot: self.at, topology: topology.clone(), epoch, process: None };
        out.push(Command::Persist(Some(file)));
        out.push(Command::Announce { topology: topology.clone(), epoch, runs: true });
        out.push(Command::Start(Box::new(WorkerOrder {
            slot: self.at,
            epoch,
            topology: want.record.clone(),
            assignment: want.assignment.clone(),
        })));
        self.last = Some((topology, epoch));
        self.gone = None;
        self.state = State::Starting;
    }

    /// The incarnation that would come next. `None`: there is no more in this generation.
    fn next_epoch(&self, want: &Want) -> Option<Epoch> {
        match &self.last {
            Some((topology, last)) if *topology == want.record.id && last.generation == want.generation => last.next(),
            _ => Some(Epoch::first(want.generation)),
        }
    }

    pub(super) fn started(&mut self, epoch: Epoch, process: Process, out: &mut Vec<Command>) {
        let Some((topology, last)) = self.last.clone() else { return };
        if matches!(self.state, State::Starting) && last == epoch {
            out.push(Command::Persist(Some(WorkerFile { slot: self.at, topology, epoch, process: Some(process) })));
            let (runs, since) = (None, self.now);
            // It was started with spouts and peers as they were ordered; both are told again if they changed since.
            self.state = State::Up(Worker { process, runs, since, spouts: None, peers: None, drained: None });
            if self.gone.take() == Some(process) {
                self.ended(self.now, out);
            }
        }
    }

    pub(super) fn failed(&mut self, epoch: Epoch, now: Duration, out: &mut Vec<Command>) {
        if matches!(self.state, State::Starting) && self.last.as_ref().is_some_and(|(_, last)| *last == epoch) {
            self.ended(now, out);
        }
    }

    pub(super) fn running(&mut self, epoch: Epoch, now: Duration) {
        if let State::Up(worker) = &mut self.state
            && self.last.as_ref().is_some_and(|(_, last)| *last == epoch)
        {
            worker.runs = worker.runs.or(Some(now));
        }
    }

    pub(super) fn drained(&mut self, epoch: Epoch, left: u64) {
        if let State::Up(worker) = &mut self.state
            && worker.spouts.is_some_and(|spouts| spouts != Spouts::Run)
            && self.last.as_ref().is_some_and(|(_, last)| *last == epoch)
        {
            worker.drained = Some(left);
        }
    }

    pub(super) fn exited(&mut self, process: Process, now: Duration, out: &mut Vec<Command>) {
        if matches!(self.state, State::Starting) {
            self.gone = Some(process);
            return;
        }
        let ours = match &self.state {
            State::Up(worker) => worker.process == process,
            State::Stopping { process: stopping, .. } => *stopping == process,
            State::Idle | State::Starting => false,
        };
        if ours {
            self.ended(now, out);
        }
    }

    fn ended(&mut self, now: Duration, out: &mut Vec<Command>) {
        let (topology, epoch) = self.last.clone().expect("what ended was written down");
        let file = WorkerFile { slot: self.at, topology: topology.clone(), epoch, process: None };
        out.push(Command::Persist(Some(file)));
        out.push(Command::Announce { topology, epoch, runs: false });
        if !matches!(self.state, State::Stopping { killed: false, .. }) {
            self.failures += 1;
            self.restarts += 1;
            self.not_before = Duration::MAX;
        }
        self.state = State::Idle;
        self.now = now;
    }

    pub(super) fn next_tick(&self, options: &SupervisorOptions) -> Option<Duration> {
        match &self.state {
            State::Idle => (self.want.is_some() && self.not_before > self.now).then_some(self.not_before),
            State::Starting => None,
            State::Up(worker) => match worker.runs {
                None => Some(worker.since + options.start_limit),
                Some(since) => (self.failures > 0).then_some(since + options.stable),
            },
            State::Stopping { until, killed, .. } => (!killed).then_some(*until),
        }
    }

    pub(super) fn report(&self) -> Option<WorkerReport> {
        let spent = || self.want.as_ref().is_some_and(|want| self.next_epoch(want).is_none());
        let state = match &self.state {
            State::Idle if self.want.is_none() => return None,
            State::Idle if spent() => WorkerState::Spent,
            State::Idle | State::Starting => WorkerState::Starting,
            State::Up(Worker { drained: Some(left), .. }) => WorkerState::Drained { left: *left },
            State::Up(Worker { runs: None, .. }) => WorkerState::Starting,
            State::Up(_) => WorkerState::Running,
            State::Stopping { .. } => WorkerState::Stopping,
        };
        let wanted = self.want.as_ref().map(|w| (w.record.id.clone(), Epoch::first(w.generation)));
        let (topology, epoch) = self.last.clone().or(wanted)?;
        Some(WorkerReport { slot: self.at, topology, epoch, state, restarts: self.restarts })
    }
}
