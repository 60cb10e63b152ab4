//! Nimbus: leads or stands by; takes requests; assigns; finishes what it or another leader began.
//!
//! One commit is under way at a time, and each decision is made on what the last one left. Every request, assignment and finished wait
//! is a piece of [`work::Work`] in one queue. What a commit that is answered [`Error::Unknown`] did is found out by reading everything
//! again, as a new leader does.

mod leader;
mod requests;
mod schedule;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use squall_coordinator::{Call, Error, Event, Op, Reply, Version};
use squall_scheduler::{Blacklist, BlacklistOptions, NodeUse, Scheduler, Unplaced};

use crate::record::{
    ASSIGNMENTS, Assignment, CORDONS, LeaderInfo, NodeInfo, SUPERVISORS, TOPOLOGIES, TopologyRecord, at, from_json,
};
use crate::supervisor::Report;

pub use requests::{Accepted, Preview, Refusal, Request, Submission, Summary};
pub use work::ClientId;

/// Bounds and waits of a nimbus.
#[derive(Clone, Debug)]
pub struct NimbusOptions {
    /// Who it is.
    pub me: LeaderInfo,
    /// How long after it began to lead, or after a lost connection came back, a node that is missing is waited for: supervisors
    /// may need as long to come back too. Default 3 s: a session timeout of 2 s and 1 s.
    pub grace: Duration,
    /// How long a kill or rebalance waits for pending work unless it says otherwise. Default 30 s, Storm's message timeout.
    pub wait: Duration,
    /// Requests that may wait at once; more are refused. Default 1024.
    pub queue: usize,
    /// Rules for nodes that come and go.
    pub blacklist: BlacklistOptions,
}

impl NimbusOptions {
    /// With everything else at its default.
    pub fn new(me: LeaderInfo) -> Self {
        let (grace, wait) = (Duration::from_secs(3), Duration::from_secs(30));
        NimbusOptions { me, grace, wait, queue: 1024, blacklist: BlacklistOptions::default() }
    }
}

/// What a driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Call the coordinator.
    Call {
        /// To hand back with the answer.
        ticket: u64,
        /// What.
        call: Call,
    },
    /// The session has ended: open another, then [`Nimbus::connected`].
    Connect,
    /// Answer a client.
    Answer {
        /// Whom.
        client: ClientId,
        /// With what.
        result: Result<Accepted, Refusal>,
    },
    /// A topology that was killed is about to be removed.
    Removed {
        /// Its id.
        id: String,
        /// All its workers said that nothing was pending any more; otherwise the wait ended first.
        drained: bool,
        /// Roots that they gave up.
        left: u64,
    },
    /// Something for the log and `squall events`.
    Note(String),
}

/// Whether a nimbus leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// No session.
    Away,
    /// Finds out who leads.
    Joining,
    /// Another one leads.
    Following(LeaderInfo),
    /// Was elected and reads what there is.
    Loading,
    /// Leads.
    Leading,
}

/// What the leader knows; equal to what is committed.
#[derive(Default)]
struct View {
    topologies: BTreeMap<String, TopologyRecord>,
    assignments: BTreeMap<String, Assignment>,
    nodes: BTreeMap<String, NodeInfo>,
    cordons: BTreeMap<String, NodeUse>,
}

