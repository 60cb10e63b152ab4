//! The roots of the tuple being executed, and what its emits have added to each.
//!
//! Nearly every tracked tuple has one root: it lies in cells, which a loop over a batch keeps close. The roots of a join's
//! tuples lie in a list.
//!
//! Invariant: between two calls there are none.

use std::cell::{Cell, RefCell};

use squall_io::planted::{Bug, is};
use squall_tuple::AnchorEdge;

/// How many roots there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rooted {
    No,
    /// In the cells.
    One,
    /// In the list.
    Many,
}

/// See the module.
pub(crate) struct InputRoots {
    rooted: Cell<Rooted>,
    root: Cell<u64>,
    /// XOR to acknowledge so far: of the tuple itself, and of what was emitted.
    xor: Cell<u64>,
    /// The same for each of many roots, as `edge`.
    many: RefCell<Vec<AnchorEdge>>,
    /// Workers to which the emits were sent, by bit.
    workers: Cell<u32>,
}

/// Roots that were taken from a call that broke off, each with what is to be acknowledged of it.
#[derive(Default)]
pub(crate) struct TakenRoots {
    pub(crate) roots: Vec<AnchorEdge>,
    pub(crate) workers: u32,
}

impl Default for InputRoots {
    fn default() -> Self {
        InputRoots {
            rooted: Cell::new(Rooted::No),
            root: Cell::new(0),
            xor: Cell::new(0),
            many: RefCell::default(),
            workers: Cell::new(0),
        }
    }
}

impl InputRoots {
    /// A tuple with one root begins; `own.edge` is the edge of its delivery.
    #[inline(always)]
    pub(crate) fn begin_one(&self, own: AnchorEdge) {
        self.rooted.set(Rooted::One);
        self.root.set(own.root);
        self.xor.set(own.edge);
        self.workers.set(0);
    }

    /// A tuple with any number of roots begins.
    pub(crate) fn begin(&self, mut own: impl ExactSizeIterator<Item = AnchorEdge>) {
        match own.len() {
            0 => self.rooted.set(Rooted::No),
            1 => self.begin_one(own.next().expect("it has one")),
            _ => {
                self.rooted.set(Rooted::Many);
                self.workers.set(0);
                let mut many = self.many.borrow_mut();
                many.clear();
                many.extend(own);
            }
        }
    }

    /// A tuple goes on whose roots were taken.
    pub(crate) fn begin_again(&self, taken: &TakenRoots) {
        self.begin(taken.roots.iter().copied());
        self.workers.set(taken.workers);
    }

    /// Whether there is any.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.rooted.get() != Rooted::No
    }

    /// The root, if it is the only one.
    #[inline(always)]
    pub(crate) fn one(&self) -> Option<u64> {
        (self.rooted.get() == Rooted::One).then(|| self.root.get())
    }

    /// Calls `f` with each root.
    pub(crate) fn each(&self, mut f: impl FnMut(u64)) {
        match self.rooted.get() {
            Rooted::No => {}
            Rooted::One => f(self.root.get()),
            Rooted::Many => self.many.borrow().iter().for_each(|r| f(r.root)),
        }
    }

    /// A tuple of the only root was emitted along `edge`.
    #[inline(always)]
    pub(crate) fn add_to_one(&self, edge: u64, worker: u32) {
        debug_assert_eq!(self.rooted.get(), Rooted::One);
        if is(Bug::XorDropped) && edge & 7 == 0 {
            return;
        }
        self.xor.set(self.xor.get() ^ edge);
        self.workers.set(self.workers.get() | worker);
    }

    /// Tuples of `root` were emitted along edges with this XOR.
    pub(crate) fn add(&self, root: u64, xor: u64, workers: u32) {
        if self.one() == Some(root) {
            return self.add_to_one(xor, workers);
        }
        self.workers.set(self.workers.get() | workers);
        if let Some(r) = self.many.borrow_mut().iter_mut().find(|r| r.root == root) {
            r.edge ^= xor;
        }
    }

    /// Ends the tuple: what is to be acknowledged of each root, and the workers.
    #[inline(always)]
    pub(crate) fn end(&self, mut f: impl FnMut(AnchorEdge, u32)) {
        let workers = self.workers.get();
        match self.rooted.replace(Rooted::No) {
            Rooted::No => {}
            Rooted::One => f(AnchorEdge { root: self.root.get(), edge: self.xor.get() }, workers),
            Rooted::Many => self.many.borrow_mut().drain(..).for_each(|r| f(r, workers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(roots: &InputRoots) -> Vec<(u64, u64, u32)> {
        let mut all = Vec::new();
        roots.end(|r, workers| all.push((r.root, r.edge, workers)));
        all
    }

    #[test]
    fn each_root_gathers_its_own_edges_and_the_end_forgets_them() {
        let roots = InputRoots::default();
        for own in [&[(1, 0b01)][..], &[(1, 0b01), (2, 0b10)], &[]] {
            roots.begin(own.iter().map(|(root, edge)| AnchorEdge { root: *root, edge: *edge }));
            assert_eq!((roots.any(), roots.one().is_some()), (!own.is_empty(), own.len() == 1));
            own.iter().for_each(|(root, _)| roots.add(*root, 0b100, 4));
            let mut named = Vec::new();
            roots.each(|root| named.push(root));
            assert_eq!(named, own.iter().map(|(root, _)| *root).collect::<Vec<_>>());
            roots.add(77, 1, 0);
            let wanted: Vec<_> = own.iter().map(|(root, edge)| (*root, edge ^ 0b100, 4)).collect();
            assert_eq!(ended(&roots), wanted);
            assert!(!roots.any() && ended(&roots).is_empty());
        }
    }
}
