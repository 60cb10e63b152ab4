//! How many bytes the buffers of a plan may take (D2): every part bounded, the sum computed before the start.
//!
//! What is counted, each with the owner that allocates it:
//! - *open batches*: one outgoing buffer per stream of a cohort and receiving reactor, filled in private (the sender's);
//! - *rings*: one per ring link (the sender's);
//! - *shm*: one ring per link in shared memory, a page of cursors and one for the socket beside it; or the buffers of that socket where the
//!   link falls back to it, whichever is more (the sender's; a page of huge size that is shared by both directions is not told apart);
//! - *sockets*: [`socket_send_batches`] batches being sent per socket link (the sender's), and a receive window
//!   ([`socket_window_bytes`]) per end of a socket, which carries the links of both directions;
//! - *inboxes*: what was sent and not yet consumed, which the credit of each incoming link bounds (the receiver's);
//! - *bursts*: what one call may emit beyond its room (the executor's);
//! - *ledgers*: the pending roots of each spout task, where roots are tracked (the spout's reactor).
//!
//! Not counted: state of components, code, kernel socket buffers, and tuples larger than a batch, which travel one at a
//! time per link in a buffer of their own (at most `max_tuple_bytes`).

use std::collections::BTreeSet;

use serde::Serialize;

use crate::plan::{ExecutorPlan, InboxPlan, LinkKind, LinkPlan, ReactorPlan};
use crate::spec::{ComponentKind, LEDGER_SLOT_BYTES, ShmUse, TopologyConfig, TopologySpec};
use squall_tuple::ids::ReactorIx;

/// Fewest and most batches of a socket link that the sender may hold, and the bytes within which it holds more than the fewest.
const SOCKET_SEND_BATCHES: (u64, u64) = (16, 128);
const SOCKET_SEND_SMALL: u64 = 32 << 10;
/// Batches that a receive window holds, at least.
pub const SOCKET_RECEIVE_BATCHES: u64 = 4;
/// The smallest receive window.
const SOCKET_WINDOW_MIN: u64 = 64 << 10;
/// Of one direction of a link in shared memory: cursors, flags and credit, and the receive window of the socket beside it.
pub const SHM_CURSOR_BYTES: u64 = 2 * 4096;

/// Batches of at most so many bytes that the sender of a socket link holds at most: half of them wait for the kernel, half may be on their way
/// out of this very memory (zero-copy sends). Of small ones so many that one send takes many of them.
pub const fn socket_send_batches(batch_bytes: u32) -> u64 {
    let (fewest, most) = SOCKET_SEND_BATCHES;
    let small = SOCKET_SEND_SMALL / batch_bytes as u64;
    if small < fewest {
        fewest
    } else if small > most {
        most
    } else {
        small
    }
}

/// Bytes of the receive window at each end of a socket, from which its batches of at most so many bytes are read in place: a power of two.
pub const fn socket_window_bytes(batch_bytes: u32) -> u64 {
    let batches = (SOCKET_RECEIVE_BATCHES * batch_bytes as u64).next_power_of_two();
    if batches < SOCKET_WINDOW_MIN { SOCKET_WINDOW_MIN } else { batches }
}

/// Bytes by use. All are upper bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Outgoing batches being filled.
    pub open_batches: u64,
    /// Rings between reactors of one worker.
    pub rings: u64,
    /// Memory shared with other workers.
    pub shm: u64,
    /// Send and receive buffers of sockets.
    pub sockets: u64,
    /// Tuples that wait for their bolt.
    pub inboxes: u64,
    /// Emits beyond the room of the outputs.
    pub bursts: u64,
    /// Pending roots.
    pub ledgers: u64,
}

impl MemoryUse {
    /// The sum of all parts.
    pub fn total(&self) -> u64 {
        self.open_batches + self.rings + self.shm + self.sockets + self.inboxes + self.bursts + self.ledgers
    }

    fn add(&mut self, other: &MemoryUse) {
        self.open_batches += other.open_batches;
        self.rings += other.rings;
        self.shm += other.shm;
        self.sockets += other.sockets;
        self.inboxes += other.inboxes;
        self.bursts += other.bursts;
        self.ledgers += other.ledgers;
    }
}

/// Bytes of all buffers of a plan, in all and by worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The sum over all workers, by use.
    pub all: MemoryUse,
    /// By worker.
    pub workers: Vec<MemoryUse>,
    /// The sum over all workers and uses.
    pub total: u64,
}