/// What an answer is for.
enum Waiting {
    /// Of no interest: folders that may exist already, the watch.
    Prepared,
    Epoch,
    Leader,
    Claimed,
    Loaded(&'static str),
    Node(String),
    Committed,
}

/// A nimbus.
pub struct Nimbus {
    options: NimbusOptions,
    scheduler: Box<dyn Scheduler>,
    role: Role,
    /// The session's connection is there.
    connected: bool,
    now: Duration,
    outputs: VecDeque<Output>,
    next_ticket: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// `/epoch` as last read: its number and version.
    epoch: Option<(u64, Version)>,
    view: View,
    /// Before this a missing node is waited for.
    settled_at: Duration,
    blacklist: Blacklist,
    /// Something changed that a schedule depends on.
    dirty: bool,
    /// After a commit failed for a reason that may pass.
    retry_at: Option<Duration>,
    queue: VecDeque<work::Work>,
    in_flight: Option<work::Flight>,
    /// When each wait ends, by topology.
    waits: BTreeMap<String, Duration>,
    /// What supervisors said of their workers, by node.
    reports: BTreeMap<String, Report>,
    unplaced: BTreeMap<String, Unplaced>,
}

impl Nimbus {
    /// A nimbus without a session; the first output asks for one.
    pub fn new(options: NimbusOptions, scheduler: Box<dyn Scheduler>) -> Nimbus {
        let blacklist = Blacklist::new(options.blacklist);
        Nimbus {
            options,
            scheduler,
            role: Role::Away,
            connected: false,
            now: Duration::ZERO,
            outputs: VecDeque::from([Output::Connect]),
            next_ticket: 0,
            waiting: BTreeMap::new(),
            epoch: None,
            view: View::default(),
            settled_at: Duration::ZERO,
            blacklist,
            dirty: false,
            retry_at: None,
            queue: VecDeque::new(),
            in_flight: None,
            waits: BTreeMap::new(),
            reports: BTreeMap::new(),
            unplaced: BTreeMap::new(),
        }
    }

    /// What is to be done, in order.
    pub fn outputs(&mut self) -> impl Iterator<Item = Output> + '_ {
        self.outputs.drain(..)
    }

