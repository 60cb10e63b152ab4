//! One-line bolts from closures.

use std::marker::PhantomData;

use squall_tuple::{Emit, Tuple, TupleRef};

use crate::{Bolt, BoltError, Input, Stream, StreamHandle, Sub, Topology};

struct Map<A, B, F>(F, PhantomData<fn(A) -> B>);

impl<A: Tuple, B: Tuple + Emit<B>, F: FnMut(TupleRef<'_, A>) -> B + 'static> Bolt for Map<A, B, F> {
    type In = A;
    type Out = Stream<B>;

    fn execute(&mut self, input: Input<'_, A>, out: &mut Stream<B>) -> Result<(), BoltError> {
        out.emit((self.0)(input.view()));
        Ok(())
    }
}

struct Filter<A, F>(F, PhantomData<fn(A)>);

impl<A: Tuple, F: FnMut(TupleRef<'_, A>) -> bool + 'static> Bolt for Filter<A, F> {
    type In = A;
    type Out = Stream<A>;

    fn execute(&mut self, input: Input<'_, A>, out: &mut Stream<A>) -> Result<(), BoltError> {
        if (self.0)(input.view()) {
            out.emit(input.view());
        }
        Ok(())
    }
}

struct FlatMap<A, B, F>(F, PhantomData<fn(A) -> B>);

impl<A: Tuple, B: Tuple, F: FnMut(TupleRef<'_, A>, &mut Stream<B>) + 'static> Bolt for FlatMap<A, B, F> {
    type In = A;
    type Out = Stream<B>;

    fn execute(&mut self, input: Input<'_, A>, out: &mut Stream<B>) -> Result<(), BoltError> {
        (self.0)(input.view(), out);
        Ok(())
    }
}

impl Topology {
    /// A bolt that emits `f(tuple)` for each tuple. One task; for more, declare a bolt.
    pub fn map<A: Tuple, B: Tuple + Emit<B>>(
        &self,
        name: &str,
        on: Sub<A>,
        f: impl FnMut(TupleRef<'_, A>) -> B + Clone + Send + Sync + 'static,
    ) -> StreamHandle<B> {
        self.bolt(name, move || Map(f.clone(), PhantomData)).on(on).streams()
    }

    /// A bolt that passes on, unchanged, the tuples for which `f` is true.
    pub fn filter<A: Tuple>(
        &self,
        name: &str,
        on: Sub<A>,
        f: impl FnMut(TupleRef<'_, A>) -> bool + Clone + Send + Sync + 'static,
    ) -> StreamHandle<A> {
        self.bolt(name, move || Filter(f.clone(), PhantomData)).on(on).streams()
    }

    /// A bolt that emits any number of tuples for each tuple.
    pub fn flat_map<A: Tuple, B: Tuple>(
        &self,
        name: &str,
        on: Sub<A>,
        f: impl FnMut(TupleRef<'_, A>, &mut Stream<B>) + Clone + Send + Sync + 'static,
    ) -> StreamHandle<B> {
        self.bolt(name, move || FlatMap(f.clone(), PhantomData)).on(on).streams()
    }
}

/// The same, read from left to right: `lines.shuffle().flat_map("split", …)`.
impl<A: Tuple> Sub<A> {
    /// See [`Topology::map`].
    pub fn map<B: Tuple + Emit<B>>(
        self,
        name: &str,
        f: impl FnMut(TupleRef<'_, A>) -> B + Clone + Send + Sync + 'static,
    ) -> StreamHandle<B> {
        self.builder().map(name, self, f)
    }

    /// See [`Topology::filter`].
    pub fn filter(
        self,
        name: &str,
        f: impl FnMut(TupleRef<'_, A>) -> bool + Clone + Send + Sync + 'static,
    ) -> StreamHandle<A> {
        self.builder().filter(name, self, f)
    }

    /// See [`Topology::flat_map`].
    pub fn flat_map<B: Tuple>(
        self,
        name: &str,
        f: impl FnMut(TupleRef<'_, A>, &mut Stream<B>) + Clone + Send + Sync + 'static,
    ) -> StreamHandle<B> {
        self.builder().flat_map(name, self, f)
    }
}
