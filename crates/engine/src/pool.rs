//! Free lists of batch buffers, one per reactor: a buffer is taken, filled, moved on and given back, so a warm
//! reactor allocates nothing.
//!
//! Limits: at most [`KEPT_PER_SIZE`] buffers of a size are kept; large ones (a tuple that fills a batch alone) are
//! freed at once, so that one burst of large tuples does not hold memory for ever.

use std::cell::RefCell;
use std::rc::Rc;

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
    /// Empty cells of shared batches.
    cells: RefCell<Vec<Rc<Option<BatchBuf>>>>,
}

/// A batch that several cohorts of the reactor read. Made and ended by the pool, which keeps the counted cell.
#[derive(Clone)]
pub(crate) struct SharedBatch(Rc<Option<BatchBuf>>);

impl std::ops::Deref for SharedBatch {
    type Target = BatchBuf;

    fn deref(&self) -> &BatchBuf {
        self.0.as_ref().as_ref().expect("only the pool empties the cell, once nobody shares it")
    }
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

    /// Makes a batch shareable.
    pub(crate) fn share(&self, buf: BatchBuf) -> SharedBatch {
        let mut cell = self.cells.borrow_mut().pop().unwrap_or_default();
        *Rc::get_mut(&mut cell).expect("a free cell has one owner") = Some(buf);
        SharedBatch(cell)
    }

    /// Gives one share back; with the last one the buffer.
    pub(crate) fn give_shared(&self, shared: SharedBatch) {
        let SharedBatch(mut cell) = shared;
        let Some(content) = Rc::get_mut(&mut cell) else { return };
        let buf = content.take();
        let mut cells = self.cells.borrow_mut();
        if cells.len() < KEPT_PER_SIZE {
            cells.push(cell);
        }
        drop(cells);
        buf.into_iter().for_each(|buf| self.give(buf));
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
    fn a_shared_buffer_comes_back_with_its_last_share_and_so_does_its_cell() {
        let pool = BatchPool::new();
        let at = {
            let shared = pool.share(pool.take(4096));
            let (at, other) = (shared.as_ptr(), shared.clone());
            pool.give_shared(shared);
            assert!(pool.free.borrow().iter().all(|(_, list)| list.is_empty()), "it is still shared");
            pool.give_shared(other);
            at
        };
        assert_eq!(pool.cells.borrow().len(), 1);
        let again = pool.share(pool.take(4096));
        assert_eq!((again.as_ptr(), pool.cells.borrow().len()), (at, 0));
    }

    #[test]
    fn large_buffers_are_not_kept() {
        let pool = BatchPool::new();
        pool.give(pool.take(LARGEST_KEPT * 2));
        assert!(pool.free.borrow().iter().all(|(size, _)| *size <= LARGEST_KEPT));
    }
}
