//! The queue of what is to be committed, one piece at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_coordinator::{Call, Error, MAX_OPS, Op, Reply};
use squall_scheduler::NodeUse;

use super::requests::{Accepted, Refusal, Request, changed_shape};
use super::{Nimbus, Output, Role, Waiting};
use crate::record::{ASSIGNMENTS, Assignment, EPOCH, NAMES, Status, TOPOLOGIES, TopologyRecord, at, to_json};
use crate::supervisor::{Report, WorkerState};

/// Who asked, by a number of the driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// After a commit failed for a reason that may pass, a full disk say.
const RETRY: Duration = Duration::from_secs(1);
/// Assignments in one commit: each is one operation beside the fence, and together they stay below what ZooKeeper takes in one request.
const ASSIGN_OPS: usize = MAX_OPS / 2;
const ASSIGN_BYTES: usize = 256 << 10;

/// Something to do.
pub(super) enum Work {
    Request {
        client: ClientId,
        request: Request,
    },
    /// The wait of a kill or rebalance is over.
    Waited(String),
}

/// What a commit changes in the view.
#[derive(Debug)]
pub(super) enum Effect {
    Topology(Box<TopologyRecord>),
    Assignment(String, Assignment),
    Removed(String),
    Cordon(String, NodeUse),
}

/// A decision: what is to be committed, and what follows.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) effects: Vec<Effect>,
    pub(super) accepted: Accepted,
}

impl Plan {
    pub(super) fn nothing(accepted: Accepted) -> Plan {
        Plan { ops: Vec::new(), effects: Vec::new(), accepted }
    }
}

/// The commit under way.
pub(super) struct Flight {
    pub(super) client: Option<(ClientId, Accepted)>,
    effects: Vec<Effect>,
}

impl Nimbus {
    /// Does what can be done now.
    pub(super) fn go_on(&mut self) {
        while self.role == Role::Leading && self.connected && self.in_flight.is_none() {
            if self.retry_at.is_some_and(|at| at > self.now) {
                return;
            }
            self.retry_at = None;
            self.end_waits();
            if let Some(work) = self.queue.pop_front() {
                self.work(work);
            } else if self.settle() || self.dirty {
                let plan = self.assign();
                if plan.ops.is_empty() {
                    self.dirty = false;
                }
                self.carry_out(plan, None);
            } else {
                return;
            }
        }
    }

    /// Queues topologies whose pending work is done, or was waited for long enough.
    fn end_waits(&mut self) {
        let over: Vec<String> = self
            .waits
            .iter()
            .filter(|(id, until)| **until <= self.now || self.drained(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.waits.remove(&id);
            self.queue.push_front(Work::Waited(id));
        }
    }

    /// All workers of a topology say that nothing is pending any more.
    fn drained(&self, id: &str) -> bool {
        let Some(assignment) = self.view.assignments.get(id) else { return true };
        assignment.workers.iter().all(|w| {
            let report = self.reports.get(&w.node).and_then(|r| r.workers.iter().find(|r| r.slot == w.slot));
            report.is_some_and(|r| {
                r.topology == id && r.epoch.generation == w.generation && matches!(r.state, WorkerState::Drained { .. })
            })
        })
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Request { client, request } => match self.plan(&request) {
                Ok(plan) => self.carry_out(plan, Some(client)),
                Err(refusal) => self.outputs.push_back(Output::Answer { client, result: Err(refusal) }),
            },
            Work::Waited(id) => {
                let Some(record) = self.view.topologies.get(&id).cloned() else { return };
                let plan = match &record.status {
                    Status::Killed { .. } => self.remove(&record),
                    Status::Rebalancing { active, change, .. } => {
                        let shape = changed_shape(&record.shape, change).expect("it was checked when it was taken");
                        let status = if *active { Status::Active } else { Status::Inactive };
                        let restart = change.restart;
                        self.replace(TopologyRecord { shape, status, ..record }, restart)
                    }
                    Status::Active | Status::Inactive => return,
                };
                self.carry_out(plan, None);
            }
        }
    }

