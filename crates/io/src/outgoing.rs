//! The send queue of one stream: buffers in order, the first of them perhaps partly taken.

use crate::StreamId;
use crate::reports::Reports;
use stable_deref_trait::StableDeref;
use std::collections::VecDeque;

/// Pieces per operation. Beyond some tens the cost of a piece does not shrink any more.
pub(crate) const GATHER_PIECES: usize = 64;
/// Bytes per operation: at 0.2 ns per byte a larger one would hold the reactor for long, and a send of 256 KiB has the best throughput already.
pub(crate) const GATHER_BYTES: usize = 256 << 10;

pub(crate) struct Outgoing<B> {
    queue: VecDeque<B>,
    /// Bytes of the front buffer that the kernel has. Invariant: less than its length, unless it is empty.
    taken: usize,
}

impl<B: StableDeref<Target = [u8]>> Outgoing<B> {
    pub(crate) fn new() -> Self {
        Outgoing { queue: VecDeque::new(), taken: 0 }
    }

    pub(crate) fn push(&mut self, buf: B) {
        self.queue.push_back(buf);
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Shows the pieces of the next operation in order, none of them empty, and returns their bytes. The last may be cut short. The bytes stay
    /// where they are until their buffer is given out, however this queue moves and grows.
    pub(crate) fn gather<'a>(&'a self, mut piece: impl FnMut(&'a [u8])) -> usize {
        let (mut pieces, mut bytes, mut skip) = (0, 0, self.taken);
        for buf in &self.queue {
            let rest = &buf[skip..];
            skip = 0;
            if rest.is_empty() {
                continue;
            }
            let rest = &rest[..rest.len().min(GATHER_BYTES - bytes)];
            piece(rest);
            pieces += 1;
            bytes += rest.len();
            if pieces == GATHER_PIECES || bytes == GATHER_BYTES {
                break;
            }
        }
        bytes
    }

    /// The kernel took `bytes` more. Gives out each buffer that is complete now; empty ones too, as soon as they are in front.
    pub(crate) fn advance(&mut self, mut bytes: usize, mut complete: impl FnMut(B)) {
        while let Some(front) = self.queue.front() {
            let rest = front.len() - self.taken;
            if rest > bytes {
                self.taken += bytes;
                return;
            }
            bytes -= rest;
            self.taken = 0;
            complete(self.queue.pop_front().expect("there is a front"));
        }
        assert_eq!(bytes, 0, "the kernel took more bytes than were queued");
    }

    /// As `advance`: the buffers that are complete go back to their sender. How many.
    pub(crate) fn report_taken(&mut self, bytes: usize, id: StreamId, reports: &mut Reports<B>) -> u64 {
        let mut count = 0;
        self.advance(bytes, |buf| {
            count += 1;
            reports.sent(id, buf);
        });
        count
    }

    /// The stream is over: all buffers go back to their sender.
    pub(crate) fn report_unsent(&mut self, id: StreamId, reports: &mut Reports<B>) {
        self.taken = 0;
        self.queue.drain(..).for_each(|buf| reports.unsent(id, buf));
    }

    /// Whether `advance(0)` would give out a buffer.
    pub(crate) fn is_front_empty(&self) -> bool {
        self.queue.front().is_some_and(|front| front.is_empty())
    }

    /// Whether a part of the front buffer was taken.
    pub(crate) fn is_front_cut(&self) -> bool {
        self.taken > 0
    }
}

impl<B> Outgoing<B> {
    /// Takes out the front buffer if a part of it was taken.
    pub(crate) fn take_cut_front(&mut self) -> Option<B> {
        if self.taken == 0 {
            return None;
        }
        self.taken = 0;
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(out: &Outgoing<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let bytes = out.gather(|piece| all.push(piece.to_vec()));
        assert_eq!(bytes, all.iter().map(Vec::len).sum::<usize>());
        all
    }

    #[test]
    fn every_split_of_a_send_gives_the_buffers_back_in_order_and_continues_at_the_right_byte() {
        let bufs: [&[u8]; 6] = [b"", b"abc", b"", b"d", b"efgh", b""];
        let all = bufs.concat();
        for first in 0..=all.len() {
            for second in 0..=all.len() - first {
                let mut out = Outgoing::new();
                bufs.iter().for_each(|b| out.push(b.to_vec()));
                let mut back = Vec::new();
                let mut at = 0;
                for step in [0, first, second, all.len() - first - second] {
                    out.advance(step, |b| back.push(b));
                    at += step;
                    assert_eq!(pieces(&out).concat(), all[at..], "after {first}, {second}");
                    assert!(pieces(&out).iter().all(|p| !p.is_empty()));
                }
                assert_eq!(back, bufs);
                assert!(out.is_empty());
            }
        }
    }

    #[test]
    fn an_operation_is_bounded_in_pieces_and_in_bytes() {
        let mut out = Outgoing::new();
        (0..2 * GATHER_PIECES).for_each(|_| out.push(vec![1]));
        assert_eq!(pieces(&out).len(), GATHER_PIECES);
        let mut out = Outgoing::new();
        out.push(vec![1; 10]);
        out.push(vec![2; 2 * GATHER_BYTES]);
        assert_eq!(out.gather(|_| ()), GATHER_BYTES);
    }

    #[test]
    #[should_panic(expected = "more bytes than were queued")]
    fn taking_more_than_is_queued_is_a_bug() {
        let mut out = Outgoing::new();
        out.push(vec![1]);
        out.advance(2, drop);
    }
}
