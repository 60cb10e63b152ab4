//! Where a component is put: the topology, its id and parallelism, the fields it reads, and the language of expressions.

use std::time::Duration;

use squall::{Bolt, BoltDecl, Placement, Row, RowStream, RowStreams, Spout, SpoutDecl, StreamHandle, Sub, Topology};

use super::config::{ConfigError, Given, Span, meant};
use crate::expression::{Compiler, ExpressionFactory, field_expression};

/// Key of a component's configuration in the plan under which the digest of its options is.
const OPTIONS: &str = "options";

/// A place in a topology that a component is about to take.
///
/// ```
/// # extern crate squall_api as squall;
/// use squall::prelude::*;
/// use squall_components::registry::Place;
/// use squall_components::{Generator, Keyed};
///
/// let topology = Topology::new("show");
/// let numbers = Generator::new(1000).declare(Place::new(&topology, "numbers"))?;
/// let numbers = numbers.stream("default").expect("every spout has it");
/// let place = Place::new(&topology, "counts").executors(2).reads(&numbers.fields);
/// let mut counts = Keyed::count().by(["key"]).declare(place)?;
/// counts.subscribe(numbers.handle.fields_named(["key"]));
/// # let counts = counts.stream("default").unwrap();
/// # assert_eq!(counts.fields, ["key", "count"]);
/// # Ok::<(), Vec<squall_components::registry::ConfigError>>(())
/// ```
pub struct Place<'t> {
    topology: &'t Topology,
    id: String,
    at: Span,
    executors: u32,
    tasks: Option<u32>,
    fields: Vec<String>,
    compiler: Option<&'t dyn Compiler>,
    execute_timeout: Option<Duration>,
    /// Stands for the component's name and options in the plan.
    digest: Option<u64>,
}

/// A stream of rows of a declared component.
#[derive(Clone)]
pub struct Rows {
    /// Its name.
    pub name: String,
    /// Its fields, in the order of the rows' values.
    pub fields: Vec<String>,
    /// What bolts subscribe to.
    pub handle: StreamHandle<Row>,
}

type Subscribe = Box<dyn FnMut(Sub<Row>)>;

/// A component that has been declared: its streams, and the way to subscribe it.
pub struct Declared {
    streams: Vec<Rows>,
    /// Names of those whose tuples would be lost if nobody read them.
    to_read: Vec<&'static str>,
    /// Its executors run on threads of their own.
    side_thread: bool,
    subscribe: Option<Subscribe>,
}

