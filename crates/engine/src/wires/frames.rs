//! Cuts a byte stream into batches, in place: what the driver has received lies in the stream's window as one slice, and a
//! batch there begins at a multiple of 64 (batches are padded on streams), so it is validated and read where it is.
//!
//! A batch that does not fit the window (a tuple larger than a batch travels alone) is assembled in a buffer of its own: a copy, and
//! counted.
//!
//! Limits: a length from the wire is checked against the largest batch, and memory grows only with bytes that have
//! arrived, never with a length that was announced. One batch at a time is assembled.

use squall_io::RecvWindow;
use squall_tuple::batch::stream_bytes;
use squall_tuple::rkyv::util::AlignedVec;
use squall_tuple::{BatchBuf, BatchHeader};

/// A whole batch that has come from another process, not validated yet.
pub(crate) struct Frame<'a> {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: &'a [u8],
    /// The bytes lie elsewhere than where they arrived.
    pub(crate) copied: bool,
}

impl<'a> Frame<'a> {
    /// The batch that begins with these bytes; the error says what is wrong with its header.
    pub(crate) fn parse(bytes: &'a [u8], copied: bool) -> Result<Frame<'a>, String> {
        let header = BatchHeader::parse(bytes).map_err(|e| e.to_string())?;
        Ok(Frame { header, bytes, copied })
    }
}

/// See the module.
pub(crate) struct Frames {
    window: RecvWindow,
    /// Bytes at the front of the window that belong to the batch given out last.
    given: usize,
    assembly: Option<Assembly>,
    largest: usize,
}

/// A batch that is longer than the window reaches.
struct Assembly {
    header: BatchHeader,
    /// What has arrived of it, padding included.
    bytes: AlignedVec<64>,
}

impl Frames {
    /// Refuses batches of more than `largest` bytes.
    pub(crate) fn new(window: RecvWindow, largest: usize) -> Self {
        Frames { window, given: 0, assembly: None, largest }
    }

    /// The next whole batch; it is consumed by the next call. The error names what is wrong with the stream, which is
    /// of no use from then on.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, String> {
        self.window.consume(std::mem::take(&mut self.given));
        if self.assembly.as_ref().is_some_and(Assembly::is_whole) {
            self.assembly = None;
        }
        if self.assembly.is_none() {
            let unread = self.window.unread();
            if unread.len() < BatchBuf::EMPTY_BYTES {
                return Ok(None);
            }
            let header = BatchHeader::parse(unread).map_err(|e| e.to_string())?;
            let length = header.byte_len as usize;
            if length > self.largest {
                return Err(format!("a batch of {length} bytes, the limit is {}", self.largest));
            }
            let needed = stream_bytes(length);
            if needed <= self.window.reach() {
                if unread.len() < needed {
                    return Ok(None);
                }
                self.given = needed;
                return Ok(Some(Frame { header, bytes: &self.window.unread()[..length], copied: false }));
            }
            self.assembly = Some(Assembly { header, bytes: AlignedVec::new() });
        }
        self.assemble();
        let whole = self.assembly.as_ref().filter(|assembly| assembly.is_whole());
        Ok(whole.map(|Assembly { header, bytes }| {
            let bytes = &bytes[..header.byte_len as usize];
            Frame { header: *header, bytes, copied: true }
        }))
    }

    /// Moves what has arrived of a long batch out of the window.
    fn assemble(&mut self) {
        let Some(assembly) = &mut self.assembly else { return };
        let unread = self.window.unread();
        let take = unread.len().min(assembly.needed() - assembly.bytes.len());
        assembly.bytes.extend_from_slice(&unread[..take]);
        self.window.consume(take);
    }
}

impl Assembly {
    fn needed(&self) -> usize {
        stream_bytes(self.header.byte_len as usize)
    }

