//! The world: time, the network, what fails, and the drivers of the values.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use squall_control::record::Spouts;
use squall_control::{Accepted, ClientId, Epoch, Nimbus, Process, Refusal, Report as NodeReport, Request};
use squall_coordinator::{Call, Event, Server, SessionId};

use super::Options;
use super::client::{Pending, Promises};
use super::host::{Host, WorkerProcess};
use super::link::Link;
use crate::dice::Dice;

/// How often a process does what is due, and gives a sign of life.
pub(super) const BEAT: Duration = Duration::from_millis(100);
/// How long a client waits before it asks again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(700);

/// An end of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Server,
    Client,
    Nimbus(usize),
    Host(usize),
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Beat(End),
    ToServer { from: End, number: u64, session: SessionId, ticket: u64, call: Call },
    ToClient { to: End, number: u64, event: Event },
    Report { to: usize, from: usize, report: NodeReport },
    Ask { client: u64, nimbus: usize, request: Request },
    Answered { client: u64, result: Result<Accepted, Refusal> },
    Again { client: u64 },
    NextRequest,
    Spawned { host: usize, start: u64, slot: u16, epoch: Epoch, process: Process },
    Runs { host: usize, pid: u32 },
    Dies { host: usize, slot: u16, pid: u32 },
    Drained { host: usize, pid: u32 },
    Blob { host: usize, start: u64, hash: String, there: bool },
    Fault,
    StartNimbus(usize),
    StartSupervisor(usize),
    PowerOn(usize),
    ServerBack { forgets: bool },
    Join(End, End),
}

/// A nimbus process.
#[derive(Default)]
pub(super) struct NimbusProcess {
    pub(super) nimbus: Option<Nimbus>,
    pub(super) link: Link,
    pub(super) start: u64,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u32>,
    /// Workers started.
    pub starts: u64,
    /// Submissions that were answered.
    pub submitted: usize,
    /// Kills that were answered.
    pub killed: usize,
    /// Leaders there were.
    pub leaders: u64,
    /// From the end of the faults until all was well.
    pub healed: Duration,
    /// Topologies at the end that have no slot.
    pub unplaced: usize,
}

/// A simulated cluster.
pub struct World {
    pub(super) options: Options,
    pub(super) dice: Dice,
    pub(super) now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, Box<Sorted>)>>,
    next_event: u64,
    pub(super) server: Server,
    pub(super) server_up: bool,
    pub(super) nimbuses: Vec<NimbusProcess>,
    pub(super) hosts: Vec<Host>,
    pub(super) by_session: BTreeMap<SessionId, End>,
    /// One-way cuts.
    pub(super) cuts: BTreeSet<(End, End)>,
    /// Clock speeds in thousandths, by end.
    pub(super) speeds: BTreeMap<End, u64>,
    pub(super) asked: BTreeMap<u64, Pending>,
    pub(super) next_client: u64,
    pub(super) requests_left: u32,
    pub(super) promises: Promises,
    /// Incarnations that were ever started.
    pub(super) started: BTreeSet<(String, u32)>,
    /// The session whose epoch is current.
    pub(super) epoch_of: Option<SessionId>,
    pub(super) faulty: bool,
    pub(super) failure: Option<String>,
    pub(super) report: Report,
    pub(super) log: VecDeque<String>,
}

/// An event, which has no order of its own.
#[derive(Debug)]
struct Sorted(What);

