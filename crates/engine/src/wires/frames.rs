//! Cuts a byte stream into batches: each lands at the start of an aligned buffer of its own, so that it can be read in
//! place. One copy per batch; the io_uring receive path of the dataplane issue will do without.
//!
//! Limits: a length from the wire is checked against the largest batch, and memory grows only with bytes that have
//! arrived, never with a length that was announced.

use std::collections::VecDeque;

use squall_tuple::BatchHeader;
use squall_tuple::rkyv::util::AlignedVec;

const HEADER_BYTES: usize = 64;
/// Empty buffers kept for the next batches: many small batches arrive at once.
const FREE_KEPT: usize = 128;
/// Bytes of them, but for the last one.
const FREE_KEPT_BYTES: usize = 1 << 20;

/// An aligned copy of one batch.
pub(crate) type Frame = AlignedVec<64>;

/// See the module.
pub(crate) struct FrameAssembler {
    current: Frame,
    /// Length of the current batch, once its header has arrived.
    length: Option<usize>,
    ready: VecDeque<Frame>,
    free: Vec<Frame>,
    free_bytes: usize,
    largest: usize,
}

impl FrameAssembler {
    /// Refuses batches of more than `largest` bytes.
    pub(crate) fn new(largest: usize) -> Self {
        FrameAssembler {
            current: Frame::new(),
            length: None,
            ready: VecDeque::new(),
            free: Vec::with_capacity(FREE_KEPT),
            free_bytes: 0,
            largest,
        }
    }

    /// Takes in the next bytes of the stream.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let goal = self.length.unwrap_or(HEADER_BYTES);
            let n = (goal - self.current.len()).min(bytes.len());
            self.current.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.current.len() < goal {
                return Ok(());
            }
            if self.length.is_none() {
                let length = BatchHeader::parse(&self.current).map_err(|e| e.to_string())?.byte_len as usize;
                if length > self.largest {
                    return Err(format!("a batch of {length} bytes, the limit is {}", self.largest));
                }
                self.length = Some(length);
                if length > HEADER_BYTES {
                    continue;
                }
            }
            let next = self.free.pop().unwrap_or_default();
            self.free_bytes -= next.capacity();
            self.ready.push_back(std::mem::replace(&mut self.current, next));
            self.length = None;
        }
        Ok(())
    }

    /// The next whole batch.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Gives a batch's buffer back.
    pub(crate) fn recycle(&mut self, mut frame: Frame) {
        let fits = self.free.len() < FREE_KEPT && self.free_bytes < FREE_KEPT_BYTES;
        if fits && frame.capacity() <= self.largest.min(256 * 1024) {
            frame.clear();
            self.free_bytes += frame.capacity();
            self.free.push(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use squall_tuple::{BatchBuf, BatchKind, CreditRecord, MarkKind, MarkRecord, OpenBatch};

    use super::*;

    fn batch(kind: BatchKind, records: u32) -> Vec<u8> {
        let mut buf = BatchBuf::with_capacity(4096);
        buf.open(&OpenBatch { kind, stream: 3, schema_id: 0, dynamic: false, source_reactor: 1, epoch: 0 });
        for i in 0..records {
            let pushed = match kind {
                BatchKind::Mark => {
                    buf.push_mark(&MarkRecord { kind: MarkKind::EndOfStream, stream: 3, source: i, value: 0 })
                }
                _ => buf.push_credit(&CreditRecord { inbox: i, consumed: 7 }),
            };
            pushed.unwrap();
        }
        buf.seal(0, 0, false);
        buf.to_vec()
    }

    fn assemble(stream: &[u8], cut: usize) -> Vec<Vec<u8>> {
        let mut frames = FrameAssembler::new(4096);
        let mut whole = Vec::new();
        for piece in stream.chunks(cut) {
            frames.push(piece).unwrap();
            while let Some(f) = frames.pop() {
                assert_eq!(f.as_ptr() as usize % 64, 0, "a batch is read in place");
                whole.push(f.to_vec());
                frames.recycle(f);
            }
        }
        whole
    }

    #[test]
    fn batches_come_out_whole_however_the_stream_is_cut() {
        let all = [
            batch(BatchKind::Mark, 2),
            batch(BatchKind::Control, 0),
            batch(BatchKind::Control, 9),
            batch(BatchKind::Mark, 1),
        ];
        let stream = all.concat();
        for cut in 1..=stream.len() {
            assert_eq!(assemble(&stream, cut), all, "cut at {cut}");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_memory_is_taken() {
        // One tuple of a gigabyte, says the header.
        let mut bytes = batch(BatchKind::Data, 0);
        bytes[36..40].copy_from_slice(&1_u32.to_le_bytes());
        bytes[40..44].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        let header = BatchHeader::parse(&bytes);
        assert!(header.is_ok_and(|h| h.byte_len == 1 << 30), "the test changes the right bytes");
        let mut frames = FrameAssembler::new(4096);
        let error = frames.push(&bytes).unwrap_err();
        assert!(error.contains("1073741824 bytes, the limit is 4096"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        let mut frames = FrameAssembler::new(4096);
        assert!(frames.push(&[0xAB; 64]).is_err());
    }
}