    fn is_whole(&self) -> bool {
        self.bytes.len() == self.needed()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use squall_io::{Closed, Driver, EventSink, IoChoice, IoOptions, StreamId};
    use squall_tuple::{BatchKind, CreditRecord, MarkKind, MarkRecord, OpenBatch, StreamBatch};

    use super::*;

    struct Nothing;

    impl EventSink<Vec<u8>> for Nothing {
        fn on_readable(&mut self, _: StreamId) {}
        fn on_sent(&mut self, _: StreamId, _: Vec<u8>) {}
        fn on_closed(&mut self, _: StreamId, _: Closed) {}
    }

    /// Frames over a real window, and who writes to it.
    struct Link {
        driver: Box<dyn Driver<Vec<u8>>>,
        peer: UnixStream,
        frames: Frames,
        arrived: u64,
        /// Batches that were not read where they arrived.
        copied: usize,
    }

    impl Link {
        fn new(window: usize, largest: usize) -> Link {
            let (ours, peer) = UnixStream::pair().unwrap();
            let (mut driver, _) = squall_io::open(IoChoice::Auto, &IoOptions::default()).unwrap();
            let (_, window) = driver.add_stream(ours.into(), window).unwrap();
            Link { driver, peer, frames: Frames::new(window, largest), arrived: 0, copied: 0 }
        }

        /// Lets bytes arrive; the batches that they complete.
        fn write(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
            self.peer.write_all(bytes).unwrap();
            self.arrived += bytes.len() as u64;
            let mut whole = Vec::new();
            for _ in 0..1000 {
                while let Some(Frame { header, bytes, copied }) = self.frames.next()? {
                    assert_eq!(bytes.as_ptr() as usize % 64, 0, "a batch is read in place");
                    assert_eq!(header.byte_len as usize, bytes.len());
                    whole.push(bytes.to_vec());
                    self.copied += usize::from(copied);
                }
                if self.driver.counters().bytes_in == self.arrived {
                    return Ok(whole);
                }
                self.driver.wait(Some(Duration::from_millis(100)), &mut Nothing).unwrap();
            }
            panic!("the bytes do not arrive");
        }
    }

    fn batch(kind: BatchKind, records: u32) -> BatchBuf {
        let mut buf = BatchBuf::with_capacity(64 + 24 * records as usize);
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
        buf
    }

    /// The batches, and the stream that carries them.
    fn stream(batches: Vec<BatchBuf>) -> (Vec<Vec<u8>>, Vec<u8>) {
        let plain = batches.iter().map(|b| b.to_vec()).collect();
        (plain, batches.into_iter().flat_map(|b| StreamBatch::new(b).to_vec()).collect())
    }

    #[test]
    fn batches_come_out_whole_and_in_place_however_the_stream_is_cut() {
        let batches = [
            batch(BatchKind::Mark, 2),
            batch(BatchKind::Control, 0),
            batch(BatchKind::Control, 9),
            batch(BatchKind::Mark, 1),
        ];
        let (all, bytes) = stream(batches.into());
        let mut link = Link::new(4096, 4096);
        for cut in 1..=bytes.len() {
            let mut whole = Vec::new();
            bytes.chunks(cut).for_each(|piece| whole.extend(link.write(piece).unwrap()));
            assert_eq!(whole, all, "cut at {cut}");
        }
        assert_eq!(link.copied, 0);
    }

    #[test]
    fn a_batch_that_is_longer_than_the_window_reaches_is_copied_and_counted_and_the_next_is_not() {
        let mut link = Link::new(4096, 1 << 20);
        // 3584 bytes fit, with 64 more they do not.
        let fits = batch(BatchKind::Control, 220);
        assert_eq!(fits.len(), link.frames.window.reach());
        let long = [batch(BatchKind::Control, 221), batch(BatchKind::Control, 5000)];
        let [long, longer] = long;
        let (all, bytes) = stream(vec![fits, long, batch(BatchKind::Mark, 1), longer, batch(BatchKind::Mark, 2)]);
        for cut in [1 << 20, 4096, 1000, 61] {
            let before = link.copied;
            let mut whole = Vec::new();
            bytes.chunks(cut).for_each(|piece| whole.extend(link.write(piece).unwrap()));
            assert_eq!(whole, all, "cut at {cut}");
            assert_eq!(link.copied - before, 2);
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_memory_is_taken() {
        // One tuple of a gigabyte, says the header.
        let mut bytes = batch(BatchKind::Data, 0).to_vec();
        bytes[36..40].copy_from_slice(&1_u32.to_le_bytes());
        bytes[40..44].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        let header = BatchHeader::parse(&bytes);
        assert!(header.is_ok_and(|h| h.byte_len == 1 << 30), "the test changes the right bytes");
        let mut link = Link::new(4096, 4096);
        let error = link.write(&bytes).unwrap_err();
        assert!(error.contains("1073741824 bytes, the limit is 4096"), "{error}");
        assert!(link.frames.assembly.is_none());
    }

    #[test]
    fn a_long_batch_takes_memory_as_it_arrives() {
        let mut link = Link::new(4096, 1 << 30);
        let mut bytes = batch(BatchKind::Data, 0).to_vec();
        bytes[36..40].copy_from_slice(&1_u32.to_le_bytes());
        bytes[40..44].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        link.write(&bytes).unwrap();
        link.write(&[0; 20_000]).unwrap();
        let assembly = link.frames.assembly.as_ref().unwrap();
        assert_eq!(assembly.bytes.len(), 20_064);
        assert!(assembly.bytes.capacity() <= 1 << 16, "{}", assembly.bytes.capacity());
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        let error = Link::new(4096, 4096).write(&[0xAB; 64]).unwrap_err();
        assert!(error.contains("not a batch"), "{error}");
    }
}
