//! Declares a topology: components with their factories, streams with their types, and who reads what how.
//!
//! Handles carry the tuple type, so a bolt that is wired to the wrong stream does not compile. What the types cannot
//! say (names, counts, cycles) is checked when the plan is made, with all errors at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use squall_engine::{CohortFactory, GroupingFactory, HookFactory, Registry, TaskHook};
use squall_topology::{
    ComponentSpec, CustomGrouping, DEAD_LETTERS, Grouping, Machine, Placement, Plan, SubscriptionSpec, TopologyConfig,
    TopologyError, TopologySpec,
};
use squall_tuple::ids::{ComponentIx, StreamIx};
use squall_tuple::{Field, Row, Tuple, TupleType};

use crate::bolt::BoltCohort;
use crate::cohort::Factory;
use crate::letter::DeadLetter;
use crate::spout::SpoutCohort;
use crate::stream::OutputsDecl;
use crate::{Accepts, Bolt, InputPort, Outputs, RowStream, RowStreams, Spout};

pub(crate) type Shared = Rc<RefCell<Inner>>;

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) spec: TopologySpec,
    pub(crate) types: Vec<TupleType>,
    cohorts: Vec<CohortFactory>,
    hooks: Vec<Vec<HookFactory>>,
    groupings: HashMap<String, GroupingFactory>,
    /// Mistakes of calls that return handles and so cannot return them.
    mistakes: Vec<String>,
}

impl Inner {
    pub(crate) fn into_parts(self) -> (TopologySpec, Arc<Registry>) {
        let Inner { spec, types, cohorts, hooks, groupings, .. } = self;
        (spec, Arc::new(Registry { cohorts, types, hooks, groupings }))
    }
}

/// Everything that is wrong with a topology.
#[derive(Debug)]
pub struct BuildError {
    mistakes: Vec<String>,
    invalid: Vec<TopologyError>,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.mistakes.iter().cloned().chain(self.invalid.iter().map(ToString::to_string));
        for (i, e) in all.enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{e}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

impl From<Vec<TopologyError>> for BuildError {
    fn from(invalid: Vec<TopologyError>) -> Self {
        BuildError { mistakes: Vec::new(), invalid }
    }
}

/// A topology being declared.
///
/// ```
/// # extern crate squall_api as squall;
/// # use squall::prelude::*;
/// # #[derive(Tuple)] struct N { n: u64 }
/// # struct Numbers; impl Spout for Numbers { type Out = Stream<N>;
/// #   fn next(&mut self, _: &mut Stream<N>) -> Result<Next, SpoutError> { Ok(Next::End) } }
/// # #[derive(Default)] struct Sum(u64); impl Bolt for Sum { type In = N; type Out = ();
/// #   fn execute(&mut self, n: Input<'_, N>, _: &mut ()) -> Result<(), BoltError> { self.0 += n.n.to_native(); Ok(()) } }
/// let t = Topology::new("sums");
/// let numbers = t.spout("numbers", || Numbers);
/// let even = t.filter("even", numbers.shuffle(), |n| n.n % 2 == 0);
/// t.bolt("sum", Sum::default).tasks(2).on(even.fields([N::N]));
/// let plan = t.build()?.plan(&Default::default())?;
/// assert_eq!(plan.tasks.len(), 4);
/// # Ok::<(), squall::BuildError>(())
/// ```
pub struct Topology {
    pub(crate) shared: Shared,
}

/// A declared topology: the spec, and the code behind it.
pub struct Built {
    /// What runs where is derived from this.
    pub spec: TopologySpec,
    /// What runs.
    pub registry: Arc<Registry>,
}

impl Built {
    /// Lays the topology out on a machine.
    ///
    /// # Errors
    /// Everything that is wrong with the topology.
    pub fn plan(&self, machine: &Machine) -> Result<Plan, BuildError> {
        Ok(Plan::new(self.spec.clone(), machine)?)
    }
}

impl Topology {
    /// An empty topology.
    pub fn new(name: &str) -> Self {
        let t = Topology { shared: Shared::default() };
        t.set_name(name);
        t
    }