    /// A topology that was killed goes, with its name.
    fn remove(&mut self, record: &TopologyRecord) -> Plan {
        let left: u64 = self
            .reports
            .values()
            .flat_map(|r| &r.workers)
            .filter(|w| w.topology == record.id)
            .map(|w| match w.state {
                WorkerState::Drained { left } => left,
                _ => 0,
            })
            .sum();
        let (id, drained) = (record.id.clone(), self.drained(&record.id));
        self.outputs.push_back(Output::Removed { id, drained, left });
        let how =
            if drained { format!("{left} roots were left") } else { "its wait ended before it was drained".into() };
        self.note(format!("{} is removed: {how}", record.id));
        let mut ops = vec![Op::delete(at(NAMES, &record.name), None), Op::delete(at(TOPOLOGIES, &record.id), None)];
        if self.view.assignments.contains_key(&record.id) {
            ops.push(Op::delete(at(ASSIGNMENTS, &record.id), None));
        }
        Plan { ops, effects: vec![Effect::Removed(record.id.clone())], accepted: Accepted::Done(record.id.clone()) }
    }

    /// Commits a decision, with the fence before it.
    fn carry_out(&mut self, plan: Plan, client: Option<ClientId>) {
        if plan.ops.is_empty() {
            if let Some(client) = client {
                self.outputs.push_back(Output::Answer { client, result: Ok(plan.accepted) });
            }
            return;
        }
        let mut ops = vec![self.fence()];
        ops.extend(plan.ops);
        self.in_flight = Some(Flight { client: client.map(|c| (c, plan.accepted)), effects: plan.effects });
        self.call(Waiting::Committed, Call::Commit(ops));
    }

    pub(super) fn committed(&mut self, result: Result<Reply, Error>) {
        let fenced = matches!(&result, Err(Error::BadVersion { path }) if path == EPOCH);
        match result {
            Ok(_) => {
                let Some(flight) = self.in_flight.take() else { return };
                for effect in flight.effects {
                    self.apply(effect);
                }
                if let Some((client, accepted)) = flight.client {
                    self.outputs.push_back(Output::Answer { client, result: Ok(accepted) });
                }
            }
            Err(Error::Unknown | Error::Ended) => self.join(),
            Err(_) if fenced => self.join(),
            Err(
                error @ (Error::NoNode { .. }
                | Error::Exists { .. }
                | Error::BadVersion { .. }
                | Error::NotEmpty { .. }),
            ) => {
                // Only a leader writes these nodes, and we lead: someone changed them by hand.
                self.note(format!("{error}, which is not what nimbus left there: reading everything again"));
                self.join();
            }
            Err(error) => {
                let Some(flight) = self.in_flight.take() else { return };
                match flight.client {
                    Some((client, _)) => {
                        let result = Err(Refusal::Unavailable(error.to_string()));
                        self.outputs.push_back(Output::Answer { client, result });
                    }
                    None => {
                        self.note(format!("cannot go on: {error}; trying again"));
                        self.retry_at = Some(self.now + RETRY);
                        self.dirty = true;
                        // A wait that could not be ended is over still.
                        let late = self.view.topologies.values().filter(|r| r.status.waits().is_some());
                        let late: Vec<String> =
                            late.map(|r| r.id.clone()).filter(|id| !self.waits.contains_key(id)).collect();
                        self.waits.extend(late.into_iter().map(|id| (id, self.now)));
                    }
                }
            }
        }
    }

    /// Says what changed, for the log and `squall events`.
    fn tell(&mut self, effect: &Effect) {
        let text = match effect {
            Effect::Topology(record) => match self.view.topologies.get(&record.id) {
                None => format!("{} is submitted", record.id),
                Some(before) if before.status.word() != record.status.word() => {
                    format!("{} is {}", record.id, record.status.word())
                }
                Some(_) => return,
            },
            Effect::Assignment(id, assignment) => {
                let mut nodes: Vec<&str> = assignment.workers.iter().map(|w| w.node.as_str()).collect();
                nodes.sort_unstable();
                nodes.dedup();
                match assignment.workers.len() {
                    0 => format!("{id} has no worker any more"),
                    workers => format!("{id} is assigned: {workers} workers on {}", nodes.join(", ")),
                }
            }
            // That was told when it was decided.
            Effect::Removed(_) => return,
            Effect::Cordon(node, NodeUse::Ready) => format!("node {node} is used again"),
            Effect::Cordon(node, NodeUse::KeepOnly) => format!("node {node} is cordoned: it gets nothing new"),
            Effect::Cordon(node, NodeUse::Empty) => format!("node {node} is drained: what it runs is moved away"),
        };
        self.note(text);
    }

