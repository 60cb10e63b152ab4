//! Workers and their peers: who is admitted with which sockets, who is lost, which links are made anew (decision 14).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use squall_control::{Epoch, Process, WorkerOrder};

use super::group::Group;
use super::{Node, Worker};
use crate::cluster::talk::{Back, FromSeat, ToSeat};
use crate::run::engine::Outline;
use crate::run::sockets::{self, Ends};
use crate::run::watchdog::Finding;

/// A broken link is usually the first news of a death: so long is waited for the second.
const LINK_NEWS: Duration = Duration::from_millis(50);
/// How long a worker of an earlier supervisor may take to find this one; it looks every 50 ms.
const BACK_WAIT: Duration = Duration::from_secs(5);

/// A link that broke between two workers.
pub(super) struct Relink {
    group: u64,
    /// Who told it: its slot, the peer, and how often the link had been made.
    told: (u16, u32, u32),
    /// Both with their lives then.
    lives: [(u32, Epoch); 2],
    at: Instant,
}

impl Node {
    /// The group that an order belongs to: the one its peers are in, or a new one.
    pub(super) fn group_for(&mut self, order: &WorkerOrder, reactors: Option<u32>) -> u64 {
        let me = &self.options.info.id;
        let fresh = Group::new(me, &order.topology, &order.assignment, &self.share, reactors);
        let same = self.groups.iter().find(|(_, group)| group.topology == fresh.topology && group.fits(&fresh));
        match same.map(|(id, _)| *id) {
            Some(id) => {
                self.assigned(id, &order.assignment);
                id
            }
            None => self.new_group(fresh),
        }
    }

    fn new_group(&mut self, group: Group) -> u64 {
        self.next_group += 1;
        self.groups.insert(self.next_group, group);
        self.next_group
    }

    /// Forgets groups that nobody is in or will be in.
    fn tidy_groups(&mut self) {
        let (workers, report) = (&self.workers, self.supervisor.report());
        let wanted = |topology: &str| report.workers.iter().any(|w| w.topology == topology);
        let newest =
            |topology: &str, id: u64, all: &[(u64, String)]| all.iter().all(|(o, t)| t != topology || *o <= id);
        let all: Vec<(u64, String)> = self.groups.iter().map(|(id, g)| (*id, g.topology.clone())).collect();
        self.groups.retain(|id, group| {
            workers.values().any(|w| w.group == Some(*id))
                || (wanted(&group.topology) && newest(&group.topology, *id, &all))
        });
        let groups = &self.groups;
        self.placed.retain(|topology, _| groups.values().any(|group| group.topology == *topology));
    }

    pub(super) fn slot_of(&self, group: u64, worker: u32) -> Option<u16> {
        // One that was moved within the node may still be about to end in its old slot.
        let of = self.workers.iter().filter(|(_, w)| w.group == Some(group) && w.worker == worker);
        of.max_by_key(|(_, w)| w.epoch).map(|(slot, _)| *slot)
    }

    pub(super) fn tell(&self, slot: u16, message: &ToSeat, fds: Vec<OwnedFd>) {
        let line = self.workers.get(&slot).and_then(|w| w.line);
        if let Some((line, _)) = line.and_then(|line| self.lines.get(&line)) {
            line.tell(message, fds);
        }
    }