    /// Names the topology.
    pub fn set_name(&self, name: &str) {
        name.clone_into(&mut self.shared.borrow_mut().spec.name);
    }

    /// Changes the topology's configuration: `t.configure(|c| c.workers = 2)`.
    pub fn configure(&self, change: impl FnOnce(&mut TopologyConfig)) {
        change(&mut self.shared.borrow_mut().spec.config);
    }

    /// Declares a spout; `factory` makes one instance per task, on the thread that will run it.
    pub fn spout<S: Spout>(&self, name: &str, factory: impl Fn() -> S + Send + Sync + 'static) -> SpoutDecl<S::Out> {
        self.spout_with(name, &[], factory)
    }

    /// Declares a bolt; `factory` makes one instance per task, on the thread that will run it.
    pub fn bolt<B: Bolt>(&self, name: &str, factory: impl Fn() -> B + Send + Sync + 'static) -> BoltDecl<B> {
        self.bolt_with(name, &[], factory)
    }

    /// As [`Topology::spout`], for a spout whose streams of rows are known only now.
    pub fn row_spout<S: Spout<Out = RowStreams>>(
        &self,
        name: &str,
        streams: &[RowStream],
        factory: impl Fn() -> S + Send + Sync + 'static,
    ) -> SpoutDecl<RowStreams> {
        self.spout_with(name, streams, factory)
    }

    /// As [`Topology::bolt`], for a bolt whose streams of rows are known only now.
    pub fn row_bolt<B: Bolt<Out = RowStreams>>(
        &self,
        name: &str,
        streams: &[RowStream],
        factory: impl Fn() -> B + Send + Sync + 'static,
    ) -> BoltDecl<B> {
        self.bolt_with(name, streams, factory)
    }

    fn spout_with<S: Spout>(
        &self,
        name: &str,
        rows: &[RowStream],
        factory: impl Fn() -> S + Send + Sync + 'static,
    ) -> SpoutDecl<S::Out> {
        let spec = ComponentSpec { placement: S::placement(), reliable: S::reliable(), ..ComponentSpec::spout(name) };
        let factory: Factory<S> = Arc::new(factory);
        let cohort: CohortFactory = Box::new(move |env| Box::new(SpoutCohort::<S>::new(env, factory.clone())));
        let (component, handles) = self.declare::<S::Out>(spec, cohort, rows);
        SpoutDecl { decl: Decl { shared: self.shared.clone(), component, handles } }
    }

    pub(crate) fn bolt_with<B: Bolt>(
        &self,
        name: &str,
        rows: &[RowStream],
        factory: impl Fn() -> B + Send + Sync + 'static,
    ) -> BoltDecl<B> {
        let spec = ComponentSpec { placement: B::placement(), ..ComponentSpec::bolt(name) };
        let factory: Factory<B> = Arc::new(factory);
        let cohort: CohortFactory = Box::new(move |env| Box::new(BoltCohort::<B>::new(env, factory.clone())));
        let (component, handles) = self.declare::<B::Out>(spec, cohort, rows);
        BoltDecl { decl: Decl { shared: self.shared.clone(), component, handles } }
    }

    fn declare<O: Outputs>(
        &self,
        spec: ComponentSpec,
        cohort: CohortFactory,
        rows: &[RowStream],
    ) -> (ComponentIx, O::Handles) {
        let mut inner = self.shared.borrow_mut();
        let component = inner.spec.components.len() as ComponentIx;
        inner.spec.components.push(spec);
        inner.cohorts.push(cohort);
        inner.hooks.push(Vec::new());
        let builder = self.shared.clone();
        let handles = O::declare(&mut OutputsDecl { inner: &mut inner, component, builder, rows });
        (component, handles)
    }

    /// Ends the declaration.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn build(self) -> Result<Built, BuildError> {
        let mut inner = self.shared.take();
        let mistakes = std::mem::take(&mut inner.mistakes);
        let invalid = inner.spec.validate().err().unwrap_or_default();
        if !mistakes.is_empty() || !invalid.is_empty() {
            return Err(BuildError { mistakes, invalid });
        }
        let (spec, registry) = inner.into_parts();
        Ok(Built { spec, registry })
    }
}

