//! Counts that leave the reactor: plain numbers its thread writes once per turn, read by the worker's main thread, and
//! those of its links, which it hands over when asked. Links count per batch, never per tuple.

use serde::{Deserialize, Serialize};
use squall_metrics::SizeHistogram;
use squall_ring::Words;
use squall_topology::{LinkKind, Plan};
use squall_tuple::ids::ReactorIx;
use std::collections::BTreeMap;

use crate::ledger::FailKind;

/// Why tuples were dropped; each is counted (D3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// A declared feedback edge had no credit.
    FeedbackFull,
    /// They came over a feedback edge after the component's inputs had ended.
    AfterEnd,
}

/// What is counted of a cohort, by its place in the cohort's block of the [`Board`](crate::Board).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Count {
    Emitted,
    Executed,
    Acked,
    Failed,
    FeedbackFull,
    AfterEnd,
    MovedBytes,
    /// Of a spout: emits with an id.
    Roots,
    LateAcks,
    /// Failed tuples that belonged to no root.
    Lost,
    DeadLetters,
    Restarts,
    /// Longest time from a fault to the restart after it.
    DownNsMax,
    /// Calls that held the reactor for longer than is right, and the longest.
    LongCalls,
    LongCallNsMax,
    /// Of a spout: failed roots, a word for each kind of reason.
    RootsFailed,
}

impl Count {
    /// Number of words.
    pub(crate) const ALL: usize = Count::RootsFailed as usize + FailKind::COUNT;
}

/// Counts of one cohort, on the board of the run. One writer, so an add is a relaxed load and store.
#[derive(Clone)]
pub struct CohortStats {
    words: Words,
    at: usize,
}

impl CohortStats {
    pub(crate) fn at(words: Words, at: usize) -> CohortStats {
        CohortStats { words, at }
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.words.load(self.at + count as usize)
    }

    #[inline]
    pub(crate) fn bump(&self, count: Count, by: u64) {
        self.bump_at(count as usize, by);
    }

    /// A count that is a maximum.
    pub(crate) fn raise(&self, count: Count, to: u64) {
        self.words.store(self.at + count as usize, self.get(count).max(to));
    }

    pub(crate) fn bump_failed(&self, kind: FailKind, by: u64) {
        self.bump_at(Count::RootsFailed as usize + kind as usize, by);
    }

    #[inline]
    fn bump_at(&self, place: usize, by: u64) {
        self.words.store(self.at + place, self.words.load(self.at + place) + by);
    }

    fn failed(&self, kind: FailKind) -> u64 {
        self.words.load(self.at + Count::RootsFailed as usize + kind as usize)
    }

    /// The spout is dead: what was pending has failed. Returns how many roots that were.
    pub(crate) fn lose_spout(&self) -> u64 {
        // A root is counted before its tuple leaves, its end when the spout has been told, so there are never more ends.
        let pending = self.get(Count::Roots).saturating_sub(self.get(Count::Acked) + self.get(Count::Failed));
        self.bump(Count::Failed, pending);
        // Kinds are counted a little before the sum of all.
        let kinds: u64 = FailKind::ALL.iter().map(|kind| self.failed(*kind)).sum();
        self.bump_failed(FailKind::SpoutLost, self.get(Count::Failed).saturating_sub(kinds));
        pending
    }

    /// Adds this cohort's counts to its component's.
    pub fn add_to(&self, c: &mut ComponentStats) {
        c.emitted += self.get(Count::Emitted);
        c.executed += self.get(Count::Executed);
        c.acked += self.get(Count::Acked);
        c.failed += self.get(Count::Failed);
        c.moved_bytes += self.get(Count::MovedBytes);
        c.roots += self.get(Count::Roots);
        c.late_acks += self.get(Count::LateAcks);
        c.lost += self.get(Count::Lost);
        c.dead_letters += self.get(Count::DeadLetters);
        c.restarts += self.get(Count::Restarts);
        c.down_ns_max = c.down_ns_max.max(self.get(Count::DownNsMax));
        c.long_calls += self.get(Count::LongCalls);
        c.long_call_ns_max = c.long_call_ns_max.max(self.get(Count::LongCallNsMax));
        for kind in FailKind::ALL {
            let n = self.failed(kind);
            if n > 0 {
                *c.roots_failed.entry(kind.word().to_owned()).or_default() += n;
            }
        }
        for (reason, count) in [("feedback full", Count::FeedbackFull), ("after the end", Count::AfterEnd)] {
            let n = self.get(count);
            if n > 0 {
                *c.dropped.entry(reason.to_owned()).or_default() += n;
            }
        }
    }
}

