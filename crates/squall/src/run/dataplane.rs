//! The real thing behind the seam: a plan over the author's components, and the engine's worker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, select};
use squall_engine::{IoChoice, IoOptions, Level, Registry, SocketLink, WaitPlan, Worker, WorkerConfig, WorkerEvent};
use squall_topology::{ComponentKind, Grouping, LinkKind, Machine, Plan};

use super::engine::{ComponentOutline, Engine, Event, Events, InputOutline, Outline, Program, SocketEnd, SocketPair};
use super::stats::WorkerStats;

/// How workers run a plan; the same in all of them, from the same arguments.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub io: IoChoice,
    pub io_options: IoOptions,
    pub wait: WaitPlan,
    pub pin: bool,
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
}

impl Program for Dataplane {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn first_difference(&self, canonical: &str) -> Option<String> {
        Plan::first_difference(canonical, &self.outline.canonical)
    }

    fn start(self: Box<Self>, worker: u32, sockets: Vec<SocketEnd>) -> Result<Box<dyn Engine>, String> {
        let Settings { io, io_options, wait, pin } = self.settings;
        let config = WorkerConfig { plan: self.plan, worker, io, io_options, wait, pin };
        let link = |end: SocketEnd| SocketLink { a: end.reactors.0, b: end.reactors.1, fd: end.fd };
        let worker = Worker::start(config, self.registry, sockets.into_iter().map(link).collect());
        worker.map(|worker| Box::new(Running(worker)) as Box<dyn Engine>).map_err(|error| error.to_string())
    }
}

fn outline(plan: &Plan, machine: &Machine) -> Outline {
    let spec = &plan.spec;
    let component = |(ix, component): (u32, &squall_topology::ComponentSpec)| ComponentOutline {
        name: component.name.clone(),
        tasks: component.tasks,
        spout: component.kind == ComponentKind::Spout,
        reliable: component.reliable && plan.spec.config.acking(),
        inputs: inputs(plan, ix),
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

struct Running(Worker);

impl Engine for Running {
    fn events(&self) -> Box<dyn Events> {
        let receivers = self.0.receivers();
        Box::new(Channels { events: receivers.events.clone(), results: receivers.results.clone(), finished: false })
    }

    fn begin(&self) {
        self.0.begin();
    }

    fn stop_spouts(&self) {
        self.0.stop_spouts();
    }

    fn snapshot(&self) -> WorkerStats {
        self.0.snapshot()
    }

    fn join(self: Box<Self>) -> WorkerStats {
        self.0.join()
    }
}

/// The two channels out of a worker as one sequence of events.
struct Channels {
    events: Receiver<WorkerEvent>,
    results: Receiver<WorkerEvent>,
    /// `Finished` came; it is passed on once the rows pushed before it are.
    finished: bool,
}

impl Events for Channels {
    fn next(&mut self, timeout: Duration, results: bool) -> Option<Event> {
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
                default(timeout) => return None,
            },
            (false, false) => match self.events.recv_timeout(timeout) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
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
        (tell, push, Channels { events, results, finished: false })
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
