//! Workers of one topology on several nodes: who is told what of whom, and the links between them.
//!
//! Each supervisor tells the others of a topology how its own workers are ([`Account`]): a whole account with each change, so nothing has to be
//! remembered of what was said. What a supervisor knows of a worker elsewhere is its greatest life heard of, be it by an assignment, an account or
//! a call; whoever has an older one is a ghost, whose links are cut and whose calls are refused.
//!
//! The links between two workers are made by the supervisor of the lower one, which calls the other's and hands the sockets to its own worker, as
//! that one does. Both count how often they were linked, in the `joins` that their workers keep, so either may be restarted meanwhile. An attempt
//! that comes to nothing is made again for as long as both live.
//!
//! Invariants: sockets of an attempt are handed out together or not at all; a worker is told that a peer is lost before it gets sockets to a life
//! after that; no worker is stopped because another node is silent.
//!
//! Deliberately absent: an opinion on which nodes live. The coordinator's sessions tell nimbus, and its assignment tells the supervisors.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_control::Epoch;
use squall_control::record::{Assignment, NodeInfo};
use tokio::sync::watch;

use super::group::Group;
use super::wire::{self, Account, Answer, CallError, LinkAsk, Me, Refused, Telling, TopologyAccount, WorkerAccount};
use super::{Node, Worker};
use crate::cluster::talk::ToSeat;
use crate::run::sockets::Ends;

/// Between two attempts at a link: first, and at most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How other nodes reach this one.
pub(crate) struct HostsOptions {
    pub listener: TcpListener,
    /// The token of the cluster.
    pub key: Vec<u8>,
}

/// A group, a worker of it here, and one elsewhere.
pub(crate) type Pair = (u64, u32, u32);

/// Attempts to link two workers.
struct Attempt {
    /// The number of the one that is under way.
    underway: Option<u64>,
    /// None before this.
    until: Instant,
    pause: Duration,
    /// The other side says that they were linked that often.
    joins: u32,
}

/// See the module.
pub(super) struct Hosts {
    me: Me,
    /// By node: where it is.
    addresses: BTreeMap<String, String>,
    lines: BTreeMap<String, watch::Sender<Telling>>,
    /// By node: the line that it speaks on, and what it said last.
    accounts: BTreeMap<String, (u64, Account)>,
    attempts: BTreeMap<Pair, Attempt>,
    next_attempt: u64,
    /// Sockets that others have made, by attempt: those that are here.
    gathering: BTreeMap<Pair, (u64, Ends)>,
    /// What went wrong last with each pair or line, so that it is said once.
    said: BTreeMap<String, String>,
    /// Something changed that others are to know, or that needs links.
    pub(super) dirty: bool,
}

impl Hosts {
    pub(super) fn new(node: &str, key: Vec<u8>) -> Hosts {
        Hosts {
            me: Me { node: node.to_owned(), key: key.into() },
            addresses: BTreeMap::new(),
            lines: BTreeMap::new(),
            accounts: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            gathering: BTreeMap::new(),
            said: BTreeMap::new(),
            dirty: false,
        }
    }

    pub(super) fn me(&self) -> Me {
        self.me.clone()
    }

    /// Whether this is news about that.
    fn is_news(&mut self, about: String, what: &str) -> bool {
        self.said.insert(about, what.to_owned()).as_deref() != Some(what)
    }
}

/// What is known of a worker of another node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Remote {
    /// The greatest life heard of.
    pub(super) life: u32,
    /// It has its place, so links can be made.
    pub(super) there: bool,
}

impl Node {
    pub(super) fn neighbours(&mut self, nodes: BTreeMap<String, NodeInfo>) {
        let Some(hosts) = &mut self.hosts else { return };
        hosts.addresses = nodes.into_iter().map(|(id, info)| (id, info.address)).collect();
        hosts.dirty = true;
    }

