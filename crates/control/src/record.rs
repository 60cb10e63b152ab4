//! What lies in the coordinator, as JSON.
//!
//! | node | what | who writes |
//! |---|---|---|
//! | `/epoch` | number of the leader; its version is the fence | who becomes leader |
//! | `/leader` | [`LeaderInfo`], ephemeral | the leader |
//! | `/names/NAME` | id of the topology of that name | leader |
//! | `/topologies/ID` | [`TopologyRecord`] | leader |
//! | `/assignments/ID` | [`Assignment`] | leader |
//! | `/supervisors/ID` | [`NodeInfo`], ephemeral | the supervisor |
//! | `/cordons/ID` | [`squall_scheduler::NodeUse`] that a person chose | leader |

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_scheduler::{Executor, Placement, Resources, WorkerPlace};
use squall_topology::TopologySpec;

/// The fence.
pub const EPOCH: &str = "/epoch";
/// The leader.
pub const LEADER: &str = "/leader";
/// Ids by name.
pub const NAMES: &str = "/names";
/// Topologies by id.
pub const TOPOLOGIES: &str = "/topologies";
/// Assignments by topology id.
pub const ASSIGNMENTS: &str = "/assignments";
/// Live supervisors by id.
pub const SUPERVISORS: &str = "/supervisors";
/// What nodes are to be used for, by supervisor id.
pub const CORDONS: &str = "/cordons";

/// The path of a child.
pub fn at(folder: &str, name: &str) -> String {
    format!("{folder}/{name}")
}

/// Names of topologies and nodes, as everywhere in Squall: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
pub fn valid_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first && name.len() <= 128 && name.bytes().all(inner)
}

/// As it lies in a node.
pub fn to_json<T: Serialize>(what: &T) -> Vec<u8> {
    serde_json::to_vec(what).expect("records are plain data with string keys")
}

/// From a node.
///
/// # Errors
/// What is wrong with it; the node was written by another version, or by hand.
pub fn from_json<T: DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    serde_json::from_slice(data).map_err(|error| error.to_string())
}

/// One component, as far as placing goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentShape {
    /// Its name.
    pub name: String,
    /// Its tasks: fixed, and the most executors it can have.
    pub tasks: u32,
    /// Its executors.
    pub executors: u32,
    /// What each executor needs.
    pub need: Resources,
}

/// A topology as far as placing goes; the rest of it is in its artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Workers it asks for.
    pub workers: u32,
    /// Its components in the order of its spec.
    pub components: Vec<ComponentShape>,
    /// Components that talk.
    pub talks: Vec<(u32, u32)>,
}

impl Shape {
    /// Of a validated spec, each executor needing the same.
    pub fn of(spec: &TopologySpec, need: Resources) -> Shape {
        let component = |c: &squall_topology::ComponentSpec| ComponentShape {
            name: c.name.clone(),
            tasks: c.tasks,
            executors: c.executors,
            need,
        };
        let talk = |s: &squall_topology::SubscriptionSpec| (spec.streams[s.stream as usize].component, s.to);
        let mut talks: Vec<(u32, u32)> = spec.subscriptions.iter().map(talk).collect();
        talks.sort_unstable();
        talks.dedup();
        Shape { workers: spec.config.workers, components: spec.components.iter().map(component).collect(), talks }
    }

    /// All executors in the order that numbers them: by component, then by tasks.
    pub fn executors(&self) -> Vec<Executor> {
        let of = |(at, c): (usize, &ComponentShape)| {
            vec![Executor { component: at as u32, need: c.need }; c.executors as usize]
        };
        self.components.iter().enumerate().flat_map(of).collect()
    }
}

/// What a rebalance changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Workers. `None`: as before.
    pub workers: Option<u32>,
    /// Executors by component.
    pub executors: BTreeMap<String, u32>,
    /// Only starts all workers anew where they are.
    pub restart: bool,
}

/// Where a topology is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Status {
    /// Its spouts are called.
    Active,
    /// Its spouts are not called; its bolts go on.
    Inactive,
    /// Its spouts are stopped; when what is pending is done, or after the wait, it is removed.
    Killed {
        /// The longest wait in milliseconds, from when the leader took it up.
        wait_ms: u64,
    },
    /// Its spouts are stopped; when what is pending is done, or after the wait, it is changed and goes on.
    Rebalancing {
        /// As for `Killed`.
        wait_ms: u64,
        /// It goes on as active.
        active: bool,
        /// What changes.
        change: Change,
    },
}

