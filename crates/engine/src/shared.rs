//! What the components of one worker share, and the way their words reach its main thread.
//!
//! Two bounded channels lead out: events (log lines, warnings, the end) and result rows. An event that finds its
//! channel full is dropped and counted, so a chatty component cannot stall a reactor; a result row that finds its
//! channel full is refused and its component tries again, so no result is lost.
#![allow(clippy::disallowed_types, reason = "two locks, around what components ask for in `prepare` and reports read")]

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use squall_io::Bell;
use squall_metrics::{Counter, Gauge, Histogram, SharedHistogram};
use squall_tuple::ids::{ReactorIx, TaskId, WorkerIx};

use crate::log::{Level, LogFilter};

/// Events that may wait for the main thread.
const EVENTS_WAITING_MAX: usize = 4096;
/// Result rows that may wait for the main thread.
const RESULTS_WAITING_MAX: usize = 64;

/// What a worker tells its main thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// A log line of a component.
    Log {
        /// Importance.
        level: Level,
        /// Component's name.
        component: String,
        /// Its task.
        task: TaskId,
        /// The line.
        text: String,
    },
    /// A result row for whoever started the run, in order per task.
    Result {
        /// What kind of row: chosen by the component.
        key: String,
        /// The task it comes from.
        task: TaskId,
        /// The row.
        bytes: Vec<u8>,
    },
    /// Something the report must mention.
    Warning(String),
    /// The run cannot go on: cause and remedy.
    Failed(String),
    /// Every component of this worker has finished.
    Finished,
    /// The link to another worker has ended. If nobody says within a second that the worker was lost, the run cannot go on, and that is told then.
    LinkLost {
        /// The worker at the other end.
        worker: WorkerIx,
        /// How often the link had been made anew.
        joins: u32,
        /// What the kernel said.
        cause: String,
    },
}

/// The results channel is full: keep the row and try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the results are not being read fast enough; keep the row, return Finish::More and try again")]
pub struct ResultsFull;

type Resource = Arc<dyn Any + Send + Sync>;

/// User metrics of one worker: several tasks may share a name, each writes its own cell.
#[derive(Default)]
struct UserMetrics {
    counters: Vec<((String, String), Counter)>,
    gauges: Vec<((String, String), Gauge)>,
    histograms: Vec<((String, String), SharedHistogram)>,
}

/// See the module. One per worker, shared by all its threads; nothing here is touched per tuple.
pub struct WorkerShared {
    worker: WorkerIx,
    resources: Mutex<HashMap<(TypeId, String), Resource>>,
    doorbells: Mutex<Vec<(ReactorIx, Bell)>>,
    user: Mutex<UserMetrics>,
    events: Sender<WorkerEvent>,
    events_dropped: AtomicU64,
    results: Sender<WorkerEvent>,
    log: LogFilter,
}

/// The main thread's ends of the channels.
pub struct WorkerReceivers {
    /// Log lines, warnings, the end.
    pub events: Receiver<WorkerEvent>,
    /// Result rows.
    pub results: Receiver<WorkerEvent>,
}

