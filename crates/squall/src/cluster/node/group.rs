//! The workers of one topology, as one plan: who is which worker, and of those on this node the board and the sockets between them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;

use squall_control::Epoch;
use squall_control::record::{Assignment, TopologyRecord, WorkerAssignment};
use squall_engine::{Board, ComponentStats};
use squall_topology::Seat;

use super::hosts::Remote;
use super::wire::{LinkAsk, Refused};
use crate::cluster::talk::SeatHello;
use crate::run::engine::Outline;
use crate::run::sockets::{Family, Sockets};
use crate::run::system;
use crate::run::watchdog::Watchdog;

/// What the workers of a group have in common once one of them has said what its plan is.
pub(super) struct Shared {
    pub(super) outline: Outline,
    pub(super) board: Board,
    pub(super) board_fd: OwnedFd,
    pub(super) sockets: Sockets,
    pub(super) watchdog: Watchdog,
}

/// See the module.
pub(super) struct Group {
    pub(super) topology: String,
    pub(super) seats: Vec<Seat>,
    /// Executors by component.
    pub(super) executors: BTreeMap<String, u32>,
    /// By worker: the generation that it was assigned with.
    pub(super) generations: Vec<u32>,
    /// By worker: the node that it is assigned to. Empty until that is known.
    pub(super) nodes: Vec<String>,
    /// Workers of other nodes.
    pub(super) remote: BTreeMap<u32, Remote>,
    pub(super) shared: Option<Shared>,
}

/// What a node gives each of its workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Share {
    /// CPUs of the node that may be used, and its slots.
    pub(super) cores: Vec<usize>,
    pub(super) slots: u16,
}

impl Share {
    /// Reactor threads of a worker that asks for none in particular.
    fn threads(&self) -> u32 {
        (self.cores.len() / usize::from(self.slots).max(1)).max(1) as u32
    }

    /// The CPUs of a slot. Where there are fewer CPUs than slots, or a worker has more reactors than its share, nothing is pinned: the kernel
    /// knows better.
    fn cores_of(&self, slot: u16, reactors: u32) -> Vec<usize> {
        let each = self.cores.len() / usize::from(self.slots).max(1);
        if each == 0 || reactors as usize > each {
            return Vec::new();
        }
        self.cores.iter().skip(usize::from(slot) * each).take(each).copied().collect()
    }
}

/// The workers of an assignment in the order of their plan: by their first executors, which stay the same when a worker moves.
pub(super) fn in_order(assignment: &Assignment) -> Vec<&WorkerAssignment> {
    let mut workers: Vec<&WorkerAssignment> = assignment.workers.iter().collect();
    workers.sort_by_key(|w| w.executors.iter().min().copied());
    workers
}

impl Group {
    /// The group for an assignment, of which nothing runs yet. `reactors`: as the topology asks for.
    ///
    /// What is in the plan does not depend on the nodes, so it stays the same where a worker moves: `host` is the same for all (workers share memory
    /// where they get a Unix socket to each other, which tells), and cores are no part of it.
    pub(super) fn new(
        me: &str,
        record: &TopologyRecord,
        assignment: &Assignment,
        share: &Share,
        reactors: Option<u32>,
    ) -> Group {
        let workers = in_order(assignment);
        let seat = |w: &&WorkerAssignment| {
            let placed = Some(w.threads).filter(|threads| *threads > 0);
            let reactors = reactors.or(placed).unwrap_or_else(|| share.threads());
            let cores = if w.node == me { share.cores_of(w.slot, reactors) } else { Vec::new() };
            Seat { executors: w.executors.clone(), reactors, cores, host: 0 }
        };
        Group {
            topology: record.id.clone(),
            seats: workers.iter().map(seat).collect(),
            executors: record.shape.components.iter().map(|c| (c.name.clone(), c.executors)).collect(),
            generations: workers.iter().map(|w| w.generation).collect(),
            nodes: workers.iter().map(|w| w.node.clone()).collect(),
            remote: BTreeMap::new(),
            shared: None,
        }
    }