    /// A worker says something.
    pub(super) fn said(&mut self, line: u64, message: FromSeat, fd: Option<OwnedFd>) {
        let now = self.now();
        let slot = match &message {
            FromSeat::Join { slot, epoch } => self.introduced(line, *slot, *epoch),
            FromSeat::Back(back) => self.introduced(line, back.slot, back.epoch),
            _ => self.lines.get(&line).and_then(|(_, slot)| *slot),
        };
        // A stranger, or a worker that was replaced: it gets no answer, and its end when the line is dropped.
        let Some(slot) = slot.filter(|slot| self.workers.get(slot).is_some_and(|w| w.line == Some(line))) else {
            self.lines.remove(&line);
            return;
        };
        let worker = self.workers.get_mut(&slot).expect("it was just found");
        let epoch = worker.epoch;
        match message {
            FromSeat::Join { .. } => {
                let hello = worker.group.and_then(|group| self.groups.get(&group)).map(Group::hello);
                if let Some(hello) = hello {
                    self.tell(slot, &ToSeat::Hello(Box::new(hello)), Vec::new());
                }
            }
            FromSeat::Back(back) => self.back(slot, *back, fd),
            FromSeat::Loaded(outline) => {
                self.loaded.push((slot, epoch, outline));
                self.admit_loaded();
            }
            FromSeat::Prepared => {
                worker.up = true;
                self.troubles.remove(&slot);
                self.supervisor.running(slot, epoch, now);
                self.tell_spouts(slot);
            }
            FromSeat::LinkLost { worker: peer, joins } => self.link_lost(slot, peer, joins),
            FromSeat::Stats(stats) => worker.stats = Some(stats),
            FromSeat::Finished => worker.finished = true,
            FromSeat::Failed(cause) => {
                (self.log)(&format!("{}: worker {} in slot {slot}: {cause}", worker.topology, worker.worker));
                self.troubles.insert(slot, cause);
            }
        }
    }

    /// Who speaks on a new line: the worker of that slot and life, in the process that was started as it.
    fn introduced(&mut self, line: u64, slot: u16, epoch: (u32, u32)) -> Option<u16> {
        let (handle, known) = self.lines.get_mut(&line)?;
        let worker = self.workers.get_mut(&slot)?;
        let same = (worker.epoch.generation, worker.epoch.restart) == epoch;
        if !same || handle.pid.is_some_and(|pid| pid != worker.watched.process.pid) {
            return None;
        }
        (*known, worker.line) = (Some(slot), Some(line));
        Some(slot)
    }

    /// Admits workers that have loaded their programs. Those whose topology has workers of an earlier supervisor that are not back yet wait for
    /// them: they bring the board that all share.
    fn admit_loaded(&mut self) {
        for (slot, epoch, outline) in std::mem::take(&mut self.loaded) {
            let Some(worker) = self.workers.get(&slot).filter(|w| w.epoch == epoch) else { continue };
            if self.workers.values().any(|w| w.group.is_none() && w.topology == worker.topology) {
                self.loaded.push((slot, epoch, outline));
            } else {
                self.agree(slot, &outline);
            }
        }
    }

    /// Gives up workers that were taken over and are not back in time: they hang, and nobody could lead them.
    pub(super) fn look_for_absent(&mut self) {
        if self.began.elapsed() < BACK_WAIT {
            return;
        }
        for (slot, worker) in self.workers.iter_mut().filter(|(_, w)| w.group.is_none() && !w.drained) {
            let process = worker.watched.process.pid;
            (self.log)(&format!("process {process} in slot {slot} did not come back to its supervisor, and is killed"));
            worker.watched.signal(Signal::KILL);
            // Once.
            worker.drained = true;
        }
    }

    fn agree(&mut self, slot: u16, outline: &Outline) {
        let worker = &self.workers[&slot];
        let Some(group) = worker.group.and_then(|group| self.groups.get_mut(&group)) else { return };
        match group.agree(outline) {
            Ok(()) => {
                self.hear_again();
                self.admit(slot);
            }
            Err(cause) => {
                (self.log)(&format!("{}: worker {} in slot {slot}: {cause}", worker.topology, worker.worker));
                worker.watched.signal(Signal::KILL);
                self.troubles.insert(slot, cause);
            }
        }
    }

