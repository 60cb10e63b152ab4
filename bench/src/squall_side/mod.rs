//! Squall's side: topologies as a user writes them, laid out by the ordinary plan, run by the real engine.
//!
//! The plan deals executors in turn over workers and their reactors, so the order of the components decides what runs
//! where; each row says where it needs them and refuses any other layout.

mod host;
mod rtt;
mod stream;
pub(crate) mod words;

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use squall::{Built, Topology};
use squall_engine::WaitStrategy;
use squall_metrics::Histogram;
use squall_topology::{LinkKind, Plan};

use crate::error::BenchError;
use crate::machine::Machine;
use crate::measure::{Outcome, Settings};
use crate::payload::with_payload;
use crate::scenario::{Link, Row, Scenario, TupleKind};

pub(crate) use host::worker_main;

/// All that both processes of a row must know.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    row: Row,
    cores: Vec<usize>,
    wait: Wait,
    warmup_ns: u64,
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
    rate: Option<f64>,
    latency: Option<Histogram>,
    /// First `next` of a spout, last `finish` of a bolt.
    span_ns: Option<(u64, u64)>,
    words: Option<words::Totals>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.emitted += other.emitted;
        self.executed += other.executed;
        self.rate = self.rate.or(other.rate);
        self.latency = self.latency.take().or(other.latency);
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
}

/// A component and the reactor on which the row needs its task.
type Place = (&'static str, u32);

impl Job {
    fn new(row: &Row, settings: &Settings, machine: &Machine) -> Result<Job, BenchError> {
        let cores = match row.link {
            Link::Local => vec![*machine.cores.first().ok_or(BenchError::Cores(0))?],
            _ => machine.pair()?.into(),
        };
        Ok(Job {
            row: row.clone(),
            cores,
            wait: Wait(settings.wait),
            warmup_ns: settings.warmup.as_nanos() as u64,
            text_bytes: settings.text_bytes,
        })
    }

    /// Declares the topology and lays it out; equal in both processes.
    fn deploy(&self) -> Result<Deployed, BenchError> {
        let tally = Tallied::default();
        let t = Topology::new(self.row.scenario.name());
        let (workers, reactors) = match self.row.link {
            Link::Local => (1, 1),
            Link::Ring => (1, 2),
            Link::Uds | Link::Tcp => (2, 1),
        };
        t.configure(|c| {
            c.workers = workers;
            c.reactors = Some(reactors);
            // These rows measure the socket.
            c.shm = squall_topology::ShmUse::Off;
        });
        let places = match (self.row.scenario, self.row.tuple) {
            (Scenario::Rtt(_), _) => with_payload!(self.row.size, rtt_topology(&t, self, &tally)),
            (Scenario::ConstNull, TupleKind::Typed) => with_payload!(self.row.size, stream_topology(&t, self, &tally)),
            (Scenario::ConstNull, TupleKind::Dynamic) => stream::rows(&t, self, &tally),
            (Scenario::WordCount, _) => words::topology(&t, self, &tally),
        };
        let refused = |e: squall::BuildError| BenchError::Topology(e.to_string());
        let built = t.build().map_err(refused)?;
        let cores = squall_topology::Machine { cores: self.cores.clone() };
        let plan = built.plan(&cores).map_err(refused)?;
        self.check(&plan, &places)?;
        Ok(Deployed { plan: Arc::new(plan), built, tally })
    }

    /// On the row's link, the other reactor's index.
    fn other_reactor(&self) -> u32 {
        u32::from(self.row.link != Link::Local)
    }

    fn check(&self, plan: &Plan, places: &[Place]) -> Result<(), BenchError> {
        for (component, wanted) in places {
            let ix = plan.spec.component(component).expect("the scenario names its own components");
            for got in plan.reactors_of(ix) {
                // Components of several tasks are on all reactors.
                if plan.tasks_of(ix).len() == 1 && got != wanted {
                    return Err(BenchError::Placement {
                        component: (*component).to_owned(),
                        got: *got,
                        wanted: *wanted,
                    });
                }
            }
        }
        let wanted = match self.row.link {
            Link::Local => LinkKind::Local,
            Link::Ring => LinkKind::Ring,
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

use rtt::topology as rtt_topology;
use stream::topology as stream_topology;

/// One round of Squall's side of a row.
pub(crate) fn run(row: &Row, settings: &Settings, machine: &Machine) -> Result<Outcome, BenchError> {
    let job = Job::new(row, settings, machine)?;
    let measured = (row.scenario != Scenario::WordCount).then_some(settings.warmup + settings.slice);
    let done = host::run(&job, measured)?;
    let tally = done.tally;
    if row.scenario == Scenario::WordCount {
        return words::outcome(&tally, &done.counters, job.text_bytes);
    }
    if tally.emitted != tally.executed {
        return Err(BenchError::Counts { emitted: tally.emitted, executed: tally.executed });
    }
    if tally.rate.is_none() && tally.latency.is_none() {
        return Err(BenchError::TooShort);
    }
    Ok(Outcome { latency: tally.latency, rate: tally.rate, emitted: tally.emitted, counters: done.counters })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(row: Row, cores: usize) -> Job {
        let cores = (0..cores).collect();
        Job { row, cores, wait: Wait(WaitStrategy::Park), warmup_ns: 0, text_bytes: 1000 }
    }

    #[test]
    fn the_plan_puts_every_row_where_it_needs_to_be() {
        for row in Scenario::all().iter().flat_map(|s| s.rows()) {
            let what = format!("{:?}", row);
            job(row, 2).deploy().map(|_| ()).unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    }

    #[test]
    fn another_layout_is_refused() {
        let row = Scenario::named("rtt-ring").unwrap().rows()[0].clone();
        let job = job(row, 2);
        let deployed = job.deploy().unwrap();
        let refused = job.check(&deployed.plan, &[("echo", 0)]);
        assert!(matches!(refused, Err(BenchError::Placement { got: 1, wanted: 0, .. })), "{refused:?}");
        let row = Scenario::named("rtt-tcp").unwrap().rows()[0].clone();
        let other_link = Job { row, ..job }.check(&deployed.plan, &[]);
        assert!(matches!(other_link, Err(BenchError::LinkKind { got: LinkKind::Ring, .. })), "{other_link:?}");
    }

    #[test]
    fn a_job_survives_its_way_to_the_other_process() {
        let row = Scenario::named("rtt-tcp").unwrap().rows()[0].clone();
        let sent = job(row, 2);
        let got: Job = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
        assert_eq!((got.row, got.cores, got.wait.0), (sent.row, sent.cores, WaitStrategy::Park));
    }
}
