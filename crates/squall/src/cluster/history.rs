//! What happened, for people: events, and what went wrong with workers. Bounded, and lost with the process.
//!
//! It is made of what nimbus notes and of what supervisors report; it decides nothing. Times are wall clocks of nimbus.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use squall_control::{Epoch, Report, WorkerState};

use super::NodeStats;

/// Events that are remembered.
const EVENTS: usize = 4096;
/// Troubles that are remembered of a topology.
const TROUBLES: usize = 64;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Happened {
    /// Counts up from 1; a follower asks for what comes after the last one it has.
    pub seq: u64,
    pub time_ms: u64,
    pub what: String,
}

/// Something that went wrong with a worker, as often as it did so in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Trouble {
    pub first_ms: u64,
    pub last_ms: u64,
    pub times: u64,
    pub node: String,
    pub slot: u16,
    /// Which worker of the plan, where that is known.
    pub worker: Option<u32>,
    /// Generation and restart of the life it ended, the last one of them.
    pub generation: u32,
    pub restart: u32,
    pub what: String,
}

/// What a worker was when it was reported last.
type Life = (String, Epoch, WorkerState);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: VecDeque<Happened>,
    next: u64,
    /// By node and slot.
    lives: BTreeMap<(String, u16), Life>,
    /// By id.
    troubles: BTreeMap<String, VecDeque<Trouble>>,
}

impl History {
    /// Something happened.
    pub(crate) fn note(&mut self, what: impl Into<String>, time_ms: u64) {
        self.next += 1;
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Happened { seq: self.next, time_ms, what: what.into() });
    }

    /// A supervisor says how its workers are: what is new about them is an event.
    pub(crate) fn report(&mut self, report: &Report, time_ms: u64) {
        let of = |node: &str| node == report.node;
        let gone: Vec<((String, u16), Life)> = self
            .lives
            .extract_if(.., |(node, slot), _| of(node) && !report.workers.iter().any(|w| w.slot == *slot))
            .collect();
        for ((node, slot), (topology, epoch, _)) in gone {
            self.note(worker(&topology, &node, slot, epoch, "has ended"), time_ms);
        }
        for now in &report.workers {
            let life = (now.topology.clone(), now.epoch, now.state);
            let key = (report.node.clone(), now.slot);
            if self.lives.get(&key) == Some(&life) {
                continue;
            }
            self.lives.insert(key, life);
            let word = match now.state {
                WorkerState::Starting => "starts",
                WorkerState::Running => "runs",
                WorkerState::Drained { .. } => "has nothing pending any more",
                WorkerState::Stopping => "is stopped",
                WorkerState::Spent => "died too often in its generation",
            };
            self.note(worker(&now.topology, &report.node, now.slot, now.epoch, word), time_ms);
        }
    }

    /// A node tells its counts, and the last trouble of each worker that has one.
    pub(crate) fn stats(&mut self, stats: &NodeStats, time_ms: u64) {
        for (id, topology) in &stats.topologies {
            for row in &topology.workers {
                let Some(what) = &row.trouble else { continue };
                let known = self.troubles.entry(id.clone()).or_default();
                let same = |t: &&mut Trouble| (&t.node, t.slot, &t.what) == (&row.node, row.slot, what);
                if let Some(last) = known.iter_mut().rev().find(|t| (&t.node, t.slot) == (&row.node, row.slot))
                    && same(&last)
                {
                    // Told again and again until the worker runs: once for each life.
                    if (last.generation, last.restart) != (row.generation, row.restart) {
                        (last.generation, last.restart, last.last_ms) = (row.generation, row.restart, time_ms);
                        last.times += 1;
                    }
                    continue;
                }
                if known.len() == TROUBLES {
                    known.pop_front();
                }
                known.push_back(Trouble {
                    first_ms: time_ms,
                    last_ms: time_ms,
                    times: 1,
                    node: row.node.clone(),
                    slot: row.slot,
                    worker: row.worker,
                    generation: row.generation,
                    restart: row.restart,
                    what: what.clone(),
                });
            }
        }
    }

    /// A topology is removed: its troubles go with it.
    pub(crate) fn removed(&mut self, id: &str) {
        self.troubles.remove(id);
    }

    /// What happened after this event, the oldest first; 0: all that is remembered.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = &Happened> {
        self.events.iter().filter(move |event| event.seq > seq)
    }

    /// What went wrong with the workers of a topology, the oldest first.
    pub(crate) fn troubles(&self, id: &str) -> impl Iterator<Item = &Trouble> {
        self.troubles.get(id).into_iter().flatten()
    }
}