    /// A worker gets its place, its peers get sockets to it.
    fn admit(&mut self, slot: u16) {
        let Worker { worker: me, epoch, group: Some(id), .. } = self.workers[&slot] else { return };
        let epochs = self.epochs(id);
        let elsewhere: BTreeSet<u32> =
            (0..epochs.len() as u32).filter(|worker| self.is_elsewhere(id, *worker)).collect();
        let peers: Vec<(u16, u32)> = self
            .workers
            .iter()
            .filter(|(_, w)| w.group == Some(id) && w.admitted && w.worker != me && !elsewhere.contains(&w.worker))
            .map(|(s, w)| (*s, w.worker))
            .collect();
        // Who waits for another life of this worker must not meet this one.
        let told = |peer: &u16| self.workers[peer].epochs.get(me as usize) == Some(&epoch.wire());
        let mistaken = peers.iter().any(|(peer, _)| !told(peer));
        let Some(shared) = self.groups.get_mut(&id).and_then(|group| group.shared.as_mut()) else { return };
        if mistaken {
            shared.sockets.end(me);
        }
        shared.sockets.set_elsewhere(elsewhere.clone());
        let there = |worker: u32| peers.iter().any(|(_, w)| *w == worker);
        let ends = shared.sockets.begin(me, there).and_then(|ends| Ok((ends, shared.board_fd.try_clone()?)));
        let ((own, others), board) = match ends {
            Ok(ends) => ends,
            Err(error) => {
                let cause = format!("no sockets to its peers: {error}; raise `ulimit -n`");
                (self.log)(&format!("worker {me} in slot {slot}: {cause}"));
                self.troubles.insert(slot, cause);
                return self.workers[&slot].watched.signal(Signal::KILL);
            }
        };
        let count = own.len() as u32;
        self.tell(slot, &ToSeat::Become { worker: me, epochs: epochs.clone(), sockets: count }, vec![board]);
        for (reactors, fds) in sockets::parts(own) {
            self.tell(slot, &ToSeat::Sockets(reactors), fds);
        }
        let worker = self.workers.get_mut(&slot).expect("it is there");
        // Links to other hosts come when they are made; until then those are lost to it, which it knows without being told.
        (worker.admitted, worker.epochs, worker.lost) = (true, epochs, elsewhere);
        for (peer, ends) in others {
            if let Some((peer, _)) = peers.iter().find(|(_, w)| *w == peer) {
                self.rejoin(*peer, me, epoch.wire(), ends);
            }
        }
        self.dirty();
    }

    /// By worker: the incarnation that counts.
    fn epochs(&self, group: u64) -> Vec<u32> {
        let of = &self.groups[&group];
        let mut epochs: Vec<u32> = (0..of.seats.len() as u32).filter_map(|worker| of.life(worker)).collect();
        for worker in self.workers.values().filter(|w| w.group == Some(group)) {
            // One that was moved away may still be about to end here.
            if let Some(epoch) = epochs.get_mut(worker.worker as usize) {
                *epoch = worker.epoch.wire().max(*epoch);
            }
        }
        epochs
    }

    /// Hands a worker sockets to a peer's new life.
    fn rejoin(&mut self, slot: u16, peer: u32, life: u32, ends: Ends) {
        let joins = self.workers.get(&slot).and_then(|w| w.joins.get(&peer)).copied().unwrap_or(0) + 1;
        self.rejoin_as(slot, peer, life, joins, ends);
    }

    /// The same where the number of times was agreed on.
    pub(super) fn rejoin_as(&mut self, slot: u16, peer: u32, life: u32, joins: u32, ends: Ends) {
        let Some(worker) = self.workers.get_mut(&slot) else { return };
        let unaware = !worker.lost.remove(&peer);
        worker.broken.remove(&peer);
        worker.joins.insert(peer, joins);
        if let Some(known) = worker.epochs.get_mut(peer as usize) {
            *known = life;
        }
        if unaware {
            self.tell(slot, &ToSeat::Lost(peer), Vec::new());
        }
        let mut parts = sockets::parts(ends).into_iter().peekable();
        while let Some((sockets, fds)) = parts.next() {
            let more = parts.peek().is_some();
            self.tell(slot, &ToSeat::Rejoin { worker: peer, epoch: life, joins, sockets, more }, fds);
        }
    }