    /// What runs where is another than before: workers of the generations before these are lost to all.
    pub(super) fn assigned(&mut self, group: u64, assignment: &Assignment) {
        let Some(of) = self.groups.get_mut(&group) else { return };
        let moved = of.assigned(assignment);
        for (worker, generation) in moved {
            self.supersede(group, worker, Epoch::first(generation).wire());
        }
        self.dirty();
        self.hear_again();
    }

    pub(super) fn dirty(&mut self) {
        if let Some(hosts) = &mut self.hosts {
            hosts.dirty = true;
        }
    }

    /// From now on `life` of a worker counts: who knows an older one has lost it.
    fn supersede(&mut self, group: u64, worker: u32, life: u32) {
        if let Some(of) = self.groups.get_mut(&group) {
            let known = of.remote.entry(worker).or_default();
            if known.life < life {
                *known = Remote { life, there: false };
                if let Some(shared) = &mut of.shared {
                    shared.sockets.end(worker);
                }
            }
        }
        self.tell_lost(group, worker, |known| known < life);
    }

    /// Tells workers that a peer is gone whose life they know is such a one, once.
    pub(super) fn tell_lost(&mut self, group: u64, gone: u32, is: impl Fn(u32) -> bool) {
        let mistaken = |w: &Worker| {
            let known = w.epochs.get(gone as usize).copied().unwrap_or(0);
            w.group == Some(group) && w.admitted && w.worker != gone && is(known) && !w.lost.contains(&gone)
        };
        let peers: Vec<u16> = self.workers.iter().filter(|(_, w)| mistaken(w)).map(|(slot, _)| *slot).collect();
        for peer in peers {
            self.tell(peer, &ToSeat::Lost(gone), Vec::new());
            self.workers.get_mut(&peer).expect("it is one of them").lost.insert(gone);
        }
    }

    /// A node has said how its workers are.
    pub(super) fn account(&mut self, line: u64, account: Account) {
        let Some(hosts) = &mut self.hosts else { return };
        // A line that its node has replaced may still have something to say.
        if hosts.accounts.get(&account.node).is_some_and(|(last, _)| *last > line) {
            return;
        }
        hosts.accounts.insert(account.node.clone(), (line, account.clone()));
        self.believe(&account);
    }

    /// Takes in what nodes said before it could be understood.
    pub(super) fn hear_again(&mut self) {
        let Some(hosts) = &self.hosts else { return };
        let accounts: Vec<Account> = hosts.accounts.values().map(|(_, account)| account.clone()).collect();
        accounts.iter().for_each(|account| self.believe(account));
    }

    fn believe(&mut self, account: &Account) {
        let groups: Vec<u64> = self.groups.keys().copied().collect();
        for id in groups {
            let group = &self.groups[&id];
            let Some(plan) = group.shared.as_ref().map(|shared| shared.outline.hash) else { continue };
            let of = |t: &&TopologyAccount| t.topology == group.topology && t.plan == plan;
            let workers = account.topologies.iter().find(of).map_or(&[][..], |t| &t.workers);
            let there: Vec<u32> =
                (0..).zip(&group.nodes).filter(|(_, node)| **node == account.node).map(|(worker, _)| worker).collect();
            for worker in there {
                let known = self.groups[&id].remote.get(&worker).copied().unwrap_or_default();
                match workers.iter().find(|w| w.worker == worker) {
                    Some(said) if said.life < known.life => {}
                    Some(said) => {
                        self.supersede(id, worker, said.life);
                        let remote = Remote { life: said.life, there: true };
                        self.groups.get_mut(&id).expect("it is there").remote.insert(worker, remote);
                        self.broken_there(id, said);
                    }
                    None if known.there => {
                        self.groups
                            .get_mut(&id)
                            .expect("it is there")
                            .remote
                            .insert(worker, Remote { there: false, ..known });
                        self.tell_lost(id, worker, |life| life <= known.life);
                    }
                    None => {}
                }
            }
        }
        self.dirty();
    }