    /// Whether workers of that group can be workers of this one: what each runs is the same.
    pub(super) fn fits(&self, other: &Group) -> bool {
        let runs = |group: &Group| -> Vec<Vec<u32>> { group.seats.iter().map(|s| s.executors.clone()).collect() };
        self.executors == other.executors && runs(self) == runs(other)
    }

    /// Who runs where from now on. Gives workers that have another generation than before; nothing where the assignment is of another plan.
    pub(super) fn assigned(&mut self, assignment: &Assignment) -> Vec<(u32, u32)> {
        let workers = in_order(assignment);
        if !workers.iter().map(|w| &w.executors).eq(self.seats.iter().map(|seat| &seat.executors)) {
            return Vec::new();
        }
        let newer = (0..).zip(&workers).filter(|(at, w)| self.generations[*at as usize] < w.generation);
        let newer = newer.map(|(at, w)| (at, w.generation)).collect();
        self.generations = workers.iter().map(|w| w.generation).collect();
        self.nodes = workers.iter().map(|w| w.node.clone()).collect();
        newer
    }

    /// The life of a worker that counts, as far as is known without looking at this node's own.
    pub(super) fn life(&self, worker: u32) -> Option<u32> {
        let first = Epoch::first(*self.generations.get(worker as usize)?).wire();
        Some(self.remote.get(&worker).map_or(first, |remote| remote.life.max(first)))
    }

    /// Whether a socket that `node` offers is welcome. `here`: the life of the worker that it is for, and how often that was linked to the other one.
    ///
    /// # Errors
    /// Why not. A life older than one that was heard of is refused for good.
    pub(super) fn welcome(&self, node: &str, ask: &LinkAsk, here: Option<(u32, Option<u32>)>) -> Result<(), Refused> {
        let ((from, life), (to, to_life)) = (ask.from, ask.to);
        let known = self.life(from).ok_or(Refused::Unknown)?;
        if life < known {
            return Err(Refused::Old(known));
        }
        // Its assignment may not have been heard of here yet.
        if self.nodes.get(from as usize).is_none_or(|assigned| assigned != node) {
            return Err(Refused::Unknown);
        }
        let (own, joins) = here.ok_or(Refused::Unknown)?;
        if own != to_life {
            return Err(Refused::Life(own));
        }
        if let Some(joins) = joins.filter(|joins| *joins >= ask.joins) {
            return Err(Refused::Joins(joins));
        }
        let sockets = self.shared.as_ref().map(|shared| shared.sockets.reactors_between(to, from)).unwrap_or_default();
        if sockets.len() != ask.sockets as usize || !sockets.contains(&ask.reactors) {
            return Err(Refused::Plan);
        }
        Ok(())
    }

    /// The other nodes that run workers of it.
    pub(super) fn other_nodes<'a>(&'a self, me: &'a str) -> BTreeSet<&'a str> {
        self.nodes.iter().map(String::as_str).filter(|node| *node != me).collect()
    }

    /// What a worker that has just started is told.
    pub(super) fn hello(&self) -> SeatHello {
        SeatHello {
            protocol: crate::cluster::talk::PROTOCOL,
            topology: self.topology.clone(),
            seats: self.seats.clone(),
            executors: self.executors.clone(),
        }
    }

    /// A worker says what its plan is: the first one's is everybody's.
    ///
    /// # Errors
    /// Cause and remedy.
    pub(super) fn agree(&mut self, outline: &Outline) -> Result<(), String> {
        if let Some(shared) = &self.shared {
            return if shared.outline.hash == outline.hash {
                Ok(())
            } else {
                Err("its plan differs from that of the topology's other workers: let the topology function depend on its \
                     arguments only, not on time, chance or files that change"
                    .to_owned())
            };
        }
        let made = Board::create(outline.board.clone());
        let (board, fd) = made.map_err(|error| format!("the memory for counts cannot be had: {error}; free some"))?;
        self.share(outline, board, fd)
            .map_err(|error| format!("no sockets between workers: {error}; raise `ulimit -n`"))
    }

