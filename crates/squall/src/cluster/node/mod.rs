//! The driver of a supervisor: carries out what [`Supervisor`] asks for, in order, and tells it what happened.
//!
//! One task. It owns what must outlive a worker, as the parent of a run does: the sockets between workers and the board. Both a new supervisor
//! gets back from the workers that live ([`Back`]). Workers are watched by their pidfd; one that ends is told to its peers and replaced at
//! once, under the epoch that [`Supervisor`] gives.
//!
//! Invariants: what is to be on disk before a worker starts is there (`Persist` comes first and is carried out in this task); a worker is
//! admitted to its peers once per life; nothing here stops a worker because something else went away.
//!
//! Workers of one topology on other nodes are their supervisors'; the links to those are made by both (`hosts`, `wire`).

mod group;
mod hosts;
mod line;
mod mac;
mod peers;
mod process;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use squall_control::record::{Assignment, NodeInfo, Spouts};
use squall_control::{
    Epoch, Found, Liveness, Process, Supervisor, SupervisorOptions, SupervisorOutput, WorkerOrder, files,
};
use squall_coordinator::{Coordinator, Session, SessionOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::talk::{FromSeat, PLACE_VARIABLE, Place, SpoutsDo, ToSeat};
use super::{Arguments, BlobSource, Kind, NimbusLink, NodeStats};
use crate::run::engine::Outline;
use crate::run::sockets::Ends;
use crate::run::stats::WorkerStats;
use crate::run::system;
use group::{Group, Share};
pub(crate) use hosts::HostsOptions;
use hosts::{Hosts, Pair};
use line::Line;
use process::Watched;
use wire::{Account, Answer, CallError, LinkAsk};

/// Between two looks at what only time tells: workers that stand still, roots that are pending.
const LOOK: Duration = Duration::from_millis(50);
/// Between two accounts of the counts to nimbus.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How long a pause of the spouts is given to arrive before what is pending counts.
const PAUSE_ARRIVES: Duration = Duration::from_millis(200);
/// Between two attempts to get a session, or a blob.
const RETRY: Duration = Duration::from_millis(500);
/// How long workers may take to end when the node ends with them.
const END_GRACE: Duration = Duration::from_secs(2);

/// How a node is to be.
pub(crate) struct NodeOptions {
    pub info: NodeInfo,
    /// Folder of the supervisor, with its lock in hand.
    pub folder: files::Folder,
    pub path: PathBuf,
    pub cores: Vec<usize>,
    pub stop_grace: Duration,
    pub session: SessionOptions,
    /// How long workers go on without a supervisor.
    pub orphan_ms: Option<u64>,
    pub blobs: BlobSource,
    /// `None`: this node is alone, and takes no part in a topology of several.
    pub hosts: Option<HostsOptions>,
}

/// What comes to the driver.
pub(crate) enum Event {
    Connected(u64, Result<Box<dyn Session>, squall_coordinator::Error>),
    Session(u64, squall_coordinator::Event),
    Accepted(std::os::unix::net::UnixStream),
    Said {
        line: u64,
        message: Box<FromSeat>,
        fd: Option<OwnedFd>,
    },
    LineClosed(u64),
    Exited {
        slot: u16,
        process: Process,
        how: String,
    },
    Blob(String, Result<(), String>),
    NoBlob(String),
    /// A node says how its workers are, on its line of that number.
    Account {
        line: u64,
        account: Account,
    },
    /// A node asks whether a socket is welcome.
    Knock {
        node: String,
        ask: LinkAsk,
        reply: oneshot::Sender<Answer>,
    },
    /// It was, and here is the end.
    Linked {
        node: String,
        ask: LinkAsk,
        fd: OwnedFd,
    },
    /// What became of our own attempt.
    Made {
        pair: Pair,
        ask: LinkAsk,
        made: Result<Ends, CallError>,
    },
    /// The line to a supervisor broke, or cannot be had.
    LineFailed {
        address: String,
        cause: String,
    },
    /// End all workers, then say so.
    End(oneshot::Sender<()>),
}

/// A worker process as the driver knows it.
struct Worker {
    watched: Watched,
    epoch: Epoch,
    topology: String,
    line: Option<u64>,
    /// Its group, once that is known: of a worker that was taken over, when it is back.
    group: Option<u64>,
    /// Which worker of the plan.
    worker: u32,
    /// It has its place, so peers may be linked to it.
    admitted: bool,
    /// Its components are prepared.
    up: bool,
    finished: bool,
    spouts: Option<(SpoutsDo, Instant)>,
    drained: bool,
    /// By worker: the incarnation that it was told of.
    epochs: Vec<u32>,
    joins: BTreeMap<u32, u32>,
    /// Workers of which it was told that they are gone.
    lost: BTreeSet<u32>,
    /// Links to workers of other nodes that have ended: how often they had been made.
    broken: BTreeMap<u32, u32>,
    stats: Option<Box<WorkerStats>>,
    since: Instant,
}

/// See the module.
pub(crate) struct Node {
    options: NodeOptions,
    share: Share,
    supervisor: Supervisor,
    coordinator: Arc<dyn Coordinator>,
    /// The session under way: what comes from another one is too late.
    session_number: u64,
    session: Option<Box<dyn Session>>,
    nimbus: Box<dyn NimbusLink>,
    events: UnboundedReceiver<Event>,
    tell: UnboundedSender<Event>,
    workers: BTreeMap<u16, Worker>,
    groups: BTreeMap<u64, Group>,
    next_group: u64,
    lines: BTreeMap<u64, (Line, Option<u16>)>,
    next_line: u64,
    relinks: Vec<peers::Relink>,
    /// By topology: the assignment that its workers were told of last.
    placed: BTreeMap<String, Assignment>,
    hosts: Option<Hosts>,
    /// Workers that have loaded their program and are not admitted yet.
    loaded: Vec<(u16, Epoch, Box<Outline>)>,
    /// The last thing that went wrong with each slot's worker, for people.
    troubles: BTreeMap<u16, String>,
    began: Instant,
    looked: Instant,
    told: Instant,
    ending: Option<(oneshot::Sender<()>, Instant)>,
    log: super::Log,
}

impl Node {
    /// A node with what is found in its folder: living workers are taken over.
    ///
    /// # Errors
    /// A folder that makes no sense, or a socket that cannot be had; nothing was changed.
    pub(crate) fn open(
        mut options: NodeOptions,
        coordinator: Arc<dyn Coordinator>,
        nimbus: Box<dyn NimbusLink>,
        log: super::Log,
    ) -> Result<(Node, UnboundedSender<Event>), String> {
        let (tell, events) = unbounded_channel();
        let found = options.folder.found().map_err(|error| error.to_string())?;
        let mut supervisor_options = SupervisorOptions::new(options.info.clone());
        supervisor_options.stop_grace = options.stop_grace;
        // As in a run: who lived that long is started again at once.
        supervisor_options.stable = Duration::from_secs(1);
        let share = Share { cores: options.cores.clone(), slots: options.info.slots };
        let mut workers = BTreeMap::new();
        for found in &found {
            let worker = adopted(found, &tell)
                .map_err(|error| format!("no thread to watch a worker: {error}; raise `ulimit -u`"))?;
            workers.extend(worker.map(|worker| (found.file.slot, worker)));
        }
        listen(&options.path, tell.clone())?;
        let hosts = match options.hosts.take() {
            Some(HostsOptions { listener, key }) => {
                let hosts = Hosts::new(&options.info.id, key);
                wire::serve(listener, hosts.me(), tell.clone())
                    .map_err(|error| format!("other nodes cannot be heard: {error}; raise `ulimit -n`"))?;
                Some(hosts)
            }
            None => None,
        };
        let now = Instant::now();
        let node = Node {
            supervisor: Supervisor::new(supervisor_options, found, Duration::ZERO),
            options,
            share,
            coordinator,
            session_number: 0,
            session: None,
            nimbus,
            events,
            tell: tell.clone(),
            workers,
            groups: BTreeMap::new(),
            next_group: 0,
            lines: BTreeMap::new(),
            next_line: 0,
            relinks: Vec::new(),
            placed: BTreeMap::new(),
            hosts,
            loaded: Vec::new(),
            troubles: BTreeMap::new(),
            began: now,
            looked: now,
            told: now,
            ending: None,
            log,
        };
        Ok((node, tell))
    }

    /// Works until it is told to end, or has to: the error says why.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        for worker in self.workers.values() {
            (self.log)(&format!("took over process {} of {}", worker.watched.process.pid, worker.topology));
        }
        loop {
            if self.ending.is_none() {
                self.carry_out()?;
            }
            let due = self.due();
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.on(event),
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(due.into()) => {}
            }
            self.look();
            self.look_at_hosts();
            if let Some((_, until)) = &self.ending {
                if self.workers.is_empty() || *until + END_GRACE <= Instant::now() {
                    let (done, _) = self.ending.take().expect("it is ending");
                    let _ = done.send(());
                    return Ok(());
                }
            } else {
                self.supervisor.tick(self.now());
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When something is to be done though nothing happens.
    fn due(&self) -> Instant {
        let mut due = self.told + TELL_EVERY;
        if !self.workers.is_empty() || self.ending.is_some() {
            due = due.min(self.looked + LOOK);
        }
        if let Some(hosts) = self.hosts_due() {
            due = due.min(hosts);
        }
        if let Some(tick) = self.supervisor.next_tick() {
            due = due.min(self.began + tick);
        }
        due.max(Instant::now())
    }

    fn on(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Connected(number, result) if number == self.session_number => match result {
                Ok(session) => {
                    self.session = Some(session);
                    self.supervisor.connected(now);
                }
                Err(error) => {
                    (self.log)(&format!("no session with the coordinator: {error}; trying again"));
                    self.connect(RETRY);
                }
            },
            Event::Session(number, event) if number == self.session_number => self.supervisor.event(event, now),
            Event::Connected(..) | Event::Session(..) => {}
            Event::Accepted(stream) => {
                let id = self.next_line;
                self.next_line += 1;
                self.lines.insert(id, (Line::serve(id, stream, self.tell.clone()), None));
            }
            Event::Said { line, message, fd } => self.said(line, *message, fd),
            Event::LineClosed(line) => {
                if let Some((_, Some(slot))) = self.lines.remove(&line)
                    && let Some(worker) = self.workers.get_mut(&slot).filter(|w| w.line == Some(line))
                {
                    worker.line = None;
                }
            }
            Event::Exited { slot, process, how } => self.exited(slot, process, &how),
            Event::Blob(hash, Ok(())) => self.supervisor.blob(&hash, now),
            Event::Blob(hash, Err(why)) => {
                (self.log)(&format!("blob {hash} cannot be had: {why}; trying again"));
                let tell = self.tell.clone();
                // The supervisor asks again at once where it is wanted: not without a pause.
                tokio::spawn(async move {
                    tokio::time::sleep(RETRY).await;
                    let _ = tell.send(Event::NoBlob(hash));
                });
            }
            Event::NoBlob(hash) => self.supervisor.no_blob(&hash, now),
            Event::Account { line, account } => self.account(line, account),
            Event::Knock { node, ask, reply } => drop(reply.send(self.verdict(&node, &ask))),
            Event::Linked { node, ask, fd } => self.linked(&node, &ask, fd),
            Event::Made { pair, ask, made } => self.made(pair, &ask, made),
            Event::LineFailed { address, cause } => self.line_failed(&address, &cause),
            Event::End(done) => {
                (self.log)(&format!("ending {} workers", self.workers.len()));
                let slots: Vec<u16> = self.workers.keys().copied().collect();
                slots.into_iter().for_each(|slot| self.stop(slot));
                self.ending = Some((done, Instant::now()));
            }
        }
    }

    /// Carries out what the supervisor asks for, until it asks for nothing more.
    fn carry_out(&mut self) -> Result<(), String> {
        loop {
            let outputs: Vec<SupervisorOutput> = self.supervisor.outputs().collect();
            if outputs.is_empty() {
                return Ok(());
            }
            for output in outputs {
                self.carry(output)?;
            }
        }
    }

    fn carry(&mut self, output: SupervisorOutput) -> Result<(), String> {
        match output {
            SupervisorOutput::Call { ticket, call } => {
                if let Some(session) = &self.session {
                    session.call(ticket, call);
                }
            }
            SupervisorOutput::Connect => {
                self.session = None;
                self.connect(Duration::ZERO);
            }
            SupervisorOutput::Fetch(hashes) => {
                for hash in hashes {
                    let (fetched, tell) = (self.options.blobs.fetch(&hash), self.tell.clone());
                    tokio::spawn(async move {
                        let result = fetched.await;
                        let _ = tell.send(Event::Blob(hash, result));
                    });
                }
            }
            // A worker that is started without its note might be started twice: better no supervisor.
            SupervisorOutput::Persist { slot, file } => {
                self.options.folder.persist(slot, file.as_ref()).map_err(|error| error.to_string())?;
            }
            SupervisorOutput::Start(order) => {
                let (slot, epoch) = (order.slot, order.epoch);
                match self.start(&order) {
                    Ok(process) => self.supervisor.started(slot, epoch, process, self.now()),
                    Err(why) => {
                        self.troubles.insert(slot, why.clone());
                        self.supervisor.not_started(slot, epoch, &why, self.now());
                    }
                }
            }
            SupervisorOutput::Spouts { slot, spouts } => {
                let spouts = match spouts {
                    Spouts::Run => SpoutsDo::Run,
                    Spouts::Pause => SpoutsDo::Pause,
                    Spouts::End => SpoutsDo::End,
                };
                if let Some(worker) = self.workers.get_mut(&slot) {
                    (worker.spouts, worker.drained) = (Some((spouts, Instant::now())), false);
                }
                self.tell_spouts(slot);
            }
            SupervisorOutput::Stop { slot, .. } => self.stop(slot),
            SupervisorOutput::Kill { slot, process } => {
                if let Some(worker) = self.workers.get(&slot).filter(|w| w.watched.process == process) {
                    worker.watched.signal(Signal::KILL);
                }
            }
            SupervisorOutput::Peers { slot, assignment } => {
                let Some(worker) = self.workers.get(&slot) else { return Ok(()) };
                self.placed.insert(worker.topology.clone(), assignment.clone());
                if let Some(group) = worker.group {
                    self.assigned(group, &assignment);
                }
            }
            SupervisorOutput::Neighbours(nodes) => self.neighbours(nodes),
            // Peers, here and elsewhere, are told when a worker is admitted and when it has ended.
            SupervisorOutput::Announce { .. } => {}
            SupervisorOutput::Report(_) => self.tell_nimbus(),
            SupervisorOutput::Fail(why) => return Err(why),
            SupervisorOutput::Note(note) => (self.log)(&note),
        }
        Ok(())
    }

    fn connect(&mut self, after: Duration) {
        self.session_number += 1;
        let (number, coordinator, tell) = (self.session_number, self.coordinator.clone(), self.tell.clone());
        let options = self.options.session.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let events = tell.clone();
            let sink = Box::new(move |event| drop(events.send(Event::Session(number, event))));
            let session = tokio::task::spawn_blocking(move || coordinator.connect(&options, sink)).await;
            if let Ok(session) = session {
                let _ = tell.send(Event::Connected(number, session));
            }
        });
    }

    /// Starts a worker.
    fn start(&mut self, order: &WorkerOrder) -> Result<Process, String> {
        let record = &order.topology;
        let me = self.options.info.id.clone();
        let other = order.assignment.workers.iter().find(|w| w.node != me);
        if let Some(other) = other.filter(|_| self.hosts.is_none()) {
            return Err(format!(
                "{} is spread over nodes {me} and {}, and {me} is `squall dev`, which other nodes do not reach: start `squall nimbus` and `squall supervisor`",
                record.id, other.node
            ));
        }
        let arguments = Arguments::of(record)?;
        let artifact = record.blobs.first().ok_or("it has no artifact; submit it again")?;
        let artifact = self.options.blobs.path(artifact);
        let workers = group::in_order(&order.assignment);
        let at = workers.iter().position(|w| w.node == me && w.slot == order.slot);
        let worker = at.ok_or("its slot is not in its assignment; this is a bug")? as u32;
        let group = self.group_for(order, arguments.reactors);

        let lock = self.options.folder.slot_lock(order.slot).map_err(|error| error.to_string())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("slot {} is still held by another process; it is waited for", order.slot))?;
        let logs = self.options.path.join("logs").join(&record.id);
        let log_path = logs.join(format!("worker-{}.log", order.slot));
        let log = std::fs::create_dir_all(&logs)
            .and_then(|()| OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path))
            .map_err(|error| format!("{}: {error}", log_path.display()))?;
        let place = Place {
            socket: socket_path(&self.options.path),
            slot: order.slot,
            epoch: (order.epoch.generation, order.epoch.restart),
            orphan_ms: self.options.orphan_ms,
        };
        let mut command = match arguments.kind {
            Kind::Program => Command::new(&artifact),
            Kind::Yaml => Command::new("/proc/self/exe"),
        };
        command.arg("seat");
        if arguments.kind == Kind::Yaml {
            command.arg(&artifact);
        }
        command
            .args(&arguments.args)
            .envs(&arguments.environment)
            .env(PLACE_VARIABLE, serde_json::to_string(&place).expect("plain data"));
        // As where it was submitted, if there is such a folder here.
        let folder = Some(PathBuf::from(&arguments.folder)).filter(|folder| folder.is_dir());
        command.current_dir(folder.unwrap_or(logs));
        let watched = Watched::start(order.slot, command, lock, log, &self.tell)
            .map_err(|error| format!("{}: {error}", artifact.display()))?;
        let process = watched.process;
        let epoch = order.epoch;
        (self.log)(&format!(
            "{}: worker {worker} starts in slot {} as process {}, life {}.{}",
            record.id, order.slot, process.pid, epoch.generation, epoch.restart
        ));
        self.workers
            .insert(order.slot, Worker { group: Some(group), worker, ..Worker::new(watched, epoch, &record.id) });
        Ok(process)
    }

    /// Ends a worker: in order if it has done its part, at once otherwise.
    fn stop(&mut self, slot: u16) {
        let Some(worker) = self.workers.get(&slot) else { return };
        let word = if worker.finished { ToSeat::Exit } else { ToSeat::Abort };
        match worker.line.and_then(|line| self.lines.get(&line)) {
            Some((line, _)) if worker.up => line.tell(&word, Vec::new()),
            _ => worker.watched.signal(Signal::TERM),
        }
    }

    /// Looks at what only time tells.
    fn look(&mut self) {
        if self.told.elapsed() >= TELL_EVERY {
            self.tell_nimbus();
        }
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if self.ending.as_ref().is_some_and(|(_, since)| since.elapsed() >= self.options.stop_grace) {
            self.workers.values().for_each(|worker| worker.watched.signal(Signal::KILL));
        }
        self.look_at_groups(system::now_ns());
        self.relink_due();
        self.look_for_absent();
        self.look_for_drained();
    }

    /// Says of workers whose spouts are stopped when nothing is pending any more.
    fn look_for_drained(&mut self) {
        let mut drained = Vec::new();
        for (slot, worker) in self.workers.iter().filter(|(_, w)| w.up && !w.drained) {
            let is = match worker.spouts {
                Some((SpoutsDo::End, _)) => worker.finished,
                // Trees cross workers, so what is pending anywhere counts.
                Some((SpoutsDo::Pause, since)) => {
                    let group = worker.group.and_then(|group| self.groups.get(&group));
                    since.elapsed() >= PAUSE_ARRIVES && group.is_some_and(|group| group.pending() == 0)
                }
                Some((SpoutsDo::Run, _)) | None => false,
            };
            if is {
                drained.push((*slot, worker.epoch));
            }
        }
        for (slot, epoch) in drained {
            self.workers.get_mut(&slot).expect("it is one of them").drained = true;
            self.supervisor.drained(slot, epoch, 0, self.now());
        }
    }

    /// Tells nimbus how its workers are and what they have counted: again and again, as it forgets what it knew of a node that it took for lost.
    fn tell_nimbus(&mut self) {
        self.told = Instant::now();
        if self.supervisor.is_registered() {
            self.nimbus.stats(self.stats());
            self.nimbus.report(self.supervisor.report());
        }
    }

    /// The counts of all topologies here.
    fn stats(&self) -> NodeStats {
        let report = self.supervisor.report();
        let mut stats = NodeStats { node: report.node, topologies: BTreeMap::new() };
        for group in self.groups.values() {
            let of = stats.topologies.entry(group.topology.clone()).or_default();
            (of.components, of.pending) = (group.counts(), group.pending());
        }
        for row in report.workers {
            let of = stats.topologies.entry(row.topology.clone()).or_default();
            let worker = self.workers.get(&row.slot).filter(|w| w.epoch == row.epoch);
            if let Some(counts) = worker.and_then(|w| w.stats.as_ref()) {
                of.latency.merge(&counts.latency);
            }
            of.workers.push(super::WorkerRow {
                node: stats.node.clone(),
                slot: row.slot,
                worker: worker.map(|w| w.worker),
                pid: worker.map(|w| w.watched.process.pid),
                generation: row.epoch.generation,
                restart: row.epoch.restart,
                state: row.state,
                restarts: row.restarts,
                uptime_ms: worker.map_or(0, |w| w.since.elapsed().as_millis() as u64),
                trouble: self.troubles.get(&row.slot).cloned(),
            });
        }
        stats
    }
}

