//! A spout whose loads come back when their trees are complete: the way back is the ack, not a sink.

use std::collections::HashMap;

use squall::{Context, Failure, MessageId, Next, RowStreams, Spout, SpoutError};
use squall_machine::now_ns;

use crate::egress::{Outflow, To};
use crate::ingest::{Intake, Source, Taken};
use crate::link::Target;
use crate::record::{Stamps, Way};

/// A spout that emits each load, under its number as id, as a rule of the topology's own says, and hands it back once its tree is complete. So the
/// latency that the generator sees is Storm's complete latency. For topologies of which nobody knows how many tuples become of one;
/// acking must be on. A load whose tree fails does not come back: it is lost, and the generator counts it. One task.
///
/// The bodies stay behind, as with [`EgressParts`](crate::EgressParts). It remembers the stamps of what is pending, at most as many as the
/// topology's `max_spout_pending`.
pub struct IngestRooted<E> {
    intake: Intake,
    outflow: Outflow,
    emit: E,
    pending: HashMap<u64, (Stamps, u64)>,
    ended: bool,
}

impl<E> IngestRooted<E> {
    /// From this source, back to this target. `emit` is given a load's body and id, and emits it: on one of the streams, or on several.
    pub fn new(source: &Source, target: &Target, emit: E) -> IngestRooted<E> {
        IngestRooted {
            intake: Intake::new(source.clone()),
            outflow: Outflow::new(To::Local(target.clone())),
            emit,
            pending: HashMap::new(),
            ended: false,
        }
    }

    /// Nothing comes any more and nothing is under way: the generator may end.
    fn end_when_done(&mut self) {
        if self.ended && self.pending.is_empty() {
            self.outflow.end();
        }
    }
}

impl<E> Spout for IngestRooted<E>
where
    E: FnMut(&[u8], MessageId, &mut RowStreams) -> Result<(), SpoutError> + 'static,
{
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.outflow.prepare(ctx).map_err(|e| SpoutError::new(e.cause().to_string()))?;
        self.intake.prepare(ctx)
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let (emit, pending) = (&mut self.emit, &mut self.pending);
        let taken = self.intake.poll(|r, ingest_ns| {
            // Before the emit: where nobody subscribes the ack comes at once.
            pending.insert(r.seq, (Stamps { seq: r.seq, due_ns: r.due_ns, sent_ns: r.sent_ns }, ingest_ns));
            emit(r.body, r.seq.into(), out)
        })?;
        Ok(match taken {
            Taken::One => Next::Emitted,
            Taken::Nothing(next) => {
                if next == Next::End {
                    self.ended = true;
                    self.end_when_done();
                }
                next
            }
        })
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        if let Some((stamps, ingest_ns)) = self.pending.remove(&id.as_u64()) {
            let way = Way { part: 0, parts: 1, flags: 0, ingest_ns, egress_ns: now_ns() };
            self.outflow.give(way, stamps, None);
            // At once: nothing says whether another ack, or another call of `next`, follows soon.
            self.outflow.flush();
        }
        self.end_when_done();
        Ok(())
    }

    fn fail(&mut self, id: MessageId, _: Failure<'_>) -> Result<(), SpoutError> {
        self.pending.remove(&id.as_u64());
        self.end_when_done();
        Ok(())
    }
}
