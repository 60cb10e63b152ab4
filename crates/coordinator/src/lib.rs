//! What the cluster agrees on: a small tree of versioned nodes, sessions with ephemeral nodes, watches.
//!
//! [`Coordinator`] has one contract (`tests/contract/mod.rs`), run against each implementation: `Embedded` (in memory, or in one
//! redb file by feature `embedded`) and `zookeeper::ZooKeeper` (feature `zookeeper`). The rules behind the first, [`Server`], are a value
//! without I/O or clock, which the simulator runs too.
//!
//! Calls and events are a submission and a completion queue: [`Session::call`] returns at once, and its result comes as
//! [`Event::Done`] with the caller's ticket, among the other events of the session and in order with them. So the state
//! machines of nimbus and supervisor take events and give calls, and never wait.
//!
//! The contract:
//! 1. A commit happens as a whole or not at all, and each commit after all commits that were done before it was called.
//! 2. A session sees its own commits, and never an older state than it saw before.
//! 3. `Set`, `Delete` and `Check` with a version fail with [`Error::BadVersion`] unless the node has it. This is the fence:
//!    a leader checks the version of the epoch node with every write, so one that was deposed cannot write.
//! 4. An ephemeral node is gone when its session has ended, and not before; the session is told that it [`Event::Ended`].
//! 5. After a watch is set each change below its path is told by [`Event::Changed`] (several may be told as one) or, where
//!    some may have been missed, by [`Event::Resync`]; and a read that follows the event sees what it told of.
//! 6. Each call is answered once, unless the session ends before. [`Error::Unknown`] says that a commit may have happened or may yet happen.
//! 7. The end of a connection is not the end of a session: [`Event::Disconnected`] and [`Event::Connected`] may alternate.
//!
//! Bounds: [`MAX_DATA`] bytes in a node, [`MAX_OPS`] operations in a commit, [`MAX_CALLS`] calls of a session under way.
//! Deliberately absent: reads of old versions, sequential nodes, access lists per node, locks (an epoch that is checked with each
//! write is safer than one), and worker heartbeats, which stay away from here.
#![forbid(unsafe_code)]

mod client;
mod embedded;
#[cfg(feature = "embedded")]
mod file;
mod path;
mod server;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use client::{Blocking, Gone};
pub use embedded::Embedded;
pub use path::check_path;
pub use server::{Durable, NoStore, NodeRecord, Server, SessionId, Store};

/// Bytes of one node, at most. ZooKeeper takes 1 MiB for a whole request.
pub const MAX_DATA: usize = 256 << 10;

/// Operations of one commit, at most.
pub const MAX_OPS: usize = 64;

/// Calls of one session that are not answered yet, at most; more are refused with [`Error::Busy`].
pub const MAX_CALLS: usize = 1024;

/// Version of a node's data: 0 when it is created, one more with each `Set`.
pub type Version = u32;

/// What is known of a node besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Version of its data.
    pub version: Version,
    /// Number of the commit that created it: tells a node from its namesake that was deleted.
    pub created: u64,
    /// It goes with its session.
    pub ephemeral: bool,
    /// It goes with the session that asks.
    pub own: bool,
}

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Creates a node, whose parent exists and is not ephemeral.
    Create {
        /// Where.
        path: String,
        /// What is in it.
        data: Vec<u8>,
        /// Whether it goes with the session.
        ephemeral: bool,
    },
    /// Replaces the data of a node.
    Set {
        /// Which.
        path: String,
        /// The new data.
        data: Vec<u8>,
        /// The version it must have. `None`: any.
        version: Option<Version>,
    },
    /// Deletes a node without children.
    Delete {
        /// Which.
        path: String,
        /// The version it must have. `None`: any.
        version: Option<Version>,
    },
    /// Does nothing, but the commit fails unless the node has this version.
    Check {
        /// Which.
        path: String,
        /// The version it must have.
        version: Version,
    },
}

