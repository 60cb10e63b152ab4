//! Sender's side of credit: how many bytes are under way to each inbox of a link (D2).
//!
//! A batch is charged whole to every inbox of the destination that subscribes to its stream by the same kind of edge
//! (ordinary or feedback), whether or not one of its tuples is for that inbox: the sender cannot know before it routes, and a charge per batch costs nothing per
//! tuple. The receiver gives back the same bytes when that inbox is done with the batch, so both sides agree.
//!
//! A batch may go when it fits the window, or when at most a quarter of the window is out: so a batch larger than the
//! window (one large tuple) passes too, and a receiver that returns credit in quarters never leaves a sender waiting.

use squall_tuple::ids::StreamIx;

/// A stream over its ordinary or its feedback edges: two sets of subscribers that must not wait for each other's credit,
/// or the cycle that a feedback edge closes would be one of waiting, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) stream: StreamIx,
    pub(crate) feedback: bool,
}

impl Way {
    /// Place in a table by way.
    pub(crate) fn index(self) -> usize {
        self.stream as usize * 2 + usize::from(self.feedback)
    }
}

/// Bytes that `sent` and `consumed` leave under way, and whether `bytes` more may go.
pub(crate) fn admits(sent: u64, consumed: u64, bytes: u64, window: u64) -> bool {
    // A peer in another process may claim to have consumed what was never sent; that gains it nothing.
    let out = sent.saturating_sub(consumed);
    out + bytes <= window || out <= window / 4
}

/// What one reactor has sent to the inboxes of another.
pub(crate) struct LinkCredit {
    /// Inboxes of the destination (plan index) and bytes sent to each.
    pub(crate) inboxes: Vec<(u32, u64)>,
    /// What each had consumed at the last look: the true number is this or higher.
    consumed_seen: Vec<u64>,
    /// For each way that leads there: indices into `inboxes` of its subscribers.
    by_way: Vec<(Way, Vec<usize>)>,
}

impl LinkCredit {
    /// `subscribers`: for each way to subscribers at the destination, their inboxes.
    pub(crate) fn new(subscribers: Vec<(Way, Vec<u32>)>) -> Self {
        let mut inboxes: Vec<(u32, u64)> = Vec::new();
        let mut by_way = Vec::new();
        for (way, subs) in subscribers {
            let at = subs
                .into_iter()
                .map(|inbox| {
                    inboxes.iter().position(|(i, _)| *i == inbox).unwrap_or_else(|| {
                        inboxes.push((inbox, 0));
                        inboxes.len() - 1
                    })
                })
                .collect();
            by_way.push((way, at));
        }
        LinkCredit { consumed_seen: vec![0; inboxes.len()], inboxes, by_way }
    }

    /// Whether a batch has to wait. Asks what an inbox has consumed only where the last answer does not suffice:
    /// the count lies in a cache line that the peer keeps writing.
    pub(crate) fn refuses(&mut self, way: Way, bytes: u64, window: u64, consumed: impl Fn(u32) -> u64) -> bool {
        let LinkCredit { inboxes, consumed_seen, by_way } = self;
        let Some((_, at)) = by_way.iter().find(|(w, _)| *w == way) else { return false };
        at.iter().any(|at| {
            let ((inbox, sent), seen) = (inboxes[*at], &mut consumed_seen[*at]);
            if admits(sent, *seen, bytes, window) {
                return false;
            }
            *seen = consumed(inbox);
            !admits(sent, *seen, bytes, window)
        })
    }

    /// The link begins anew: nothing is under way.
    pub(crate) fn forget(&mut self) {
        self.inboxes.iter_mut().for_each(|(_, sent)| *sent = 0);
        self.consumed_seen.fill(0);
    }

    fn of(&self, way: Way) -> &[usize] {
        self.by_way.iter().find(|(w, _)| *w == way).map_or(&[], |(_, at)| at)
    }

    /// The inbox (plan index) that keeps a batch from going, if one does.
    pub(crate) fn short_of(&self, way: Way, bytes: u64, window: u64, consumed: impl Fn(u32) -> u64) -> Option<u32> {
        let short = |at: &&usize| {
            let (inbox, sent) = self.inboxes[**at];
            !admits(sent, consumed(inbox), bytes, window)
        };
        self.of(way).iter().find(short).map(|at| self.inboxes[*at].0)
    }

    /// Charges a batch that went.
    pub(crate) fn charge(&mut self, way: Way, bytes: u64) {
        let LinkCredit { inboxes, by_way, .. } = self;
        if let Some((_, at)) = by_way.iter().find(|(w, _)| *w == way) {
            for i in at {
                inboxes[*i].1 += bytes;
            }
        }
    }

    /// Share of the window that is under way to `inbox`, 0..=100.
    pub(crate) fn load(&self, inbox: u32, window: u64, consumed: u64) -> u8 {
        let sent = self.inboxes.iter().find(|(i, _)| *i == inbox).map_or(0, |(_, s)| *s);
        (sent.saturating_sub(consumed).min(window) * 100 / window) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(stream: StreamIx) -> Way {
        Way { stream, feedback: false }
    }

    #[test]
    fn a_batch_waits_when_the_window_is_full_and_goes_when_a_quarter_is_left() {
        let mut c = LinkCredit::new(vec![(way(7), vec![3])]);
        c.charge(way(7), 900);
        assert_eq!(c.short_of(way(7), 100, 1000, |_| 0), None, "fits exactly");
        assert_eq!(c.short_of(way(7), 101, 1000, |_| 0), Some(3));
        assert_eq!(c.short_of(way(7), 5000, 1000, |_| 649), Some(3));
        assert_eq!(c.short_of(way(7), 5000, 1000, |_| 650), None, "larger than the window, a quarter out");
    }

    #[test]
    fn every_subscriber_of_the_stream_is_charged() {
        let mut c = LinkCredit::new(vec![(way(1), vec![10, 11]), (way(2), vec![11])]);
        c.charge(way(1), 600);
        c.charge(way(2), 300);
        assert_eq!(c.inboxes, vec![(10, 600), (11, 900)]);
        assert_eq!(c.short_of(way(1), 200, 1000, |i| if i == 10 { 600 } else { 0 }), Some(11));
        assert_eq!(c.load(11, 1000, 0), 90);
    }

    #[test]
    fn an_ordinary_batch_neither_waits_for_a_feedback_subscriber_nor_is_charged_to_it() {
        let back = Way { stream: 1, feedback: true };
        let mut c = LinkCredit::new(vec![(way(1), vec![10]), (back, vec![11])]);
        c.charge(back, 1000);
        assert_eq!(c.short_of(back, 100, 1000, |_| 0), Some(11));
        assert_eq!(c.short_of(way(1), 100, 1000, |_| 0), None);
        c.charge(way(1), 100);
        assert_eq!(c.inboxes, vec![(10, 100), (11, 1000)]);
    }
}
