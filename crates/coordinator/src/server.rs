//! The rules of nodes, sessions and watches as a value: no I/O, no clock.
//!
//! A commit is worked out on an overlay, stored, and only then applied: a store that fails leaves everything as it was.
//! Invariants: every node but the root has a parent, which is not ephemeral; an ephemeral node's session lives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::path::{check_ops, check_path, parent, within};
use crate::{Call, Error, Event, Node, Op, Reply, Stat, Version};

/// A session, for the life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A node as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its data.
    pub data: Vec<u8>,
    /// Version of the data.
    pub version: Version,
    /// Number of the commit that created it.
    pub created: u64,
    /// The session it goes with.
    pub owner: Option<SessionId>,
}

/// What a commit leaves: nodes by path, `None` where one was deleted, and the number of the commit.
#[derive(Debug)]
pub struct Durable<'a> {
    /// Nodes that stay; ephemeral ones are not here.
    pub nodes: &'a BTreeMap<String, Option<NodeRecord>>,
    /// Commits so far, this one included.
    pub commits: u64,
}

/// Where commits are made durable before they happen.
pub trait Store {
    /// Stores all of it or nothing.
    ///
    /// # Errors
    /// Why not, for a person.
    fn store(&mut self, commit: &Durable<'_>) -> Result<(), String>;
}

/// Keeps nothing.
#[derive(Debug, Default)]
pub struct NoStore;

impl Store for NoStore {
    fn store(&mut self, _: &Durable<'_>) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct SessionRecord {
    timeout: Duration,
    heard: Duration,
    watches: BTreeSet<String>,
}

/// Nodes, sessions and what is still to be told to them.
#[derive(Clone, Debug)]
pub struct Server {
    nodes: BTreeMap<String, NodeRecord>,
    sessions: BTreeMap<SessionId, SessionRecord>,
    commits: u64,
    next_session: u64,
    events: VecDeque<(SessionId, Event)>,
}

impl Default for Server {
    fn default() -> Self {
        Server::new(BTreeMap::new(), 0)
    }
}

impl Server {
    /// With what was stored before. The root is added.
    pub fn new(mut nodes: BTreeMap<String, NodeRecord>, commits: u64) -> Server {
        let root = NodeRecord { data: Vec::new(), version: 0, created: 0, owner: None };
        nodes.entry("/".into()).or_insert(root);
        Server { nodes, sessions: BTreeMap::new(), commits, next_session: 1, events: VecDeque::new() }
    }

    /// Opens a session.
    pub fn connect(&mut self, timeout: Duration, now: Duration) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions.insert(id, SessionRecord { timeout, heard: now, watches: BTreeSet::new() });
        id
    }

    /// A session gave a sign of life. False where it has ended.
    pub fn heard(&mut self, session: SessionId, now: Duration) -> bool {
        self.sessions.get_mut(&session).map(|s| s.heard = now).is_some()
    }

    /// Ends sessions that were silent for longer than their timeout.
    pub fn tick(&mut self, now: Duration) {
        let silent = |(id, s): (&SessionId, &SessionRecord)| (s.heard + s.timeout < now).then_some(*id);
        let silent: Vec<SessionId> = self.sessions.iter().filter_map(silent).collect();
        for session in silent {
            self.end(session);
        }
    }

    /// Ends a session: its ephemeral nodes go, and it is told.
    pub fn end(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_none() {
            return;
        }
        self.events.push_back((session, Event::Ended));
        let own: Vec<String> =
            self.nodes.iter().filter(|(_, n)| n.owner == Some(session)).map(|(path, _)| path.clone()).collect();
        self.commits += u64::from(!own.is_empty());
        for path in own {
            self.nodes.remove(&path);
            self.tell(&path);
        }
    }

    /// Carries a call out. What it changes is told to those that watch before this returns.
    ///
    /// # Errors
    /// As the contract has it; nothing has changed then.
    pub fn call(&mut self, session: SessionId, call: &Call, store: &mut dyn Store) -> Result<Reply, Error> {
        if !self.sessions.contains_key(&session) {
            return Err(Error::Ended);
        }
        match call {
            Call::Commit(ops) => self.commit(session, ops, store).map(Reply::Committed),
            Call::Get(path) => {
                check_path(path)?;
                Ok(Reply::Node(self.nodes.get(path).map(|node| seen(node, session))))
            }
            Call::Children(path) => {
                check_path(path)?;
                let each = |(path, node): (&String, &NodeRecord)| {
                    let name = &path[path.rfind('/').expect("a path has a slash") + 1..];
                    (name.to_owned(), seen(node, session))
                };
                Ok(Reply::Children(self.children(path).map(each).collect()))
            }
            Call::Watch(path) => {
                check_path(path)?;
                self.sessions.get_mut(&session).expect("it was looked for").watches.insert(path.clone());
                Ok(Reply::Watching)
            }
        }
    }