    /// Whether it leads.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Number of the epoch it read last.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch.map(|(epoch, _)| epoch)
    }

    /// The nodes whose supervisors are there.
    pub fn live_nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.view.nodes.values()
    }

    /// What supervisors said of their workers last.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.values()
    }

    /// Why a topology is not placed whole, as far as the leader knows.
    pub fn unplaced(&self, id: &str) -> Option<&Unplaced> {
        self.unplaced.get(id)
    }

    /// When [`Nimbus::tick`] is due at the latest. `None`: not before something else happens.
    pub fn next_tick(&self) -> Option<Duration> {
        if self.role != Role::Leading {
            return None;
        }
        let unsettled = (self.settled_at > self.now).then_some(self.settled_at);
        let waits = self.waits.values().copied();
        unsettled.into_iter().chain(waits).chain(self.blacklist.next_end(self.now)).chain(self.retry_at).min()
    }

    /// Time went on.
    pub fn tick(&mut self, now: Duration) {
        self.at(now);
        self.go_on();
    }

    /// There is a session.
    pub fn connected(&mut self, now: Duration) {
        self.at(now);
        self.connected = true;
        self.join();
        self.go_on();
    }

    /// The session says something.
    pub fn event(&mut self, event: Event, now: Duration) {
        self.at(now);
        match event {
            Event::Done { ticket, result } => {
                // A ticket that is not waited for belongs to a session or a role that is over.
                if let Some(waiting) = self.waiting.remove(&ticket) {
                    self.done(waiting, result);
                }
            }
            Event::Changed { path } => self.changed(&path),
            Event::Disconnected => self.connected = false,
            Event::Connected => self.connected = true,
            Event::Resync => {
                self.connected = true;
                self.join();
            }
            Event::Ended => {
                self.connected = false;
                self.step_down(Role::Away);
                self.outputs.push_back(Output::Connect);
            }
        }
        self.go_on();
    }

    /// A supervisor says how its workers are. Only the leader listens.
    pub fn report(&mut self, report: Report, now: Duration) {
        self.at(now);
        if self.role == Role::Leading {
            self.take_report(report);
        }
        self.go_on();
    }

    /// A client asks for something. The answer comes as [`Output::Answer`].
    pub fn request(&mut self, client: ClientId, request: Request, now: Duration) {
        self.at(now);
        let refusal = match &self.role {
            Role::Leading if !self.connected => Some(Refusal::Unavailable("nimbus has lost its coordinator".into())),
            Role::Leading if self.queue.len() >= self.options.queue => {
                Some(Refusal::Unavailable(format!("{} requests are waiting already", self.queue.len())))
            }
            Role::Leading => None,
            Role::Following(leader) => Some(Refusal::NotLeader { leader: Some(leader.clone()) }),
            Role::Away | Role::Joining | Role::Loading => Some(Refusal::NotLeader { leader: None }),
        };
        match refusal {
            Some(refusal) => self.outputs.push_back(Output::Answer { client, result: Err(refusal) }),
            None => self.queue.push_back(work::Work::Request { client, request }),
        }
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

    fn note(&mut self, what: impl Into<String>) {
        self.outputs.push_back(Output::Note(what.into()));
    }

    fn changed(&mut self, path: &str) {
        if path == crate::record::LEADER || path == crate::record::EPOCH {
            match self.role {
                // Leads still, if the epoch is what it was: its own node may have been lost with a session that is over.
                // An answer that is under way may be older than the change, so it is asked again.
                Role::Leading | Role::Loading | Role::Following(_) | Role::Joining => self.look(),
                Role::Away => {}
            }
        } else if self.role == Role::Leading {
            let node = path.strip_prefix(SUPERVISORS).and_then(|rest| rest.strip_prefix('/'));
            if let Some(id) = node {
                self.call(Waiting::Node(id.to_owned()), Call::Get(path.to_owned()));
            }
        }
    }

    fn done(&mut self, waiting: Waiting, result: Result<Reply, Error>) {
        match waiting {
            Waiting::Prepared => {}
            Waiting::Epoch => self.epoch_read(result),
            Waiting::Leader => self.leader_read(result),
            Waiting::Claimed => self.claimed(result),
            Waiting::Loaded(folder) => self.loaded(folder, result),
            Waiting::Node(id) => {
                // Otherwise the connection is lost, and what comes after it reads all nodes again.
                if let Ok(Reply::Node(node)) = result {
                    match node.map(|node| from_json::<NodeInfo>(&node.data)).transpose() {
                        Ok(info) => self.node_is(id, info),
                        Err(error) => self.note(format!("node {id} says what cannot be read: {error}")),
                    }
                }
            }
            Waiting::Committed => self.committed(result),
        }
    }

    /// Reads everything there is.
    fn load(&mut self) {
        self.role = Role::Loading;
        self.view = View::default();
        for folder in [TOPOLOGIES, ASSIGNMENTS, SUPERVISORS, CORDONS] {
            self.call(Waiting::Loaded(folder), Call::Children(folder.into()));
        }
    }

    fn loaded(&mut self, folder: &'static str, result: Result<Reply, Error>) {
        let Ok(Reply::Children(children)) = result else {
            return self.join();
        };
        let mut bad = Vec::new();
        for (name, node) in children {
            let read = match folder {
                TOPOLOGIES => from_json(&node.data).map(|r| drop(self.view.topologies.insert(name.clone(), r))),
                ASSIGNMENTS => from_json(&node.data).map(|a| drop(self.view.assignments.insert(name.clone(), a))),
                SUPERVISORS => from_json(&node.data).map(|n| drop(self.view.nodes.insert(name.clone(), n))),
                _ => from_json(&node.data).map(|u| {
                    self.view.cordons.insert(name.clone(), u);
                }),
            };
            if let Err(error) = read {
                bad.push(format!("{} cannot be read ({error}) and is left alone", at(folder, &name)));
            }
        }
        bad.into_iter().for_each(|what| self.note(what));
        if !self.waiting.values().any(|w| matches!(w, Waiting::Loaded(_))) {
            self.lead();
        }
    }

    /// Everything is read: goes on where the last leader stopped.
    fn lead(&mut self) {
        self.role = Role::Leading;
        self.settled_at = self.now + self.options.grace;
        self.dirty = true;
        let waits = |(id, r): (&String, &TopologyRecord)| r.status.waits().map(|wait| (id.clone(), self.now + wait));
        self.waits = self.view.topologies.iter().filter_map(waits).collect();
        let (epoch, topologies) = (self.epoch.map_or(0, |(epoch, _)| epoch), self.view.topologies.len());
        self.note(format!("leads with epoch {epoch}: {topologies} topologies, {} nodes", self.view.nodes.len()));
    }

    /// The operation that every write of a leader begins with.
    fn fence(&self) -> Op {
        let (_, version) = self.epoch.expect("a leader has read its epoch");
        Op::check(crate::record::EPOCH, version)
    }
}
