//! The part of Squall's API that generated code names, in miniature: enough to call what the derives write
//! without the engine. Types here say `#[squall(crate = crate::support)]`.

#![allow(dead_code, reason = "each test file uses its own part")]

use squall_tuple::{BatchBuf, BatchKind, Emit, Frame, OpenBatch, Tuple};

pub(crate) mod __rt {
    pub(crate) use squall_tuple as tuple;
    pub(crate) use squall_tuple::rkyv;
}

#[derive(Debug, PartialEq)]
pub(crate) struct PortDef {
    pub(crate) name: &'static str,
    pub(crate) schema: u64,
}

impl PortDef {
    pub(crate) fn of<T: Tuple>(name: &'static str) -> PortDef {
        PortDef { name, schema: T::ID }
    }
}

pub(crate) trait Inputs: Sized + 'static {
    type View<'a>: Copy;
    fn ports() -> Vec<PortDef>;
    fn view<'a>(port: u16, frame: &Frame<'a>) -> Self::View<'a>;
    fn to_owned(view: Self::View<'_>) -> Self;
}

pub(crate) trait Accepts<T: Tuple>: Inputs {
    const PORT: u16;
}

pub(crate) struct InputPort<I, T> {
    pub(crate) port: u16,
    of: std::marker::PhantomData<fn() -> (I, T)>,
}

impl<I, T> InputPort<I, T> {
    pub(crate) const fn new(port: u16) -> Self {
        InputPort { port, of: std::marker::PhantomData }
    }
}

/// Records what `Outputs` asks for, in order.
#[derive(Default)]
pub(crate) struct OutputsDecl<'a> {
    pub(crate) names: Vec<String>,
    of: std::marker::PhantomData<&'a ()>,
}

#[derive(Default)]
pub(crate) struct OutputsBuilder<'a> {
    pub(crate) names: Vec<String>,
    of: std::marker::PhantomData<&'a ()>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Port(pub(crate) String);

pub(crate) trait Outputs: Sized + 'static {
    type Handles: Clone;
    fn declare(d: &mut OutputsDecl<'_>) -> Self::Handles;
    fn build(b: &mut OutputsBuilder<'_>) -> Self;
    fn visit(&mut self, f: &mut dyn FnMut(&mut Port));
}

pub(crate) trait OutputStream: Sized + 'static {
    type Handle: Clone;
    fn declare(name: &str, d: &mut OutputsDecl<'_>) -> Self::Handle;
    fn build(name: &str, b: &mut OutputsBuilder<'_>) -> Self;
    fn port(&mut self) -> &mut Port;
}

pub(crate) struct Stream<T> {
    pub(crate) port: Port,
    of: std::marker::PhantomData<fn() -> T>,
}

pub(crate) struct Handle<T> {
    pub(crate) name: String,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle { name: self.name.clone(), of: self.of }
    }
}

impl<T: Tuple> OutputStream for Stream<T> {
    type Handle = Handle<T>;
    fn declare(name: &str, d: &mut OutputsDecl<'_>) -> Handle<T> {
        d.names.push(name.to_owned());
        Handle { name: name.to_owned(), of: std::marker::PhantomData }
    }
    fn build(name: &str, b: &mut OutputsBuilder<'_>) -> Self {
        b.names.push(name.to_owned());
        Stream { port: Port(name.to_owned()), of: std::marker::PhantomData }
    }
    fn port(&mut self) -> &mut Port {
        &mut self.port
    }
}

/// A batch of `T` that is about to begin.
pub(crate) fn open<T: Tuple>() -> OpenBatch {
    OpenBatch { kind: BatchKind::Data, stream: 0, schema_id: T::ID, dynamic: T::DYNAMIC, source_reactor: 0, epoch: 0 }
}

/// A buffer that takes tuples of `T`.
pub(crate) fn buffer<T: Tuple>() -> BatchBuf {
    let mut buf = BatchBuf::with_capacity(64 * 1024);
    buf.open(&open::<T>());
    buf
}

/// Pushes one value into a batch of `T` and hands the tuple's frame to `read`.
pub(crate) fn pushed<T: Tuple, R>(value: &impl Emit<T>, read: impl FnOnce(Frame<'_>) -> R) -> R {
    let mut buf = buffer::<T>();
    buf.push_plain::<T, _>(7, 9, 1_000, value).expect("64 KiB hold any value of these tests");
    buf.seal(0, 0, false);
    let batch = buf.view();
    let frame = batch.next(&mut batch.cursor()).expect("one tuple was pushed");
    read(frame)
}
