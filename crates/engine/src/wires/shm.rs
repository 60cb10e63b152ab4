//! Links through memory shared with another worker: as a ring link, but what comes is validated, and large batches travel in parts.
//!
//! A batch is one record of the ring, executed in place. One that is longer than a record may be travels as parts, each a record, and is put
//! together in a buffer that grows with the bytes that have come, up to the largest batch. Where the peer is not trusted every record is copied
//! before it is looked at.

use squall_ring::{Consumer, Producer, PushError, RingCorrupt, SleepFlag};
use squall_tuple::ids::ReactorIx;
use squall_tuple::rkyv::util::AlignedVec;
use squall_tuple::{BatchBuf, BatchHeader};

use super::frames::Frame;
use super::tx::{TAG_BATCH, TAG_PART, Tx};
use super::{RECORDS_PER_POLL, deliver_frame};
use crate::fault::LinkError;
use crate::logic::{Core, ReceiveError};

/// An assembly buffer above this size is freed after use.
const KEPT_BYTES: usize = 256 * 1024;

/// Batches from a reactor of another worker, through shared memory.
pub(crate) struct ShmRx {
    pub(crate) from: ReactorIx,
    pub(crate) consumer: Consumer,
    /// Copy each record before looking at it.
    pub(crate) copy: bool,
    /// Raised while this reactor sleeps: the peer reads it.
    pub(crate) sleep: SleepFlag,
    /// A copied batch, or the parts of a large one that have come.
    frame: AlignedVec<64>,
    /// Length of the large batch that is coming; 0: none is.
    due: usize,
}

impl ShmRx {
    pub(crate) fn new(from: ReactorIx, consumer: Consumer, sleep: SleepFlag, copy: bool) -> ShmRx {
        ShmRx { from, consumer, copy, sleep, frame: AlignedVec::new(), due: 0 }
    }

    /// Executes what has arrived, a few records at most. Returns whether anything had.
    pub(super) fn poll(
        &mut self,
        core: &mut Core,
        tx: &mut Tx,
        largest: usize,
        now_ns: u64,
    ) -> Result<bool, ReceiveError> {
        let from = self.from;
        let malformed = |cause: String| LinkError::Malformed { from, cause };
        let mut progress = false;
        for _ in 0..RECORDS_PER_POLL {
            let Some((tag, len)) = self.consumer.header().map_err(|e| malformed(e.to_string()))? else { break };
            match tag {
                TAG_BATCH if self.copy => {
                    self.frame.clear();
                    self.append_copy(len);
                    deliver_frame(
                        core,
                        tx,
                        from,
                        Frame::parse(&self.frame, true).map_err(malformed)?,
                        largest,
                        now_ns,
                    )?;
                }
                TAG_BATCH => deliver_frame(
                    core,
                    tx,
                    from,
                    Frame::parse(self.consumer.record(), false).map_err(malformed)?,
                    largest,
                    now_ns,
                )?,
                TAG_PART => {
                    if self.take_part(len, largest).map_err(malformed)? {
                        deliver_frame(
                            core,
                            tx,
                            from,
                            Frame::parse(&self.frame, true).map_err(malformed)?,
                            largest,
                            now_ns,
                        )?;
                        self.end_assembly();
                    }
                }
                other => return Err(malformed(format!("a record with the unknown tag {other}")).into()),
            }
            self.consumer.release_later();
            progress = true;
            // Room in the ring may be what a sleeping sender waits for.
            tx.gave_room(from);
        }
        Ok(progress)
    }

    /// Adds a part to the batch that is coming; whether it is whole now.
    fn take_part(&mut self, len: usize, largest: usize) -> Result<bool, String> {
        if self.due == 0 {
            self.frame.clear();
        } else if len > self.due - self.frame.len() {
            return Err(format!("parts of more than the {} bytes of their batch", self.due));
        }
        if len == 0 {
            return Err("an empty part".to_owned());
        }
        if self.copy {
            self.append_copy(len);
        } else {
            self.frame.extend_from_slice(self.consumer.record());
        }
        if self.due == 0 {
            let length = BatchHeader::parse(&self.frame).map_err(|e| e.to_string())?.byte_len as usize;
            if length > largest || length < self.frame.len() {
                return Err(format!("a batch of {length} bytes in parts, the limit is {largest}"));
            }
            self.due = length;
        }
        Ok(self.frame.len() == self.due)
    }

    fn append_copy(&mut self, len: usize) {
        let at = self.frame.len();
        self.frame.resize(at + len, 0);
        self.consumer.copy_record(&mut self.frame[at..]);
    }

    fn end_assembly(&mut self) {
        self.due = 0;
        if self.frame.capacity() > KEPT_BYTES {
            self.frame = AlignedVec::new();
        }
    }
}

/// A large batch that leaves in parts.
pub(crate) struct Parts {
    batch: BatchBuf,
    sent: usize,
}

impl Parts {
    pub(super) fn new(batch: BatchBuf) -> Parts {
        Parts { batch, sent: 0 }
    }

    /// Pushes what the ring takes; returns the parts pushed.
    pub(super) fn push(&mut self, producer: &mut Producer) -> Result<usize, RingCorrupt> {
        // Two fit, so one is filled while the other is read.
        let part = producer.max_record() / 2;
        let mut pushed = 0;
        while !self.is_sent() {
            let end = (self.sent + part).min(self.batch.len());
            match producer.try_push(TAG_PART, &self.batch[self.sent..end]) {
                Ok(()) => (self.sent, pushed) = (end, pushed + 1),
                Err(PushError::Full) => break,
                Err(PushError::Corrupt(corrupt)) => return Err(corrupt),
            }
        }
        Ok(pushed)
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.batch.len()
    }

    pub(super) fn into_batch(self) -> BatchBuf {
        self.batch
    }
}