    fn apply(&mut self, effect: Effect) {
        self.tell(&effect);
        match effect {
            Effect::Topology(record) => {
                match record.status.waits() {
                    Some(wait) => drop(self.waits.insert(record.id.clone(), self.now + wait)),
                    None => drop(self.waits.remove(&record.id)),
                }
                // What was said of it before it was told to drain does not count.
                self.forget_drained(&record.id);
                self.view.topologies.insert(record.id.clone(), *record);
                self.dirty = true;
            }
            Effect::Assignment(id, assignment) => drop(self.view.assignments.insert(id, assignment)),
            Effect::Removed(id) => {
                self.view.topologies.remove(&id);
                self.view.assignments.remove(&id);
                self.waits.remove(&id);
                self.unplaced.remove(&id);
                self.dirty = true;
            }
            Effect::Cordon(node, usage) => {
                match usage {
                    NodeUse::Ready => drop(self.view.cordons.remove(&node)),
                    usage => drop(self.view.cordons.insert(node, usage)),
                }
                self.dirty = true;
            }
        }
    }

    fn forget_drained(&mut self, id: &str) {
        for report in self.reports.values_mut() {
            report.workers.retain(|w| w.topology != id || !matches!(w.state, WorkerState::Drained { .. }));
        }
    }

    /// Notes what a supervisor says, and gives workers that used up their restarts another generation.
    pub(super) fn take_report(&mut self, report: Report) {
        let spent = report.workers.iter().any(|w| w.state == WorkerState::Spent);
        self.reports.insert(report.node.clone(), report);
        self.dirty |= spent;
    }

    /// Those of the assignments to be written that one commit takes. One that needs a slot which another one gives up waits for that one, so that
    /// no slot is assigned twice in between.
    pub(super) fn in_one_commit(&self, changed: Vec<(String, Assignment, bool)>) -> Plan {
        let slots = |a: &Assignment| a.workers.iter().map(|w| (w.node.clone(), w.slot)).collect::<Vec<_>>();
        let held =
            self.view.assignments.iter().flat_map(|(id, a)| slots(a).into_iter().map(move |slot| (slot, id.clone())));
        let mut held: BTreeMap<(String, u16), String> = held.collect();
        let mut plan = Plan::nothing(Accepted::Done(String::new()));
        let (mut bytes, mut waiting, mut in_turn) = (0, changed, true);
        loop {
            let before = plan.ops.len();
            let mut later = Vec::new();
            for (id, assignment, exists) in waiting {
                let data = to_json(&assignment);
                let full = plan.ops.len() == ASSIGN_OPS || (bytes > 0 && bytes + data.len() > ASSIGN_BYTES);
                let taken = slots(&assignment).iter().any(|slot| held.get(slot).is_some_and(|by| *by != id));
                if full || (in_turn && taken) {
                    later.push((id, assignment, exists));
                    continue;
                }
                held.retain(|_, by| *by != id);
                held.extend(slots(&assignment).into_iter().map(|slot| (slot, id.clone())));
                bytes += data.len();
                let path = at(ASSIGNMENTS, &id);
                plan.ops.push(if exists { Op::set(path, data, None) } else { Op::create(path, data) });
                plan.effects.push(Effect::Assignment(id, assignment));
            }
            waiting = later;
            if plan.ops.len() == before {
                if !plan.ops.is_empty() || waiting.is_empty() {
                    return plan;
                }
                // They want each other's slots: all of them at once then.
                in_turn = false;
            }
        }
    }
}
