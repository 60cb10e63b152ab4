//! Squall's side: topologies as a user writes them, laid out by the ordinary plan, run by the real engine.
//!
//! The plan deals executors in turn over workers and their reactors, so the order of the components decides what runs
//! where; each row says where it needs them and refuses any other layout.

mod acked;
mod chain;
mod host;
mod idle;
mod lowrate;
mod recovery;
mod rtt;
mod sentences;
mod stamped;
mod stream;
pub(crate) mod words;
mod yaml;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall::{Built, Topology};
use squall_engine::WaitStrategy;
use squall_metrics::Histogram;
use squall_topology::{LinkKind, Plan, ShmUse};

use crate::error::BenchError;
use crate::machine::Machine;
use crate::measure::{Outcome, Settings};
use crate::payload::with_payload;
use crate::scenario::{Link, Row, Scenario, TupleKind, Unit};

pub(crate) use host::worker_main;
pub(crate) use lowrate::PERIOD_NS as LOWRATE_PERIOD_NS;

/// Tasks that get every tuple of fanout-all.
pub(crate) const FANOUT_TASKS: u32 = 8;
/// Words of a sentence of wordcount-50k-acked.
const SENTENCE_WORDS: u64 = 8;
/// Reactors of oversubscribed, on two cores.
const OVERSUBSCRIBED_REACTORS: u32 = 4;
/// Bytes of a batch's header and of a tuple's.
const BATCH_HEADER: usize = 64;
const TUPLE_HEADER: usize = 16;
/// Bytes that a tuple takes more where the origin time changes; so many changes have room beside a capped batch's tuples,
/// and still no further tuple of 32 bytes.
const ORIGIN_CHANGES: usize = 5 * 8;

/// All that both processes of a row must know.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    row: Row,
    cores: Vec<usize>,
    wait: Wait,
    warmup_ns: u64,
    /// No more reactors than cores, whatever the row says.
    undersubscribed: bool,
    /// Without message ids, though the row has them.
    unacked: bool,
    /// Before each stamp of idle.
    silence: Duration,
    /// Bytes of wordcount's text.
    text_bytes: u64,
}

/// [`WaitStrategy`] by its name: it does not serialize.
#[derive(Debug, Clone, Copy)]
struct Wait(WaitStrategy);

impl Serialize for Wait {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        name.parse().map(Wait).map_err(serde::de::Error::custom)
    }
}

/// What the components tell at their end. Each process has one; the parent adds up both.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    /// By the spouts.
    emitted: u64,
    /// By the last bolt.
    executed: u64,
    /// Roots acknowledged, where tuples have message ids.
    acked: Option<u64>,
    rate: Option<f64>,
    latency: Option<Histogram>,
    /// The same from the time at which the tuple was due.
    due: Option<Histogram>,
    /// First `next` of a spout, last `finish` of a bolt.
    span_ns: Option<(u64, u64)>,
    words: Option<words::Totals>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.emitted += other.emitted;
        self.executed += other.executed;
        self.acked = self.acked.map(|n| n + other.acked.unwrap_or(0)).or(other.acked);
        self.rate = self.rate.or(other.rate);
        self.latency = self.latency.take().or(other.latency);
        self.due = self.due.take().or(other.due);
        if let Some((began, ended)) = other.span_ns {
            self.note_span(began, ended);
        }
        if let Some(words) = other.words {
            self.words.get_or_insert_default().add(&words);
        }
    }

    fn note_span(&mut self, began: u64, ended: u64) {
        let (b, e) = self.span_ns.unwrap_or((began, ended));
        self.span_ns = Some((b.min(began), e.max(ended)));
    }
}

/// A tally between the components and the main thread; locked at the start and end of a component only.
#[derive(Clone, Default)]
struct Tallied(Arc<Mutex<Tally>>);