impl PartialEq for Sorted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Sorted {}
impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sorted {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl World {
    /// A cluster in which nothing has started yet.
    pub fn new(seed: u64, options: Options) -> World {
        let mut dice = Dice::new(seed, 2);
        let ends = (0..options.nimbuses).map(End::Nimbus).chain((0..options.hosts).map(End::Host));
        let (slow, fast) = (1000 - 10 * options.skew, 1000 + 10 * options.skew);
        let speeds = ends.map(|end| (end, u64::from(dice.between(slow, fast)))).collect();
        let mut world = World {
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            next_event: 0,
            server: Server::default(),
            server_up: true,
            nimbuses: (0..options.nimbuses).map(|_| NimbusProcess::default()).collect(),
            hosts: (0..options.hosts).map(|at| Host::new(at, options.slots)).collect(),
            by_session: BTreeMap::new(),
            cuts: BTreeSet::new(),
            speeds,
            asked: BTreeMap::new(),
            next_client: 0,
            requests_left: options.requests,
            promises: Promises::default(),
            started: BTreeSet::new(),
            epoch_of: None,
            faulty: options.fault_every.is_some(),
            failure: None,
            report: Report::default(),
            log: VecDeque::new(),
            dice,
            options,
        };
        for at in 0..world.nimbuses.len() {
            world.later(Duration::ZERO, What::StartNimbus(at));
            world.later(BEAT, What::Beat(End::Nimbus(at)));
        }
        for at in 0..world.hosts.len() {
            world.later(Duration::ZERO, What::StartSupervisor(at));
            world.later(BEAT, What::Beat(End::Host(at)));
        }
        world.later(Duration::from_millis(500), What::NextRequest);
        if world.faulty {
            world.later(Duration::from_millis(1000), What::Fault);
        }
        world
    }

    /// Virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The last things that happened.
    pub fn last_events(&self) -> String {
        self.log.iter().map(|line| format!("  {line}\n")).collect()
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) -> Result<Report, String> {
        let faults_end = self.options.faults;
        self.run_until(faults_end)?;
        self.stop_faults();
        let limit = faults_end + self.options.heal;
        loop {
            let next = self.now + BEAT;
            self.run_until(next)?;
            match self.well() {
                Ok(unplaced) => {
                    self.report.healed = self.now - faults_end;
                    self.report.unplaced = unplaced;
                    self.report.submitted = self.promises.submitted.len();
                    self.report.killed = self.promises.killed.len();
                    return Ok(self.report.clone());
                }
                Err(why) if self.now >= limit => {
                    return Err(format!("not well {:?} after the faults: {why}", self.options.heal));
                }
                Err(_) => {}
            }
        }
    }

    /// Runs events up to a time.
    pub(super) fn run_until(&mut self, until: Duration) -> Result<(), String> {
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            let Reverse((at, _, what)) = self.events.pop().expect("there is one");
            self.now = at;
            self.server.tick(at);
            self.act(what.0);
            self.tell();
            self.one_leader();
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
        self.now = until;
        Ok(())
    }

    pub(super) fn later(&mut self, after: Duration, what: What) {
        self.at(self.now + after, what);
    }

    pub(super) fn at(&mut self, at: Duration, what: What) {
        self.next_event += 1;
        self.events.push(Reverse((at, self.next_event, Box::new(Sorted(what)))));
    }

    pub(super) fn note(&mut self, line: String) {
        if self.log.len() == 120 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:?} {line}", self.now));
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// What a process's own clock says.
    pub(super) fn clock(&self, of: End) -> Duration {
        Duration::from_nanos((self.now.as_nanos() as u64) / 1000 * self.speeds[&of])
    }

    pub(super) fn delay(&mut self) -> Duration {
        let longest = self.options.delay.as_micros() as u64;
        Duration::from_micros(self.dice.between_u64(longest / 10, longest))
    }

    pub(super) fn open(&self, from: End, to: End) -> bool {
        let server = [from, to].contains(&End::Server);
        (!server || self.server_up) && !self.cuts.contains(&(from, to))
    }

    pub(super) fn lost(&mut self) -> bool {
        self.faulty && self.dice.percent(self.options.loss)
    }

    /// In the phase of faults a process may crash between any two things it does.
    pub(super) fn crashes(&mut self) -> bool {
        self.faulty && self.dice.below(3000) == 0
    }

    pub(super) fn link(&mut self, end: End) -> &mut Link {
        match end {
            End::Nimbus(at) => &mut self.nimbuses[at].link,
            End::Host(at) => &mut self.hosts[at].link,
            End::Server | End::Client => unreachable!("only processes have sessions"),
        }
    }

    pub(super) fn act(&mut self, what: What) {
        match what {
            What::Beat(end) => self.beat(end),
            What::ToServer { from, number, session, ticket, call } => {
                self.server_gets(from, number, session, ticket, &call)
            }
            What::ToClient { to, number, event } => self.client_gets(to, number, event),
            What::Report { to, from, report } => {
                if self.open(End::Host(from), End::Nimbus(to)) {
                    let now = self.clock(End::Nimbus(to));
                    if let Some(nimbus) = &mut self.nimbuses[to].nimbus {
                        nimbus.report(report, now);
                    }
                    self.drive_nimbus(to);
                }
            }
            What::Ask { client, nimbus, request } => {
                let now = self.clock(End::Nimbus(nimbus));
                if let Some(process) = &mut self.nimbuses[nimbus].nimbus {
                    process.request(ClientId(client), request, now);
                }
                self.drive_nimbus(nimbus);
            }
            What::Answered { client, result } => self.answered(client, result),
            What::Again { client } => self.ask(client),
            What::NextRequest => self.next_request(),
            What::Spawned { host, start, slot, epoch, process } => {
                self.supervisor(host, Some(start), |s, now| s.started(slot, epoch, process, now));
            }
            What::Runs { host, pid } => self.of_process(host, pid, |s, p, now| s.running(p.slot, p.epoch, now)),
            What::Drained { host, pid } => {
                let drains = self.hosts[host].processes.get(&pid).is_some_and(|p| p.spouts != Spouts::Run);
                if drains {
                    self.of_process(host, pid, |s, p, now| s.drained(p.slot, p.epoch, 0, now));
                }
            }
            What::Dies { host, slot, pid } => {
                // Whoever watches a process that is gone already hears it all the same.
                self.hosts[host].processes.remove(&pid);
                let gone = Process { pid, start: u64::from(pid) };
                self.supervisor(host, None, |s, now| s.exited(slot, gone, now));
            }
            What::Blob { host, start, hash, there } => self
                .supervisor(host, Some(start), |s, now| if there { s.blob(&hash, now) } else { s.no_blob(&hash, now) }),
            What::Fault => self.fault(),
            What::StartNimbus(at) => self.start_nimbus(at),
            What::StartSupervisor(at) => {
                if self.hosts[at].on && self.hosts[at].supervisor.is_none() {
                    let now = self.clock(End::Host(at));
                    self.hosts[at].start_supervisor(now);
                    self.drive_supervisor(at);
                }
            }
            What::PowerOn(at) => {
                self.hosts[at].on = true;
                self.later(Duration::ZERO, What::StartSupervisor(at));
            }
            What::ServerBack { forgets } => self.server_back(forgets),
            What::Join(a, b) => {
                self.cuts.remove(&(a, b));
            }
        }
    }

    /// Lets a supervisor do something, if it is (still) the one that is meant.
    pub(super) fn supervisor(
        &mut self,
        at: usize,
        start: Option<u64>,
        act: impl FnOnce(&mut squall_control::Supervisor, Duration),
    ) {
        let now = self.clock(End::Host(at));
        let host = &mut self.hosts[at];
        if start.is_none_or(|start| start == host.start)
            && let Some(supervisor) = &mut host.supervisor
        {
            act(supervisor, now);
            self.drive_supervisor(at);
        }
    }

    pub(super) fn of_process(
        &mut self,
        at: usize,
        pid: u32,
        act: impl FnOnce(&mut squall_control::Supervisor, &WorkerProcess, Duration),
    ) {
        if let Some(process) = self.hosts[at].processes.get(&pid).cloned() {
            self.supervisor(at, None, |s, now| act(s, &process, now));
        }
    }

    /// Everything of the control plane is gone for a while; the workers are not.
    pub fn black_out(&mut self, long: Duration) -> Result<(), String> {
        self.server_up = false;
        for at in 0..self.nimbuses.len() {
            self.crash_nimbus(at);
        }
        for at in 0..self.hosts.len() {
            self.crash_supervisor(at);
        }
        self.run_until(self.now + long)?;
        self.server_back(false);
        Ok(())
    }

    /// Only the coordinator is away for a while.
    pub fn coordinator_away(&mut self, long: Duration) -> Result<(), String> {
        self.server_up = false;
        self.run_until(self.now + long)?;
        self.server_back(false);
        Ok(())
    }

    /// Runs for a while.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run_for(&mut self, long: Duration) -> Result<(), String> {
        self.run_until(self.now + long)
    }

    /// Worker processes of all hosts: host and pid.
    pub fn processes(&self) -> BTreeSet<(usize, u32)> {
        let of = |(at, host): (usize, &Host)| host.processes.keys().map(move |pid| (at, *pid)).collect::<Vec<_>>();
        self.hosts.iter().enumerate().flat_map(of).collect()
    }

    /// Cuts a host off from everything, or lets it in again.
    pub fn cut_host(&mut self, at: usize, off: bool) {
        let others = [End::Server, End::Client].into_iter().chain((0..self.nimbuses.len()).map(End::Nimbus));
        for other in others.collect::<Vec<_>>() {
            for pair in [(End::Host(at), other), (other, End::Host(at))] {
                if off {
                    self.cuts.insert(pair)
                } else {
                    self.cuts.remove(&pair)
                };
            }
        }
    }
}