/// Locks without regard to a panic elsewhere: the maps behind these locks are whole after every statement.
fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WorkerShared {
    /// The shared part and the main thread's ends. Every log line is let through.
    pub fn new(worker: WorkerIx) -> (Arc<Self>, WorkerReceivers) {
        Self::with_log(worker, LogFilter::all())
    }

    /// As [`WorkerShared::new`], with a filter of log lines.
    pub fn with_log(worker: WorkerIx, log: LogFilter) -> (Arc<Self>, WorkerReceivers) {
        let (events, events_rx) = bounded(EVENTS_WAITING_MAX);
        let (results, results_rx) = bounded(RESULTS_WAITING_MAX);
        let shared = WorkerShared {
            worker,
            resources: Mutex::default(),
            doorbells: Mutex::default(),
            user: Mutex::default(),
            events,
            events_dropped: AtomicU64::new(0),
            results,
            log,
        };
        (Arc::new(shared), WorkerReceivers { events: events_rx, results: results_rx })
    }

    /// Which log lines are wanted.
    pub fn log(&self) -> &LogFilter {
        &self.log
    }

    /// Index of the worker.
    pub fn worker(&self) -> WorkerIx {
        self.worker
    }

    /// The worker's one `T` of this name, made by whoever asks first.
    pub fn resource<T: Any + Send + Sync>(&self, name: &str, init: impl FnOnce() -> T) -> Arc<T> {
        let mut resources = lock(&self.resources);
        let entry =
            resources.entry((TypeId::of::<T>(), name.to_owned())).or_insert_with(|| Arc::new(init()) as Resource);
        entry.clone().downcast().expect("the key holds the type")
    }

    /// What ends the sleep of a reactor of this worker. `None` where no thread sleeps: in the harness and the simulator.
    pub(crate) fn doorbell(&self, reactor: ReactorIx) -> Option<Bell> {
        lock(&self.doorbells).iter().find(|(r, _)| *r == reactor).map(|(_, bell)| bell.clone())
    }

    pub(crate) fn set_doorbell(&self, reactor: ReactorIx, bell: Bell) {
        lock(&self.doorbells).push((reactor, bell));
    }

    /// A new counter cell under (component, name).
    pub fn counter(&self, component: &str, name: &str) -> Counter {
        let cell = Counter::new();
        lock(&self.user).counters.push(((component.to_owned(), name.to_owned()), cell.clone()));
        cell
    }

    /// A new gauge cell under (component, name); the report shows the sum over tasks.
    pub fn gauge(&self, component: &str, name: &str) -> Gauge {
        let cell = Gauge::new();
        lock(&self.user).gauges.push(((component.to_owned(), name.to_owned()), cell.clone()));
        cell
    }

    /// A new histogram under (component, name).
    pub fn histogram(&self, component: &str, name: &str) -> SharedHistogram {
        let cell = SharedHistogram::new();
        lock(&self.user).histograms.push(((component.to_owned(), name.to_owned()), cell.clone()));
        cell
    }

    /// Sends an event; dropped and counted when the main thread is too far behind.
    pub fn event(&self, event: WorkerEvent) {
        if self.events.try_send(event).is_err() {
            self.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends an event that must arrive: waits for room.
    pub(crate) fn event_certain(&self, event: WorkerEvent) {
        // An error means that the main thread is gone, and with it anyone to tell.
        let _ = self.events.send(event);
    }

    /// Events dropped so far.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped.load(Ordering::Relaxed)
    }

    /// Hands a result row on, or refuses it when too many wait.
    pub fn try_result(&self, key: &str, task: TaskId, bytes: Vec<u8>) -> Result<(), (ResultsFull, Vec<u8>)> {
        let row = WorkerEvent::Result { key: key.to_owned(), task, bytes };
        self.results.try_send(row).map_err(|e| match e.into_inner() {
            WorkerEvent::Result { bytes, .. } => (ResultsFull, bytes),
            _ => unreachable!("only results are sent here"),
        })
    }

    /// Sums of the user counters by (component, name).
    pub fn counters(&self) -> BTreeMap<(String, String), u64> {
        let mut sums = BTreeMap::new();
        for (key, cell) in &lock(&self.user).counters {
            *sums.entry(key.clone()).or_default() += cell.get();
        }
        sums
    }

    /// Sums of the user gauges by (component, name).
    pub fn gauges(&self) -> BTreeMap<(String, String), i64> {
        let mut sums = BTreeMap::new();
        for (key, cell) in &lock(&self.user).gauges {
            *sums.entry(key.clone()).or_default() += cell.get();
        }
        sums
    }

    /// User histograms merged by (component, name).
    pub fn histograms(&self) -> BTreeMap<(String, String), Histogram> {
        let mut merged: BTreeMap<(String, String), Histogram> = BTreeMap::new();
        for (key, cell) in &lock(&self.user).histograms {
            merged.entry(key.clone()).or_default().merge(&cell.snapshot());
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_made_once_per_name_and_type() {
        let (shared, _rx) = WorkerShared::new(0);
        let a = shared.resource("n", || 7_u32);
        let b = shared.resource("n", || 8_u32);
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(*shared.resource("other", || 9_u32), 9);
        assert_eq!(*shared.resource("n", || 1_u64), 1);
    }

    #[test]
    fn a_refused_result_row_comes_back_whole() {
        let (shared, rx) = WorkerShared::new(0);
        for i in 0..RESULTS_WAITING_MAX {
            shared.try_result("k", 0, vec![i as u8]).unwrap();
        }
        let (_, row) = shared.try_result("k", 0, vec![99]).unwrap_err();
        assert_eq!(row, vec![99]);
        rx.results.recv().unwrap();
        shared.try_result("k", 0, row).unwrap();
    }

    #[test]
    fn events_beyond_the_bound_are_counted() {
        let (shared, _rx) = WorkerShared::new(0);
        for _ in 0..EVENTS_WAITING_MAX + 3 {
            shared.event(WorkerEvent::Warning("w".into()));
        }
        assert_eq!(shared.events_dropped(), 3);
    }

    #[test]
    fn counters_of_one_name_add_up_over_tasks() {
        let (shared, _rx) = WorkerShared::new(0);
        let (a, b) = (shared.counter("c", "lines"), shared.counter("c", "lines"));
        a.add(3);
        b.add(4);
        assert_eq!(shared.counters()[&("c".to_owned(), "lines".to_owned())], 7);
    }
}
