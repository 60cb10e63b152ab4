//! A real link as the measuring loop sees it.

use squall_load::record::{Return, parse_return};
use squall_load::{LinkError, Rx, Tag, Tx};

use crate::measure::drive::{Link, Polled};

/// Looks that find nothing between two questions whether the other process lives.
const LOOKS: u32 = 4096;
/// Returns looked at in one go: what is due does not wait longer.
const RETURNS_MAX: usize = 32;

/// Both ends.
pub struct Wire {
    tx: Tx,
    rx: Rx,
    looks: u32,
    /// Where the next return begins in the chunk at hand.
    at: usize,
    /// The end was announced: the other side may take nothing any more, and still give back.
    announced: bool,
}

impl Wire {
    /// Of these two ends.
    pub fn new(tx: Tx, rx: Rx) -> Wire {
        Wire { tx, rx, looks: 0, at: 0, announced: false }
    }
}

impl Link for Wire {
    #[inline]
    fn try_send(&mut self, chunk: &[u8]) -> Result<bool, LinkError> {
        self.tx.try_send(Tag::Data, chunk)
    }

    fn end(&mut self) -> Result<bool, LinkError> {
        self.announced = self.tx.try_send(Tag::End, &[])?;
        Ok(self.announced)
    }

    #[inline]
    fn poll(&mut self, each: &mut dyn FnMut(&Return<'_>)) -> Result<Polled, LinkError> {
        match self.tx.flush() {
            Err(e) if !self.announced => return Err(e),
            _ => {}
        }
        match self.rx.peek()? {
            Some((Tag::Data, chunk)) => {
                for _ in 0..RETURNS_MAX {
                    if self.at == chunk.len() {
                        self.at = 0;
                        self.rx.release();
                        break;
                    }
                    let (found, len) = parse_return(&chunk[self.at..])
                        .map_err(|_| LinkError::Malformed("bytes that are no return"))?;
                    each(&found);
                    self.at += len;
                }
                Ok(Polled::Some)
            }
            Some((Tag::End, _)) => Ok(Polled::Ended),
            None => {
                self.looks += 1;
                if self.looks == LOOKS {
                    self.looks = 0;
                    if self.rx.is_gone() || (!self.announced && self.tx.is_gone()) {
                        return Err(LinkError::Gone);
                    }
                }
                Ok(Polled::Nothing)
            }
        }
    }
}
