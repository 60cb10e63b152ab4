//! The world: time, the network, what fails, and the drivers of the values.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use squall_control::record::{EPOCH, LeaderInfo};
use squall_control::{
    Accepted, ClientId, Epoch, Nimbus, NimbusOptions, NimbusOutput, Process, Refusal, Report as NodeReport, Request,
    SupervisorOutput,
};
use squall_coordinator::{Call, Error, Event, NoStore, Op, Server, SessionId};
use squall_scheduler::Even;

use super::Options;
use super::client::{self, Pending, Promises};
use super::host::{Host, WorkerProcess};
use super::link::Link;
use crate::dice::Dice;

/// How often a process does what is due, and gives a sign of life.
const BEAT: Duration = Duration::from_millis(100);
/// How long a client waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_millis(700);

/// An end of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Server,
    Client,
    Nimbus(usize),
    Host(usize),
}

#[derive(Clone, Debug)]
enum What {
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
    start: u64,
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
    by_session: BTreeMap<SessionId, End>,
    /// One-way cuts.
    cuts: BTreeSet<(End, End)>,
    /// Clock speeds in thousandths, by end.
    speeds: BTreeMap<End, u64>,
    pub(super) asked: BTreeMap<u64, Pending>,
    next_client: u64,
    requests_left: u32,
    pub(super) promises: Promises,
    /// Incarnations that were ever started.
    started: BTreeSet<(String, u32)>,
    /// The session whose epoch is current.
    epoch_of: Option<SessionId>,
    faulty: bool,
    failure: Option<String>,
    report: Report,
    log: VecDeque<String>,
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

    fn later(&mut self, after: Duration, what: What) {
        self.at(self.now + after, what);
    }

