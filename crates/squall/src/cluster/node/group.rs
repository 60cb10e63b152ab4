//! The workers of one topology on this node, as one plan: who is which worker, the board, and the sockets between them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use squall_control::record::{Assignment, TopologyRecord, WorkerAssignment};
use squall_engine::{Board, ComponentStats};
use squall_topology::Seat;

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
    pub(super) fn new(record: &TopologyRecord, assignment: &Assignment, share: &Share, reactors: Option<u32>) -> Group {
        let workers = in_order(assignment);
        let mut hosts: Vec<&str> = workers.iter().map(|w| w.node.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let seat = |w: &&WorkerAssignment| {
            let reactors = reactors.unwrap_or_else(|| share.threads());
            Seat {
                executors: w.executors.clone(),
                reactors,
                cores: share.cores_of(w.slot, reactors),
                host: hosts.binary_search(&w.node.as_str()).unwrap_or_default() as u32,
            }
        };
        Group {
            topology: record.id.clone(),
            seats: workers.iter().map(seat).collect(),
            executors: record.shape.components.iter().map(|c| (c.name.clone(), c.executors)).collect(),
            generations: workers.iter().map(|w| w.generation).collect(),
            shared: None,
        }
    }

    /// Whether workers of that group can be workers of this one: what each runs is the same.
    pub(super) fn fits(&self, other: &Group) -> bool {
        let runs = |group: &Group| -> Vec<Vec<u32>> { group.seats.iter().map(|s| s.executors.clone()).collect() };
        self.executors == other.executors && runs(self) == runs(other)
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

    #[test]
    fn a_slot_has_its_share_of_the_cores_and_where_they_do_not_suffice_nothing_is_pinned() {
        let share = |cores: usize, slots| Share { cores: (10..10 + cores).collect(), slots };
        assert_eq!((share(8, 4).threads(), share(8, 4).cores_of(3, 2)), (2, vec![16, 17]));
        assert_eq!(share(8, 4).cores_of(0, 3), Vec::<usize>::new(), "more reactors than cores");
        assert_eq!((share(2, 4).threads(), share(2, 4).cores_of(0, 1)), (1, vec![]));
        assert_eq!(share(8, 4).cores_of(9, 2), Vec::<usize>::new(), "a slot that is no more");
    }
}
