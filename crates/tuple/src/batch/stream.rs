//! Batches on a byte stream: each padded with zeros to a multiple of 64 bytes, so that a stream that begins at an aligned address has every batch at
//! one, and is read in place. The padding is no part of the batch: its length and its sum do not count it, and readers skip it unread.

use std::fmt;
use std::ops::Deref;

use super::BatchBuf;

/// Batches begin at multiples of this on a byte stream.
pub const STREAM_ALIGN: usize = 64;

/// Bytes that a batch of `byte_len` takes on a byte stream.
#[inline]
pub const fn stream_bytes(byte_len: usize) -> usize {
    byte_len.next_multiple_of(STREAM_ALIGN)
}

/// A batch on its way into a byte stream: dereferences to its bytes and the padding.
pub struct StreamBatch(BatchBuf);

impl StreamBatch {
    /// Pads a sealed batch, in the buffer it has.
    pub fn new(mut batch: BatchBuf) -> StreamBatch {
        let (len, end) = (batch.len(), stream_bytes(batch.len()));
        // The capacity is a multiple of 64. What an earlier batch left there must not leave the process.
        batch.memory_mut()[len..end].fill(0);
        StreamBatch(batch)
    }

    /// The batch, for the pool.
    pub fn into_inner(self) -> BatchBuf {
        self.0
    }
}

impl Deref for StreamBatch {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let batch = &self.0.state;
        // SAFETY: `from_raw_parts` demands initialised bytes in one allocation: the memory is initialised from its allocation on, and its size is a
        // multiple of 64 that is not below the length. The buffer owns it, and nobody writes to it while the slice borrows `self`.
        unsafe { std::slice::from_raw_parts(batch.memory.at.as_ptr(), stream_bytes(batch.len)) }
    }
}

// SAFETY: the bytes lie on the heap, so moving the value does not move them; there is no `&mut` method, so `deref` always gives the same ones.
unsafe impl stable_deref_trait::StableDeref for StreamBatch {}

impl fmt::Debug for StreamBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamBatch").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchHeader, BatchKind, CreditRecord, OpenBatch};

    const _: () = assert!(STREAM_ALIGN == 64, "part of the format");

    fn credits(buf: &mut BatchBuf, count: u32) {
        buf.open(&OpenBatch {
            kind: BatchKind::Control,
            stream: 0,
            schema_id: 0,
            dynamic: false,
            source_reactor: 0,
            epoch: 0,
        });
        (0..count).for_each(|inbox| {
            buf.push_credit(&CreditRecord { inbox, consumed: u64::MAX }).expect("there is room");
        });
        buf.seal(0, 0, true);
    }

    #[test]
    fn a_batch_on_a_stream_is_followed_by_zeros_up_to_a_multiple_of_64_whatever_the_buffer_held_before() {
        let mut buf = BatchBuf::with_capacity(4096);
        for count in (0..20).rev() {
            credits(&mut buf, 100);
            credits(&mut buf, count);
            let plain = buf.to_vec();
            let padded = StreamBatch::new(buf);
            assert!(padded.len().is_multiple_of(64) && padded.len() < plain.len() + 64);
            assert_eq!(padded[..plain.len()], plain, "the batch itself is as it was");
            assert!(padded[plain.len()..].iter().all(|byte| *byte == 0));
            let header = BatchHeader::parse(&padded).expect("a batch");
            assert_eq!((header.byte_len as usize, stream_bytes(plain.len())), (plain.len(), padded.len()));
            buf = padded.into_inner();
            assert_eq!(*buf, plain);
        }
    }

    #[test]
    fn a_batch_that_fills_its_buffer_has_room_for_its_padding() {
        let mut buf = BatchBuf::with_capacity(128);
        credits(&mut buf, 3);
        assert_eq!(StreamBatch::new(buf).len(), 128);
    }
}