/// Counts of one component, summed over its cohorts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStats {
    /// Name in the topology.
    pub name: String,
    /// Tuples emitted: one per emit, however many tasks received it.
    pub emitted: u64,
    /// Tuples executed: one per task that received it.
    pub executed: u64,
    /// Input tuples acknowledged; of a spout, its roots.
    pub acked: u64,
    /// Input tuples failed; of a spout, its roots.
    pub failed: u64,
    /// Of a spout: roots, which are emits with an id. Those neither acked nor failed are pending.
    #[serde(default)]
    pub roots: u64,
    /// Of a spout: failed roots by reason.
    #[serde(default)]
    pub roots_failed: BTreeMap<String, u64>,
    /// Of a spout: acks and fails that came for roots that had failed already.
    #[serde(default)]
    pub late_acks: u64,
    /// Of the failed input tuples: those that belonged to no root, so that no spout emits them again.
    #[serde(default)]
    pub lost: u64,
    /// Of the acknowledged input tuples: those that it could not process and that went to its stream of dead letters.
    #[serde(default)]
    pub dead_letters: u64,
    /// Times that an executor was restarted after a panic or a fatal error, its state lost.
    #[serde(default)]
    pub restarts: u64,
    /// Longest time in nanoseconds from such an end until the executor was prepared again.
    #[serde(default)]
    pub down_ns_max: u64,
    /// Calls seen to hold a reactor for longer than 5 ms; not all are seen (see `docs/semantics.md`).
    #[serde(default)]
    pub long_calls: u64,
    /// The longest of them, in nanoseconds.
    #[serde(default)]
    pub long_call_ns_max: u64,
    /// Tuples dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Bytes copied out of links because the component was paused.
    pub moved_bytes: u64,
}

/// What one link carried. Only batches of tuples count, and those of acks apart: marks and credit do not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkTraffic {
    /// Batches that left the sender.
    pub batches: u64,
    /// Archived tuples in them. One stands for all its tasks on the receiving reactor.
    pub tuples: u64,
    /// Bytes of the batches, headers included.
    pub bytes: u64,
    /// Tuples whose bytes were copied once more in user space on the way out (the bulk copy of a batch into a ring).
    pub copies_send: u64,
    /// Tuples whose bytes were copied in user space on the way in: put together from pieces of a stream, or moved out of
    /// the link because their cohort was paused. A tuple may count twice.
    pub copies_receive: u64,
    /// Archives written for this link: its tuples, and those dropped where a feedback edge had no room.
    pub serializations: u64,
    /// Times a cohort was paused because this link had no room or no credit for its next batch.
    pub credit_stalls: u64,
    /// Nanoseconds those pauses took, as far as they have ended; in steps of a turn.
    pub stalled_ns: u64,
    /// Times the sender rang the receiver's doorbell, for batches or for room.
    pub wakeups_sent: u64,
    /// Tuples per batch.
    pub batch_sizes: SizeHistogram,
    /// Batches of acks.
    #[serde(default)]
    pub ack_batches: u64,
    /// Acks and fails in them: one stands for all that was folded into it.
    #[serde(default)]
    pub acks: u64,
}

impl LinkTraffic {
    /// Adds the counts of another part of the same link, or of another link.
    pub fn add(&mut self, other: &LinkTraffic) {
        self.batches += other.batches;
        self.tuples += other.tuples;
        self.bytes += other.bytes;
        self.copies_send += other.copies_send;
        self.copies_receive += other.copies_receive;
        self.serializations += other.serializations;
        self.credit_stalls += other.credit_stalls;
        self.stalled_ns += other.stalled_ns;
        self.wakeups_sent += other.wakeups_sent;
        self.batch_sizes.merge(&other.batch_sizes);
        self.ack_batches += other.ack_batches;
        self.acks += other.acks;
    }

    fn left(&mut self, tuples: u64, bytes: u64, copied: bool) {
        self.batches += 1;
        self.tuples += tuples;
        self.serializations += tuples;
        self.bytes += bytes;
        self.copies_send += if copied { tuples } else { 0 };
        self.batch_sizes.record(tuples);
    }
}

