//! The outgoing streams of a component.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use squall_engine::{Anchor, CohortEnv, MessageId, Port};
use squall_topology::{SchemaSpec, StreamSpec};
use squall_tuple::ids::{ComponentIx, StreamIx, TaskId};
use squall_tuple::{Emit, Row, Tuple, TupleType};

use crate::builder::{Inner, StreamHandle};
use crate::component::DEFAULT_STREAM;

/// An outgoing stream of `T`. Emits never block and never fail: what the links cannot take waits in memory of declared
/// size, and the component is paused until it is gone.
pub struct Stream<T> {
    port: Port,
    of: PhantomData<fn(T)>,
}

impl<T: Tuple> Stream<T> {
    /// Emits a tuple, anchored to the input being executed: `T`, `&T`, its borrowed twin, or an incoming tuple.
    #[inline(always)]
    pub fn emit(&mut self, tuple: impl Emit<T>) {
        self.port.emit::<T, _>(tuple);
    }

    /// Emits a tuple of a spout under an id of the spout's choice (Storm's message id): its tree is tracked, and
    /// [`Spout::ack`](crate::Spout::ack) or [`Spout::fail`](crate::Spout::fail) says what became of it. Numbers, pairs of
    /// numbers and 16 bytes are ids. A bolt that calls this ends.
    #[inline]
    pub fn emit_with_id(&mut self, id: impl Into<MessageId>, tuple: impl Emit<T>) {
        self.port.emit_with_id::<T, _>(id.into(), tuple);
    }

    /// Emits a tuple whose fate does not matter to the input.
    pub fn unanchored(&mut self, tuple: impl Emit<T>) {
        self.port.emit_unanchored::<T, _>(&tuple);
    }

    /// Emits a tuple anchored to kept tuples (joins, aggregations): if it fails, so do they.
    pub fn anchored(&mut self, anchors: &[&Anchor], tuple: impl Emit<T>) {
        self.port.emit_anchored::<T, _>(anchors, &tuple);
    }
}

/// An outgoing stream whose emitter names the receiving task (Storm's `emitDirect`).
pub struct DirectStream<T> {
    port: Port,
    of: PhantomData<fn(T)>,
}

impl<T: Tuple> DirectStream<T> {
    /// Emits to `task`. `false`, and nothing emitted, if it does not subscribe to this stream.
    #[must_use = "false: the task does not subscribe to this stream and nothing was emitted"]
    pub fn emit_to(&mut self, task: TaskId, tuple: impl Emit<T>) -> bool {
        self.port.emit_direct::<T, _>(task, &tuple)
    }

    /// As [`DirectStream::emit_to`], of a spout under an id of the spout's choice; see [`Stream::emit_with_id`].
    #[must_use = "false: the task does not subscribe to this stream and nothing was emitted"]
    pub fn emit_to_with_id(&mut self, task: TaskId, id: impl Into<MessageId>, tuple: impl Emit<T>) -> bool {
        self.port.emit_direct_with_id::<T, _>(task, id.into(), &tuple)
    }

    /// Tasks that subscribe to this stream, ascending per subscriber.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.port.subscriber_tasks()
    }
}

/// The streams of a component: `()`, `Stream<T>`, or a struct of streams with `#[derive(Outputs)]`.
pub trait Outputs: Sized + 'static {
    /// What the builder returns for subscriptions.
    type Handles: Clone + 'static;

    /// Declares the streams.
    fn declare(d: &mut OutputsDecl<'_>) -> Self::Handles;

    /// Builds the ports.
    fn build(b: &mut OutputsBuilder<'_>) -> Self;

    /// Calls `f` with each port.
    fn visit(&mut self, f: &mut dyn FnMut(&mut Port));
}

/// One stream of an [`Outputs`] struct: [`Stream`] or [`DirectStream`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an output stream",
    label = "expected `Stream<T>` or `DirectStream<T>`"
)]
pub trait OutputStream: Sized + 'static {
    /// Its handle in the builder.
    type Handle: Clone + 'static;

    /// Declares it under `name`.
    fn declare(name: &str, d: &mut OutputsDecl<'_>) -> Self::Handle;

    /// Builds its port.
    fn build(name: &str, b: &mut OutputsBuilder<'_>) -> Self;

    /// Its port.
    fn port(&mut self) -> &mut Port;
}

/// Collects the streams of a component that is being declared.
pub struct OutputsDecl<'a> {
    pub(crate) inner: &'a mut Inner,
    pub(crate) component: ComponentIx,
    pub(crate) builder: crate::builder::Shared,
    /// What a [`RowStreams`] declares; empty for all other outputs.
    pub(crate) rows: &'a [RowStream],
}