    /// Links whose other end has ended there.
    fn broken_there(&mut self, group: u64, said: &WorkerAccount) {
        for (worker, joins) in &said.broken {
            let here = self.workers.iter().find(|(_, w)| w.group == Some(group) && w.worker == *worker);
            if let Some((slot, _)) = here.filter(|(_, w)| w.joins.get(&said.worker) == Some(joins)) {
                let slot = *slot;
                self.part(slot, said.worker, *joins);
            }
        }
    }

    /// A link to a worker of another node has ended: both are lost to each other, until it is made anew.
    pub(super) fn part(&mut self, slot: u16, peer: u32, joins: u32) {
        let Some(worker) = self.workers.get_mut(&slot) else { return };
        if worker.broken.insert(peer, joins) == Some(joins) {
            return;
        }
        if worker.lost.insert(peer) {
            self.tell(slot, &ToSeat::Lost(peer), Vec::new());
        }
        self.dirty();
    }

    /// When a pause between attempts is over.
    pub(super) fn hosts_due(&self) -> Option<Instant> {
        let paused = self.hosts.iter().flat_map(|hosts| hosts.attempts.values()).filter(|a| a.underway.is_none());
        paused.map(|attempt| attempt.until).min()
    }

    /// Brings lines and links up to date, where something changed or a pause is over.
    pub(super) fn look_at_hosts(&mut self) {
        let due = self.hosts_due().is_some_and(|due| due <= Instant::now());
        let Some(hosts) = &mut self.hosts else { return };
        if std::mem::take(&mut hosts.dirty) || due {
            self.tell_accounts();
            self.weave();
        }
    }

    fn tell_accounts(&mut self) {
        // Who was taken over and is not back yet is neither there nor gone: nothing is said until that is known.
        if self.hosts.is_none() || self.workers.values().any(|w| w.group.is_none()) {
            return;
        }
        let mut accounts: BTreeMap<String, Vec<TopologyAccount>> = BTreeMap::new();
        for (id, group) in &self.groups {
            let Some(plan) = group.shared.as_ref().map(|shared| shared.outline.hash) else { continue };
            for node in group.other_nodes(&self.options.info.id) {
                let here = self.workers.values().filter(|w| w.group == Some(*id) && w.admitted);
                let worker = |w: &Worker| WorkerAccount {
                    worker: w.worker,
                    life: w.epoch.wire(),
                    broken: (w.broken.iter().map(|(peer, joins)| (*peer, *joins)))
                        .filter(|(peer, _)| group.nodes.get(*peer as usize).map(String::as_str) == Some(node))
                        .collect(),
                };
                let account =
                    TopologyAccount { topology: group.topology.clone(), plan, workers: here.map(worker).collect() };
                accounts.entry(node.to_owned()).or_default().push(account);
            }
        }
        let node = self.options.info.id.clone();
        let Some(hosts) = &mut self.hosts else { return };
        // A node that shares nothing any more is told so once, by the end of the line.
        hosts.lines.retain(|node, _| accounts.contains_key(node));
        for (other, topologies) in accounts {
            let Some(address) = hosts.addresses.get(&other).filter(|address| address.contains(':')) else { continue };
            let account = Arc::new(Account { node: node.clone(), topologies });
            let telling = Telling { address: address.clone(), account };
            match hosts.lines.get(&other) {
                Some(line) => drop(line.send_if_modified(|now| {
                    let news = *now != telling;
                    *now = telling;
                    news
                })),
                None => {
                    let (line, told) = watch::channel(telling);
                    wire::keep_line(hosts.me.clone(), told, self.tell.clone());
                    hosts.lines.insert(other, line);
                }
            }
        }
    }

