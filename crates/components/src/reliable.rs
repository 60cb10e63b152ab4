//! A source that emits with ids: what is pending, and how far everything is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use squall::{Clock, Context, Failure, Level, Logger, MessageId, Next, Replay, SpoutError, Time};

use crate::giving_up::GiveUp;
use crate::offsets::OffsetStore;

/// Places are written at most so often.
const COMMIT_EVERY: Duration = Duration::from_millis(20);

/// A place in a source: a key of the store, and what lies before it there.
pub(crate) type Place = (Arc<str>, u64);

/// The pending tuples of one task, made from `P`, and its places.
pub(crate) struct Reliable<P> {
    pub(crate) replay: Replay<P, Option<Place>>,
    store: OffsetStore,
    /// The last place up to which everything is acknowledged, if it is not noted.
    reached: Option<Place>,
    clock: Clock,
    committed: Time,
    logger: Logger,
}

impl<P> Reliable<P> {
    /// Of this task; `None` where acking is off.
    pub(crate) fn open(ctx: &Context, give_up: GiveUp) -> Result<Option<Reliable<P>>, SpoutError> {
        if !ctx.plan().spec.config.acking() {
            return Ok(None);
        }
        let clock = ctx.clock();
        Ok(Some(Reliable {
            replay: give_up.replay(ctx)?,
            store: OffsetStore::of_task(ctx)?,
            reached: None,
            committed: clock.now(),
            clock,
            logger: ctx.logger(),
        }))
    }

    /// Where this task went on to, before.
    pub(crate) fn store(&self) -> &OffsetStore {
        &self.store
    }

    pub(crate) fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        self.replay.ack(id);
        self.advance()
    }

    pub(crate) fn fail(&mut self, id: MessageId, why: &Failure<'_>) -> Result<(), SpoutError> {
        drop(self.replay.fail(id, why));
        self.advance()
    }

    fn advance(&mut self) -> Result<(), SpoutError> {
        while let Some(place) = self.replay.next_place() {
            let Some(place) = place else { continue };
            if self.reached.as_ref().is_some_and(|(key, _)| !Arc::ptr_eq(key, &place.0)) {
                self.note();
            }
            self.reached = Some(place);
        }
        let now = self.clock.now();
        if now.since(self.committed) >= COMMIT_EVERY {
            self.committed = now;
            self.note();
            self.store.commit()?;
        }
        Ok(())
    }

    fn note(&mut self) {
        if let Some((key, place)) = self.reached.take() {
            self.store.set(&key, place);
        }
    }

    /// What `next` returns when nothing is to be emitted; at the end of the source, when all of it is acknowledged, its place is
    /// on the disk.
    pub(crate) fn rest(&mut self, exhausted: bool) -> Result<Next, SpoutError> {
        let next = self.replay.rest(exhausted);
        if next == Next::End {
            self.close()?;
            return Ok(next);
        }
        self.idle()?;
        // What the last acks said is noted though no other comes.
        let unwritten = self.reached.is_some() || self.store.has_changed();
        let due = self.committed + COMMIT_EVERY;
        Ok(match next {
            Next::Parked if unwritten && exhausted => Next::WakeAt(due),
            Next::WakeAt(time) if unwritten => Next::WakeAt(time.min(due)),
            next => next,
        })
    }

    /// Writes what is to be written, if it is time: for sources that wait for something else.
    pub(crate) fn idle(&mut self) -> Result<(), SpoutError> {
        self.advance()
    }

    /// The same, where there is nobody to be told of an error.
    pub(crate) fn close_or_log(&mut self) {
        if let Err(cause) = self.close() {
            self.logger.log(Level::Error, format_args!("how far it has come is not noted: {}", cause.cause()));
        }
    }

    /// The last word: what is acknowledged until now.
    pub(crate) fn close(&mut self) -> Result<(), SpoutError> {
        self.note();
        Ok(self.store.sync()?)
    }
}