    /// What is to be told, in order.
    pub fn events(&mut self) -> impl Iterator<Item = (SessionId, Event)> + '_ {
        self.events.drain(..)
    }

    /// A node, for those that look in from outside (simulator, tests).
    pub fn node(&self, path: &str) -> Option<&NodeRecord> {
        self.nodes.get(path)
    }

    /// The children of a node with their paths, ascending.
    pub fn children<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a String, &'a NodeRecord)> + 'a {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let from = self.nodes.range(prefix.clone()..);
        let below = from.take_while({
            let prefix = prefix.clone();
            move |(path, _)| path.starts_with(&prefix)
        });
        below.filter(move |(path, _)| path.len() > prefix.len() && !path[prefix.len()..].contains('/'))
    }

    fn commit(&mut self, session: SessionId, ops: &[Op], store: &mut dyn Store) -> Result<Vec<Version>, Error> {
        check_ops(ops)?;
        let mut draft = Draft { base: &self.nodes, over: BTreeMap::new() };
        let number = self.commits + 1;
        let versions =
            ops.iter().map(|op| draft.apply(op, session, number)).collect::<Result<Vec<Version>, Error>>()?;
        let over = draft.over;
        if over.is_empty() {
            return Ok(versions);
        }
        // A node that was ephemeral, or is, is nothing to a store.
        let mut durable = over.clone();
        durable.retain(|path, node| match node {
            Some(node) => node.owner.is_none(),
            None => self.nodes.get(path).is_some_and(|was| was.owner.is_none()),
        });
        if !durable.is_empty() {
            store.store(&Durable { nodes: &durable, commits: number }).map_err(Error::Store)?;
        }
        self.commits = number;
        for (path, node) in over {
            match node {
                Some(node) => self.nodes.insert(path.clone(), node),
                None => self.nodes.remove(&path),
            };
            self.tell(&path);
        }
        Ok(versions)
    }

    fn tell(&mut self, path: &str) {
        for (id, session) in &self.sessions {
            if session.watches.iter().any(|root| within(path, root)) {
                self.events.push_back((*id, Event::Changed { path: path.to_owned() }));
            }
        }
    }
}

fn seen(node: &NodeRecord, by: SessionId) -> Node {
    let stat = Stat {
        version: node.version,
        created: node.created,
        ephemeral: node.owner.is_some(),
        own: node.owner == Some(by),
    };
    Node { data: node.data.clone(), stat }
}

/// A commit while it is worked out.
struct Draft<'a> {
    base: &'a BTreeMap<String, NodeRecord>,
    over: BTreeMap<String, Option<NodeRecord>>,
}

impl Draft<'_> {
    fn get(&self, path: &str) -> Option<&NodeRecord> {
        match self.over.get(path) {
            Some(node) => node.as_ref(),
            None => self.base.get(path),
        }
    }

    fn has_children(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        let kept = self.base.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix));
        let new = self.over.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix));
        kept.into_iter().any(|(p, _)| !self.over.contains_key(p)) || new.into_iter().any(|(_, node)| node.is_some())
    }

    /// The node, if it has the version.
    fn at_version(&self, path: &str, version: Option<Version>) -> Result<&NodeRecord, Error> {
        let node = self.get(path).ok_or_else(|| Error::NoNode { path: path.to_owned() })?;
        if version.is_some_and(|wanted| wanted != node.version) {
            return Err(Error::BadVersion { path: path.to_owned() });
        }
        Ok(node)
    }

    fn apply(&mut self, op: &Op, session: SessionId, number: u64) -> Result<Version, Error> {
        match op {
            Op::Create { path, data, ephemeral } => {
                if self.get(path).is_some() {
                    return Err(Error::Exists { path: path.clone() });
                }
                let parent = self.at_version(parent(path), None)?;
                if parent.owner.is_some() {
                    return Err(Error::EphemeralParent { path: path.clone() });
                }
                let owner = ephemeral.then_some(session);
                let node = NodeRecord { data: data.clone(), version: 0, created: number, owner };
                self.over.insert(path.clone(), Some(node));
                Ok(0)
            }
            Op::Set { path, data, version } => {
                let node = self.at_version(path, *version)?;
                let node = NodeRecord { data: data.clone(), version: node.version + 1, ..node.clone() };
                let version = node.version;
                self.over.insert(path.clone(), Some(node));
                Ok(version)
            }
            Op::Delete { path, version } => {
                self.at_version(path, *version)?;
                if self.has_children(path) {
                    return Err(Error::NotEmpty { path: path.clone() });
                }
                self.over.insert(path.clone(), None);
                Ok(0)
            }
            Op::Check { path, version } => self.at_version(path, Some(*version)).map(|node| node.version),
        }
    }
}