impl MemoryPlan {
    pub(crate) fn of(
        spec: &TopologySpec,
        reactors: &[ReactorPlan],
        worker_count: usize,
        executors: &[ExecutorPlan],
        links: &[LinkPlan],
        inboxes: &[InboxPlan],
        reactors_of: &[Vec<ReactorIx>],
    ) -> MemoryPlan {
        let mut workers = vec![MemoryUse::default(); worker_count];
        let worker_of = |reactor: ReactorIx| reactors[reactor as usize].worker as usize;
        let batch_bytes = u64::from(spec.config.batch_bytes);
        let socket_batch_bytes = u64::from(spec.config.socket_batch_bytes);

        for stream in 0..spec.streams.len() as u32 {
            let receivers = receivers(spec, stream, reactors_of);
            for &from in &reactors_of[spec.streams[stream as usize].component as usize] {
                for &to in &receivers {
                    let socket = worker_of(from) != worker_of(to) && spec.config.shm == ShmUse::Off;
                    workers[worker_of(from)].open_batches += if socket { socket_batch_bytes } else { batch_bytes };
                }
            }
        }
        let window = socket_window_bytes(spec.config.socket_batch_bytes);
        let mut sockets = BTreeSet::new();
        for link in links {
            match link.kind {
                LinkKind::Local => {}
                LinkKind::Ring => workers[worker_of(link.from)].rings += spec.config.ring_bytes,
                LinkKind::Shm => workers[worker_of(link.from)].shm += shm_link_bytes(&spec.config),
                LinkKind::Socket => {
                    workers[worker_of(link.from)].sockets +=
                        socket_send_batches(spec.config.socket_batch_bytes) * socket_batch_bytes;
                    sockets.insert((link.from.min(link.to), link.from.max(link.to)));
                }
            }
        }
        for (one, other) in sockets {
            workers[worker_of(one)].sockets += window;
            workers[worker_of(other)].sockets += window;
        }
        for inbox in inboxes {
            let senders = senders(spec, inbox.component, reactors_of);
            workers[worker_of(inbox.reactor)].inboxes += senders.len() as u64 * spec.config.credit_bytes;
        }
        for executor in executors {
            let component = &spec.components[executor.component as usize];
            let worker = &mut workers[worker_of(executor.reactor)];
            worker.bursts += component.burst_bytes;
            if component.kind == ComponentKind::Spout && spec.config.acking() {
                worker.ledgers +=
                    executor.tasks.len() as u64 * u64::from(spec.config.max_pending()) * LEDGER_SLOT_BYTES;
            }
        }

        let mut all = MemoryUse::default();
        workers.iter().for_each(|worker| all.add(worker));
        MemoryPlan { all, workers, total: all.total() }
    }
}

/// Bytes that one direction of a link in shared memory may take; see the module.
pub fn shm_link_bytes(config: &TopologyConfig) -> u64 {
    let batch_bytes = u64::from(config.batch_bytes);
    let copied = if config.shm == ShmUse::Copy { batch_bytes } else { 0 };
    let shared = config.ring_bytes.next_power_of_two() + SHM_CURSOR_BYTES + copied;
    // A link in one direction alone has a window at each end all the same.
    shared.max(socket_send_batches(config.batch_bytes) * batch_bytes + 2 * socket_window_bytes(config.batch_bytes))
}

/// The reactors on which some subscriber of the stream has tasks.
fn receivers(spec: &TopologySpec, stream: u32, reactors_of: &[Vec<ReactorIx>]) -> Vec<ReactorIx> {
    let to = spec.subscriptions.iter().filter(|s| s.stream == stream).map(|s| s.to);
    union(to.flat_map(|component| &reactors_of[component as usize]))
}

/// The reactors from which tuples for the component may come.
fn senders(spec: &TopologySpec, component: u32, reactors_of: &[Vec<ReactorIx>]) -> Vec<ReactorIx> {
    let from = spec.subscriptions.iter().filter(|s| s.to == component);
    union(from.flat_map(|s| &reactors_of[spec.streams[s.stream as usize].component as usize]))
}

fn union<'a>(reactors: impl Iterator<Item = &'a ReactorIx>) -> Vec<ReactorIx> {
    let mut list: Vec<ReactorIx> = reactors.copied().collect();
    list.sort_unstable();
    list.dedup();
    list
}