    /// A worker of an earlier supervisor brings outline and board.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn take_over(&mut self, outline: &Outline, board: OwnedFd) -> io::Result<()> {
        if self.shared.is_some() {
            return Ok(());
        }
        let mapped = Board::open(outline.board.clone(), board.try_clone()?)?;
        self.share(outline, mapped, board)
    }

    fn share(&mut self, outline: &Outline, board: Board, board_fd: OwnedFd) -> io::Result<()> {
        let timeouts = outline.components.iter().map(|c| c.execute_timeout_ms).collect();
        self.shared = Some(Shared {
            sockets: Sockets::new(&outline.socket_pairs, Family::Unix)?,
            watchdog: Watchdog::new(&outline.board, outline.workers, timeouts, system::now_ns()),
            outline: outline.clone(),
            board,
            board_fd,
        });
        Ok(())
    }

    /// Counts of all components over all lives of their workers here.
    pub(super) fn counts(&self) -> Vec<ComponentStats> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let named =
            |c: &crate::run::engine::ComponentOutline| ComponentStats { name: c.name.clone(), ..Default::default() };
        let mut counts: Vec<ComponentStats> = shared.outline.components.iter().map(named).collect();
        (0..shared.outline.workers).for_each(|worker| shared.board.add_worker(worker, &mut counts));
        counts
    }

    /// Roots of spouts here that are neither acknowledged nor failed.
    pub(super) fn pending(&self) -> u64 {
        let Some(shared) = &self.shared else { return 0 };
        let counts = self.counts();
        let spouts = shared.outline.components.iter().zip(&counts).filter(|(c, _)| c.spout);
        spouts.map(|(_, n)| n.roots.saturating_sub(n.acked + n.failed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(node: &str, slot: u16, generation: u32, executors: &[u32]) -> WorkerAssignment {
        let (node, identity) = (node.to_owned(), String::new());
        WorkerAssignment { node, identity, slot, generation, executors: executors.to_vec(), threads: 2 }
    }

    fn group(workers: &[WorkerAssignment]) -> Group {
        let assignment = Assignment { generation: 9, workers: workers.to_vec() };
        let shape = squall_control::record::Shape { workers: 2, components: Vec::new(), talks: Vec::new() };
        let record = TopologyRecord {
            id: "t-1".into(),
            name: "t".into(),
            submission: String::new(),
            status: squall_control::record::Status::Active,
            shape,
            blobs: Vec::new(),
            arguments: serde_json::Value::Null,
            arch: String::new(),
            engine: String::new(),
            submitted_ms: 0,
        };
        let share = Share { cores: (0..8).collect(), slots: 2 };
        let mut group = Group::new("a", &record, &assignment, &share, None);
        let pair = crate::run::engine::SocketPair { reactors: (0, 2), workers: (0, 1) };
        let outline = Outline { workers: 2, hash: 7, socket_pairs: vec![pair], ..Outline::default() };
        group.agree(&outline).expect("there is memory");
        group
    }

    #[test]
    fn the_seats_are_the_same_on_every_node_and_after_a_move_but_for_the_cores() {
        let before = group(&[worker("b", 0, 2, &[0, 2]), worker("a", 1, 1, &[1])]);
        let after = group(&[worker("a", 1, 1, &[1]), worker("c", 1, 3, &[0, 2])]);
        let seats = |g: &Group| g.seats.iter().map(|s| (s.executors.clone(), s.reactors, s.host)).collect::<Vec<_>>();
        assert_eq!(seats(&before), [(vec![0, 2], 2, 0), (vec![1], 2, 0)]);
        assert_eq!(seats(&after), seats(&before));
        assert_eq!(
            (&before.seats[0].cores, &before.seats[1].cores),
            (&vec![], &vec![4, 5, 6, 7]),
            "only our own are known"
        );
    }

    #[test]
    fn an_assignment_of_the_same_plan_says_which_workers_are_others_now() {
        let mut group = group(&[worker("b", 0, 2, &[0, 2]), worker("a", 1, 1, &[1])]);
        let moved = Assignment { generation: 3, workers: vec![worker("a", 1, 1, &[1]), worker("c", 1, 3, &[0, 2])] };
        assert_eq!(group.assigned(&moved), [(0, 3)]);
        assert_eq!((group.nodes.clone(), group.assigned(&moved)), (vec!["c".to_owned(), "a".to_owned()], vec![]));
        let other = Assignment { generation: 9, workers: vec![worker("c", 1, 9, &[0, 1, 2])] };
        assert_eq!(group.assigned(&other), [], "workers of that plan are of another group");
        assert_eq!(group.nodes, ["c", "a"]);
    }

    #[test]
    fn a_link_is_welcome_from_the_life_that_counts_and_no_other() {
        let mut group = group(&[worker("b", 0, 2, &[0, 2]), worker("a", 1, 1, &[1])]);
        let (first, own) = (Epoch::first(2).wire(), Epoch::first(1).wire());
        let ask = LinkAsk {
            topology: "t-1".into(),
            plan: 7,
            from: (0, first),
            to: (1, own),
            joins: 3,
            reactors: (0, 2),
            attempt: 1,
            sockets: 1,
        };
        let here = Some((own, Some(2)));
        assert_eq!(group.welcome("b", &ask, here), Ok(()));
        assert_eq!(group.welcome("c", &ask, here), Err(Refused::Unknown), "it is assigned to another node");
        assert_eq!(group.welcome("b", &ask, None), Err(Refused::Unknown), "nobody is there yet");
        assert_eq!(group.welcome("b", &ask, Some((own + 1, None))), Err(Refused::Life(own + 1)));
        assert_eq!(group.welcome("b", &ask, Some((own, Some(3)))), Err(Refused::Joins(3)));
        let odd = LinkAsk { reactors: (0, 1), ..ask.clone() };
        assert_eq!(group.welcome("b", &odd, here), Err(Refused::Plan));
        let nobody = LinkAsk { from: (5, first), ..ask.clone() };
        assert_eq!(group.welcome("b", &nobody, here), Err(Refused::Unknown));
        // It was restarted, and then moved: what it was before is a ghost each time.
        group.remote.insert(0, Remote { life: first + 1, there: true });
        assert_eq!(group.welcome("b", &ask, here), Err(Refused::Old(first + 1)));
        let next = LinkAsk { from: (0, first + 1), ..ask };
        assert_eq!(group.welcome("b", &next, here), Ok(()));
        let moved = Assignment { generation: 3, workers: vec![worker("a", 1, 1, &[1]), worker("c", 0, 3, &[0, 2])] };
        group.assigned(&moved);
        assert_eq!(group.welcome("b", &next, here), Err(Refused::Old(Epoch::first(3).wire())));
    }

    #[test]
    fn a_slot_has_its_share_of_the_cores_and_where_they_do_not_suffice_nothing_is_pinned() {
        let share = |cores: usize, slots| Share { cores: (10..10 + cores).collect(), slots };
        assert_eq!((share(8, 4).threads(), share(8, 4).cores_of(3, 2)), (2, vec![16, 17]));
        assert_eq!(share(8, 4).cores_of(0, 3), Vec::<usize>::new(), "more reactors than cores");
        assert_eq!((share(2, 4).threads(), share(2, 4).cores_of(0, 1)), (1, vec![]));
        assert_eq!(share(8, 4).cores_of(9, 2), Vec::<usize>::new(), "a slot that is no more");
    }
}