    /// A worker that this driver did not start, or lost sight of, says what it is.
    fn back(&mut self, slot: u16, back: Back, board: Option<OwnedFd>) {
        let generations = back.epochs.iter().map(|epoch| epoch >> Epoch::MAX_RESTART.count_ones()).collect();
        let fresh = Group {
            topology: back.topology.clone(),
            seats: back.seats,
            executors: back.executors,
            generations,
            nodes: Vec::new(),
            remote: Default::default(),
            shared: None,
        };
        let same = self.groups.iter().find(|(_, group)| group.topology == fresh.topology && group.fits(&fresh));
        let id = same.map(|(id, _)| *id);
        let id = id.unwrap_or_else(|| self.new_group(fresh));
        let group = self.groups.get_mut(&id).expect("it is there");
        let taken = match board {
            Some(board) => group.take_over(&back.outline, board).map_err(|error| error.to_string()),
            None => Err("it came without its board".to_owned()),
        };
        if let Err(cause) = taken {
            (self.log)(&format!("{}: the worker in slot {slot} cannot be taken over: {cause}", back.topology));
            return self.workers[&slot].watched.signal(Signal::KILL);
        }
        let worker = self.workers.get_mut(&slot).expect("it was introduced");
        (worker.group, worker.worker) = (Some(id), back.worker);
        (worker.admitted, worker.up, worker.finished) = (true, true, back.finished);
        (worker.epochs, worker.joins) = (back.epochs, back.joins);
        (self.log)(&format!("{}: worker {} in slot {slot} is back", back.topology, back.worker));
        if let Some(assignment) = self.placed.get(&back.topology).cloned() {
            self.assigned(id, &assignment);
        }
        self.hear_again();
        self.dirty();
        self.tell_spouts(slot);
        self.admit_loaded();
    }

    /// Tells a worker what its spouts do, once it can hear it.
    pub(super) fn tell_spouts(&self, slot: u16) {
        if let Some(Worker { up: true, spouts: Some((spouts, _)), .. }) = self.workers.get(&slot) {
            self.tell(slot, &ToSeat::Spouts(*spouts), Vec::new());
        }
    }

    /// A process has ended: its peers hear of it before the next one starts.
    pub(super) fn exited(&mut self, slot: u16, process: Process, how: &str) {
        if let Some(worker) = self.workers.get(&slot).filter(|w| w.watched.process == process) {
            let (me, group, life) = (worker.worker, worker.group, worker.epoch.wire());
            (self.log)(&format!("{}: worker {me} in slot {slot}, process {}, {how}", worker.topology, process.pid));
            if !worker.finished && self.ending.is_none() {
                self.troubles.entry(slot).or_insert_with(|| format!("it {how}"));
            }
            self.workers.remove(&slot);
            if let Some(id) = group {
                self.lost(id, me, life);
            }
        }
        if self.ending.is_none() {
            let now = self.now();
            self.supervisor.exited(slot, process, now);
        }
        self.tidy_groups();
        self.admit_loaded();
    }

    fn lost(&mut self, group: u64, me: u32, life: u32) {
        let elsewhere = self.is_elsewhere(group, me);
        if let Some(shared) = self.groups.get_mut(&group).and_then(|group| group.shared.as_mut()) {
            // What waits for a worker that was moved away is of its old life, and gone already.
            if !elsewhere {
                shared.sockets.end(me);
            }
            let roots = shared.board.bury(me);
            if roots > 0 {
                (self.log)(&format!("{roots} roots of the spouts of worker {me} are lost with it"));
            }
        }
        self.forget_gathered(group, me);
        self.tell_lost(group, me, |known| known <= life);
    }

