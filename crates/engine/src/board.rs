//! The counts and heartbeats of a run, in memory that outlives a worker: the parent of a run owns it, every worker maps it.
//!
//! Each cohort has a block of counters, each reactor and each worker's main thread a block with its pulse. Blocks are whole pairs of cache lines,
//! and each has one writer at a time: its reactor, its worker's main thread, and between the death of a worker and the start of the next one the
//! parent. So a worker that comes back goes on counting where the one before it stopped.
//!
//! Without a parent that heals (benchmarks, tests, the simulator) the same blocks lie on the heap.
//!
//! Deliberately absent: histograms and links' counts, which are large and are told by the worker while it lives.

use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use squall_ring::Words;
use squall_topology::{ComponentKind, Plan};
use squall_tuple::ids::{ComponentIx, ReactorIx, WorkerIx};

use crate::stats::{CohortStats, ComponentStats, Count};

/// Words of a block of pulses: two lines.
const PULSE_WORDS: usize = 16;
/// Words of a cohort's block.
const COHORT_WORDS: usize = 32;
const _: () = assert!(Count::ALL <= COHORT_WORDS, "the counters of a cohort fit its block");

/// Where a pulse beats.
const BEAT: usize = 0;
/// What is being called: component + 1, or 0.
const BUSY: usize = 1;

/// Where everything lies, by the plan; equal in all processes of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardLayout {
    workers: usize,
    /// By reactor: its worker, and whether it is a side reactor.
    reactors: Vec<(WorkerIx, bool)>,
    /// In the order of the plan: component, reactor, whether it is a spout.
    cohorts: Vec<(ComponentIx, ReactorIx, bool)>,
}

impl BoardLayout {
    /// The layout for a plan.
    pub fn of(plan: &Plan) -> BoardLayout {
        let reactors = 0..plan.reactors.len() as ReactorIx;
        let cohorts = reactors.flat_map(|r| plan.cohorts_of(r).iter().map(move |c| (c.component, r)));
        let spout = |c: ComponentIx| plan.spec.components[c as usize].kind == ComponentKind::Spout;
        BoardLayout {
            workers: plan.workers.len(),
            reactors: plan.reactors.iter().map(|r| (r.worker, r.side)).collect(),
            cohorts: cohorts.map(|(c, r)| (c, r, spout(c))).collect(),
        }
    }

    /// A layout by hand: the number of workers; by reactor its worker and whether it is a side reactor; the cohorts, each with component, reactor,
    /// and whether it is a spout.
    pub fn new(workers: u32, reactors: Vec<(WorkerIx, bool)>, cohorts: Vec<(ComponentIx, ReactorIx, bool)>) -> Self {
        BoardLayout { workers: workers as usize, reactors, cohorts }
    }

    fn words(&self) -> usize {
        (self.workers + self.reactors.len()) * PULSE_WORDS + self.cohorts.len() * COHORT_WORDS
    }

    fn cohort_at(&self, at: usize) -> usize {
        (self.workers + self.reactors.len()) * PULSE_WORDS + at * COHORT_WORDS
    }

    /// Reactors of a worker, with whether each is a side reactor.
    pub fn reactors_of(&self, worker: WorkerIx) -> impl Iterator<Item = (ReactorIx, bool)> + '_ {
        let all = (0..).zip(&self.reactors);
        all.filter(move |(_, (w, _))| *w == worker).map(|(r, (_, side))| (r, *side))
    }
}

/// See the module. Clones are the same memory.
#[derive(Clone)]
pub struct Board {
    layout: BoardLayout,
    words: Words,
}

impl Board {
    /// A board of this process alone.
    pub fn heap(plan: &Plan) -> Board {
        let layout = BoardLayout::of(plan);
        Board { words: Words::heap(layout.words()), layout }
    }

    /// A board to be shared, and the descriptor by which a worker [opens](Board::open) it.
    ///
    /// # Errors
    /// The kernel's, if it gives no memory to share.
    pub fn create(layout: BoardLayout) -> io::Result<(Board, OwnedFd)> {
        let (words, fd) = Words::create(layout.words())?;
        Ok((Board { layout, words }, fd))
    }

    /// The board that the parent of a run made.
    ///
    /// # Errors
    /// The kernel's, or that it is too small for this layout.
    pub fn open(layout: BoardLayout, fd: OwnedFd) -> io::Result<Board> {
        Ok(Board { words: Words::open(fd, layout.words())?, layout })
    }

    /// The counters of a cohort.
    pub(crate) fn cohort(&self, component: ComponentIx, reactor: ReactorIx) -> CohortStats {
        let place = self.layout.cohorts.iter().position(|(c, r, _)| (*c, *r) == (component, reactor));
        CohortStats::at(self.words.clone(), self.layout.cohort_at(place.expect("the plan has this cohort")))
    }

    /// The pulse of a reactor.
    pub fn reactor(&self, reactor: ReactorIx) -> Pulse {
        Pulse { words: self.words.clone(), at: (self.layout.workers + reactor as usize) * PULSE_WORDS }
    }

    /// The pulse of a worker's main thread.
    pub fn main(&self, worker: WorkerIx) -> Pulse {
        Pulse { words: self.words.clone(), at: worker as usize * PULSE_WORDS }
    }

    fn cohorts_of(&self, worker: WorkerIx) -> impl Iterator<Item = (ComponentIx, bool, CohortStats)> + '_ {
        let all = self.layout.cohorts.iter().enumerate();
        let here = all.filter(move |(_, (_, r, _))| self.layout.reactors[*r as usize].0 == worker);
        here.map(|(at, (c, _, spout))| (*c, *spout, CohortStats::at(self.words.clone(), self.layout.cohort_at(at))))
    }

    /// The counts of a worker's cohorts, added to those of their components.
    pub fn add_worker(&self, worker: WorkerIx, components: &mut [ComponentStats]) {
        for (component, _, stats) in self.cohorts_of(worker) {
            stats.add_to(&mut components[component as usize]);
        }
    }

    /// A worker is dead: the roots of its spouts that were pending have failed as `spout lost`. Returns how many. Only while nobody runs as that
    /// worker.
    pub fn bury(&self, worker: WorkerIx) -> u64 {
        self.cohorts_of(worker).filter(|(_, spout, _)| *spout).map(|(_, _, stats)| stats.lose_spout()).sum()
    }
}

/// Shows that a thread lives, and what it is calling.
#[derive(Clone)]
pub struct Pulse {
    words: Words,
    at: usize,
}

impl Pulse {
    /// The thread is in a place that it comes by again and again; `beat` differs from the one before.
    #[inline]
    pub fn beat(&self, beat: u64) {
        self.words.store(self.at + BEAT, beat);
    }

    /// The thread calls a component.
    #[inline]
    pub fn calls(&self, component: ComponentIx) {
        self.words.store(self.at + BUSY, u64::from(component) + 1);
    }

    /// The thread is about to sleep.
    #[inline]
    pub(crate) fn rests(&self) {
        self.words.store(self.at + BUSY, 0);
    }

    /// The last beat, and the component that was called last, unless the thread sleeps.
    pub fn read(&self) -> (u64, Option<ComponentIx>) {
        let busy = self.words.load(self.at + BUSY);
        (self.words.load(self.at + BEAT), busy.checked_sub(1).map(|c| c as ComponentIx))
    }
}
