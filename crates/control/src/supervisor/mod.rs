//! Supervisor: registers its node, brings its slots to what is assigned, keeps dead workers replaced, takes over living ones.
//!
//! What a slot should run comes from the coordinator (assignment and status of each topology); what it does run is in [`slot::Slot`], a state machine for
//! each slot, and in one file for each slot ([`WorkerFile`]), written before a worker is started and again when it has: whoever takes over after a
//! crash finds in it which process to look for, and which epochs are used up. While nothing is known of the assignments, nothing is stopped.

pub mod files;
mod slot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_coordinator::{Call, Error, Event, Op, Reply};

use crate::epoch::Epoch;
use crate::record::{
    ASSIGNMENTS, Assignment, NodeInfo, SUPERVISORS, Spouts, TOPOLOGIES, TopologyRecord, at, from_json, to_json,
};
use slot::{Command, Slot, Want};

/// Bounds and waits of a supervisor.
#[derive(Clone, Debug)]
pub struct SupervisorOptions {
    /// The node as it registers.
    pub node: NodeInfo,
    /// Pauses before the second, third, … start of a worker that keeps dying; the last one repeats. Default 0, 100 ms, 1, 5, 30 s.
    pub backoff: Vec<Duration>,
    /// A worker that lived this long begins with the first pause again. Default 60 s.
    pub stable: Duration,
    /// How long a worker that is to stop may take before it is killed. Default 1 s.
    pub stop_grace: Duration,
    /// How long a worker may take from its start until it says that it runs. Default 30 s.
    pub start_limit: Duration,
    /// How long another supervisor of the same id is put up with before this one gives up. Default 10 s: several session timeouts.
    pub double_limit: Duration,
}

impl SupervisorOptions {
    /// With everything else at its default.
    pub fn new(node: NodeInfo) -> Self {
        SupervisorOptions {
            node,
            backoff: [0, 100, 1000, 5000, 30_000].map(Duration::from_millis).to_vec(),
            stable: Duration::from_secs(60),
            stop_grace: Duration::from_secs(1),
            start_limit: Duration::from_secs(30),
            double_limit: Duration::from_secs(10),
        }
    }
}

/// A process, for as long as the machine is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Its id, which another process may get later.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did: with the id this is never another process.
    pub start: u64,
}

/// What is kept on disk of a slot that has, or had, a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerFile {
    /// The slot.
    pub slot: u16,
    /// The topology's id.
    pub topology: String,
    /// The incarnation that was started last. Remembered when it has ended, so that it does not come again.
    pub epoch: Epoch,
    /// The process. `None`: it was about to be started, or has ended.
    pub process: Option<Process>,
}

/// Whether the worker of a [`WorkerFile`] lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// No process holds the slot.
    Dead,
    /// This one does.
    Alive(Process),
}

/// A slot as a starting supervisor finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was on disk.
    pub file: WorkerFile,
    /// What became of it.
    pub liveness: Liveness,
}

/// A worker to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerOrder {
    /// Its slot.
    pub slot: u16,
    /// Its incarnation.
    pub epoch: Epoch,
    /// What it runs, with where everybody else is.
    pub topology: TopologyRecord,
    /// All workers of it.
    pub assignment: Assignment,
}

