//! The real thing behind the seam: a plan over the author's components, and the engine's worker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, never, select};
use std::cell::Cell;

use squall_engine::{
    Board, BoardLayout, IoChoice, IoOptions, Level, LogFilter, Membership, Pulse, Registry, SocketLink, WaitPlan,
    Worker, WorkerConfig, WorkerEvent,
};
use squall_topology::{ComponentKind, Grouping, LinkKind, Machine, Plan};

use super::engine::{
    ComponentOutline, Engine, Event, Events, InputOutline, Join, Outline, Program, Role, SocketEnd, SocketPair,
};
use super::sample;
use super::stats::WorkerStats;

/// How workers run a plan; the same in all of them, from the same arguments.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub io: IoChoice,
    pub io_options: IoOptions,
    pub wait: WaitPlan,
    pub pin: bool,
    pub log: LogFilter,
    /// Component whose tuples are sampled; one of the plan's.
    pub sample: Option<String>,
}

/// A planned topology with its code.
pub(crate) struct Dataplane {
    plan: Arc<Plan>,
    registry: Arc<Registry>,
    settings: Settings,
    outline: Outline,
}

impl Dataplane {
    pub(crate) fn new(plan: Plan, registry: Arc<Registry>, machine: &Machine, settings: Settings) -> Dataplane {
        let outline = outline(&plan, machine);
        Dataplane { plan: Arc::new(plan), registry, settings, outline }
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl Program for Dataplane {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn first_difference(&self, canonical: &str) -> Option<String> {
        Plan::first_difference(canonical, &self.outline.canonical)
    }

    fn start(self: Box<Self>, role: Role, sockets: Vec<SocketEnd>) -> Result<Box<dyn Engine>, String> {
        let Settings { io, io_options, wait, pin, log, sample } = self.settings;
        let Role { worker, epochs, heals, patience, board } = role;
        let mut registry = self.registry;
        let samples = match sample.and_then(|name| self.plan.spec.component(&name)) {
            Some(component) => sample::attach(component, &self.plan, &mut registry),
            None => never(),
        };
        let layout = BoardLayout::of(&self.plan);
        let board = Board::open(layout, board).map_err(|e| format!("the board of the run cannot be used: {e}"))?;
        let pulse = board.main(worker);
        let config = WorkerConfig { plan: self.plan, worker, io, io_options, wait, pin, log };
        let membership = Membership { epochs, board, heals, patience };
        let worker = Worker::start_in(config, membership, registry, links(sockets)).map_err(|e| e.to_string())?;
        Ok(Box::new(Running { worker, samples, pulse, beats: Cell::new(0) }))
    }
}

fn links(sockets: Vec<SocketEnd>) -> Vec<SocketLink> {
    sockets.into_iter().map(|end| SocketLink { a: end.reactors.0, b: end.reactors.1, fd: end.fd }).collect()
}

fn outline(plan: &Plan, machine: &Machine) -> Outline {
    let spec = &plan.spec;
    let component = |(ix, component): (u32, &squall_topology::ComponentSpec)| ComponentOutline {
        name: component.name.clone(),
        tasks: component.tasks,
        spout: component.kind == ComponentKind::Spout,
        reliable: component.reliable && plan.spec.config.acking(),
        inputs: inputs(plan, ix),
        execute_timeout_ms: component.execute_timeout_ms,
    };
    Outline {
        name: spec.name.clone(),
        workers: plan.workers.len() as u32,
        canonical: plan.canonical(),
        hash: plan.hash(),
        cores: machine.cores.clone(),
        socket_pairs: socket_pairs(plan),
        components: (0..).zip(&spec.components).map(component).collect(),
        memory_bytes: plan.memory.total,
        tasks: plan.tasks.len() as u32,
        reactors: plan.reactors.len() as u32,
        board: BoardLayout::of(plan),
    }
}

/// Each pair of reactors once, however many links there are between them.
fn socket_pairs(plan: &Plan) -> Vec<SocketPair> {
    // One that shares memory has a socket too: it agrees on the memory there, and learns of the other's end.
    let sockets = plan.links.iter().filter(|link| matches!(link.kind, LinkKind::Shm | LinkKind::Socket));
    let pairs: BTreeSet<_> = sockets.map(|link| (link.from.min(link.to), link.from.max(link.to))).collect();
    let worker = |reactor: u32| plan.reactors[reactor as usize].worker;
    pairs
        .into_iter()
        .map(|reactors| SocketPair { reactors, workers: (worker(reactors.0), worker(reactors.1)) })
        .collect()
}

/// What a component executes for each tuple emitted by others, where the groupings fix that. Counts of emitted tuples
/// are per component, so an input from one of several streams cannot be told.
fn inputs(plan: &Plan, component: u32) -> Option<Vec<InputOutline>> {
    plan.inputs_of(component)
        .iter()
        .map(|ix| {
            let subscription = &plan.spec.subscriptions[*ix as usize];
            let from = plan.spec.streams[subscription.stream as usize].component;
            let per_tuple = match subscription.grouping {
                Grouping::Direct | Grouping::Custom(_) => return None,
                Grouping::All => u64::from(plan.spec.components[component as usize].tasks),
                _ => 1,
            };
            let one_stream = plan.streams_of(from).len() == 1;
            one_stream.then(|| InputOutline { from: plan.spec.components[from as usize].name.clone(), per_tuple })
        })
        .collect()
}

struct Running {
    worker: Worker,
    samples: Receiver<Event>,
    pulse: Pulse,
    beats: Cell<u64>,
}

impl Engine for Running {
    fn events(&self) -> Box<dyn Events> {
        let receivers = self.worker.receivers();
        let (events, results) = (receivers.events.clone(), receivers.results.clone());
        Box::new(Channels { events, results, samples: self.samples.clone(), finished: false })
    }

    fn begin(&self) {
        self.worker.begin();
    }

    fn pause_spouts(&self) {
        self.worker.pause_spouts();
    }

    fn stop_spouts(&self) {
        self.worker.stop_spouts();
    }

    fn lose(&self, worker: u32) {
        self.worker.lose_worker(worker);
    }

    fn leave(&self, worker: u32) {
        self.worker.leave_worker(worker);
    }

    fn rejoin(&self, worker: u32, epoch: u32, joins: u32, sockets: Vec<SocketEnd>) -> Join {
        let rejoiner = self.worker.rejoiner();
        // `false`: it died meanwhile, and will come again.
        Box::new(move || rejoiner.rejoin(worker, epoch, joins, links(sockets)).map(|_| ()).map_err(|e| e.to_string()))
    }

    fn beat(&self) {
        self.beats.set(self.beats.get() + 1);
        self.pulse.beat(self.beats.get());
    }

    fn snapshot(&self) -> WorkerStats {
        self.worker.snapshot()
    }

    fn join(self: Box<Self>) -> WorkerStats {
        self.worker.join()
    }
}

/// The channels out of a worker as one sequence of events.
struct Channels {
    events: Receiver<WorkerEvent>,
    results: Receiver<WorkerEvent>,
    samples: Receiver<Event>,
    /// `Finished` came; it is passed on once the rows pushed before it are.
    finished: bool,
}

impl Events for Channels {
    fn next(&mut self, timeout: Duration, results: bool) -> Option<Event> {
        if let Ok(sample) = self.samples.try_recv() {
            return Some(sample);
        }
        let event = match (self.finished, results) {
            (true, true) => match self.results.try_recv() {
                Ok(row) => row,
                Err(_) => return Some(Event::Finished),
            },
            (true, false) if self.results.is_empty() => return Some(Event::Finished),
            // Nothing but rows is left, and nobody has room for them yet.
            (true, false) => {
                std::thread::sleep(timeout);
                return None;
            }
            (false, true) => select! {
                recv(self.events) -> event => event.ok()?,
                recv(self.results) -> row => row.ok()?,
                recv(self.samples) -> sample => return sample.ok(),
                default(timeout) => return None,
            },
            (false, false) => select! {
                recv(self.events) -> event => event.ok()?,
                recv(self.samples) -> sample => return sample.ok(),
                default(timeout) => return None,
            },
        };
        match event {
            WorkerEvent::Finished => {
                self.finished = true;
                self.next(timeout, results)
            }
            WorkerEvent::Log { level, component, task, text } => {
                Some(Event::Log { level: level_name(level).to_owned(), component, task, text })
            }
            WorkerEvent::Result { key, task, bytes } => Some(Event::Result { key, task, bytes }),
            WorkerEvent::Warning(text) => Some(Event::Warning(text)),
            WorkerEvent::Failed(cause) => Some(Event::Failed(cause)),
            WorkerEvent::LinkLost { worker, joins, .. } => Some(Event::LinkLost { worker, joins }),
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels() -> (crossbeam_channel::Sender<WorkerEvent>, crossbeam_channel::Sender<WorkerEvent>, Channels) {
        let (tell, events) = crossbeam_channel::bounded(8);
        let (push, results) = crossbeam_channel::bounded(8);
        (tell, push, Channels { events, results, samples: never(), finished: false })
    }

    fn row(task: u32) -> WorkerEvent {
        WorkerEvent::Result { key: "k".into(), task, bytes: vec![] }
    }

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn the_end_comes_after_the_last_row_and_not_while_rows_have_no_room() {
        let (tell, push, mut channels) = channels();
        push.send(row(1)).expect("there is room");
        push.send(row(2)).expect("there is room");
        tell.send(WorkerEvent::Finished).expect("there is room");
        assert_eq!(channels.next(SHORT, false), None);
        let mut seen = Vec::new();
        loop {
            match channels.next(SHORT, true) {
                Some(Event::Result { task, .. }) => seen.push(task),
                Some(Event::Finished) => break,
                other => assert_eq!(other, None),
            }
        }
        assert_eq!(seen, [1, 2]);
        assert_eq!(channels.next(SHORT, false), Some(Event::Finished));
    }

    #[test]
    fn a_failure_is_told_while_rows_have_no_room() {
        let (tell, push, mut channels) = channels();
        push.send(row(1)).expect("there is room");
        tell.send(WorkerEvent::Failed("f".into())).expect("there is room");
        assert_eq!(channels.next(SHORT, false), Some(Event::Failed("f".into())));
        assert_eq!(channels.next(SHORT, false), None);
    }
}