struct Decl<H> {
    shared: Shared,
    component: ComponentIx,
    handles: H,
}

impl<H> Decl<H> {
    fn change(&self, change: impl FnOnce(&mut ComponentSpec)) {
        change(&mut self.shared.borrow_mut().spec.components[self.component as usize]);
    }

    fn config(&self, key: &str, value: impl Serialize) {
        let mut inner = self.shared.borrow_mut();
        match serde_json::to_value(value) {
            Ok(v) => {
                inner.spec.components[self.component as usize].config.insert(key.to_owned(), v);
            }
            Err(e) => {
                let name = inner.spec.components[self.component as usize].name.clone();
                inner.mistakes.push(format!("{name}: config {key:?} cannot be written as JSON: {e}"));
            }
        }
    }
}

/// A declared spout. Dereferences to the handles of its streams.
pub struct SpoutDecl<O: Outputs> {
    decl: Decl<O::Handles>,
}

/// A declared bolt. Dereferences to the handles of its streams.
pub struct BoltDecl<B: Bolt> {
    decl: Decl<<B::Out as Outputs>::Handles>,
}

macro_rules! decl_methods {
    () => {
        /// Number of tasks (instances); fixed for the topology's life. Default 1.
        pub fn tasks(self, tasks: u32) -> Self {
            self.decl.change(|c| {
                // One executor per task unless said otherwise, as in Storm the other way round.
                if c.executors == c.tasks {
                    c.executors = tasks;
                }
                c.tasks = tasks;
            });
            self
        }

        /// Number of executors that share the tasks, at most one per task. Default: as many as tasks.
        pub fn executors(self, executors: u32) -> Self {
            self.decl.change(|c| c.executors = executors);
            self
        }

        /// Runs each executor on a thread of its own that may block: files, databases, sleeping.
        pub fn side_thread(self) -> Self {
            self.decl.change(|c| c.placement = Placement::SideThread);
            self
        }

        /// Runs the executors on reactors, whatever the component's default.
        pub fn on_reactor(self) -> Self {
            self.decl.change(|c| c.placement = Placement::Reactor);
            self
        }

        /// Calls `tick` at this period: whole milliseconds, at least 1.
        pub fn tick_every(self, period: Duration) -> Self {
            self.decl.change(|c| c.tick_ms = Some(period.as_millis() as u64));
            self
        }

        /// How long one call may take before its worker is killed and replaced: whole milliseconds, at least 1,000; zero for as long as it likes.
        /// Side threads are exempt. Default 30 s.
        pub fn execute_timeout(self, timeout: Duration) -> Self {
            self.decl.change(|c| c.execute_timeout_ms = timeout.as_millis() as u64);
            self
        }

        /// Memory for what one call emits beyond the room of its links. Default 8 MiB.
        pub fn burst_bytes(self, bytes: u64) -> Self {
            self.decl.change(|c| c.burst_bytes = bytes);
            self
        }

        /// Sets a configuration key, read by `Context::config`.
        pub fn config(self, key: &str, value: impl Serialize) -> Self {
            self.decl.config(key, value);
            self
        }

        /// Watches the tasks of this component with a hook (one per reactor).
        pub fn hook<K: TaskHook + 'static>(self, hook: impl Fn() -> K + Send + Sync + 'static) -> Self {
            let at = self.decl.component as usize;
            let factory: HookFactory = Box::new(move || Box::new(hook()));
            self.decl.shared.borrow_mut().hooks[at].push(factory);
            self
        }
    };
}

impl<O: Outputs> SpoutDecl<O> {
    decl_methods!();

    /// Says whether it emits what has failed again until it is acknowledged, where that depends on its settings; see
    /// [`Spout::reliable`].
    pub fn reliable(self, is: bool) -> Self {
        self.decl.change(|c| c.reliable = is);
        self
    }

    /// Handles of its streams.
    pub fn streams(self) -> O::Handles {
        self.decl.handles
    }
}

impl<O: Outputs> Deref for SpoutDecl<O> {
    type Target = O::Handles;

    fn deref(&self) -> &O::Handles {
        &self.decl.handles
    }
}