impl<'t> Place<'t> {
    /// A place in `topology` for a component named `id`: one task, no input fields, no expressions but names of fields.
    pub fn new(topology: &'t Topology, id: &str) -> Place<'t> {
        let id = id.to_owned();
        Place {
            topology,
            id,
            at: Span::NONE,
            executors: 1,
            tasks: None,
            fields: Vec::new(),
            compiler: None,
            execute_timeout: None,
            digest: None,
        }
    }

    /// Where the component was written: errors that have no option of their own are there.
    pub fn at(mut self, at: Span) -> Self {
        self.at = at;
        self
    }

    /// Number of executors (Flux's `parallelism`). Default 1.
    pub fn executors(mut self, executors: u32) -> Self {
        self.executors = executors;
        self
    }

    /// Number of tasks. Default: as many as executors.
    pub fn tasks(mut self, tasks: u32) -> Self {
        self.tasks = Some(tasks);
        self
    }

    /// The fields of the rows that a bolt reads: those of all its streams.
    pub fn reads<S: AsRef<str>>(mut self, fields: &[S]) -> Self {
        self.fields = fields.iter().map(|f| f.as_ref().to_owned()).collect();
        self
    }

    /// How long one call of it may take before its worker is killed and replaced: whole milliseconds, at least 1,000; zero for as
    /// long as it likes. On a side thread it has no effect. Default: 30 s.
    pub fn execute_timeout(mut self, timeout: Duration) -> Self {
        self.execute_timeout = Some(timeout);
        self
    }

    /// The language of expressions.
    pub fn compiler(mut self, compiler: &'t dyn Compiler) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// What stands for the component and its options in the plan: workers whose own differ refuse to run.
    pub(crate) fn configured(mut self, digest: u64) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Name of the component.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the component was written.
    pub fn span(&self) -> Span {
        self.at
    }

    /// The fields of the rows that a bolt reads.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Number of tasks.
    pub fn task_count(&self) -> u32 {
        self.tasks.unwrap_or(self.executors)
    }

    /// The position of an input field.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn field(&self, name: &Given<String>) -> Result<u16, ConfigError> {
        match self.fields.iter().position(|f| *f == name.value) {
            Some(at) => Ok(at as u16),
            None => {
                let known: Vec<&str> = self.fields.iter().map(String::as_str).collect();
                let what = format!("the input has no field `{}`", name.value);
                Err(ConfigError::new(name.at, what, meant(name, &known, "fields")))
            }
        }
    }

    /// Compiles an expression over the input's fields.
    ///
    /// # Errors
    /// What the compiler says. Without a compiler, everything but the name of a field.
    pub fn expression(&self, text: &Given<String>) -> Result<ExpressionFactory, ConfigError> {
        if let Some(compiler) = self.compiler {
            return compiler.compile(text, &self.fields);
        }
        self.field(text).map(field_expression)
    }

    /// Refuses more than one task, for a source or sink that there is only one of.
    ///
    /// # Errors
    /// If more than one task is asked for; `why` completes “…, because”.
    pub fn one_task(&self, why: &str) -> Result<(), ConfigError> {
        if self.task_count() == 1 {
            return Ok(());
        }
        let what = format!("`{}` has {} tasks, but can have only one, because {why}", self.id, self.task_count());
        Err(ConfigError::new(self.at, what, "leave parallelism and numTasks out"))
    }

    /// Declares a spout here; `factory` makes one instance per task.
    pub fn spout<S: Spout<Out = RowStreams>>(
        self,
        streams: Vec<RowStream>,
        factory: impl Fn() -> S + Send + Sync + 'static,
    ) -> Declared {
        self.spout_with(streams, factory, |decl| decl)
    }

    /// As [`Place::spout`], with more settings of the builder.
    pub fn spout_with<S: Spout<Out = RowStreams>>(
        self,
        streams: Vec<RowStream>,
        factory: impl Fn() -> S + Send + Sync + 'static,
        settings: impl FnOnce(SpoutDecl<RowStreams>) -> SpoutDecl<RowStreams>,
    ) -> Declared {
        let mut decl = self.topology.row_spout(&self.id, &streams, factory).tasks(self.task_count());
        if let Some(digest) = self.digest {
            decl = decl.config(OPTIONS, format!("{digest:016x}"));
        }
        if let Some(timeout) = self.execute_timeout {
            decl = decl.execute_timeout(timeout);
        }
        let handles = settings(decl.executors(self.executors)).streams();
        let side_thread = S::placement() == Placement::SideThread;
        Declared { streams: named(streams, handles), to_read: Vec::new(), side_thread, subscribe: None }
    }

    /// Declares a bolt here; `factory` makes one instance per task; `tick` is the period of its ticks.
    pub fn bolt<B: Bolt<In = Row, Out = RowStreams>>(
        self,
        streams: Vec<RowStream>,
        tick: Option<Duration>,
        factory: impl Fn() -> B + Send + Sync + 'static,
    ) -> Declared {
        self.bolt_with(streams, tick, factory, |decl| decl)
    }

    /// As [`Place::bolt`], with more settings of the builder.
    pub fn bolt_with<B: Bolt<In = Row, Out = RowStreams>>(
        self,
        streams: Vec<RowStream>,
        tick: Option<Duration>,
        factory: impl Fn() -> B + Send + Sync + 'static,
        settings: impl FnOnce(BoltDecl<B>) -> BoltDecl<B>,
    ) -> Declared {
        let mut decl = self.topology.row_bolt(&self.id, &streams, factory).tasks(self.task_count());
        if let Some(digest) = self.digest {
            decl = decl.config(OPTIONS, format!("{digest:016x}"));
        }
        if let Some(timeout) = self.execute_timeout {
            decl = decl.execute_timeout(timeout);
        }
        let mut decl = settings(decl.executors(self.executors));
        if let Some(period) = tick {
            decl = decl.tick_every(period.max(Duration::from_millis(1)));
        }
        let handles = (*decl).clone();
        let mut decl = Some(decl);
        let subscribe = move |sub: Sub<Row>| decl = decl.take().map(|decl| decl.on(sub));
        let side_thread = B::placement() == Placement::SideThread;
        let subscribe: Subscribe = Box::new(subscribe);
        Declared { streams: named(streams, handles), to_read: Vec::new(), side_thread, subscribe: Some(subscribe) }
    }
}

fn named(streams: Vec<RowStream>, handles: Vec<StreamHandle<Row>>) -> Vec<Rows> {
    let rows = |(RowStream { name, fields }, handle)| Rows { name, fields, handle };
    streams.into_iter().zip(handles).map(rows).collect()
}

impl Declared {
    /// Its streams, the usual one (`default`) first.
    pub fn streams(&self) -> &[Rows] {
        &self.streams
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<&Rows> {
        self.streams.iter().find(|s| s.name == name)
    }

    /// Says that a stream has to have a reader: without one its tuples would be lost.
    pub(crate) fn must_be_read(mut self, stream: &'static str) -> Declared {
        self.to_read.push(stream);
        self
    }

    /// Names of its streams that have to have a reader. A topology whose author forgot one ends when it begins.
    pub fn to_be_read(&self) -> &[&'static str] {
        &self.to_read
    }

    /// Whether each of its executors has a thread of its own, whose calls may take as long as they like.
    pub fn on_side_thread(&self) -> bool {
        self.side_thread
    }

    /// Whether it is a bolt, which must be subscribed to something.
    pub fn is_bolt(&self) -> bool {
        self.subscribe.is_some()
    }

    /// Subscribes the bolt to a stream whose rows have the fields that its place said it reads.
    ///
    /// # Panics
    /// If it is a spout.
    pub fn subscribe(&mut self, sub: Sub<Row>) {
        self.subscribe.as_mut().expect("a spout subscribes to nothing")(sub);
    }
}
