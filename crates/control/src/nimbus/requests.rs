//! What clients ask for, and why it is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_coordinator::Op;
use squall_scheduler::{NodeUse, Placement, Unplaced};

use super::Nimbus;
use super::work::{Effect, Plan};
use crate::record::{
    CORDONS, Change, LeaderInfo, NAMES, Shape, Status, TOPOLOGIES, TopologyRecord, at, to_json, valid_name,
};

/// A topology to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Its name.
    pub name: String,
    /// Chosen by the client at random: a repeated request with it is answered as the first was.
    pub submission: String,
    /// What is placed.
    pub shape: Shape,
    /// Blobs, all of which nimbus has (the driver sees to that).
    pub blobs: Vec<String>,
    /// Handed to the workers as it is.
    pub arguments: serde_json::Value,
    /// What it is built for.
    pub arch: String,
    /// Version of the engine in it.
    pub engine: String,
    /// Its spouts wait for `activate`.
    pub inactive: bool,
    /// Wall clock in milliseconds since 1970.
    pub submitted_ms: u64,
}

/// What a client asks for. Waits are at their default where they are `None`.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Run a topology.
    Submit(Box<Submission>),
    /// Call its spouts again.
    Activate(String),
    /// Call its spouts no more.
    Deactivate(String),
    /// Stop its spouts, wait for what is pending, remove it.
    Kill {
        /// Its name.
        name: String,
        /// The longest wait.
        wait: Option<Duration>,
    },
    /// Stop its spouts, wait for what is pending, place it anew.
    Rebalance {
        /// Its name.
        name: String,
        /// The longest wait.
        wait: Option<Duration>,
        /// What changes besides.
        change: Change,
    },
    /// Say what a node is to be used for.
    Use {
        /// Id of its supervisor.
        node: String,
        /// For what.
        usage: NodeUse,
    },
    /// What there is.
    List,
}

/// A topology as `list` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What was submitted.
    pub record: TopologyRecord,
    /// Executors that have a worker, of all.
    pub assigned: (usize, usize),
    /// Workers.
    pub workers: usize,
    /// Why it is not placed whole.
    pub unplaced: Option<Unplaced>,
}

/// Where a submission would be placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Its workers.
    pub placement: Placement,
    /// Ids of other topologies whose workers would move for it.
    pub moved: Vec<String>,
}

/// A request that is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// It is committed. The id of the topology or node.
    Done(String),
    /// Answer to `List`.
    Topologies(Vec<Summary>),
}

/// A request that is not done. Nothing has changed, but for `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another nimbus is asked.
    #[error("this nimbus does not lead{}", .leader.as_ref().map(|l| format!(": ask {}", l.address)).unwrap_or_default())]
    NotLeader {
        /// Who leads, where that is known.
        leader: Option<LeaderInfo>,
    },
    /// Later it may be possible.
    #[error("{0}; try again")]
    Unavailable(String),
    /// It may have happened.
    #[error("{0}; look with `squall list`, or repeat the command: a submission is taken once only")]
    Unknown(String),
    /// The request is wrong, or does not fit what is there.
    #[error("{0}")]
    Wrong(String),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Wrong(why.into()))
}

impl Nimbus {
    /// What a request comes to, on what is there now.
    pub(super) fn plan(&self, request: &Request) -> Result<Plan, Refusal> {
        match request {
            Request::Submit(submission) => self.submit(submission),
            Request::Activate(name) => self.turn(name, true),
            Request::Deactivate(name) => self.turn(name, false),
            Request::Kill { name, wait } => {
                let wait_ms = millis(wait.unwrap_or(self.options.wait));
                let record = self.named(name)?;
                // A kill of a killed one may shorten its wait, as in Storm.
                Ok(self.put(TopologyRecord { status: Status::Killed { wait_ms }, ..record.clone() }))
            }
            Request::Rebalance { name, wait, change } => self.rebalance(name, *wait, change),
            Request::Use { node, usage } => self.use_node(node, *usage),
            Request::List => Ok(Plan::nothing(Accepted::Topologies(self.summaries()))),
        }
    }