impl<B: Bolt> BoltDecl<B> {
    decl_methods!();

    /// Handles of its streams.
    pub fn streams(self) -> <B::Out as Outputs>::Handles {
        self.decl.handles
    }

    /// Its stream of dead letters: tuples that ended the same executor three times (the topology's `dead_letter_after`), or once
    /// where no spout emits them again. Without this, or [`Bolt::dead_letter`], such tuples fail each time they come.
    ///
    /// Where the bolt has a stream of this name of its own, that is an error: implement [`Bolt::dead_letter`] then.
    pub fn dead_letters(&self) -> StreamHandle<DeadLetter> {
        let mut inner = self.decl.shared.borrow_mut();
        let stream = inner.spec.streams.len() as StreamIx;
        let ty = crate::stream::type_of::<DeadLetter>();
        inner.spec.streams.push(crate::stream::stream_spec(self.decl.component, DEAD_LETTERS, &ty, false));
        inner.types.push(ty);
        StreamHandle::new(stream, self.decl.shared.clone())
    }

    /// Subscribes the bolt to a stream: `.on(words.fields([Word::WORD]))`.
    pub fn on<T: Tuple>(self, sub: Sub<T>) -> Self
    where
        B::In: Accepts<T>,
    {
        self.subscribe(<B::In as Accepts<T>>::PORT, sub)
    }

    /// Subscribes one named port, for inputs in which a tuple type occurs more than once.
    pub fn on_port<T: Tuple>(self, port: InputPort<B::In, T>, sub: Sub<T>) -> Self {
        self.subscribe(port.port, sub)
    }

    fn subscribe<T>(self, port: u16, sub: Sub<T>) -> Self {
        let to = self.decl.component;
        let mut inner = self.decl.shared.borrow_mut();
        if !Rc::ptr_eq(&self.decl.shared, &sub.builder) {
            let name = inner.spec.components[to as usize].name.clone();
            inner.mistakes.push(format!("{name} subscribes to a stream of another topology; declare both on one"));
        } else {
            let Sub { stream, grouping, feedback, .. } = sub;
            inner.spec.subscriptions.push(SubscriptionSpec { stream, to, port, grouping, feedback });
        }
        drop(inner);
        self
    }
}

impl<B: Bolt> Deref for BoltDecl<B> {
    type Target = <B::Out as Outputs>::Handles;

    fn deref(&self) -> &Self::Target {
        &self.decl.handles
    }
}

/// A declared stream of `T`: what bolts subscribe to.
pub struct StreamHandle<T> {
    stream: StreamIx,
    builder: Shared,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for StreamHandle<T> {
    fn clone(&self) -> Self {
        StreamHandle { stream: self.stream, builder: self.builder.clone(), of: PhantomData }
    }
}

/// A stream with a grouping: an argument of [`BoltDecl::on`].
#[must_use = "a subscription does nothing until a bolt takes it with `.on(…)`"]
pub struct Sub<T> {
    stream: StreamIx,
    grouping: Grouping,
    feedback: bool,
    builder: Shared,
    of: PhantomData<fn() -> T>,
}

impl<T> Sub<T> {
    /// Declares this edge to close a cycle: it has a budget of its own, and without room its tuples fail instead of
    /// waiting; it takes no part in the end of a run.
    pub fn feedback(mut self) -> Self {
        self.feedback = true;
        self
    }

    pub(crate) fn builder(&self) -> Topology {
        Topology { shared: self.builder.clone() }
    }
}

impl<T: Tuple> StreamHandle<T> {
    pub(crate) fn new(stream: StreamIx, builder: Shared) -> Self {
        StreamHandle { stream, builder, of: PhantomData }
    }

    fn sub(&self, grouping: Grouping) -> Sub<T> {
        Sub { stream: self.stream, grouping, feedback: false, builder: self.builder.clone(), of: PhantomData }
    }

    /// To all tasks in turn: counts differ by one at most.
    pub fn shuffle(&self) -> Sub<T> {
        self.sub(Grouping::Shuffle)
    }

    /// To all tasks, fewer to the loaded ones (Storm's default shuffle).
    pub fn load_aware(&self) -> Sub<T> {
        self.sub(Grouping::LoadAwareShuffle)
    }

