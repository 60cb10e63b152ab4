//! What a cohort still has to do, in order: batches it could not execute in place, and the marks behind them.
//!
//! Invariant: while the queue is not empty, everything that arrives joins its end (D1). Its bytes are bounded by the
//! credit of the links that lead here: a batch stays charged to its link until the cohort is done with it (D2).

use std::collections::{HashSet, VecDeque};

use squall_tuple::ids::{ReactorIx, StreamIx, TaskId};
use squall_tuple::{Batch, BatchBuf, Cursor, MarkRecord};

use crate::pool::{BatchPool, SharedBatch};

/// A batch kept in memory: alone, or shared with other cohorts of the reactor that subscribe to its stream.
pub(crate) enum Held {
    Own(BatchBuf),
    Shared(SharedBatch),
}

impl Held {
    pub(crate) fn view(&self) -> Batch<'_> {
        match self {
            Held::Own(b) => b.view(),
            Held::Shared(b) => b.view(),
        }
    }

    /// Gives the buffer back, once nobody else needs it.
    pub(crate) fn release(self, pool: &BatchPool) {
        match self {
            Held::Own(b) => pool.give(b),
            Held::Shared(b) => pool.give_shared(b),
        }
    }
}

pub(crate) enum Item {
    Batch {
        held: Held,
        cursor: Cursor,
        port: u16,
        from: ReactorIx,
        /// Bytes to give back to the link when done: those of the batch as it was sent.
        charge: u64,
    },
    Mark(MarkRecord),
}

/// Which ends of streams a cohort has seen, of those it waits for.
pub(crate) struct EndTracker {
    streams: Vec<StreamIx>,
    expected: usize,
    seen: HashSet<(StreamIx, TaskId)>,
}

impl EndTracker {
    /// `inputs`: the streams that are not feedback edges, with the number of their source tasks.
    pub(crate) fn new(inputs: &[(StreamIx, usize)]) -> Self {
        let expected = inputs.iter().map(|(_, tasks)| tasks).sum();
        let streams = inputs.iter().map(|(s, _)| *s).collect();
        EndTracker { streams, expected, seen: HashSet::with_capacity(expected) }
    }

    /// Notes an end. A repeated one changes nothing, nor does that of a stream nobody waits for (a feedback edge).
    pub(crate) fn note(&mut self, stream: StreamIx, source: TaskId) {
        if self.streams.contains(&stream) {
            self.seen.insert((stream, source));
        }
    }

    /// The ends that these tasks have told count no more: they begin again.
    pub(crate) fn forget(&mut self, of: impl Fn(TaskId) -> bool) {
        self.seen.retain(|(_, source)| !of(*source));
    }

    /// Every input has ended.
    pub(crate) fn complete(&self) -> bool {
        self.seen.len() == self.expected
    }
}

#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) queue: VecDeque<Item>,
    /// Bytes of batches of this reactor's own cohorts that wait here.
    pub(crate) local_bytes: u64,
}

impl Inbox {
    /// Behind what waits; the rest of a batch that was `begun` is next, whatever came meanwhile: order is kept, and of a tuple
    /// for several tasks the next ones have it before anything else.
    pub(crate) fn wait(&mut self, item: Item, begun: bool) {
        if begun { self.queue.push_front(item) } else { self.queue.push_back(item) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_ends_once_per_source_task_however_often_the_mark_comes() {
        let mut ends = EndTracker::new(&[(0, 2), (1, 1)]);
        ends.note(0, 1);
        ends.note(0, 1);
        ends.note(0, 2);
        ends.note(9, 1);
        assert!(!ends.complete());
        ends.note(1, 1);
        assert!(ends.complete());
    }
}