/// What the spouts of a topology are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spouts {
    /// They are called.
    Run,
    /// They are not called until they are to run again.
    Pause,
    /// They end, and everything behind them ends as with its input. For good.
    End,
}

impl Status {
    /// What its spouts are to do. A rebalance pauses them: nothing ends by it, so nothing may be told that it has.
    pub fn spouts(&self) -> Spouts {
        match self {
            Status::Active => Spouts::Run,
            Status::Inactive | Status::Rebalancing { .. } => Spouts::Pause,
            Status::Killed { .. } => Spouts::End,
        }
    }

    /// It waits for pending work: how long at most.
    pub fn waits(&self) -> Option<std::time::Duration> {
        match self {
            Status::Active | Status::Inactive => None,
            Status::Killed { wait_ms } | Status::Rebalancing { wait_ms, .. } => {
                Some(std::time::Duration::from_millis(*wait_ms))
            }
        }
    }

    /// As Storm's commands show it.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Active => "ACTIVE",
            Status::Inactive => "INACTIVE",
            Status::Killed { .. } => "KILLED",
            Status::Rebalancing { .. } => "REBALANCING",
        }
    }
}

/// A topology that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyRecord {
    /// Name and submission, as Storm's ids are: `NAME-N`.
    pub id: String,
    /// Unique among those that run.
    pub name: String,
    /// Chosen by the client: the same submission twice is one.
    pub submission: String,
    /// Where it is in its life.
    pub status: Status,
    /// What is placed.
    pub shape: Shape,
    /// Blobs it needs on a node, the artifact first: SHA-256 in hex.
    pub blobs: Vec<String>,
    /// Arguments and configuration of the submitter, handed to the workers as they are.
    pub arguments: serde_json::Value,
    /// Machine that the artifact is built for, as `uname -m` says.
    pub arch: String,
    /// Version of the engine in it.
    pub engine: String,
    /// Wall clock at nimbus in milliseconds since 1970; only for people.
    pub submitted_ms: u64,
}

/// One worker of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAssignment {
    /// Id of the supervisor.
    pub node: String,
    /// That supervisor's state folder, by the id in it: one that lost its folder does not know what still runs.
    pub identity: String,
    /// Its slot.
    pub slot: u16,
    /// What its [`crate::Epoch`]s begin with.
    pub generation: u32,
    /// Its executors.
    pub executors: Vec<u32>,
    /// Reactor threads that it has unless its topology says how many: the cores of a slot where it was placed first. It keeps them when it moves,
    /// so that the plan of all workers stays. 0: not known.
    #[serde(default)]
    pub threads: u32,
}

/// Which worker runs what where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The greatest generation given out so far; grows with each change.
    pub generation: u32,
    /// The workers.
    pub workers: Vec<WorkerAssignment>,
}

impl Assignment {
    /// Without generations.
    pub fn placement(&self) -> Placement {
        let place =
            |w: &WorkerAssignment| WorkerPlace { node: w.node.clone(), slot: w.slot, executors: w.executors.clone() };
        self.workers.iter().map(place).collect()
    }
}

/// What a supervisor says of its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The supervisor's id.
    pub id: String,
    /// Made once with its state folder; a secret only in that nobody else has the same.
    pub identity: String,
    /// Where supervisors of other nodes reach it, as ADDRESS:PORT; without a port it is reached by nobody.
    pub address: String,
    /// Workers it can run.
    pub slots: u16,
    /// What they may use.
    pub capacity: Resources,
    /// Machine, as `uname -m` says.
    pub arch: String,
    /// Version of the engine it speaks.
    pub engine: String,
}

/// What a nimbus says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// Its id.
    pub id: String,
    /// This start of it.
    pub instance: String,
    /// Where clients reach it, and other nimbuses.
    pub address: String,
    /// Where supervisors reach it. `None`: only one in its own process does.
    #[serde(default)]
    pub sessions: Option<String>,
}
