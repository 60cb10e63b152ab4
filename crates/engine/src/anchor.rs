//! Anchors of kept tuples: values that outlive `execute`, may go to any thread, and end their tuple exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam::queue::SegQueue;
use squall_tuple::AnchorEdge;

/// What an anchor tells its cohort.
pub(crate) struct AckReport {
    pub(crate) roots: Vec<AnchorEdge>,
    /// Workers to which tuples emitted with it were sent, by bit.
    pub(crate) workers: u32,
    pub(crate) end: End,
}

/// How a kept tuple ended.
pub(crate) enum End {
    Acked,
    Failed(String),
    /// Its roots are to wait longer.
    NotYet,
    /// No tuple: a task of the cohort is to be called.
    Woken,
}

/// Mailbox of a cohort for the ends of its kept tuples. Bounded by the tuples that the component itself keeps, and by the
/// resets that it asks for within a turn.
pub(crate) struct AckHome {
    reports: SegQueue<AckReport>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl AckHome {
    pub(crate) fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        AckHome { reports: SegQueue::new(), wake }
    }

    pub(crate) fn pop(&self) -> Option<AckReport> {
        self.reports.pop()
    }

    /// Has the cohort's `woken` called.
    pub(crate) fn wake_cohort(&self) {
        self.push(AckReport { roots: Vec::new(), workers: 0, end: End::Woken });
    }

    fn push(&self, report: AckReport) {
        self.reports.push(report);
        (self.wake)();
    }
}

struct Root {
    root: u64,
    /// XOR to acknowledge: the tuple's own edge and those of all tuples emitted with this anchor. Relaxed: it is
    /// read once, by the owner that ends the anchor, after every emit that used it.
    xor: AtomicU64,
}

/// Ties emits to a kept input tuple, and ends it: [`Anchor::ack`] or [`Anchor::fail`]. Dropping it fails the tuple.
///
/// `Send`: it may be ended on another thread; the reactor that executed the tuple is woken.
#[must_use = "a dropped anchor fails its tuple"]
pub struct Anchor {
    roots: Vec<Root>,
    /// Relaxed: as the XORs.
    workers: AtomicU32,
    home: Option<Arc<AckHome>>,
}

impl Anchor {
    pub(crate) fn new(roots: Vec<AnchorEdge>, workers: u32, home: Arc<AckHome>) -> Self {
        let roots = roots.into_iter().map(|r| Root { root: r.root, xor: AtomicU64::new(r.edge) }).collect();
        Anchor { roots, workers: AtomicU32::new(workers), home: Some(home) }
    }

    /// Number of roots the tuple belongs to: 0 for an unanchored tuple, more than 1 after a join.
    pub fn root_count(&self) -> usize {
        self.roots.len()
    }

    /// Ends the tuple well.
    pub fn ack(mut self) {
        self.end(End::Acked);
    }

    /// Starts the clocks of its roots anew: they are waited for as long as the message timeout from now, but never beyond
    /// their maximum age. For what keeps tuples long; costs a message, so several times per timeout is enough.
    pub fn reset_timeout(&self) {
        if let Some(home) = &self.home
            && !self.roots.is_empty()
        {
            let roots = self.roots.iter().map(|r| AnchorEdge { root: r.root, edge: 0 }).collect();
            home.push(AckReport { roots, workers: 0, end: End::NotYet });
        }
    }

    /// Gives the tuple up, with the cause for the report.
    pub fn fail(mut self, cause: impl std::fmt::Display) {
        self.end(End::Failed(cause.to_string()));
    }

    /// Adds an edge for each root to `edges` and returns the range it takes there.
    pub(crate) fn extend(&self, edges: &mut Vec<AnchorEdge>, mut edge: impl FnMut() -> u64) {
        edges.extend(self.roots.iter().map(|r| AnchorEdge { root: r.root, edge: edge() }));
    }

    pub(crate) fn has_root(&self, root: u64) -> bool {
        self.roots.iter().any(|r| r.root == root)
    }

    /// Notes that `xor` was added to `root` by emits to these workers.
    pub(crate) fn note(&self, root: u64, xor: u64, workers: u32) {
        self.workers.fetch_or(workers, Ordering::Relaxed);
        if let Some(r) = self.roots.iter().find(|r| r.root == root) {
            r.xor.fetch_xor(xor, Ordering::Relaxed);
        }
    }

    /// Takes what it knows, to end its tuple elsewhere: roots with the XOR to acknowledge, and workers.
    pub(crate) fn disarm(&mut self) -> Option<(Vec<AnchorEdge>, u32)> {
        self.home.take()?;
        let edge = |r: &Root| AnchorEdge { root: r.root, edge: r.xor.load(Ordering::Relaxed) };
        Some((self.roots.iter().map(edge).collect(), self.workers.load(Ordering::Relaxed)))
    }

    fn end(&mut self, end: End) {
        if let Some(home) = self.home.take() {
            let roots =
                self.roots.iter().map(|r| AnchorEdge { root: r.root, edge: r.xor.load(Ordering::Relaxed) }).collect();
            home.push(AckReport { roots, workers: self.workers.load(Ordering::Relaxed), end });
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        // A String is made only if it has not ended.
        if self.home.is_some() {
            self.end(End::Failed("its anchor was dropped without ack or fail".to_owned()));
        }
    }
}