    /// Shuffle among the tasks in the sender's worker if there are any, else among all.
    pub fn local_or_shuffle(&self) -> Sub<T> {
        self.sub(Grouping::LocalOrShuffle)
    }

    /// Equal values of these fields to the same task: `words.fields([Word::WORD])`.
    pub fn fields(&self, fields: impl IntoIterator<Item = Field<T>>) -> Sub<T> {
        self.sub(Grouping::Fields(fields.into_iter().map(|f| f.index()).collect()))
    }

    /// Each key to two candidate tasks, whichever this sender has sent less to.
    pub fn partial_key(&self, fields: impl IntoIterator<Item = Field<T>>) -> Sub<T> {
        self.sub(Grouping::PartialKey(fields.into_iter().map(|f| f.index()).collect()))
    }

    /// Every tuple to every task.
    pub fn all(&self) -> Sub<T> {
        self.sub(Grouping::All)
    }

    /// Every tuple to the lowest task.
    pub fn global(&self) -> Sub<T> {
        self.sub(Grouping::Global)
    }

    /// The author does not care: a random task, as in Storm.
    pub fn none(&self) -> Sub<T> {
        self.sub(Grouping::None)
    }

    /// The emitter names the task; for a [`DirectStream`](crate::DirectStream).
    pub fn direct(&self) -> Sub<T> {
        self.sub(Grouping::Direct)
    }

    /// A rule of the author's own, under a name that `plan` and `graph` show.
    pub fn custom<G: CustomGrouping + 'static>(
        &self,
        name: &str,
        grouping: impl Fn() -> G + Send + Sync + 'static,
    ) -> Sub<T> {
        let mut inner = self.builder.borrow_mut();
        let factory: GroupingFactory = Box::new(move || Box::new(grouping()));
        if inner.groupings.insert(name.to_owned(), factory).is_some() {
            inner.mistakes.push(format!("two custom groupings are named {name:?}; give each its own name"));
        }
        drop(inner);
        self.sub(Grouping::Custom(name.to_owned()))
    }
}

impl StreamHandle<Row> {
    /// Names the fields of a stream of rows; needed before its fields can be used in groupings.
    pub fn named<S: AsRef<str>>(self, names: impl IntoIterator<Item = S>) -> Self {
        let ty = TupleType::row(names);
        let mut inner = self.builder.borrow_mut();
        let schema = &mut inner.spec.streams[self.stream as usize].schema;
        schema.fields = ty.fields().to_vec();
        schema.id = ty.schema_id();
        inner.types[self.stream as usize] = ty;
        drop(inner);
        self
    }

    /// Fields grouping of rows by names of fields.
    pub fn fields_named<S: AsRef<str>>(&self, names: impl IntoIterator<Item = S>) -> Sub<Row> {
        let indices = self.indices(names);
        self.sub(Grouping::Fields(indices))
    }

    /// Partial-key grouping of rows by names of fields.
    pub fn partial_key_named<S: AsRef<str>>(&self, names: impl IntoIterator<Item = S>) -> Sub<Row> {
        let indices = self.indices(names);
        self.sub(Grouping::PartialKey(indices))
    }

    /// Positions of fields; a name that is none is entered as a mistake.
    fn indices<S: AsRef<str>>(&self, names: impl IntoIterator<Item = S>) -> Vec<u16> {
        let mut indices = Vec::new();
        let mut inner = self.builder.borrow_mut();
        let stream = inner.spec.streams[self.stream as usize].clone();
        for name in names {
            let name = name.as_ref();
            match stream.schema.fields.iter().position(|(f, _)| f == name) {
                Some(at) => indices.push(at as u16),
                None => {
                    let known: Vec<&str> = stream.schema.fields.iter().map(|(f, _)| f.as_str()).collect();
                    let (source, stream) = (inner.spec.source_name(self.stream).to_owned(), &stream.name);
                    let known = known.join(", ");
                    inner.mistakes.push(format!(
                        "stream {source}.{stream} has no field {name:?}; its fields are [{known}] (see `named`)"
                    ));
                }
            }
        }
        indices
    }
}