    /// Makes the links that are missing and are this node's to make.
    fn weave(&mut self) {
        let mut missing = Vec::new();
        for (id, group) in &self.groups {
            let Some(shared) = &group.shared else { continue };
            for worker in self.workers.values().filter(|w| w.group == Some(*id) && w.admitted) {
                for (peer, remote) in group.remote.iter().filter(|(peer, r)| **peer > worker.worker && r.there) {
                    let reactors = shared.sockets.reactors_between(worker.worker, *peer);
                    if worker.is_linked(*peer, remote.life) || !self.is_elsewhere(*id, *peer) || reactors.is_empty() {
                        continue;
                    }
                    let ask = LinkAsk {
                        topology: group.topology.clone(),
                        plan: shared.outline.hash,
                        from: (worker.worker, worker.epoch.wire()),
                        to: (*peer, remote.life),
                        joins: worker.joins.get(peer).copied().unwrap_or(0) + 1,
                        reactors: (0, 0),
                        attempt: 0,
                        sockets: reactors.len() as u32,
                    };
                    missing.push(((*id, worker.worker, *peer), group.nodes[*peer as usize].clone(), ask, reactors));
                }
            }
        }
        let Some(hosts) = &mut self.hosts else { return };
        let now = Instant::now();
        hosts.attempts.retain(|pair, a| a.underway.is_some() || missing.iter().any(|(other, ..)| other == pair));
        for (pair, node, ask, reactors) in missing {
            let attempt = hosts.attempts.entry(pair);
            let attempt = attempt.or_insert(Attempt { underway: None, until: now, pause: PAUSE, joins: 0 });
            let address = hosts.addresses.get(&node).filter(|_| attempt.underway.is_none() && attempt.until <= now);
            let Some(address) = address.cloned() else {
                // Where nobody knows the way: looked at again when that changes.
                attempt.until = attempt.until.max(now + PAUSE);
                continue;
            };
            hosts.next_attempt += 1;
            attempt.underway = Some(hosts.next_attempt);
            let (number, joins) = (hosts.next_attempt, ask.joins.max(attempt.joins + 1));
            let ask = |reactors| LinkAsk { reactors, attempt: number, joins, ..ask.clone() };
            wire::make(hosts.me.clone(), address, pair, reactors.into_iter().map(ask).collect(), self.tell.clone());
        }
    }

    /// What became of an attempt.
    pub(super) fn made(&mut self, pair: Pair, ask: &LinkAsk, made: Result<Ends, CallError>) {
        let now = Instant::now();
        let Some(hosts) = &mut self.hosts else { return };
        let Some(attempt) = hosts.attempts.get_mut(&pair).filter(|a| a.underway == Some(ask.attempt)) else { return };
        (attempt.underway, attempt.until) = (None, now);
        hosts.dirty = true;
        let cause = match made {
            Ok(ends) => {
                hosts.attempts.remove(&pair);
                hosts.said.remove(&format!("{pair:?}"));
                return self.take_link(pair, ask.from.1, ask.to.1, ask.joins, ends);
            }
            // Known at once; the next attempt has the right number.
            Err(CallError::Refused(Refused::Joins(at))) => {
                attempt.joins = at;
                return;
            }
            Err(cause) => cause.to_string(),
        };
        attempt.until += attempt.pause;
        attempt.pause = (attempt.pause * 2).min(PAUSE_MAX);
        if hosts.is_news(format!("{pair:?}"), &cause) {
            let LinkAsk { topology, from, to, .. } = ask;
            let node = self.groups.get(&pair.0).and_then(|group| group.nodes.get(to.0 as usize));
            (self.log)(&format!(
                "{topology}: worker {} cannot be linked to worker {} on {}: {cause}; trying again",
                from.0,
                to.0,
                node.map_or("another node", String::as_str)
            ));
        }
    }