/// What a driver is to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Call the coordinator.
    Call {
        /// To hand back with the answer.
        ticket: u64,
        /// What.
        call: Call,
    },
    /// The session has ended: open another, then [`Supervisor::connected`].
    Connect,
    /// Have these blobs on this node, then [`Supervisor::blob`] for each.
    Fetch(Vec<String>),
    /// Write the slot's file, durably, before anything that follows. `None`: remove it.
    Persist {
        /// The slot.
        slot: u16,
        /// What is in it.
        file: Option<WorkerFile>,
    },
    /// Start a worker, then [`Supervisor::started`] or [`Supervisor::not_started`].
    Start(Box<WorkerOrder>),
    /// Tell a worker what its spouts are to do; unless they run, it says when nothing is pending ([`Supervisor::drained`]).
    Spouts {
        /// Its slot.
        slot: u16,
        /// What they are to do.
        spouts: Spouts,
    },
    /// Tell a worker that the assignment of its topology changed: where its peers are, and their generations.
    Peers {
        /// Its slot.
        slot: u16,
        /// All workers.
        assignment: Assignment,
    },
    /// Ask a worker to end.
    Stop {
        /// Its slot.
        slot: u16,
        /// Its process.
        process: Process,
    },
    /// Kill it.
    Kill {
        /// Its slot.
        slot: u16,
        /// Its process.
        process: Process,
    },
    /// A worker of this node ended or began: tell the other workers of its topology, here and on other nodes.
    Announce {
        /// The topology's id.
        topology: String,
        /// The slot.
        slot: u16,
        /// The incarnation that counts from now on; all before it are refused.
        epoch: Epoch,
        /// It runs; otherwise it has ended.
        runs: bool,
    },
    /// Tell nimbus.
    Report(Report),
    /// The other supervisors, by id, and where they are: all that were ever seen, since one that lost its session may be there still.
    Neighbours(BTreeMap<String, NodeInfo>),
    /// Give up, with this error: a person has to act.
    Fail(String),
    /// Something for the log.
    Note(String),
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Its blobs are fetched, it is started, or it waits to be started again.
    Starting,
    /// It runs.
    Running,
    /// Its spouts are stopped and nothing is pending any more, but for this many roots that were given up.
    Drained {
        /// Roots given up.
        left: u64,
    },
    /// It is being stopped.
    Stopping,
    /// It died too often: it needs another generation.
    Spent,
}

/// One worker in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its slot.
    pub slot: u16,
    /// Its topology.
    pub topology: String,
    /// Its incarnation.
    pub epoch: Epoch,
    /// How it is.
    pub state: WorkerState,
    /// How often it was started again here.
    pub restarts: u32,
}

/// All workers of a node. Each report replaces the one before it, so it does not matter if one is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The supervisor.
    pub node: String,
    /// Its workers by slot.
    pub workers: Vec<WorkerReport>,
}

/// What an answer is for.
enum Waiting {
    Ignored,
    Registered,
    Rival,
    Folder(&'static str),
    Neighbours,
    Neighbour,
    Topology(String),
    Assignment(String),
}

/// A supervisor.
pub struct Supervisor {
    options: SupervisorOptions,
    now: Duration,
    outputs: VecDeque<Output>,
    slots: BTreeMap<u16, Slot>,
    topologies: BTreeMap<String, TopologyRecord>,
    assignments: BTreeMap<String, Assignment>,
    neighbours: BTreeMap<String, NodeInfo>,
    /// Folders read since the session began or its connection came back. Both: the slots may be brought to what is assigned.
    read: BTreeSet<&'static str>,
    blobs: BTreeSet<String>,
    fetching: BTreeSet<String>,
    next_ticket: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Since when another one has our id.
    rival_since: Option<Duration>,
    /// Our node is there, by the session under way: until then another one may have our id, and what nimbus knows of it is not ours to change.
    registered: bool,
    reported: Option<Report>,
}

impl Supervisor {
    /// A supervisor that has just started, with what it found on its disk; the first outputs ask for a session.
    pub fn new(options: SupervisorOptions, found: Vec<Found>, now: Duration) -> Supervisor {
        let mut slots: BTreeMap<u16, Slot> = (0..options.node.slots).map(|at| (at, Slot::new(at))).collect();
        for found in found {
            // A slot that is no more, because the configuration has fewer now, is there until its worker has ended.
            let slot = slots.entry(found.file.slot).or_insert_with(|| Slot::new(found.file.slot));
            slot.adopt(found, now);
        }
        Supervisor {
            options,
            now,
            outputs: VecDeque::from([Output::Connect]),
            slots,
            topologies: BTreeMap::new(),
            assignments: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            read: BTreeSet::new(),
            blobs: BTreeSet::new(),
            fetching: BTreeSet::new(),
            next_ticket: 0,
            waiting: BTreeMap::new(),
            rival_since: None,
            registered: false,
            reported: None,
        }
    }