fn worker(topology: &str, node: &str, slot: u16, epoch: Epoch, word: &str) -> String {
    format!("{topology}: the worker in {node}:{slot} {word}, life {}.{}", epoch.generation, epoch.restart)
}

#[cfg(test)]
mod tests {
    use squall_control::WorkerReport;

    use super::*;
    use crate::cluster::{TopologyStats, WorkerRow};

    fn texts(history: &History) -> Vec<String> {
        history.after(0).map(|event| event.what.clone()).collect()
    }

    #[test]
    fn only_what_is_new_about_a_worker_is_an_event() {
        let report = |restart, state| {
            let epoch = Epoch { generation: 1, restart };
            let worker = WorkerReport { slot: 2, topology: "a-1".into(), epoch, state, restarts: restart };
            Report { node: "n".into(), workers: vec![worker] }
        };
        let mut history = History::default();
        for (time, state) in [WorkerState::Starting, WorkerState::Running, WorkerState::Running].into_iter().enumerate()
        {
            history.report(&report(0, state), time as u64);
        }
        history.report(&report(1, WorkerState::Starting), 4);
        history.report(&Report { node: "other".into(), workers: vec![] }, 5);
        history.report(&Report { node: "n".into(), workers: vec![] }, 6);
        history.report(&Report { node: "n".into(), workers: vec![] }, 7);
        let expected = ["starts, life 1.0", "runs, life 1.0", "starts, life 1.1", "has ended, life 1.1"];
        assert_eq!(texts(&history), expected.map(|word| format!("a-1: the worker in n:2 {word}")));
        let last: Vec<(u64, u64)> = history.after(3).map(|event| (event.seq, event.time_ms)).collect();
        assert_eq!(last, [(4, 6)], "a follower hears what is new only");
    }

    #[test]
    fn the_oldest_events_are_forgotten_and_their_numbers_are_not_used_again() {
        let mut history = History::default();
        (0..EVENTS as u64 + 10).for_each(|n| history.note("x", n));
        let seqs: Vec<u64> = history.after(0).map(|event| event.seq).collect();
        assert_eq!((seqs.len(), seqs[0], seqs[EVENTS - 1]), (EVENTS, 11, EVENTS as u64 + 10));
    }

    #[test]
    fn a_trouble_counts_once_for_each_life_it_ended() {
        let stats = |restart, what: &str| {
            let row = WorkerRow {
                node: "n".into(),
                slot: 0,
                worker: Some(0),
                pid: None,
                generation: 1,
                restart,
                state: WorkerState::Starting,
                restarts: restart,
                uptime_ms: 0,
                trouble: Some(what.into()),
            };
            let of = TopologyStats { workers: vec![row], ..TopologyStats::default() };
            NodeStats { node: "n".into(), topologies: BTreeMap::from([("a-1".to_owned(), of)]) }
        };
        let mut history = History::default();
        for (time, (restart, what)) in
            [(0, "no file"), (0, "no file"), (1, "no file"), (2, "killed")].iter().enumerate()
        {
            history.stats(&stats(*restart, what), time as u64);
        }
        let told: Vec<(u64, u64, u64, &str)> =
            history.troubles("a-1").map(|t| (t.first_ms, t.last_ms, t.times, t.what.as_str())).collect();
        assert_eq!(told, [(0, 2, 2, "no file"), (3, 3, 1, "killed")]);
        history.removed("a-1");
        assert_eq!(history.troubles("a-1").count(), 0);
    }
}