/// One link and what it carried: the sender's counts, the receiver's, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStats {
    /// The sender.
    pub from: ReactorIx,
    /// The receiver; the sender itself for the local link.
    pub to: ReactorIx,
    /// How: `local`, `ring`, `shm`, `socket`.
    pub kind: String,
    /// Its counts.
    pub traffic: LinkTraffic,
}

impl LinkStats {
    /// Joins rows of the same link; sorted by sender, then receiver.
    pub fn join(rows: impl IntoIterator<Item = LinkStats>) -> Vec<LinkStats> {
        let mut joined: BTreeMap<(ReactorIx, ReactorIx), LinkStats> = BTreeMap::new();
        for row in rows {
            match joined.get_mut(&(row.from, row.to)) {
                Some(ours) => ours.traffic.add(&row.traffic),
                None => drop(joined.insert((row.from, row.to), row)),
            }
        }
        joined.into_values().collect()
    }
}

/// Sums over links, with what belongs to reactors rather than to one link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Sum of [`LinkTraffic::batches`].
    pub batches: u64,
    /// Sum of [`LinkTraffic::tuples`].
    pub tuples: u64,
    /// Sum of [`LinkTraffic::bytes`].
    pub bytes: u64,
    /// Sum of [`LinkTraffic::copies_send`].
    pub copies_send: u64,
    /// Sum of [`LinkTraffic::copies_receive`].
    pub copies_receive: u64,
    /// Sum of [`LinkTraffic::serializations`].
    pub serializations: u64,
    /// Sum of [`LinkTraffic::credit_stalls`].
    pub credit_stalls: u64,
    /// Sum of [`LinkTraffic::stalled_ns`].
    pub stalled_ns: u64,
    /// Sum of [`LinkTraffic::wakeups_sent`].
    pub wakeups_sent: u64,
    /// Times a reactor slept in the kernel.
    pub sleeps: u64,
    /// System calls of the I/O drivers, sleeps included. Rings of a doorbell (`wakeups_sent`) and yields come on top.
    pub syscalls: u64,
    /// Bytes received from sockets.
    pub bytes_in: u64,
    /// Bytes sent to sockets.
    pub bytes_out: u64,
    /// Send operations on sockets. Several batches leave in one.
    pub sends: u64,
    /// Of those: asked the kernel not to copy.
    pub zc_sent: u64,
    /// Of those: copied by the kernel after all, as it reported.
    pub zc_copied: u64,
    /// Batches of a worker's earlier life that were refused.
    #[serde(default)]
    pub refused_batches: u64,
    /// Merged [`LinkTraffic::batch_sizes`].
    pub batch_sizes: SizeHistogram,
    /// Sum of [`LinkTraffic::ack_batches`].
    #[serde(default)]
    pub ack_batches: u64,
    /// Sum of [`LinkTraffic::acks`].
    #[serde(default)]
    pub acks: u64,
}

impl LinkCounters {
    /// Sums two reactors or workers.
    pub fn add(&mut self, other: &LinkCounters) {
        self.batches += other.batches;
        self.tuples += other.tuples;
        self.bytes += other.bytes;
        self.copies_send += other.copies_send;
        self.copies_receive += other.copies_receive;
        self.serializations += other.serializations;
        self.credit_stalls += other.credit_stalls;
        self.stalled_ns += other.stalled_ns;
        self.wakeups_sent += other.wakeups_sent;
        self.sleeps += other.sleeps;
        self.syscalls += other.syscalls;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.sends += other.sends;
        self.zc_sent += other.zc_sent;
        self.zc_copied += other.zc_copied;
        self.refused_batches += other.refused_batches;
        self.batch_sizes.merge(&other.batch_sizes);
        self.ack_batches += other.ack_batches;
        self.acks += other.acks;
    }

    /// Adds one link.
    pub fn add_link(&mut self, link: &LinkTraffic) {
        self.batches += link.batches;
        self.tuples += link.tuples;
        self.bytes += link.bytes;
        self.copies_send += link.copies_send;
        self.copies_receive += link.copies_receive;
        self.serializations += link.serializations;
        self.credit_stalls += link.credit_stalls;
        self.stalled_ns += link.stalled_ns;
        self.wakeups_sent += link.wakeups_sent;
        self.batch_sizes.merge(&link.batch_sizes);
        self.ack_batches += link.ack_batches;
        self.acks += link.acks;
    }
}