    /// What is to be done, in order.
    pub fn outputs(&mut self) -> impl Iterator<Item = Output> + '_ {
        self.outputs.drain(..)
    }

    /// When [`Supervisor::tick`] is due at the latest.
    pub fn next_tick(&self) -> Option<Duration> {
        let slots = self.slots.values().filter_map(|slot| slot.next_tick(&self.options));
        let rival = self.rival_since.map(|since| since + self.options.double_limit);
        slots.chain(rival).min()
    }

    /// Time went on.
    pub fn tick(&mut self, now: Duration) {
        self.at(now);
        if self.rival_since.is_some_and(|since| since + self.options.double_limit <= now) {
            let id = &self.options.node.id;
            let why = format!(
                "another supervisor is registered as {id} and stays so: give each its own `supervisor.id`, or stop the other one"
            );
            self.outputs.push_back(Output::Fail(why));
            self.rival_since = None;
        }
        self.go_on();
    }

    /// There is a session.
    pub fn connected(&mut self, now: Duration) {
        self.at(now);
        self.registered = false;
        self.begin();
        self.go_on();
    }

    /// The session says something.
    pub fn event(&mut self, event: Event, now: Duration) {
        self.at(now);
        match event {
            Event::Done { ticket, result } => {
                if let Some(waiting) = self.waiting.remove(&ticket) {
                    self.done(waiting, result);
                }
            }
            Event::Changed { path } => self.changed(&path),
            Event::Disconnected | Event::Connected => {}
            Event::Resync => self.begin(),
            Event::Ended => {
                self.registered = false;
                self.waiting.clear();
                self.outputs.push_back(Output::Connect);
            }
        }
        self.go_on();
    }

    /// A blob is here and was verified.
    pub fn blob(&mut self, hash: &str, now: Duration) {
        self.at(now);
        self.fetching.remove(hash);
        self.blobs.insert(hash.to_owned());
        self.go_on();
    }

    /// A blob could not be had: it is asked for again when something else happens or time goes on.
    pub fn no_blob(&mut self, hash: &str, now: Duration) {
        self.at(now);
        self.fetching.remove(hash);
        self.go_on();
    }

    /// The worker that was ordered has a process.
    pub fn started(&mut self, slot: u16, epoch: Epoch, process: Process, now: Duration) {
        self.at(now);
        self.with_slot(slot, |slot, out| slot.started(epoch, process, out));
    }

    /// It could not be started.
    pub fn not_started(&mut self, slot: u16, epoch: Epoch, why: &str, now: Duration) {
        self.at(now);
        self.outputs.push_back(Output::Note(format!("slot {slot}: the worker could not be started: {why}")));
        self.with_slot(slot, |slot, out| slot.failed(epoch, now, out));
    }

    /// A worker says that it runs.
    pub fn running(&mut self, slot: u16, epoch: Epoch, now: Duration) {
        self.at(now);
        self.with_slot(slot, |slot, _| slot.running(epoch, now));
    }

    /// A process ended (its pidfd says so).
    pub fn exited(&mut self, slot: u16, process: Process, now: Duration) {
        self.at(now);
        self.with_slot(slot, |slot, out| slot.exited(process, now, out));
    }

    /// A worker whose spouts are stopped says that nothing is pending but these, which it gave up.
    pub fn drained(&mut self, slot: u16, epoch: Epoch, left: u64, now: Duration) {
        self.at(now);
        self.with_slot(slot, |slot, _| slot.drained(epoch, left));
    }

    /// How all workers are.
    pub fn report(&self) -> Report {
        let workers = self.slots.values().filter_map(Slot::report).collect();
        Report { node: self.options.node.id.clone(), workers }
    }

    /// Whether it has its id to itself: only then nimbus is to be told anything under it.
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    fn with_slot(&mut self, slot: u16, act: impl FnOnce(&mut Slot, &mut Vec<Command>)) {
        let mut commands = Vec::new();
        if let Some(slot) = self.slots.get_mut(&slot) {
            act(slot, &mut commands);
        }
        self.command(slot, commands);
        self.go_on();
    }