    /// A link ended. Most often the other end is dead, which is told soon.
    fn link_lost(&mut self, slot: u16, peer: u32, joins: u32) {
        let worker = &self.workers[&slot];
        let known = worker.joins.get(&peer).copied().unwrap_or(0);
        // Of a link that has been made anew since, it is no news.
        let (Some(group), true) = (worker.group, joins == known) else { return };
        let here = self.slot_of(group, peer).filter(|_| !self.is_elsewhere(group, peer));
        let Some(other) = here.map(|slot| &self.workers[&slot]) else { return self.part(slot, peer, joins) };
        let mut lives = [(worker.worker, worker.epoch), (peer, other.epoch)];
        lives.sort_by_key(|(worker, _)| *worker);
        if !self.relinks.iter().any(|relink| relink.group == group && relink.lives == lives) {
            self.relinks.push(Relink { group, told: (slot, peer, joins), lives, at: Instant::now() + LINK_NEWS });
        }
    }

    /// Makes links anew between workers that both live.
    pub(super) fn relink_due(&mut self) {
        let now = Instant::now();
        for relink in self.relinks.extract_if(.., |relink| relink.at <= now).collect::<Vec<_>>() {
            let alive = |(worker, epoch): (u32, Epoch)| {
                let slot = self.slot_of(relink.group, worker)?;
                (self.workers[&slot].epoch == epoch && self.workers[&slot].up).then_some((slot, worker, epoch))
            };
            let [Some(one), Some(other)] = relink.lives.map(alive) else { continue };
            // It was made anew meanwhile, with one end in another life.
            let (slot, peer, joins) = relink.told;
            if self.workers.get(&slot).is_none_or(|w| w.joins.get(&peer).copied().unwrap_or(0) != joins) {
                continue;
            }
            let shared = self.groups.get(&relink.group).and_then(|group| group.shared.as_ref());
            let Some(Ok((ones, others))) = shared.map(|shared| shared.sockets.between(one.1, other.1)) else {
                continue;
            };
            (self.log)(&format!("the link between workers {} and {} broke and is made anew", one.1, other.1));
            self.rejoin(one.0, other.1, other.2.wire(), ones);
            self.rejoin(other.0, one.1, one.2.wire(), others);
        }
    }

    /// Looks for workers that stand still.
    pub(super) fn look_at_groups(&mut self, now_ns: u64) {
        let mut kill = Vec::new();
        for (id, group) in &mut self.groups {
            let Some(shared) = &mut group.shared else { continue };
            let workers = &self.workers;
            let up = |worker: u32| {
                workers.values().any(|w| w.group == Some(*id) && w.worker == worker && w.up && !w.finished)
            };
            if now_ns < shared.watchdog.due_ns() {
                continue;
            }
            for finding in shared.watchdog.look(&shared.board, up, now_ns) {
                let name = |component: u32| shared.outline.components[component as usize].name.clone();
                match finding {
                    Finding::Stopped { worker } => {
                        let cause = "no thread of it has moved for a second: it is stopped, or is given no processor";
                        kill.push((*id, worker, cause.to_owned()));
                    }
                    Finding::Slow { worker, component, .. } => (self.log)(&format!(
                        "{}: a call of {} in worker {worker} has not returned for a second",
                        group.topology,
                        name(component)
                    )),
                    Finding::Overdue { worker, component, timeout_ms, .. } => {
                        let seconds = timeout_ms as f64 / 1e3;
                        let cause = format!(
                            "a call of {} has not returned for {seconds} s; mend it, or raise its execute_timeout (0: never)",
                            name(component)
                        );
                        kill.push((*id, worker, cause));
                    }
                }
            }
        }
        for (group, worker, cause) in kill {
            let Some(slot) = self.slot_of(group, worker) else { continue };
            (self.log)(&format!("worker {worker} in slot {slot} is killed: {cause}"));
            self.troubles.insert(slot, cause);
            self.workers[&slot].watched.signal(Signal::KILL);
        }
    }
}