impl Op {
    /// Creates a node that stays.
    pub fn create(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Op {
        Op::Create { path: path.into(), data: data.into(), ephemeral: false }
    }

    /// Creates a node that goes with the session.
    pub fn ephemeral(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Op {
        Op::Create { path: path.into(), data: data.into(), ephemeral: true }
    }

    /// Replaces data.
    pub fn set(path: impl Into<String>, data: impl Into<Vec<u8>>, version: impl Into<Option<Version>>) -> Op {
        Op::Set { path: path.into(), data: data.into(), version: version.into() }
    }

    /// Deletes a node.
    pub fn delete(path: impl Into<String>, version: impl Into<Option<Version>>) -> Op {
        Op::Delete { path: path.into(), version: version.into() }
    }

    /// Demands a version.
    pub fn check(path: impl Into<String>, version: Version) -> Op {
        Op::Check { path: path.into(), version }
    }

    /// The node it is about.
    pub fn path(&self) -> &str {
        match self {
            Op::Create { path, .. } | Op::Set { path, .. } | Op::Delete { path, .. } | Op::Check { path, .. } => path,
        }
    }
}

/// What a session asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// All of these or none, in order. Answered by [`Reply::Committed`].
    Commit(Vec<Op>),
    /// One node. Answered by [`Reply::Node`].
    Get(String),
    /// The children of a node, with their data. Answered by [`Reply::Children`].
    Children(String),
    /// From now on tells of changes of the node and of all below it. The node may not exist yet. Answered by [`Reply::Watching`].
    Watch(String),
}

/// A node as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What is in it.
    pub data: Vec<u8>,
    /// Its version and kind.
    pub stat: Stat,
}

/// Answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The commit happened. The version of each node that was created, set or checked; that of a deleted one is 0.
    Committed(Vec<Version>),
    /// The node, if there is one.
    Node(Option<Node>),
    /// Names of the children (no path) and what they are, ascending by name. Empty where the node does not exist. Each is read at one moment,
    /// but not all at the same.
    Children(Vec<(String, Node)>),
    /// The watch is set.
    Watching,
}

/// What a session hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A call is answered.
    Done {
        /// The caller's ticket.
        ticket: u64,
        /// The answer.
        result: Result<Reply, Error>,
    },
    /// The node was created, set or deleted; a watch covers it.
    Changed {
        /// Which.
        path: String,
    },
    /// Changes may have been missed: whatever is watched has to be read again.
    Resync,
    /// The connection is lost. The session may survive it.
    Disconnected,
    /// The connection is there again.
    Connected,
    /// The session has ended with its ephemeral nodes; no event follows. A new session is needed.
    Ended,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The node does not exist, or the parent of one to be created.
    #[error("there is no node {path}")]
    NoNode {
        /// Which.
        path: String,
    },
    /// The node exists already.
    #[error("there is a node {path} already")]
    Exists {
        /// Which.
        path: String,
    },
    /// The node has another version.
    #[error("node {path} has another version: someone else changed it")]
    BadVersion {
        /// Which.
        path: String,
    },
    /// A node with children cannot be deleted.
    #[error("node {path} has children")]
    NotEmpty {
        /// Which.
        path: String,
    },
    /// An ephemeral node has no children.
    #[error("the parent of {path} is ephemeral and cannot have children")]
    EphemeralParent {
        /// Which was to be created.
        path: String,
    },
    /// The call itself is wrong: a bad path, too many operations, too much data.
    #[error("{0}")]
    Invalid(String),
    /// [`MAX_CALLS`] calls are not answered yet.
    #[error("{MAX_CALLS} calls are waiting already")]
    Busy,
    /// The commit may have happened, or not, or may yet: read before deciding.
    #[error("the connection to the coordinator broke: the change may have happened or not")]
    Unknown,
    /// The session has ended.
    #[error("the session with the coordinator has ended")]
    Ended,
    /// Nothing was changed because it could not be stored.
    #[error("cannot store: {0}")]
    Store(String),
    /// The coordinator cannot be reached or refuses us. Says what to do.
    #[error("{0}")]
    Refused(String),
}

/// How a session is to be.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Silence after which the session ends. The coordinator may grant another, see [`Session::timeout`]. Default 2 s.
    pub timeout: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { timeout: Duration::from_secs(2) }
    }
}

/// Takes the events of one session, one at a time and in order. It must hand them over at once, to a queue or a channel, and must not call
/// the coordinator.
pub type Sink = Box<dyn Fn(Event) + Send + Sync>;

/// A place to agree.
pub trait Coordinator: Send + Sync {
    /// Opens a session. Blocks until there is one.
    ///
    /// # Errors
    /// [`Error::Refused`] where there will be none without a person's help or a later try.
    fn connect(&self, options: &SessionOptions, sink: Sink) -> Result<Box<dyn Session>, Error>;
}

/// A session. Dropping it ends it, and its ephemeral nodes go at once.
pub trait Session: Send {
    /// Asks for something. The answer comes as [`Event::Done`] with this ticket.
    fn call(&self, ticket: u64, call: Call);

    /// The timeout that was granted.
    fn timeout(&self) -> Duration;
}