/// The books of one reactor's links, written by its thread.
pub(crate) struct LinkBooks {
    /// By receiver; `None` where the plan has no link.
    sent: Vec<Option<Box<LinkTraffic>>>,
    /// By sender: tuples copied on the way in.
    copied_in: Vec<u64>,
}

impl LinkBooks {
    pub(crate) fn new(plan: &Plan, me: ReactorIx) -> Self {
        let mut sent: Vec<Option<Box<LinkTraffic>>> = plan.reactors.iter().map(|_| None).collect();
        for link in plan.links_from(me) {
            sent[plan.links[link as usize].to as usize] = Some(Box::default());
        }
        LinkBooks { sent, copied_in: vec![0; plan.reactors.len()] }
    }

    fn to(&mut self, to: ReactorIx) -> &mut LinkTraffic {
        self.sent[to as usize].as_mut().expect("the plan has a link for every subscription")
    }

    /// A batch left. `copied`: the link copied it and gave the buffer back.
    #[inline]
    pub(crate) fn left(&mut self, to: ReactorIx, tuples: u64, bytes: u64, copied: bool) {
        self.to(to).left(tuples, bytes, copied);
    }

    /// A batch of so many acks left.
    pub(crate) fn acks_left(&mut self, to: ReactorIx, acks: u64) {
        let link = self.to(to);
        link.ack_batches += 1;
        link.acks += acks;
    }

    /// Tuples that were archived for a link and dropped before it.
    pub(crate) fn dropped(&mut self, to: ReactorIx, tuples: u64) {
        self.to(to).serializations += tuples;
    }

    /// A cohort is paused because of this link.
    pub(crate) fn stalled(&mut self, to: ReactorIx) {
        self.to(to).credit_stalls += 1;
    }

    /// It goes on.
    pub(crate) fn resumed(&mut self, to: ReactorIx, after_ns: u64) {
        self.to(to).stalled_ns += after_ns;
    }

    /// Tuples that came from `from` were copied before they were executed.
    #[inline]
    pub(crate) fn copied_in(&mut self, from: ReactorIx, tuples: u64) {
        self.copied_in[from as usize] += tuples;
    }

    /// A row for each link out, and for each link in that has something to tell.
    pub(crate) fn rows(&self, plan: &Plan, me: ReactorIx) -> Vec<LinkStats> {
        let kind = |from: ReactorIx, to: ReactorIx| {
            let link = plan.link_between(from, to).map(|at| plan.links[at as usize].kind);
            link.map_or("", link_kind).to_owned()
        };
        let sent = (0..).zip(&self.sent).filter_map(|(to, traffic)| {
            let traffic = traffic.as_deref()?.clone();
            Some(LinkStats { from: me, to, kind: kind(me, to), traffic })
        });
        let copied = (0..).zip(&self.copied_in).filter(|(_, n)| **n > 0).map(|(from, n)| {
            let traffic = LinkTraffic { copies_receive: *n, ..LinkTraffic::default() };
            LinkStats { from, to: me, kind: kind(from, me), traffic }
        });
        sent.chain(copied).collect()
    }
}

/// Name of a kind of link, as reports and the benchmarks write it.
fn link_kind(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Local => "local",
        LinkKind::Ring => "ring",
        LinkKind::Shm => "shm",
        LinkKind::Socket => "socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_sender_and_receiver_join_to_one_link() {
        let row = |from, to, batches, copies_receive| {
            let mut traffic = LinkTraffic { copies_receive, ..LinkTraffic::default() };
            (0..batches).for_each(|_| traffic.left(10, 640, true));
            LinkStats { from, to, kind: "ring".into(), traffic }
        };
        let joined = LinkStats::join([row(1, 0, 2, 0), row(0, 1, 3, 0), row(0, 1, 0, 4)]);
        let seen: Vec<_> = joined.iter().map(|l| (l.from, l.to, l.traffic.batches, l.traffic.copies_receive)).collect();
        assert_eq!(seen, [(0, 1, 3, 4), (1, 0, 2, 0)]);
        let mut sum = LinkCounters { sleeps: 7, ..LinkCounters::default() };
        joined.iter().for_each(|l| sum.add_link(&l.traffic));
        assert_eq!((sum.tuples, sum.serializations, sum.copies_send, sum.bytes), (50, 50, 50, 5 * 640));
        assert_eq!((sum.copies_receive, sum.sleeps, sum.batch_sizes.count()), (4, 7, 5));
    }
}