impl OutputsDecl<'_> {
    fn rows(&mut self) -> Vec<StreamHandle<Row>> {
        let rows = self.rows;
        let declare = |RowStream { name, fields }: &RowStream| self.push(name, TupleType::row(fields), false);
        rows.iter().map(declare).collect()
    }

    fn stream<T: Tuple>(&mut self, name: &str, direct: bool) -> StreamHandle<T> {
        self.push(name, type_of::<T>(), direct)
    }

    fn push<T: Tuple>(&mut self, name: &str, ty: TupleType, direct: bool) -> StreamHandle<T> {
        let stream = self.inner.spec.streams.len() as StreamIx;
        self.inner.spec.streams.push(stream_spec(self.component, name, &ty, direct));
        self.inner.types.push(ty);
        StreamHandle::new(stream, self.builder.clone())
    }
}

pub(crate) fn type_of<T: Tuple>() -> TupleType {
    if T::DYNAMIC { TupleType::row(&[] as &[&str]) } else { TupleType::of::<T>() }
}

pub(crate) fn stream_spec(component: ComponentIx, name: &str, ty: &TupleType, direct: bool) -> StreamSpec {
    let schema = SchemaSpec {
        name: ty.name().to_owned(),
        fields: ty.fields().to_vec(),
        id: ty.schema_id(),
        dynamic: ty.dynamic(),
    };
    StreamSpec { component, name: name.to_owned(), schema, direct }
}

/// A stream of rows that is described at run time: an element of what [`Topology::row_bolt`](crate::Topology::row_bolt) is
/// given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowStream {
    /// Its name, unique in its component; the usual one is `default`.
    pub name: String,
    /// Names of the fields, in the order of the rows' values.
    pub fields: Vec<String>,
}

impl RowStream {
    /// A stream by name and fields.
    pub fn new<S: Into<String>>(name: &str, fields: impl IntoIterator<Item = S>) -> RowStream {
        RowStream { name: name.to_owned(), fields: fields.into_iter().map(Into::into).collect() }
    }
}

/// Streams of rows whose number, names and fields are known only when the topology is declared
/// ([`Topology::row_bolt`](crate::Topology::row_bolt)): a slice of [`Stream<Row>`], in the order of their declaration.
pub struct RowStreams(Vec<Stream<Row>>);

impl Deref for RowStreams {
    type Target = [Stream<Row>];

    #[inline(always)]
    fn deref(&self) -> &[Stream<Row>] {
        &self.0
    }
}

impl DerefMut for RowStreams {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Stream<Row>] {
        &mut self.0
    }
}

impl Outputs for RowStreams {
    type Handles = Vec<StreamHandle<Row>>;

    fn declare(d: &mut OutputsDecl<'_>) -> Self::Handles {
        d.rows()
    }

    fn build(b: &mut OutputsBuilder<'_>) -> Self {
        let plan = &b.env.plan;
        // Not the stream of dead letters, which is the cohort's.
        let streams =
            plan.streams_of(b.env.component).iter().filter(|s| plan.spec.streams[**s as usize].schema.dynamic);
        RowStreams(streams.map(|s| Stream { port: b.env.port(*s), of: PhantomData }).collect())
    }

    fn visit(&mut self, f: &mut dyn FnMut(&mut Port)) {
        self.0.iter_mut().for_each(|s| f(&mut s.port));
    }
}

/// Builds the ports of a cohort, in the order in which its streams were declared.
pub struct OutputsBuilder<'a> {
    pub(crate) env: &'a CohortEnv,
}

impl OutputsBuilder<'_> {
    fn port(&mut self, name: &str) -> Port {
        let plan = &self.env.plan;
        let streams = plan.streams_of(self.env.component);
        let stream = streams.iter().find(|s| plan.spec.streams[**s as usize].name == name);
        self.env.port(*stream.expect("declared by the same type"))
    }
}

impl Outputs for () {
    type Handles = ();

    fn declare(_: &mut OutputsDecl<'_>) {}

    fn build(_: &mut OutputsBuilder<'_>) {}

    fn visit(&mut self, _: &mut dyn FnMut(&mut Port)) {}
}

macro_rules! output_stream {
    ($stream:ident, $direct:expr) => {
        impl<T: Tuple> OutputStream for $stream<T> {
            type Handle = StreamHandle<T>;

            fn declare(name: &str, d: &mut OutputsDecl<'_>) -> StreamHandle<T> {
                d.stream::<T>(name, $direct)
            }

            fn build(name: &str, b: &mut OutputsBuilder<'_>) -> Self {
                $stream { port: b.port(name), of: PhantomData }
            }

            fn port(&mut self) -> &mut Port {
                &mut self.port
            }
        }

        impl<T: Tuple> Outputs for $stream<T> {
            type Handles = StreamHandle<T>;

            fn declare(d: &mut OutputsDecl<'_>) -> StreamHandle<T> {
                <Self as OutputStream>::declare(DEFAULT_STREAM, d)
            }

            fn build(b: &mut OutputsBuilder<'_>) -> Self {
                <Self as OutputStream>::build(DEFAULT_STREAM, b)
            }

            fn visit(&mut self, f: &mut dyn FnMut(&mut Port)) {
                f(&mut self.port);
            }
        }
    };
}

output_stream!(Stream, false);
output_stream!(DirectStream, true);
