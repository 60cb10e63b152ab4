//! Free lists of batch buffers, one per reactor: a buffer is taken, filled, moved on and given back, so a warm
//! reactor allocates nothing.
//!
//! Limits: at most [`KEPT_PER_SIZE`] buffers of a size are kept; large ones (a tuple that fills a batch alone) are
//! freed at once, so that one burst of large tuples does not hold memory for ever.

use std::cell::RefCell;

use squall_tuple::BatchBuf;

/// Buffers kept per capacity class.
const KEPT_PER_SIZE: usize = 64;
/// No buffer is smaller.
const SMALLEST: usize = 4096;
/// Buffers above this capacity are not kept.
const LARGEST_KEPT: usize = 256 * 1024;

/// The free lists. Single-threaded: each reactor has its own.
#[derive(Default)]
pub struct BatchPool {
    free: RefCell<Vec<(usize, Vec<BatchBuf>)>>,
}

impl BatchPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer of at least `bytes` capacity; its content is whatever it was, `open` it first.
    pub fn take(&self, bytes: usize) -> BatchBuf {
        // Few classes, so that a buffer for an odd size finds its like again.
        let class = if bytes <= LARGEST_KEPT { bytes.next_power_of_two().max(SMALLEST) } else { bytes };
        self.take_exactly(class.next_multiple_of(64))
    }

    /// A buffer of `bytes` capacity and no more (but for rounding down to 64, at least 128): where the capacity is a
    /// limit, as for the batches of a link, whose size credit, rings and receivers count on (D2).
    pub fn take_exactly(&self, bytes: usize) -> BatchBuf {
        let bytes = (bytes & !63).max(128);
        let mut free = self.free.borrow_mut();
        if let Some((_, list)) = free.iter_mut().find(|(size, _)| *size == bytes)
            && let Some(buf) = list.pop()
        {
            return buf;
        }
        BatchBuf::with_capacity(bytes)
    }

    /// Gives a buffer back.
    pub fn give(&self, buf: BatchBuf) {
        let size = buf.capacity();
        if size > LARGEST_KEPT {
            return;
        }
        let mut free = self.free.borrow_mut();
        match free.iter_mut().find(|(s, _)| *s == size) {
            Some((_, list)) if list.len() < KEPT_PER_SIZE => list.push(buf),
            Some(_) => {}
            None => {
                let mut list = Vec::with_capacity(KEPT_PER_SIZE);
                list.push(buf);
                free.push((size, list));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_the_next_one_taken() {
        let pool = BatchPool::new();
        let buf = pool.take(4096);
        let size = buf.capacity();
        let at = buf.as_ptr();
        pool.give(buf);
        assert_eq!(pool.take(size).as_ptr(), at);
    }

    #[test]
    fn large_buffers_are_not_kept() {
        let pool = BatchPool::new();
        pool.give(pool.take(LARGEST_KEPT * 2));
        assert!(pool.free.borrow().iter().all(|(size, _)| *size <= LARGEST_KEPT));
    }
}