    fn named(&self, name: &str) -> Result<&TopologyRecord, Refusal> {
        self.view.topologies.values().find(|record| record.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.view.topologies.values().map(|r| r.name.as_str()).collect();
            let listed = if names.is_empty() { "none runs".into() } else { format!("there are {}", names.join(", ")) };
            Refusal::Wrong(format!("there is no topology {name}: {listed}"))
        })
    }

    /// Writes a topology that exists.
    fn put(&self, record: TopologyRecord) -> Plan {
        let op = Op::set(at(TOPOLOGIES, &record.id), to_json(&record), None);
        Plan {
            ops: vec![op],
            accepted: Accepted::Done(record.id.clone()),
            effects: vec![Effect::Topology(Box::new(record))],
        }
    }

    fn submit(&self, s: &Submission) -> Result<Plan, Refusal> {
        let there = self.view.topologies.values().find(|record| record.name == s.name);
        if let Some(there) = there.filter(|there| there.submission == s.submission) {
            return Ok(Plan::nothing(Accepted::Done(there.id.clone())));
        }
        let record = self.checked(s)?;
        if let Some(why) = self.would_not_fit(&record) {
            return wrong(format!("{} cannot be placed: {why}", s.name));
        }
        let ops = vec![
            Op::create(at(NAMES, &record.name), record.id.clone()),
            Op::create(at(TOPOLOGIES, &record.id), to_json(&record)),
        ];
        Ok(Plan { ops, accepted: Accepted::Done(record.id.clone()), effects: vec![Effect::Topology(Box::new(record))] })
    }

    /// What a submission would be once it is accepted, as far as room does not matter.
    pub(super) fn checked(&self, s: &Submission) -> Result<TopologyRecord, Refusal> {
        if !valid_name(&s.name) {
            let rule = "letters, digits, `_`, `.` and `-`, at most 128, beginning with a letter, a digit or `_`";
            return wrong(format!("{:?} is no name of a topology: {rule}", s.name));
        }
        if let Some(there) = self.view.topologies.values().find(|record| record.name == s.name) {
            let what = there.status.word();
            return wrong(format!(
                "a topology {} is there already ({what}): kill it first, or take another name",
                s.name
            ));
        }
        if s.shape.workers == 0 || s.shape.components.is_empty() {
            return wrong("a topology has at least one worker and one component");
        }
        if let Some(c) = s.shape.components.iter().find(|c| c.executors == 0 || c.executors > c.tasks) {
            return wrong(format!(
                "{} has {} executors for {} tasks: 1 to {} are possible",
                c.name, c.executors, c.tasks, c.tasks
            ));
        }
        if self.view.nodes.is_empty() {
            return wrong("no supervisor is there to run it: start one with `squall supervisor`");
        }
        let fits = |n: &crate::record::NodeInfo| n.arch == s.arch && n.engine == s.engine;
        if let Some(other) = self.view.nodes.values().find(|n| !fits(n)) {
            let (n, a, e) = (&other.id, &other.arch, &other.engine);
            return wrong(format!(
                "it is built for {} with engine {}, but node {n} is {a} with engine {e}: build it for that, or bring all nodes \
                 to one version",
                s.arch, s.engine
            ));
        }
        Ok(TopologyRecord {
            id: self.new_id(&s.name),
            name: s.name.clone(),
            submission: s.submission.clone(),
            status: if s.inactive { Status::Inactive } else { Status::Active },
            shape: s.shape.clone(),
            blobs: s.blobs.clone(),
            arguments: s.arguments.clone(),
            arch: s.arch.clone(),
            engine: s.engine.clone(),
            submitted_ms: s.submitted_ms,
        })
    }

    /// Name and a number; no topology that is there has it, and no worker of one that was before: epochs of two leaders differ, and
    /// within one each id is used once.
    fn new_id(&self, name: &str) -> String {
        let (epoch, _) = self.epoch.expect("a leader has an epoch");
        format!("{name}-{epoch}-{}", self.next_ticket)
    }

    fn turn(&self, name: &str, on: bool) -> Result<Plan, Refusal> {
        let record = self.named(name)?;
        let status = match (&record.status, on) {
            (Status::Active, true) | (Status::Inactive, false) => {
                return Ok(Plan::nothing(Accepted::Done(record.id.clone())));
            }
            (Status::Active | Status::Inactive, _) => {
                if on {
                    Status::Active
                } else {
                    Status::Inactive
                }
            }
            (Status::Rebalancing { wait_ms, change, .. }, active) => {
                Status::Rebalancing { wait_ms: *wait_ms, active, change: change.clone() }
            }
            (Status::Killed { .. }, _) => return wrong(format!("{name} is being killed")),
        };
        Ok(self.put(TopologyRecord { status, ..record.clone() }))
    }

    fn rebalance(&self, name: &str, wait: Option<Duration>, change: &Change) -> Result<Plan, Refusal> {
        let record = self.named(name)?;
        let active = match &record.status {
            Status::Active => true,
            Status::Inactive => false,
            Status::Rebalancing { .. } => return wrong(format!("{name} is being rebalanced: wait until that is done")),
            Status::Killed { .. } => return wrong(format!("{name} is being killed")),
        };
        let shape = changed_shape(&record.shape, change)?;
        if !change.restart {
            let changed = TopologyRecord { shape, ..record.clone() };
            if let Err(why) = self.placed_anew(&changed) {
                return wrong(format!("{name} cannot be placed so: {why}"));
            }
        }
        let wait_ms = millis(wait.unwrap_or(self.options.wait));
        Ok(self.put(TopologyRecord {
            status: Status::Rebalancing { wait_ms, active, change: change.clone() },
            ..record.clone()
        }))
    }

    fn use_node(&self, node: &str, usage: NodeUse) -> Result<Plan, Refusal> {
        let there = self.view.cordons.get(node);
        if !self.view.nodes.contains_key(node) && there.is_none() {
            let names: Vec<&str> = self.view.nodes.keys().map(String::as_str).collect();
            return wrong(format!("there is no node {node}: there are {}", names.join(", ")));
        }
        let path = at(CORDONS, node);
        let ops = match (there, usage) {
            (None, NodeUse::Ready) => return Ok(Plan::nothing(Accepted::Done(node.into()))),
            (Some(_), NodeUse::Ready) => vec![Op::delete(path, None)],
            (None, usage) => vec![Op::create(path, to_json(&usage))],
            (Some(_), usage) => vec![Op::set(path, to_json(&usage), None)],
        };
        let effects = vec![Effect::Cordon(node.into(), usage)];
        Ok(Plan { ops, accepted: Accepted::Done(node.into()), effects })
    }

    fn summaries(&self) -> Vec<Summary> {
        let summary = |record: &TopologyRecord| {
            let assignment = self.view.assignments.get(&record.id);
            let workers = assignment.map_or(0, |a| a.workers.len());
            let assigned = assignment.map_or(0, |a| a.workers.iter().map(|w| w.executors.len()).sum());
            let all = record.shape.components.iter().map(|c| c.executors as usize).sum();
            let unplaced = self.unplaced.get(&record.id).cloned();
            Summary { record: record.clone(), assigned: (assigned, all), workers, unplaced }
        };
        self.view.topologies.values().map(summary).collect()
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// The shape after a rebalance.
pub(super) fn changed_shape(shape: &Shape, change: &Change) -> Result<Shape, Refusal> {
    let mut shape = shape.clone();
    if let Some(workers) = change.workers {
        if workers == 0 {
            return wrong("a topology has at least one worker");
        }
        shape.workers = workers;
    }
    let known: BTreeMap<String, usize> =
        shape.components.iter().enumerate().map(|(at, c)| (c.name.clone(), at)).collect();
    for (name, &executors) in &change.executors {
        let Some(&at) = known.get(name) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return wrong(format!("it has no component {name}: it has {}", names.join(", ")));
        };
        let component = &mut shape.components[at];
        if executors == 0 || executors > component.tasks {
            return wrong(format!(
                "{name} cannot have {executors} executors: its {} tasks were fixed when it was submitted, 1 to {} are possible",
                component.tasks, component.tasks
            ));
        }
        component.executors = executors;
    }
    let executors: u32 = shape.components.iter().map(|c| c.executors).sum();
    if change.workers.is_some_and(|workers| workers > executors) {
        return wrong(format!(
            "it cannot have {} workers: it has {executors} executors, and each worker needs one; at most {executors} are possible",
            shape.workers
        ));
    }
    Ok(shape)
}
