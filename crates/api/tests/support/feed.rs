//! A topology whose spouts are fed by hand, on virtual time: what Storm's tests do with a `FeederSpout` and
//! `advanceClusterTime`.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_api::prelude::*;
use squall_engine::{Clock, ComponentStats, MemCluster, VirtualClock};
use squall_topology::Machine;

#[derive(Tuple, Debug, Clone, PartialEq)]
pub(crate) struct Num {
    pub(crate) n: u64,
}

#[derive(Default)]
struct Inner {
    due: VecDeque<(Option<u64>, u64)>,
    acks: Vec<u64>,
    fails: Vec<(u64, String)>,
    ended: bool,
}

/// Feeds a spout, and hears what became of its tuples.
#[derive(Clone, Default)]
pub(crate) struct Feeder(Arc<Mutex<Inner>>);

impl Feeder {
    pub(crate) fn feed(&self, id: u64, n: u64) {
        self.0.lock().unwrap().due.push_back((Some(id), n));
    }

    pub(crate) fn feed_without_id(&self, n: u64) {
        self.0.lock().unwrap().due.push_back((None, n));
    }

    pub(crate) fn end(&self) {
        self.0.lock().unwrap().ended = true;
    }

    /// Ids acknowledged since the last call.
    pub(crate) fn acks(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap().acks)
    }

    /// Ids failed since the last call, and why.
    pub(crate) fn fails(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.0.lock().unwrap().fails)
    }

    pub(crate) fn not_emitted(&self) -> usize {
        self.0.lock().unwrap().due.len()
    }

    pub(crate) fn spout(&self) -> FeedSpout {
        FeedSpout(self.clone())
    }
}

pub(crate) struct FeedSpout(Feeder);

impl Spout for FeedSpout {
    type Out = Stream<Num>;

    fn next(&mut self, out: &mut Stream<Num>) -> Result<Next, SpoutError> {
        let mut inner = self.0.0.lock().unwrap();
        match inner.due.pop_front() {
            Some((Some(id), n)) => out.emit_with_id(id, Num { n }),
            Some((None, n)) => out.emit(Num { n }),
            None if inner.ended => return Ok(Next::End),
            None => return Ok(Next::Idle),
        }
        Ok(Next::Emitted)
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.0.0.lock().unwrap().acks.push(id.as_u64());
        Ok(())
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        self.0.0.lock().unwrap().fails.push((id.as_u64(), why.to_string()));
        Ok(())
    }
}

thread_local! {
    /// That of the thread's topology: factories of components must be `Send`, so they cannot hold it.
    static CLOCK: RefCell<Option<VirtualClock>> = const { RefCell::new(None) };
}

/// A component's call takes so long.
pub(crate) fn take_time(by: Duration) {
    CLOCK.with(|c| c.borrow().as_ref().expect("a topology was started").advance(by.as_nanos() as u64));
}

/// Reactors of a topology on one thread.
pub(crate) struct Fed {
    pub(crate) cluster: MemCluster,
    clock: VirtualClock,
}

impl Fed {
    pub(crate) fn start(t: Topology) -> Fed {
        let built = t.build().unwrap();
        let plan = Arc::new(built.plan(&Machine::default()).unwrap());
        let clock = VirtualClock::at(1_000_000_000);
        let mut cluster = MemCluster::new(plan, built.registry, clock.clone(), 64);
        cluster.start().unwrap();
        CLOCK.with(|c| *c.borrow_mut() = Some(clock.clone()));
        Fed { cluster, clock }
    }

    /// Lets time pass and everything happen that is due until then.
    pub(crate) fn pass(&mut self, by: Duration) {
        let end = self.clock.now_ns() + by.as_nanos() as u64;
        self.cluster.run(end).unwrap();
        self.clock.advance(end.saturating_sub(self.clock.now_ns()));
        self.cluster.run(end).unwrap();
    }

    /// Long enough for what was fed to go through.
    pub(crate) fn settle(&mut self) {
        self.pass(Duration::from_millis(5));
    }

    pub(crate) fn stats(&self, component: &str) -> ComponentStats {
        let at = self.cluster.plan().spec.component(component).unwrap();
        let mut sum = ComponentStats::default();
        let cohorts = self.cluster.cores().iter().flat_map(|c| c.stats()).filter(|(c, _)| *c == at);
        cohorts.for_each(|(_, s)| s.add_to(&mut sum));
        sum
    }
}

/// Placements in which the same must happen: one reactor; two; two workers that share memory or not, acks going over links
/// of their own.
pub(crate) const PLACEMENTS: [(u32, u32); 3] = [(1, 1), (1, 3), (2, 2)];

pub(crate) fn place(t: &Topology, (workers, reactors): (u32, u32)) {
    t.configure(|c| (c.workers, c.reactors) = (workers, Some(reactors)));
}
