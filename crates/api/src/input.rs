//! The tuple being executed.

use std::marker::PhantomData;
use std::ops::Deref;

use squall_engine::{Anchor, Outbox};
use squall_tuple::ids::{StreamIx, TaskId};
use squall_tuple::{Frame, Tuple, TupleRef, TupleType};

use crate::Time;
use crate::stream::type_of;

/// One input port of a bolt: its name and what it takes.
#[derive(Clone)]
pub struct PortDef {
    /// Variant's name, or the tuple's.
    pub name: &'static str,
    /// Its tuple type. Rows have no field names here: those belong to a stream.
    pub ty: TupleType,
}

impl PortDef {
    /// The port `name`, for tuples of `T`.
    pub fn of<T: Tuple>(name: &'static str) -> Self {
        PortDef { name, ty: type_of::<T>() }
    }
}

/// What a bolt can take: a tuple type, or a `#[derive(Inputs)]` enum with a tuple type per variant.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the input of a bolt",
    label = "neither a tuple nor an enum of tuples",
    note = "derive `Tuple` on the struct, or `Inputs` on an enum with one tuple type per variant"
)]
pub trait Inputs: Sized + 'static {
    /// What `execute` reads: `TupleRef<'a, T>`, or the enum's borrowed twin.
    type View<'a>: Copy;

    /// The ports, in order.
    fn ports() -> Vec<PortDef>;

    /// Reads a tuple that arrived on `port`.
    fn view<'a>(port: u16, frame: &Frame<'a>) -> Self::View<'a>;

    /// The owned tuple of a view.
    fn to_owned(view: Self::View<'_>) -> Self;
}

impl<T: Tuple> Inputs for T {
    type View<'a> = TupleRef<'a, T>;

    fn ports() -> Vec<PortDef> {
        vec![PortDef::of::<T>(T::NAME)]
    }

    #[inline(always)]
    fn view<'a>(_: u16, frame: &Frame<'a>) -> TupleRef<'a, T> {
        frame.tuple::<T>()
    }

    fn to_owned(view: TupleRef<'_, T>) -> T {
        view.to_owned()
    }
}

/// `Self` has exactly one port for tuples of `T`.
#[diagnostic::on_unimplemented(
    message = "this bolt does not take a stream of `{T}`",
    label = "expected a stream of another tuple type",
    note = "the bolt's `In` is `{Self}`; a variant type that occurs twice is subscribed with `.on_port(…)`"
)]
pub trait Accepts<T: Tuple>: Inputs {
    /// The port.
    const PORT: u16;
}

impl<T: Tuple> Accepts<T> for T {
    const PORT: u16 = 0;
}

/// A named port, for enums in which a tuple type occurs more than once: `In::ON_VARIANT`.
pub struct InputPort<I, T> {
    pub(crate) port: u16,
    of: PhantomData<fn(T) -> I>,
}

impl<I, T> InputPort<I, T> {
    /// For generated code.
    pub const fn new(port: u16) -> Self {
        InputPort { port, of: PhantomData }
    }
}

impl<I, T> Clone for InputPort<I, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, T> Copy for InputPort<I, T> {}

/// The tuple being executed: dereferences to its view, whose fields are read in place. Valid for the call only; what
/// must live longer is [`kept`](Input::keep).
pub struct Input<'a, I: Inputs> {
    pub(crate) view: I::View<'a>,
    pub(crate) frame: Frame<'a>,
    pub(crate) outbox: &'a Outbox,
    pub(crate) stream: StreamIx,
}

impl<'a, I: Inputs> Deref for Input<'a, I> {
    type Target = I::View<'a>;

    #[inline(always)]
    fn deref(&self) -> &I::View<'a> {
        &self.view
    }
}

impl<'a, I: Inputs> Input<'a, I> {
    /// The view itself, which is `Copy`: match on it, pass it on unchanged.
    #[inline]
    pub fn view(&self) -> I::View<'a> {
        self.view
    }

    /// The task that emitted it.
    pub fn source(&self) -> TaskId {
        self.frame.source()
    }

    /// The stream it came on, as indexed in the plan.
    pub fn stream(&self) -> StreamIx {
        self.stream
    }

    /// When the spout's turn that began its tree began.
    pub fn origin(&self) -> Time {
        Time { ns: self.frame.origin_ns() }
    }

    /// Number of roots it is anchored to.
    pub fn root_count(&self) -> usize {
        self.frame.anchors().len()
    }

    /// Starts the clocks of its roots anew (Storm's `resetTimeout`), for a call that has taken long. What ends the call does
    /// so too.
    pub fn reset_timeout(&self) {
        self.outbox.reset_input();
    }

    /// Takes the tuple out of the call: the owned value, and the anchor that acks or fails it later, from any thread.
    pub fn keep(self) -> (I, Anchor) {
        (I::to_owned(self.view), self.outbox.keep())
    }
}
