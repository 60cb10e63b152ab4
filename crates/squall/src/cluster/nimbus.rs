//! The driver of a nimbus: carries out what [`Nimbus`] asks for, in order, and keeps what supervisors say of their counts.
//!
//! One task; whoever wants something of it has a [`Handle`]. What it keeps besides the value is for people and lost with it: counts, what
//! happened, and how topologies ended that were killed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use squall_control::{Accepted, ClientId, Nimbus, NimbusOptions, NimbusOutput, Refusal, Report, Request, Role};
use squall_coordinator::{Coordinator, Session, SessionOptions};
use squall_scheduler::Scheduler;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::history::History;
use super::{Log, NimbusLink, NodeStats, TopologyStats};

/// Between two attempts to get a session.
const RETRY: Duration = Duration::from_millis(500);
/// Ends of topologies that are remembered.
const ENDS: usize = 256;

/// How a topology that was killed has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    pub id: String,
    /// All its workers had nothing pending any more; otherwise the wait was over first.
    pub drained: bool,
    /// Roots that were pending, as the supervisors counted them last.
    pub left: u64,
}

type Reply = oneshot::Sender<Result<Accepted, Refusal>>;
type Look = Box<dyn FnOnce(&Driver) + Send>;

enum Event {
    Connected(u64, Result<Box<dyn Session>, squall_coordinator::Error>),
    Session(u64, squall_coordinator::Event),
    Request(Request, Reply),
    Report(Report),
    Stats(NodeStats),
    Look(Look),
}

/// Whether a nimbus leads, as it was after the last event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub role: Role,
    /// How often it began to lead: what was told to it before it did so is forgotten.
    pub term: u64,
}

/// Speaks to a nimbus of this process.
#[derive(Clone)]
pub(crate) struct Handle {
    tell: UnboundedSender<Event>,
    standing: Arc<Mutex<Standing>>,
}

impl Handle {
    /// Whether it leads.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for something and waits for the answer.
    pub(crate) async fn request(&self, request: Request) -> Result<Accepted, Refusal> {
        let gone = || Refusal::Unavailable("this nimbus is ending".into());
        let (reply, answer) = oneshot::channel();
        self.tell.send(Event::Request(request, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Looks at the driver. `None`: it has ended.
    pub(crate) async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Driver) -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |driver| drop(reply.send(look(driver))));
        self.tell.send(Event::Look(look)).ok()?;
        answer.await.ok()
    }
}

impl NimbusLink for Handle {
    fn report(&self, report: Report) {
        let _ = self.tell.send(Event::Report(report));
    }

    fn stats(&self, stats: NodeStats) {
        let _ = self.tell.send(Event::Stats(stats));
    }
}

/// See the module.
pub(crate) struct Driver {
    nimbus: Nimbus,
    coordinator: Arc<dyn Coordinator>,
    session_options: SessionOptions,
    session_number: u64,
    session: Option<Box<dyn Session>>,
    events: UnboundedReceiver<Event>,
    tell: UnboundedSender<Event>,
    clients: BTreeMap<u64, Reply>,
    next_client: u64,
    stats: BTreeMap<String, NodeStats>,
    ended: VecDeque<Ended>,
    history: History,
    standing: Arc<Mutex<Standing>>,
    instance: String,
    began: Instant,
    log: Log,
}

impl Driver {
    pub(crate) fn new(
        options: NimbusOptions,
        scheduler: Box<dyn Scheduler>,
        coordinator: Arc<dyn Coordinator>,
        session_options: SessionOptions,
        log: Log,
    ) -> (Driver, Handle) {
        let (tell, events) = unbounded_channel();
        let standing = Arc::new(Mutex::new(Standing { role: Role::Away, term: 0 }));
        let instance = options.me.instance.clone();
        let driver = Driver {
            instance,
            nimbus: Nimbus::new(options, scheduler),
            coordinator,
            session_options,
            session_number: 0,
            session: None,
            events,
            tell: tell.clone(),
            clients: BTreeMap::new(),
            next_client: 0,
            stats: BTreeMap::new(),
            ended: VecDeque::new(),
            history: History::default(),
            standing: standing.clone(),
            began: Instant::now(),
            log,
        };
        (driver, Handle { tell, standing })
    }

