//! What a task knows about its place, and what its worker offers it.

use std::any::Any;
use std::fmt::Arguments;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use squall_engine::{CohortEnv, Level, ResultsFull, Wake, WorkerEvent, WorkerShared};
use squall_metrics::{Counter, Gauge, SharedHistogram};
use squall_topology::{ComponentKind, Plan};
use squall_tuple::ids::{TaskId, WorkerIx};

use crate::Time;
use crate::cohort::Signal;

/// Given to `prepare`. Handles taken from it (counters, results, wakers …) may be kept; they cost nothing until used.
pub struct Context {
    pub(crate) env: Rc<CohortEnv>,
    pub(crate) task: TaskId,
    pub(crate) signal: Arc<Signal>,
    pub(crate) restarts: u32,
}

impl Context {
    /// This task, unique in the topology.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// This task's place among those of its component, from 0.
    pub fn task_index(&self) -> u32 {
        self.task - self.env.plan.tasks_of(self.env.component).start
    }

    /// Number of tasks of this component.
    pub fn task_count(&self) -> u32 {
        self.env.plan.tasks_of(self.env.component).len() as u32
    }

    /// How often executors of this component were restarted on this reactor: not 0 in the `prepare` of an instance that takes
    /// the place of one that failed.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Whether an instance of this task was there before, in this run: its executor was restarted, or its worker. What it wrote
    /// elsewhere is there, so a sink goes on behind it.
    pub fn takes_over(&self) -> bool {
        self.restarts > 0 || self.env.outbox.epoch() > 0
    }

    /// Name of this component.
    pub fn component(&self) -> &str {
        self.env.component_name()
    }

    /// Tasks of a component, by its name.
    pub fn peers(&self, component: &str) -> Option<std::ops::Range<TaskId>> {
        self.env.plan.spec.component(component).map(|c| self.env.plan.tasks_of(c))
    }

    /// The worker this task runs in.
    pub fn worker(&self) -> WorkerIx {
        self.env.worker
    }

    /// The whole plan.
    pub fn plan(&self) -> &Plan {
        &self.env.plan
    }

    /// This component's configuration as a value of `T`: keys set with `.config(key, value)`, and `T`'s defaults.
    ///
    /// # Errors
    /// What serde says of a key that is missing, unknown or of another type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        let config = &self.env.plan.spec.components[self.env.component as usize].config;
        let map = config.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        serde_json::from_value(serde_json::Value::Object(map))
    }

    /// The topology's folder for state that outlasts a run, if it was given one (`--state`). It need not exist.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let spec = &self.env.plan.spec;
        Some(Path::new(spec.config.state.as_ref()?).join(&spec.name))
    }

    /// The worker's one `T` of this name, shared by all its tasks; made by the task that asks first.
    pub fn resource<T: Any + Send + Sync>(&self, name: &str, init: impl FnOnce() -> T) -> Arc<T> {
        self.env.shared.resource(name, init)
    }

    /// A counter in the live view and the report, summed over tasks.
    pub fn counter(&self, name: &str) -> Counter {
        self.env.shared.counter(self.component(), name)
    }

    /// A gauge in the live view and the report, summed over tasks.
    pub fn gauge(&self, name: &str) -> Gauge {
        self.env.shared.gauge(self.component(), name)
    }

    /// A histogram of nanoseconds in the report, merged over tasks.
    pub fn histogram(&self, name: &str) -> SharedHistogram {
        self.env.shared.histogram(self.component(), name)
    }

    /// Writes a log line that carries component and task: `ctx.log(Level::Info, format_args!("…"))`. Never blocks; a
    /// line that finds the log full is dropped and counted. A line that the run's `--log` leaves out is not even formatted.
    pub fn log(&self, level: Level, text: Arguments<'_>) {
        self.logger().log(level, text);
    }

    /// A handle to log with after `prepare`.
    pub fn logger(&self) -> Logger {
        let most = self.env.shared.log().most(self.component());
        Logger { shared: self.env.shared.clone(), component: self.component().into(), task: self.task, most }
    }

    /// The way of result rows to whoever started the run.
    pub fn results(&self) -> Results {
        Results { shared: self.env.shared.clone(), task: self.task }
    }

    /// Ends `Next::Parked` of this spout task, from any thread. Of a bolt: has [`Bolt::woken`](crate::Bolt::woken) called.
    pub fn waker(&self) -> Waker {
        let component = &self.env.plan.spec.components[self.env.component as usize];
        let wake: Wake = match component.kind {
            ComponentKind::Spout => self.env.wake.clone(),
            ComponentKind::Bolt => Arc::new(self.env.outbox.bolt_waker()),
        };
        Waker { signal: self.signal.clone(), wake }
    }

    /// Ends `Next::Parked` of this spout task from another process: an eventfd to hand to it. Who publishes something and then
    /// writes a `u64` 1 to it wakes the reactor, if it sleeps, by that one system call, and has `next` called. A task that
    /// has asked for its doorbell is called whenever its reactor is awake, whoever woke it: look, and park again.
    ///
    /// # Errors
    /// Where no thread sleeps (in the test harness), and where no descriptor is left.
    pub fn doorbell(&self) -> io::Result<OwnedFd> {
        let bell = self.env.doorbell()?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "there is no doorbell here: run the topology in a worker")
        })?;
        self.signal.set_belled();
        Ok(bell)
    }

    /// The topology's clock.
    pub fn clock(&self) -> Clock {
        Clock(self.env.clock.clone())
    }
}

/// Writes log lines of one task.
#[derive(Clone)]
pub struct Logger {
    shared: Arc<WorkerShared>,
    component: Arc<str>,
    task: TaskId,
    /// The least important level that is wanted of this component.
    most: Option<Level>,
}

impl Logger {
    /// Whether a line of this level is wanted: ask before work that only serves a log line.
    pub fn enabled(&self, level: Level) -> bool {
        self.most.is_some_and(|most| level <= most)
    }

    /// See [`Context::log`].
    pub fn log(&self, level: Level, text: Arguments<'_>) {
        if !self.enabled(level) {
            return;
        }
        self.shared.event(WorkerEvent::Log {
            level,
            component: self.component.to_string(),
            task: self.task,
            text: text.to_string(),
        });
    }
}

/// Sends result rows of one task to whoever started the run: what the topology was run for, where that is not another
/// system. Rows of one task arrive in order.
#[derive(Clone)]
pub struct Results {
    shared: Arc<WorkerShared>,
    task: TaskId,
}

impl Results {
    /// Hands a row on; `key` says what kind of row it is.
    ///
    /// # Errors
    /// When too many rows wait: the row comes back. Keep it, return [`Finish::More`](crate::Finish::More) and try again.
    pub fn try_push(&self, key: &str, row: Vec<u8>) -> Result<(), (ResultsFull, Vec<u8>)> {
        self.shared.try_result(key, self.task, row)
    }
}

/// Ends the parking of a spout task, or has a bolt's `woken` called. Any thread may use it.
#[derive(Clone)]
pub struct Waker {
    signal: Arc<Signal>,
    wake: Wake,
}

impl Waker {
    /// Has `next` called again. A wake that comes before the task parks is not lost.
    pub fn wake(&self) {
        self.signal.wake();
        (self.wake)();
    }
}

/// The topology's monotonic clock; virtual in tests.
#[derive(Clone)]
pub struct Clock(Rc<dyn squall_engine::Clock>);

impl Clock {
    /// Now. About 20 ns a reading: not per tuple.
    pub fn now(&self) -> Time {
        Time { ns: self.0.now_ns() }
    }
}