    fn at(&mut self, at: Duration, what: What) {
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
    fn clock(&self, of: End) -> Duration {
        Duration::from_nanos((self.now.as_nanos() as u64) / 1000 * self.speeds[&of])
    }

    fn delay(&mut self) -> Duration {
        let longest = self.options.delay.as_micros() as u64;
        Duration::from_micros(self.dice.between_u64(longest / 10, longest))
    }

    fn open(&self, from: End, to: End) -> bool {
        let server = [from, to].contains(&End::Server);
        (!server || self.server_up) && !self.cuts.contains(&(from, to))
    }

    fn lost(&mut self) -> bool {
        self.faulty && self.dice.percent(self.options.loss)
    }

    /// In the phase of faults a process may crash between any two things it does.
    fn crashes(&mut self) -> bool {
        self.faulty && self.dice.below(3000) == 0
    }

    fn link(&mut self, end: End) -> &mut Link {
        match end {
            End::Nimbus(at) => &mut self.nimbuses[at].link,
            End::Host(at) => &mut self.hosts[at].link,
            End::Server | End::Client => unreachable!("only processes have sessions"),
        }
    }

    fn act(&mut self, what: What) {
        match what {
            What::Beat(end) => self.beat(end),
            What::ToServer { from, number, session, ticket, call } => {
                self.to_server(from, number, session, ticket, &call)
            }
            What::ToClient { to, number, event } => self.to_client(to, number, event),
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
                let drains = self.hosts[host].processes.get(&pid).is_some_and(|p| !p.spouts);
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
    fn supervisor(
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

    fn of_process(
        &mut self,
        at: usize,
        pid: u32,
        act: impl FnOnce(&mut squall_control::Supervisor, &WorkerProcess, Duration),
    ) {
        if let Some(process) = self.hosts[at].processes.get(&pid).cloned() {
            self.supervisor(at, None, |s, now| act(s, &process, now));
        }
    }

    // --- Sessions ---

    fn beat(&mut self, end: End) {
        self.later(BEAT, What::Beat(end));
        let alive = match end {
            End::Nimbus(at) => self.nimbuses[at].nimbus.is_some(),
            End::Host(at) => self.hosts[at].supervisor.is_some(),
            _ => false,
        };
        if !alive {
            return;
        }
        let open = self.open(end, End::Server) && self.open(End::Server, end);
        let (now, timeout) = (self.now, self.options.session);
        let link = self.link(end);
        let (session, up, down_since) = (link.session, link.up, link.down_since);
        match (session, up, open) {
            (Some(session), true, true) => drop(self.server.heard(session, now)),
            (Some(_), true, false) => self.cut(end),
            (Some(session), false, true) => {
                if self.server.heard(session, now) {
                    self.link(end).up = true;
                    self.give(end, Event::Connected);
                    self.give(end, Event::Resync);
                } else {
                    self.link(end).session = None;
                    self.give(end, Event::Ended);
                }
            }
            (Some(_), false, false) if now > down_since + timeout * 7 / 5 => {
                self.link(end).session = None;
                self.give(end, Event::Ended);
            }
            (Some(_), false, false) => {}
            (None, _, true) => {
                let session = self.server.connect(timeout, now);
                self.by_session.insert(session, end);
                let link = self.link(end);
                (link.session, link.up, link.number) = (Some(session), true, link.number + 1);
                self.connected(end);
            }
            (None, _, false) => {}
        }
        self.tick(end);
    }

    /// The connection of a session breaks: nobody knows what became of its calls.
    fn cut(&mut self, end: End) {
        let now = self.now;
        let open = self.link(end).cut(now);
        for ticket in open {
            self.give(end, Event::Done { ticket, result: Err(Error::Unknown) });
        }
        self.give(end, Event::Disconnected);
    }

    fn to_server(&mut self, from: End, number: u64, session: SessionId, ticket: u64, call: &Call) {
        // What was sent before the connection broke may arrive all the same.
        let stale = self.link(from).number != number;
        if !self.open(from, End::Server) || (stale && self.dice.percent(50)) {
            return self.broken(from, number);
        }
        let result = self.server.call(session, call, &mut NoStore);
        if let (Call::Commit(ops), Ok(_)) = (call, &result) {
            self.fenced(from, session, ops);
        }
        self.tell();
        self.send(session, Event::Done { ticket, result });
    }

    /// A message was lost on the way, so the connection breaks.
    fn broken(&mut self, end: End, number: u64) {
        if self.link(end).number == number && self.link(end).up {
            self.cut(end);
        }
    }

    /// Sends what the server has to tell.
    fn tell(&mut self) {
        let events: Vec<(SessionId, Event)> = self.server.events().collect();
        for (session, event) in events {
            self.send(session, event);
        }
    }

    fn send(&mut self, session: SessionId, event: Event) {
        let Some(&to) = self.by_session.get(&session) else { return };
        let delay = self.delay();
        let now = self.now;
        let link = self.link(to);
        // To an old session, or while the connection is away: nobody hears it.
        if link.session != Some(session) || !link.up {
            return;
        }
        link.to_client = link.to_client.max(now + delay);
        let (at, number) = (link.to_client, link.number);
        self.at(at, What::ToClient { to, number, event });
    }

    fn to_client(&mut self, to: End, number: u64, event: Event) {
        if self.link(to).number != number {
            return;
        }
        if !self.open(End::Server, to) {
            return self.broken(to, number);
        }
        match &event {
            Event::Done { ticket, .. } => drop(self.link(to).open.remove(ticket)),
            Event::Ended => {
                let link = self.link(to);
                (link.session, link.up, link.number) = (None, false, link.number + 1);
            }
            _ => {}
        }
        self.give(to, event);
    }

    fn give(&mut self, to: End, event: Event) {
        let now = self.clock(to);
        match to {
            End::Nimbus(at) => {
                if let Some(nimbus) = &mut self.nimbuses[at].nimbus {
                    nimbus.event(event, now);
                }
                self.drive_nimbus(at);
            }
            End::Host(at) => self.supervisor(at, None, |s, now| s.event(event, now)),
            _ => {}
        }
    }

    fn connected(&mut self, to: End) {
        let now = self.clock(to);
        match to {
            End::Nimbus(at) => {
                if let Some(nimbus) = &mut self.nimbuses[at].nimbus {
                    nimbus.connected(now);
                }
                self.drive_nimbus(at);
            }
            End::Host(at) => self.supervisor(at, None, |s, now| s.connected(now)),
            _ => {}
        }
    }

    fn tick(&mut self, of: End) {
        let now = self.clock(of);
        match of {
            End::Nimbus(at) => {
                if let Some(nimbus) = &mut self.nimbuses[at].nimbus {
                    nimbus.tick(now);
                }
                self.drive_nimbus(at);
            }
            End::Host(at) => {
                self.supervisor(at, None, |s, now| s.tick(now));
                // A report now and then, whatever changed: one that was lost does not matter for long.
                if self.dice.percent(10)
                    && let Some(report) = self.hosts[at].supervisor.as_ref().map(|s| s.report())
                {
                    self.send_report(at, report);
                }
            }
            _ => {}
        }
    }

    fn send_call(&mut self, from: End, ticket: u64, call: Call) {
        let delay = self.delay();
        let now = self.now;
        let link = self.link(from);
        let number = link.number;
        let Some(session) = link.session.filter(|_| link.up) else {
            // A real client keeps calls until it is connected again, or breaks them: here always the second.
            let event = Event::Done { ticket, result: Err(Error::Unknown) };
            return self.at(now + delay, What::ToClient { to: from, number, event });
        };
        link.open.insert(ticket);
        link.to_server = link.to_server.max(now + delay);
        let at = link.to_server;
        self.at(at, What::ToServer { from, number, session, ticket, call });
    }

    // --- Drivers ---

    fn drive_nimbus(&mut self, at: usize) {
        let Some(nimbus) = &mut self.nimbuses[at].nimbus else { return };
        let outputs: Vec<NimbusOutput> = nimbus.outputs().collect();
        for output in outputs {
            if self.crashes() {
                return self.crash_nimbus(at);
            }
            match output {
                NimbusOutput::Call { ticket, call } => self.send_call(End::Nimbus(at), ticket, call),
                // The beat opens sessions.
                NimbusOutput::Connect => {}
                NimbusOutput::Answer { client, result } => {
                    let delay = self.delay();
                    if !self.lost() && self.open(End::Nimbus(at), End::Client) {
                        self.later(delay, What::Answered { client: client.0, result });
                    }
                }
                NimbusOutput::Note(line) => {
                    self.report.leaders += u64::from(line.starts_with("leads with"));
                    self.note(format!("nimbus {at}: {line}"));
                }
            }
        }
    }

    fn drive_supervisor(&mut self, at: usize) {
        loop {
            let Some(supervisor) = &mut self.hosts[at].supervisor else { return };
            let outputs: Vec<SupervisorOutput> = supervisor.outputs().collect();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                if self.crashes() {
                    return self.crash_supervisor(at);
                }
                self.do_for_supervisor(at, output);
            }
        }
    }

    fn do_for_supervisor(&mut self, at: usize, output: SupervisorOutput) {
        let start = self.hosts[at].start;
        match output {
            SupervisorOutput::Call { ticket, call } => self.send_call(End::Host(at), ticket, call),
            SupervisorOutput::Connect | SupervisorOutput::Announce { .. } => {}
            SupervisorOutput::Fetch(blobs) => {
                for hash in blobs {
                    let there = !(self.faulty && self.dice.percent(20));
                    let after = Duration::from_millis(self.dice.between_u64(1, 500));
                    self.later(after, What::Blob { host: at, start, hash, there });
                }
            }
            SupervisorOutput::Persist { slot, file } => self.hosts[at].persist(slot, file),
            SupervisorOutput::Start(order) => {
                self.report.starts += 1;
                let line = format!(
                    "{}: starts {} {:?} in slot {}",
                    self.hosts[at].id, order.topology.id, order.epoch, order.slot
                );
                self.note(line);
                if !self.started.insert((order.topology.id.clone(), order.epoch.wire())) {
                    self.fail(format!("{} {:?} is started twice", order.topology.id, order.epoch));
                }
                if let Some(pid) = self.hosts[at].in_slot(order.slot) {
                    self.fail(format!("slot {} of node{at} has process {pid} already", order.slot));
                }
                let own = |w: &&squall_control::record::WorkerAssignment| {
                    (w.node.as_str(), w.slot) == (self.hosts[at].id.as_str(), order.slot)
                };
                let executors =
                    order.assignment.workers.iter().find(own).map(|w| w.executors.clone()).unwrap_or_default();
                let process = self.hosts[at].spawn(WorkerProcess {
                    slot: order.slot,
                    topology: order.topology.id.clone(),
                    epoch: order.epoch,
                    executors,
                    spouts: order.topology.status.spouts_run(),
                    peers: Some(order.assignment.clone()),
                });
                let told = Duration::from_millis(self.dice.between_u64(0, 20));
                self.later(told, What::Spawned { host: at, start, slot: order.slot, epoch: order.epoch, process });
                let runs = Duration::from_millis(self.dice.between_u64(20, 300));
                self.later(runs, What::Runs { host: at, pid: process.pid });
            }
            SupervisorOutput::Spouts { slot, run } => {
                if let Some(pid) = self.hosts[at].in_slot(slot) {
                    self.hosts[at].processes.get_mut(&pid).expect("it is there").spouts = run;
                    // Most have nothing pending soon; some never.
                    if !run && self.dice.percent(80) {
                        let after = Duration::from_millis(self.dice.between_u64(0, 3_000));
                        self.later(after, What::Drained { host: at, pid });
                    }
                }
            }
            SupervisorOutput::Peers { slot, assignment } => {
                if let Some(pid) = self.hosts[at].in_slot(slot) {
                    self.hosts[at].processes.get_mut(&pid).expect("it is there").peers = Some(assignment);
                }
            }
            SupervisorOutput::Stop { slot, process } => {
                // Some do not listen, and are killed.
                if self.dice.percent(80) {
                    let after = Duration::from_millis(self.dice.between_u64(1, 500));
                    self.later(after, What::Dies { host: at, slot, pid: process.pid });
                }
            }
            SupervisorOutput::Kill { slot, process } => {
                let after = Duration::from_millis(self.dice.between_u64(0, 10));
                self.later(after, What::Dies { host: at, slot, pid: process.pid });
            }
            SupervisorOutput::Report(report) => self.send_report(at, report),
            SupervisorOutput::Fail(why) => self.fail(format!("node{at} gives up: {why}")),
            SupervisorOutput::Note(line) => self.note(format!("node{at}: {line}")),
        }
    }

    fn send_report(&mut self, from: usize, report: NodeReport) {
        for to in 0..self.nimbuses.len() {
            if !self.lost() {
                let delay = self.delay();
                self.later(delay, What::Report { to, from, report: report.clone() });
            }
        }
    }

    // --- Clients ---

    fn next_request(&mut self) {
        if self.requests_left == 0 {
            return;
        }
        self.requests_left -= 1;
        let client = self.next_client;
        self.next_client += 1;
        let request = client::draw(&mut self.dice, client as u32, self.options.hosts);
        if let Request::Kill { name, .. } = &request {
            self.promises.kill_asked.insert(name.clone(), true);
        }
        self.asked.insert(client, Pending { request, attempts: 0 });
        self.ask(client);
        let mean = (self.options.faults.as_millis() as u64 / u64::from(self.options.requests)).max(2);
        let after = Duration::from_millis(self.dice.between_u64(1, mean));
        self.later(after, What::NextRequest);
    }

    fn ask(&mut self, client: u64) {
        let Some(pending) = self.asked.get_mut(&client) else { return };
        pending.attempts += 1;
        let request = pending.request.clone();
        let nimbus = self.dice.below(self.nimbuses.len() as u32) as usize;
        if !self.lost() && self.open(End::Client, End::Nimbus(nimbus)) {
            let delay = self.delay();
            self.later(delay, What::Ask { client, nimbus, request });
        }
        self.later(ASK_AGAIN, What::Again { client });
    }

    fn answered(&mut self, client: u64, result: Result<Accepted, Refusal>) {
        match result {
            Ok(Accepted::Done(id)) => {
                let Some(pending) = self.asked.remove(&client) else { return };
                self.note(format!("answered: {} for {:?}", id, kind(&pending.request)));
                match pending.request {
                    Request::Submit(submission) => drop(self.promises.submitted.insert(submission.name, id)),
                    Request::Kill { .. } => self.promises.killed.push(id),
                    _ => {}
                }
            }
            Ok(Accepted::Topologies(_)) | Err(Refusal::Wrong(_)) => drop(self.asked.remove(&client)),
            // Asked again in time.
            Err(Refusal::NotLeader { .. } | Refusal::Unavailable(_) | Refusal::Unknown(_)) => {}
        }
    }

    // --- Faults ---

    fn count(&mut self, what: &'static str) {
        *self.report.faults.entry(what).or_default() += 1;
        self.note(format!("fault: {what}"));
    }

    fn fault(&mut self) {
        let Some(every) = self.options.fault_every.filter(|_| self.faulty) else { return };
        let next = Duration::from_millis(self.dice.between_u64(1, 2 * every.as_millis() as u64));
        self.later(next, What::Fault);
        let nimbus = self.dice.below(self.nimbuses.len() as u32) as usize;
        let host = self.dice.below(self.hosts.len() as u32) as usize;
        let long = Duration::from_millis(self.dice.between_u64(10, 8_000));
        match self.dice.weighted(&[(15, 0), (15, 1), (20, 2), (8, 3), (20, 4), (6, 5), (2, 6), (6, 7)]) {
            0 => {
                self.count("nimbus killed");
                self.crash_nimbus(nimbus);
            }
            1 => {
                self.count("supervisor killed");
                self.crash_supervisor(host);
            }
            2 => {
                let pids: Vec<u32> = self.hosts[host].processes.keys().copied().collect();
                if !pids.is_empty() {
                    self.count("worker killed");
                    let pid = self.dice.pick(&pids);
                    let slot = self.hosts[host].processes[&pid].slot;
                    self.later(Duration::ZERO, What::Dies { host, slot, pid });
                }
            }
            3 => {
                self.count("host lost power");
                self.power_off(host, long);
            }
            4 => {
                self.count("link cut");
                let end = if self.dice.percent(50) { End::Nimbus(nimbus) } else { End::Host(host) };
                let other = match self.dice.below(3) {
                    0 | 1 => End::Server,
                    _ => End::Client,
                };
                self.cuts.insert((end, other));
                self.later(long, What::Join(end, other));
                // Often both ways, sometimes one only.
                if self.dice.percent(60) {
                    self.cuts.insert((other, end));
                    self.later(long, What::Join(other, end));
                }
            }
            5 if self.server_up => {
                let forgets = self.dice.percent(40);
                self.count(if forgets { "coordinator restarted" } else { "coordinator away" });
                self.server_up = false;
                self.later(long, What::ServerBack { forgets });
            }
            6 => {
                self.count("disk replaced");
                self.power_off(host, long);
                let number = self.now.as_millis() as u64;
                self.hosts[host].replace(number);
            }
            _ => {
                self.count("session ended");
                let sessions: Vec<SessionId> = self.by_session.keys().copied().collect();
                if let Some(session) = sessions.last().copied() {
                    self.server.end(session);
                }
            }
        }
    }

    fn power_off(&mut self, at: usize, long: Duration) {
        let host = &mut self.hosts[at];
        host.on = false;
        host.processes.clear();
        host.supervisor = None;
        host.start += 1;
        host.link = Link { number: host.link.number + 1, ..Link::default() };
        self.later(long, What::PowerOn(at));
    }

    fn crash_nimbus(&mut self, at: usize) {
        let process = &mut self.nimbuses[at];
        if process.nimbus.take().is_some() {
            process.link = Link { number: process.link.number + 1, ..Link::default() };
            let after = Duration::from_millis(self.dice.between_u64(10, 5_000));
            self.later(after, What::StartNimbus(at));
        }
    }

    fn start_nimbus(&mut self, at: usize) {
        let process = &mut self.nimbuses[at];
        if process.nimbus.is_some() {
            return;
        }
        process.start += 1;
        let (id, instance) = (format!("nimbus{at}"), format!("nimbus{at}-{}", process.start));
        let me = LeaderInfo { id, instance, address: format!("nimbus{at}:6627") };
        let mut nimbus = Nimbus::new(NimbusOptions::new(me), Box::new(Even::default()));
        nimbus.tick(self.clock(End::Nimbus(at)));
        self.nimbuses[at].nimbus = Some(nimbus);
        self.drive_nimbus(at);
    }

    pub(super) fn crash_supervisor(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.supervisor.take().is_some() {
            host.start += 1;
            host.link = Link { number: host.link.number + 1, ..Link::default() };
            let after = Duration::from_millis(self.dice.between_u64(10, 5_000));
            self.later(after, What::StartSupervisor(at));
        }
    }

    fn server_back(&mut self, forgets: bool) {
        self.server_up = true;
        let sessions: Vec<SessionId> = self.by_session.keys().copied().collect();
        for session in sessions {
            if forgets {
                self.server.end(session);
            } else {
                // A new leader of an ensemble gives all sessions their whole timeout again.
                self.server.heard(session, self.now);
            }
        }
    }

    fn stop_faults(&mut self) {
        self.faulty = false;
        self.cuts.clear();
        if !self.server_up {
            self.server_back(false);
        }
        for at in 0..self.hosts.len() {
            if !self.hosts[at].on {
                self.later(Duration::ZERO, What::PowerOn(at));
            }
        }
        self.note("faults stop".into());
    }

    // --- For scenarios of their own ---

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

    /// A commit that is fenced happens within the epoch of who commits; one that sets the epoch begins another.
    fn fenced(&mut self, from: End, session: SessionId, ops: &[Op]) {
        if ops.iter().any(|op| matches!(op, Op::Set { path, .. } if path == EPOCH)) {
            self.epoch_of = Some(session);
        } else if matches!(from, End::Nimbus(_))
            && ops.iter().any(|op| matches!(op, Op::Set { .. } | Op::Delete { .. }))
            && self.epoch_of != Some(session)
        {
            self.fail(format!("{from:?} wrote in the epoch of another: {ops:?}"));
        }
    }
}

fn kind(request: &Request) -> String {
    match request {
        Request::Submit(s) => format!("submit {}", s.name),
        other => format!("{other:?}"),
    }
}