    /// Sockets for a worker here, if both are still in those lives.
    fn take_link(&mut self, (group, here, there): Pair, ours: u32, theirs: u32, joins: u32, ends: Ends) {
        let known = self.groups.get(&group).and_then(|group| group.remote.get(&there));
        let Some(slot) = self.slot_of(group, here) else { return };
        if self.workers[&slot].epoch.wire() == ours && known.is_some_and(|known| known.life == theirs) {
            self.rejoin_as(slot, there, theirs, joins, ends);
        }
        self.dirty();
    }

    /// Whether a call for a link is welcome.
    pub(super) fn verdict(&self, node: &str, ask: &LinkAsk) -> Answer {
        match self.pair_of(node, ask) {
            Ok(_) => Answer::Yes,
            Err(why) => Answer::No(why),
        }
    }

    fn pair_of(&self, node: &str, ask: &LinkAsk) -> Result<Pair, Refused> {
        let plan = |group: &Group| group.shared.as_ref().map(|shared| shared.outline.hash);
        let mut of = self.groups.iter().filter(|(_, group)| group.topology == ask.topology && plan(group).is_some());
        let other = if of.clone().next().is_some() { Refused::Plan } else { Refused::Unknown };
        let (id, group) = of.find(|(_, group)| plan(group) == Some(ask.plan)).ok_or(other)?;
        let here = self.slot_of(*id, ask.to.0).map(|slot| &self.workers[&slot]).filter(|w| w.admitted);
        group.welcome(node, ask, here.map(|w| (w.epoch.wire(), w.joins.get(&ask.from.0).copied())))?;
        Ok((*id, ask.to.0, ask.from.0))
    }

    /// A socket that another node has made, and was welcome.
    pub(super) fn linked(&mut self, node: &str, ask: &LinkAsk, fd: OwnedFd) {
        let Ok(pair) = self.pair_of(node, ask) else { return };
        let Some(hosts) = &mut self.hosts else { return };
        let (attempt, ends) = hosts.gathering.entry(pair).or_insert((ask.attempt, Vec::new()));
        if *attempt != ask.attempt || ends.iter().any(|(reactors, _)| *reactors == ask.reactors) {
            (*attempt, *ends) = (ask.attempt, Vec::new());
        }
        ends.push((ask.reactors, fd));
        if ends.len() < ask.sockets as usize {
            return;
        }
        let ends = hosts.gathering.remove(&pair).map(|(_, ends)| ends).unwrap_or_default();
        self.supersede(pair.0, pair.2, ask.from.1);
        if let Some(group) = self.groups.get_mut(&pair.0) {
            group.remote.insert(pair.2, Remote { life: ask.from.1, there: true });
        }
        self.take_link(pair, ask.to.1, ask.from.1, ask.joins, ends);
    }

    /// A line to another node cannot be had, or broke.
    pub(super) fn line_failed(&mut self, address: &str, cause: &str) {
        let Some(hosts) = &mut self.hosts else { return };
        if hosts.is_news(address.to_owned(), cause) {
            (self.log)(&format!("the supervisor at {address} cannot be told of workers: {cause}; trying again"));
        }
    }

    /// A process here is gone: what was gathered for it is of no use.
    pub(super) fn forget_gathered(&mut self, group: u64, worker: u32) {
        if let Some(hosts) = &mut self.hosts {
            hosts.gathering.retain(|(g, here, _), _| (*g, *here) != (group, worker));
            hosts.dirty = true;
        }
    }

    /// Whether a worker is assigned to another node, as far as is known.
    pub(super) fn is_elsewhere(&self, group: u64, worker: u32) -> bool {
        let node = self.groups.get(&group).and_then(|group| group.nodes.get(worker as usize));
        node.is_some_and(|node| *node != self.options.info.id)
    }
}

impl Worker {
    fn is_linked(&self, peer: u32, life: u32) -> bool {
        self.epochs.get(peer as usize) == Some(&life)
            && self.joins.contains_key(&peer)
            && !self.lost.contains(&peer)
            && !self.broken.contains_key(&peer)
    }
}