impl Worker {
    fn new(watched: Watched, epoch: Epoch, topology: &str) -> Worker {
        Worker {
            watched,
            epoch,
            topology: topology.to_owned(),
            line: None,
            group: None,
            worker: 0,
            admitted: false,
            up: false,
            finished: false,
            spouts: None,
            drained: false,
            epochs: Vec::new(),
            joins: BTreeMap::new(),
            lost: BTreeSet::new(),
            broken: BTreeMap::new(),
            stats: None,
            since: Instant::now(),
        }
    }
}

/// A worker that lives already.
fn adopted(found: &Found, tell: &UnboundedSender<Event>) -> std::io::Result<Option<Worker>> {
    let Liveness::Alive(process) = found.liveness else { return Ok(None) };
    let watched = Watched::adopt(found.file.slot, process, tell)?;
    Ok(Some(Worker::new(watched, found.file.epoch, &found.file.topology)))
}

/// Where workers find the supervisor.
fn socket_path(folder: &std::path::Path) -> PathBuf {
    folder.join("workers.sock")
}

/// Listens for workers; for the owner of the folder only.
fn listen(folder: &std::path::Path, tell: UnboundedSender<Event>) -> Result<(), String> {
    let path = socket_path(folder);
    let failed = |error: std::io::Error| {
        format!("workers cannot be heard at {}: {error}; a shorter path for the state folder may help", path.display())
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => {
                    if tell.send(Event::Accepted(stream)).is_err() {
                        return;
                    }
                }
                // Out of descriptors, most likely: workers try again.
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    });
    Ok(())
}