impl Tallied {
    fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn take(&self) -> Tally {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A topology with its plan, and where to find what it measured.
struct Deployed {
    plan: Arc<Plan>,
    built: Built,
    tally: Tallied,
    alarm: idle::Alarm,
}

/// A component and the reactor on which the row needs its task.
type Place = (&'static str, u32);

impl Job {
    fn new(row: &Row, settings: &Settings, machine: &Machine) -> Result<Job, BenchError> {
        let cores = match (row.scenario, row.link) {
            // The injector has the second one.
            (Scenario::Idle, _) => crate::machine::pair(machine)?.into(),
            (_, Link::Local) => vec![*machine.cores.first().ok_or(BenchError::Cores(0))?],
            _ => crate::machine::pair(machine)?.into(),
        };
        Ok(Job {
            row: row.clone(),
            cores,
            wait: Wait(settings.wait(row)),
            warmup_ns: settings.warmup.as_nanos() as u64,
            undersubscribed: false,
            unacked: false,
            silence: settings.silence(),
            text_bytes: settings.text_bytes,
        })
    }

    /// Workers, and reactors of each.
    fn layout(&self) -> (u32, u32) {
        match (self.row.scenario, self.row.link) {
            (Scenario::Oversubscribed, _) if !self.undersubscribed => (1, OVERSUBSCRIBED_REACTORS),
            (_, Link::Local) => (1, 1),
            (_, Link::Ring) => (1, 2),
            (_, Link::Shm | Link::Uds | Link::Tcp) => (2, 1),
        }
    }

    /// The row's components.
    fn topology(&self, t: &Topology, tally: &Tallied, alarm: &idle::Alarm) -> Vec<Place> {
        let size = self.row.size;
        match (self.row.scenario, self.row.tuple) {
            (Scenario::Rtt(_), _) => with_payload!(size, rtt(t, self, tally)),
            (Scenario::ConstNull | Scenario::SmallBatches, TupleKind::Typed) => {
                with_payload!(size, one_way(t, self, tally))
            }
            (Scenario::ConstNull | Scenario::SmallBatches, TupleKind::Dynamic) => stream::rows(t, self, tally),
            (Scenario::ConstIdNull, _) => with_payload!(size, through_id(t, self, tally)),
            (Scenario::FanoutAll, _) => with_payload!(size, to_all(t, self, tally)),
            (Scenario::Idle, _) => idle::topology(t, self, tally, alarm),
            (Scenario::LowRate, _) => lowrate::topology(t, self, tally),
            (Scenario::Oversubscribed, _) => chain::topology(t, self, tally),
            (Scenario::WordCount, TupleKind::Typed) | (Scenario::WordCountAcked, _) => words::topology(t, self, tally),
            (Scenario::WordCount, TupleKind::Dynamic) => yaml::word_count(t, self, tally),
            (Scenario::WordCount50kAcked, _) => sentences::topology(t, self, tally),
            (Scenario::Filter, _) => yaml::filter(t, self, tally),
            (Scenario::Recovery(_), _) => unreachable!("it is no topology of this program's"),
            (Scenario::ConstNullAcked, _) => with_payload!(size, one_way_acked(t, self, tally)),
            (Scenario::ConstIdNullAcked, _) => with_payload!(size, through_id_acked(t, self, tally)),
            (Scenario::RttAcked, _) => with_payload!(size, rtt_acked(t, self, tally)),
        }
    }

    /// Declares the topology and lays it out; equal in both processes.
    fn deploy(&self) -> Result<Deployed, BenchError> {
        let (tally, alarm) = (Tallied::default(), idle::Alarm::default());
        let t = Topology::new(self.row.scenario.name());
        let (workers, reactors) = self.layout();
        t.configure(|c| {
            c.workers = workers;
            c.reactors = Some(reactors);
            c.shm = if self.row.link == Link::Shm { ShmUse::Auto } else { ShmUse::Off };
            if let Some(cap) = self.row.cap {
                // So many of the row's tuples fit, and not one more.
                let tuples = cap * (TUPLE_HEADER + self.row.size);
                c.socket_batch_bytes = (BATCH_HEADER + tuples + ORIGIN_CHANGES) as u32;
            }
        });
        let places = self.topology(&t, &tally, &alarm);
        let refused = |e: squall::BuildError| BenchError::Topology(e.to_string());
        let built = t.build().map_err(refused)?;
        let cores = squall_topology::Machine { cores: self.cores.clone() };
        let plan = built.plan(&cores).map_err(refused)?;
        self.check(&plan, &places)?;
        Ok(Deployed { plan: Arc::new(plan), built, tally, alarm })
    }

    /// On the row's link, the other reactor's index.
    fn other_reactor(&self) -> u32 {
        u32::from(self.row.link != Link::Local)
    }

    fn check(&self, plan: &Plan, places: &[Place]) -> Result<(), BenchError> {
        for (component, wanted) in places {
            let ix = plan.spec.component(component).expect("the scenario names its own components");
            let got = plan.reactors_of(ix);
            if got != [*wanted] {
                let component = (*component).to_owned();
                return Err(BenchError::Placement { component, got: got.to_vec(), wanted: *wanted });
            }
        }
        let wanted = match self.row.link {
            Link::Local => LinkKind::Local,
            Link::Ring => LinkKind::Ring,
            Link::Shm => LinkKind::Shm,
            Link::Uds | Link::Tcp => LinkKind::Socket,
        };
        let link = plan.link_between(0, self.other_reactor());
        let got = link.map_or(LinkKind::Local, |l| plan.links[l as usize].kind);
        if got != wanted {
            return Err(BenchError::LinkKind { got, wanted });
        }
        Ok(())
    }
}

use acked::{one_way as one_way_acked, rtt as rtt_acked, through_id as through_id_acked};
use rtt::topology as rtt;
use stream::{one_way, through_id, to_all};

/// One round of Squall's side of a row.
pub(crate) fn run(row: &Row, settings: &Settings, machine: &Machine) -> Result<Outcome, BenchError> {
    if let Scenario::Recovery(fault) = row.scenario {
        return recovery::run(fault, row, settings);
    }
    measure(&Job::new(row, settings, machine)?, settings)
}

/// The same with no more reactors than cores.
pub(crate) fn run_undersubscribed(row: &Row, settings: &Settings, machine: &Machine) -> Result<Outcome, BenchError> {
    measure(&Job { undersubscribed: true, ..Job::new(row, settings, machine)? }, settings)
}

/// The same without message ids.
pub(crate) fn run_unacked(row: &Row, settings: &Settings, machine: &Machine) -> Result<Outcome, BenchError> {
    measure(&Job { unacked: true, ..Job::new(row, settings, machine)? }, settings)
}

fn measure(job: &Job, settings: &Settings) -> Result<Outcome, BenchError> {
    let scenario = job.row.scenario;
    let measured = (!scenario.fixed_work()).then_some(settings.warmup + settings.slice);
    let done = host::run(job, measured)?;
    let tally = done.tally;
    if let Some(acked) = tally.acked
        && acked != tally.emitted
    {
        return Err(BenchError::Acks { emitted: tally.emitted, acked });
    }
    if scenario.fixed_work() {
        return words::outcome(&tally, &done.counters, job.text_bytes);
    }
    let copies = match scenario {
        Scenario::FanoutAll => u64::from(FANOUT_TASKS),
        Scenario::WordCount50kAcked => SENTENCE_WORDS,
        _ => 1,
    };
    if tally.emitted * copies != tally.executed {
        return Err(BenchError::Counts { emitted: tally.emitted * copies, executed: tally.executed });
    }
    let rate = tally.rate.filter(|_| scenario.unit() != Unit::Ns);
    if rate.is_none() && tally.latency.is_none() {
        return Err(BenchError::TooShort);
    }
    let Tally { latency, due, emitted, .. } = tally;
    Ok(Outcome { latency, due, rate, emitted, counters: done.counters })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(row: Row, cores: usize) -> Job {
        let cores = (0..cores).collect();
        let (wait, silence) = (Wait(WaitStrategy::Park), Duration::ZERO);
        Job { row, cores, wait, warmup_ns: 0, undersubscribed: false, unacked: false, silence, text_bytes: 1000 }
    }

    #[test]
    fn the_plan_puts_every_row_where_it_needs_to_be() {
        for row in Scenario::all().filter(|s| s.is_ours()).flat_map(|s| s.rows()) {
            let what = format!("{:?}", row);
            job(row, 2).deploy().map(|_| ()).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }

    #[test]
    fn another_layout_is_refused() {
        let row = Scenario::named("rtt-ring")[0].rows()[0].clone();
        let job = job(row, 2);
        let deployed = job.deploy().unwrap();
        let refused = job.check(&deployed.plan, &[("echo", 0)]);
        assert!(matches!(refused, Err(BenchError::Placement { wanted: 0, .. })), "{refused:?}");
        let row = Scenario::named("rtt-tcp")[0].rows()[0].clone();
        let other_link = Job { row, ..job }.check(&deployed.plan, &[]);
        assert!(matches!(other_link, Err(BenchError::LinkKind { got: LinkKind::Ring, .. })), "{other_link:?}");
    }

    #[test]
    fn a_job_survives_its_way_to_the_other_process() {
        let row = Scenario::named("rtt-tcp")[0].rows()[0].clone();
        let sent = job(row, 2);
        let got: Job = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
        assert_eq!((got.row, got.cores, got.wait.0), (sent.row, sent.cores, WaitStrategy::Park));
    }
}
