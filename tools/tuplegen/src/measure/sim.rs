//! A link and a sink in virtual time, with every fault known, and a clock that jumps to where something happens.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use squall_load::LinkError;
use squall_load::record::{self, Return, Stamps, Way};

use super::clock::Clock;
use super::drive::{Course, Link, Outcome, Pace, Polled, drive};
use super::latency::recorder;
use super::totals::Totals;
use crate::model::arrival::{Length, Schedule};
use crate::model::body::{FieldSpecs, Fields};
use crate::model::rng::Rng;

/// What the sink does.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    /// Time that each tuple takes it, one at a time.
    pub(crate) service_ns: u64,
    /// From the end of the service to the return.
    pub(crate) fixed_ns: u64,
    /// Random part on top, on average.
    pub(crate) jitter_ns: f64,
    /// Serves nothing between these two.
    pub(crate) stall: (u64, u64),
    /// Tuples that the link holds.
    pub(crate) room: usize,
    /// Of so many tuples one is dropped, doubled, exchanged with the next, damaged; 0: none.
    pub(crate) drop: u64,
    pub(crate) double: u64,
    pub(crate) swap: u64,
    pub(crate) damage: u64,
    /// Dies at this time.
    pub(crate) dies_ns: u64,
    pub(crate) seed: u64,
}

impl Default for Sink {
    fn default() -> Sink {
        Sink {
            service_ns: 100,
            fixed_ns: 5_000,
            jitter_ns: 0.0,
            stall: (0, 0),
            room: 100_000,
            drop: 0,
            double: 0,
            swap: 0,
            damage: 0,
            dies_ns: u64::MAX,
            seed: 1,
        }
    }
}

/// Clock and link share what they know.
struct World {
    now: u64,
    sink: Sink,
    free_at: u64,
    rng: Rng,
    /// (time, order, return) to come.
    coming: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    order: u64,
    /// Ends of service, for the room.
    busy: std::collections::VecDeque<u64>,
    ended: bool,
}

pub(crate) struct SimClock(Rc<RefCell<World>>);
pub(crate) struct SimLink(Rc<RefCell<World>>);

impl Clock for SimClock {
    fn now(&mut self) -> u64 {
        let mut w = self.0.borrow_mut();
        w.now += 50;
        w.now
    }

    fn idle(&mut self, until_ns: u64, _: bool) {
        let mut w = self.0.borrow_mut();
        let next = w.coming.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        let room = if w.busy.len() >= w.sink.room { w.busy[0] } else { u64::MAX };
        w.now = w.now.max(until_ns.min(next).min(room).min(w.now + 1_000_000));
    }
}

impl World {
    fn accept(&mut self, r: &record::Record<'_>) {
        let mut start = self.now.max(self.free_at);
        if (self.sink.stall.0..self.sink.stall.1).contains(&start) {
            start = self.sink.stall.1;
        }
        self.free_at = start + self.sink.service_ns;
        self.busy.push_back(self.free_at);
        let jitter = if self.sink.jitter_ns > 0.0 { (self.rng.exponential() * self.sink.jitter_ns) as u64 } else { 0 };
        let mut at = self.free_at + self.sink.fixed_ns + jitter;
        let hits = |every: u64| every > 0 && r.seq % every == every - 1;
        if hits(self.sink.drop) {
            return;
        }
        let way = Way { part: 0, parts: 1, flags: 0, ingest_ns: start, egress_ns: self.free_at };
        let stamps = Stamps { seq: r.seq, due_ns: r.due_ns, sent_ns: r.sent_ns };
        let mut bytes = Vec::new();
        record::push_return(&mut bytes, way, stamps, Some((r.body, r.check)));
        if hits(self.sink.damage) {
            *bytes.last_mut().unwrap() ^= 1;
        }
        if hits(self.sink.swap) {
            // Behind the next one, or two.
            at += 3_000_000;
        }
        let copies = if hits(self.sink.double) { 2 } else { 1 };
        for _ in 0..copies {
            self.order += 1;
            self.coming.push(Reverse((at, self.order, bytes.clone())));
        }
    }
}

impl Link for SimLink {
    fn try_send(&mut self, chunk: &[u8]) -> Result<bool, LinkError> {
        let mut w = self.0.borrow_mut();
        if w.now >= w.sink.dies_ns {
            return Err(LinkError::Gone);
        }
        while w.busy.front().is_some_and(|end| *end <= w.now) {
            w.busy.pop_front();
        }
        if w.busy.len() >= w.sink.room {
            return Ok(false);
        }
        let mut at = 0;
        while at < chunk.len() {
            let (r, len) = record::parse(&chunk[at..]).unwrap();
            w.accept(&r);
            at += len;
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<bool, LinkError> {
        self.0.borrow_mut().ended = true;
        Ok(true)
    }

    fn poll(&mut self, each: &mut dyn FnMut(&Return<'_>)) -> Result<Polled, LinkError> {
        let mut w = self.0.borrow_mut();
        if w.now >= w.sink.dies_ns {
            return Err(LinkError::Gone);
        }
        let mut some = 0;
        while some < 16 && w.coming.peek().is_some_and(|Reverse((at, ..))| *at <= w.now) {
            let Some(Reverse((_, _, bytes))) = w.coming.pop() else { break };
            each(&record::parse_return(&bytes).unwrap().0);
            some += 1;
        }
        let over = w.ended && w.coming.is_empty();
        Ok(if some > 0 {
            Polled::Some
        } else if over {
            Polled::Ended
        } else {
            Polled::Nothing
        })
    }
}

/// A run of so many seconds against a sink.
pub(crate) struct Load {
    pub(crate) rate: f64,
    pub(crate) secs: f64,
    pub(crate) drain_secs: f64,
    pub(crate) closed: Option<u64>,
    pub(crate) arrival: &'static str,
}

impl Default for Load {
    fn default() -> Self {
        Load { rate: 10_000.0, secs: 5.0, drain_secs: 1.0, closed: None, arrival: "constant" }
    }
}

/// Runs it in virtual time.
pub(crate) fn run(load: &Load, sink: Sink) -> (Outcome, Totals) {
    let seed = sink.seed;
    let end_ns = (load.secs * 1e9) as u64;
    let world = World {
        now: 1_000_000,
        free_at: 0,
        rng: Rng::new(seed, 9),
        sink,
        coming: BinaryHeap::new(),
        order: 0,
        busy: Default::default(),
        ended: false,
    };
    let world = Rc::new(RefCell::new(world));
    let course = Course {
        warmup_ns: 0,
        end_ns,
        count: u64::MAX,
        drain_ns: (load.drain_secs * 1e9) as u64,
        interval_ns: end_ns,
        hop_mask: 7,
    };
    let mut pace = match load.closed {
        Some(n) => Pace::Closed(n),
        None => {
            let length = Length { end_ns, count: u64::MAX };
            Pace::Open(Schedule::new(&load.arrival.parse().unwrap(), load.rate, length, seed, None).unwrap())
        }
    };
    let specs = FieldSpecs::parse("id:u64=seq", &|_| Err(String::new())).unwrap();
    let mut body = Fields::new(specs, "64".parse().unwrap(), seed);
    let (recorder, intervals) = recorder();
    let (mut clock, mut link) = (SimClock(world.clone()), SimLink(world));
    let stop = AtomicBool::new(false);
    let outcome = drive(&mut pace, &mut body, &course, &mut clock, &mut link, recorder, &stop);
    let mut totals = Totals::new(std::time::UNIX_EPOCH);
    while intervals.next(|i| totals.absorb(i)) {}
    (outcome, totals)
}
