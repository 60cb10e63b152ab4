//! What is to be reported to the sink and is no longer in any other place: buffers on their way back, and ends of streams.
//!
//! A driver changes its own state first, queues the reports here and then makes them. So a sink that panics loses the one report it was given
//! and nothing else: what follows comes in the next turn.

use crate::{Closed, EventSink, StreamId};
use std::collections::VecDeque;

enum Report<B> {
    Sent(StreamId, B),
    Unsent(StreamId, B),
    Closed(StreamId, Closed),
}

/// In the order in which they are made; empty between turns, but for buffers sent to closed streams.
pub(crate) struct Reports<B> {
    queue: VecDeque<Report<B>>,
}

impl<B> Reports<B> {
    pub(crate) fn new() -> Self {
        Reports { queue: VecDeque::new() }
    }

    pub(crate) fn sent(&mut self, id: StreamId, buf: B) {
        self.queue.push_back(Report::Sent(id, buf));
    }

    pub(crate) fn unsent(&mut self, id: StreamId, buf: B) {
        self.queue.push_back(Report::Unsent(id, buf));
    }

    pub(crate) fn closed(&mut self, id: StreamId, cause: Closed) {
        self.queue.push_back(Report::Closed(id, cause));
    }

    /// Makes all reports; how many.
    pub(crate) fn make(&mut self, sink: &mut dyn EventSink<B>) -> usize {
        let mut events = 0;
        while let Some(report) = self.queue.pop_front() {
            events += 1;
            match report {
                Report::Sent(id, buf) => sink.on_sent(id, buf),
                Report::Unsent(id, buf) => sink.on_unsent(id, buf),
                Report::Closed(id, cause) => sink.on_closed(id, cause),
            }
        }
        events
    }
}
