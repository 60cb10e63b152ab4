//! A machine: its disk, its worker processes, its supervisor.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_control::record::{Assignment, NodeInfo, Spouts};
use squall_control::{Epoch, Found, Liveness, Process, Supervisor, SupervisorOptions, WorkerFile};
use squall_scheduler::Resources;

use super::link::Link;

/// Engine version and machine that all have here.
pub(super) const ENGINE: &str = "0.1.0";
pub(super) const ARCH: &str = "x86_64";

/// A worker process.
#[derive(Clone, Debug)]
pub(super) struct WorkerProcess {
    pub(super) slot: u16,
    pub(super) topology: String,
    pub(super) epoch: Epoch,
    pub(super) executors: Vec<u32>,
    /// What it was told of its spouts; as ordered until then.
    pub(super) spouts: Spouts,
    pub(super) peers: Option<Assignment>,
}

/// A machine. Its disk survives everything but [`Host::replace`].
pub(super) struct Host {
    pub(super) id: String,
    pub(super) identity: String,
    pub(super) slots: u16,
    /// It has power.
    pub(super) on: bool,
    disk: BTreeMap<u16, WorkerFile>,
    pub(super) processes: BTreeMap<u32, WorkerProcess>,
    next_pid: u32,
    pub(super) supervisor: Option<Supervisor>,
    /// Start of the supervisor: what an older one ordered is not reported to this one.
    pub(super) start: u64,
    pub(super) link: Link,
}

impl Host {
    pub(super) fn new(at: usize, slots: u16) -> Host {
        Host {
            id: format!("node{at}"),
            identity: format!("node{at}-disk0"),
            slots,
            on: true,
            disk: BTreeMap::new(),
            processes: BTreeMap::new(),
            next_pid: 100,
            supervisor: None,
            start: 0,
            link: Link::default(),
        }
    }

    /// Starts a supervisor, which finds what is there.
    pub(super) fn start_supervisor(&mut self, now: Duration) {
        let node = NodeInfo {
            id: self.id.clone(),
            identity: self.identity.clone(),
            address: format!("{}:6699", self.id),
            slots: self.slots,
            capacity: Resources::UNLIMITED,
            arch: ARCH.into(),
            engine: ENGINE.into(),
        };
        let found = |file: &WorkerFile| {
            // By pid and start time; where only the intent was noted, by the lock that a process holds on its slot.
            let alive = match file.process {
                Some(process) => self.processes.contains_key(&process.pid).then_some(process),
                None => self.in_slot(file.slot).map(|pid| Process { pid, start: u64::from(pid) }),
            };
            Found { file: file.clone(), liveness: alive.map_or(Liveness::Dead, Liveness::Alive) }
        };
        let found: Vec<Found> = self.disk.values().map(found).collect();
        self.start += 1;
        self.link = Link { number: self.link.number + 1, ..Link::default() };
        self.supervisor = Some(Supervisor::new(SupervisorOptions::new(node), found, now));
    }

    pub(super) fn in_slot(&self, slot: u16) -> Option<u32> {
        self.processes.iter().find(|(_, p)| p.slot == slot).map(|(pid, _)| *pid)
    }

    pub(super) fn persist(&mut self, slot: u16, file: Option<WorkerFile>) {
        match file {
            Some(file) => self.disk.insert(slot, file),
            None => self.disk.remove(&slot),
        };
    }

    /// A process comes to be. A pid is never used again here, so it stands for the start time, too.
    pub(super) fn spawn(&mut self, process: WorkerProcess) -> Process {
        let pid = self.next_pid;
        self.next_pid += 1;
        self.processes.insert(pid, process);
        Process { pid, start: u64::from(pid) }
    }

    /// Another machine with the same name: nothing of the disk is left.
    pub(super) fn replace(&mut self, number: u64) {
        self.identity = format!("{}-disk{number}", self.id);
        self.disk.clear();
        self.processes.clear();
    }
}