    fn at(&mut self, now: Duration) {
        assert!(now >= self.now, "the clock is monotonic");
        self.now = now;
    }

    fn call(&mut self, waiting: Waiting, call: Call) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, waiting);
        self.outputs.push_back(Output::Call { ticket, call });
    }

    /// Registers and reads everything, with a new session or an old one that may have missed something.
    fn begin(&mut self) {
        self.waiting.clear();
        self.read.clear();
        // Of the supervisors the own node is watched to register again should someone delete it, the others to know where they are.
        for folder in [TOPOLOGIES, ASSIGNMENTS, SUPERVISORS] {
            self.call(Waiting::Ignored, Call::Watch(folder.into()));
        }
        self.register(Vec::new());
        self.call(Waiting::Neighbours, Call::Children(SUPERVISORS.into()));
        for folder in [TOPOLOGIES, ASSIGNMENTS] {
            self.call(Waiting::Folder(folder), Call::Children(folder.into()));
        }
    }

    fn register(&mut self, mut first: Vec<Op>) {
        let node = &self.options.node;
        first.push(Op::ephemeral(at(SUPERVISORS, &node.id), to_json(node)));
        self.call(Waiting::Registered, Call::Commit(first));
    }

    fn changed(&mut self, path: &str) {
        let below = |folder: &str| path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
        if let Some(id) = below(TOPOLOGIES) {
            self.call(Waiting::Topology(id), Call::Get(path.to_owned()));
        } else if let Some(id) = below(ASSIGNMENTS) {
            self.call(Waiting::Assignment(id), Call::Get(path.to_owned()));
        } else if let Some(id) = below(SUPERVISORS) {
            if id == self.options.node.id {
                self.look_at_rival();
            } else {
                self.call(Waiting::Neighbour, Call::Get(path.to_owned()));
            }
        }
    }

    fn meet(&mut self, nodes: Vec<NodeInfo>) {
        let mut news = false;
        for node in nodes.into_iter().filter(|node| node.id != self.options.node.id) {
            news |= self.neighbours.get(&node.id) != Some(&node);
            self.neighbours.insert(node.id.clone(), node);
        }
        if news {
            self.outputs.push_back(Output::Neighbours(self.neighbours.clone()));
        }
    }

    fn look_at_rival(&mut self) {
        let path = at(SUPERVISORS, &self.options.node.id);
        self.call(Waiting::Rival, Call::Get(path));
    }

    fn done(&mut self, waiting: Waiting, result: Result<Reply, Error>) {
        match (waiting, result) {
            (Waiting::Registered, Ok(_)) => self.is_ours(),
            // Nimbus has not made the folder yet. The watch will not tell of the parent, so time does (`go_on`).
            (Waiting::Registered, Err(Error::NoNode { .. })) => {
                self.call(Waiting::Ignored, Call::Commit(vec![Op::create(SUPERVISORS, "")]));
                self.register(Vec::new());
            }
            (Waiting::Registered, Err(Error::Exists { .. } | Error::BadVersion { .. })) => self.look_at_rival(),
            (Waiting::Rival, Ok(Reply::Node(node))) => self.rival(node),
            (Waiting::Neighbours, Ok(Reply::Children(children))) => {
                let read = children.into_iter().filter_map(|(_, n)| from_json(&n.data).ok());
                self.meet(read.collect());
            }
            // One that is gone from there is remembered: its workers may be there still.
            (Waiting::Neighbour, Ok(Reply::Node(node))) => {
                self.meet(node.and_then(|n| from_json(&n.data).ok()).into_iter().collect());
            }
            (Waiting::Folder(folder), Ok(Reply::Children(children))) => {
                if folder == TOPOLOGIES {
                    let read = children.into_iter().filter_map(|(id, n)| Some((id, from_json(&n.data).ok()?)));
                    self.topologies = read.collect();
                } else {
                    let read = children.into_iter().filter_map(|(id, n)| Some((id, from_json(&n.data).ok()?)));
                    self.assignments = read.collect();
                }
                self.read.insert(folder);
            }
            (Waiting::Topology(id), Ok(Reply::Node(node))) => match node.and_then(|n| from_json(&n.data).ok()) {
                Some(record) => drop(self.topologies.insert(id, record)),
                None => drop(self.topologies.remove(&id)),
            },
            (Waiting::Assignment(id), Ok(Reply::Node(node))) => match node.and_then(|n| from_json(&n.data).ok()) {
                Some(assignment) => drop(self.assignments.insert(id, assignment)),
                None => drop(self.assignments.remove(&id)),
            },
            // A connection that is lost: what follows it reads everything again.
            _ => {}
        }
    }

    /// The node of our id is ours: nimbus hears how all workers are, the one that did not know us as well.
    fn is_ours(&mut self) {
        self.rival_since = None;
        if !std::mem::replace(&mut self.registered, true) {
            self.reported = None;
        }
    }

    /// Who has our id?
    fn rival(&mut self, node: Option<squall_coordinator::Node>) {
        let Some(node) = node else { return self.register(Vec::new()) };
        if node.stat.own {
            return self.is_ours();
        }
        let path = at(SUPERVISORS, &self.options.node.id);
        match from_json::<NodeInfo>(&node.data) {
            // Ourselves before a crash: the state folder is locked, so that one is dead.
            Ok(info) if info.identity == self.options.node.identity => {
                self.register(vec![Op::delete(path, node.stat.version)]);
            }
            // Its node goes when it ends, which the watch tells.
            _ => self.rival_since = self.rival_since.or(Some(self.now)),
        }
    }

    /// Brings the slots to what is assigned.
    fn go_on(&mut self) {
        let known = self.read.len() == 2;
        let mut wants = if known { self.wants() } else { BTreeMap::new() };
        let missing: BTreeSet<String> = wants
            .values()
            .flat_map(|want| want.record.blobs.iter())
            .filter(|blob| !self.blobs.contains(*blob) && !self.fetching.contains(*blob))
            .cloned()
            .collect();
        if !missing.is_empty() {
            self.fetching.extend(missing.iter().cloned());
            self.outputs.push_back(Output::Fetch(missing.into_iter().collect()));
        }
        let slots: Vec<u16> = self.slots.keys().copied().collect();
        for at in slots {
            let mut commands = Vec::new();
            let slot = self.slots.get_mut(&at).expect("it is one of them");
            if known {
                let want = wants.remove(&at);
                let ready = want.as_ref().is_none_or(|w| w.record.blobs.iter().all(|blob| self.blobs.contains(blob)));
                slot.want(want, ready, &mut commands);
            }
            slot.step(self.now, &self.options, &mut commands);
            self.command(at, commands);
        }
        let report = self.report();
        if self.registered && self.reported.as_ref() != Some(&report) {
            self.reported = Some(report.clone());
            self.outputs.push_back(Output::Report(report));
        }
    }

    /// What each slot of this node is to run.
    fn wants(&self) -> BTreeMap<u16, Want> {
        let mut wants = BTreeMap::new();
        for (id, assignment) in &self.assignments {
            let Some(record) = self.topologies.get(id) else { continue };
            for worker in &assignment.workers {
                // An assignment to a folder that was lost: nimbus will see the new identity and give another generation.
                if worker.node == self.options.node.id && worker.identity == self.options.node.identity {
                    let want =
                        Want { record: record.clone(), generation: worker.generation, assignment: assignment.clone() };
                    wants.insert(worker.slot, want);
                }
            }
        }
        wants
    }

    fn command(&mut self, slot: u16, commands: Vec<Command>) {
        for command in commands {
            self.outputs.push_back(match command {
                Command::Persist(file) => Output::Persist { slot, file },
                Command::Start(order) => Output::Start(order),
                Command::Spouts(spouts) => Output::Spouts { slot, spouts },
                Command::Peers(assignment) => Output::Peers { slot, assignment },
                Command::Stop(process) => Output::Stop { slot, process },
                Command::Kill(process) => Output::Kill { slot, process },
                Command::Announce { topology, epoch, runs } => Output::Announce { topology, slot, epoch, runs },
            });
        }
    }
}