    /// Works for as long as somebody polls it.
    pub(crate) async fn run(mut self) {
        loop {
            self.carry_out();
            self.stand();
            let due = self.nimbus.next_tick().map_or(Duration::from_secs(3600), |tick| tick.saturating_sub(self.now()));
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.on(event),
                    None => return,
                },
                () = tokio::time::sleep(due) => {}
            }
            self.nimbus.tick(self.now());
        }
    }

    /// Shows whether it leads.
    fn stand(&self) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.role != *self.nimbus.role() {
            standing.role = self.nimbus.role().clone();
            standing.term += u64::from(standing.role == Role::Leading);
            if let Role::Following(leader) = &standing.role {
                (self.log)(&format!("stands by: {} leads, at {}", leader.id, leader.address));
            }
        }
    }

    /// What happened.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The value.
    pub(crate) fn nimbus(&self) -> &Nimbus {
        &self.nimbus
    }

    /// What all nodes have counted of a topology.
    pub(crate) fn stats_of(&self, id: &str) -> TopologyStats {
        let mut sum = TopologyStats::default();
        let live: Vec<&str> = self.nimbus.live_nodes().map(|node| node.id.as_str()).collect();
        for (_, stats) in self.stats.iter().filter(|(node, _)| live.contains(&node.as_str())) {
            if let Some(stats) = stats.topologies.get(id) {
                sum.add(stats);
            }
        }
        sum
    }

    /// How a topology has ended, while that is remembered.
    pub(crate) fn end_of(&self, id: &str) -> Option<&Ended> {
        self.ended.iter().find(|ended| ended.id == id)
    }

    /// Tells this start of it from all others.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// How long it works.
    pub(crate) fn uptime(&self) -> Duration {
        self.now()
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn on(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Connected(number, result) if number == self.session_number => match result {
                Ok(session) => {
                    self.session = Some(session);
                    self.nimbus.connected(now);
                }
                Err(error) => {
                    (self.log)(&format!("no session with the coordinator: {error}; trying again"));
                    self.connect(RETRY);
                }
            },
            Event::Session(number, event) if number == self.session_number => self.nimbus.event(event, now),
            Event::Connected(..) | Event::Session(..) => {}
            Event::Request(request, reply) => {
                self.next_client += 1;
                self.clients.insert(self.next_client, reply);
                self.nimbus.request(ClientId(self.next_client), request, now);
            }
            Event::Report(report) => {
                self.history.report(&report, wall_ms());
                self.nimbus.report(report, now);
            }
            Event::Stats(stats) => {
                self.history.stats(&stats, wall_ms());
                self.stats.insert(stats.node.clone(), stats);
            }
            Event::Look(look) => look(self),
        }
    }

    fn carry_out(&mut self) {
        loop {
            let outputs: Vec<NimbusOutput> = self.nimbus.outputs().collect();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    NimbusOutput::Call { ticket, call } => {
                        if let Some(session) = &self.session {
                            session.call(ticket, call);
                        }
                    }
                    NimbusOutput::Connect => {
                        self.session = None;
                        self.connect(Duration::ZERO);
                    }
                    NimbusOutput::Answer { client, result } => {
                        if let Some(reply) = self.clients.remove(&client.0) {
                            let _ = reply.send(result);
                        }
                    }
                    NimbusOutput::Removed { id, drained, left } => {
                        let pending = if drained { 0 } else { self.stats_of(&id).pending };
                        self.history.removed(&id);
                        self.ended.truncate(ENDS - 1);
                        self.ended.push_front(Ended { id, drained, left: left + pending });
                    }
                    NimbusOutput::Note(note) => {
                        (self.log)(&note);
                        self.history.note(note, wall_ms());
                    }
                }
            }
        }
    }

    fn connect(&mut self, after: Duration) {
        self.session_number += 1;
        let (number, coordinator, tell) = (self.session_number, self.coordinator.clone(), self.tell.clone());
        let options = self.session_options.clone();
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
}

/// The wall clock in milliseconds since 1970, for people.
pub(super) fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}
