//! The sleep handshake: a doorbell costs its ringer 6–9 µs, so it is rung only when the other side sleeps.
//!
//! This is Dekker's pattern: each side writes its own word, passes a sequentially consistent fence, then reads the other's.
//!
//! ```text
//! sleeper                                     publisher
//! 1  flag.prepare()      (store, fence)       a  ring.try_push(..), queue.try_push(..), credit.add(..)
//! 2  look at every input once more            b  flag.is_sleeping_after_publish()   (fence, load)
//! 3  nothing: driver.wait(..)                 c  if true: bell.ring()
//! 4  flag.cancel()
//! ```
//!
//! Of the two fences (in 1 and in b) one is first. If the publisher's is, the sleeper's look in 2 sees what a published. If the sleeper's is, the
//! publisher's load in b sees the flag and rings. A bell rung between 2 and 3 is not lost: the doorbell keeps it until the next wait.
//!
//! A sleeper may have several flags (one in its process, one in each segment it shares with another): it raises them all by
//! [`announce`](SleepFlag::announce), prepares the last, and its one fence stands for all.

use crate::memory::{Arc, Memory, Ordering, PAD, fence};

/// Whether a thread sleeps or is about to. One sleeper, any number of publishers, each with a clone.
#[derive(Clone)]
pub struct SleepFlag {
    memory: Arc<Memory>,
    at: usize,
}

impl Default for SleepFlag {
    fn default() -> Self {
        SleepFlag::new()
    }
}

impl SleepFlag {
    /// A flag of a thread that is awake.
    pub fn new() -> SleepFlag {
        SleepFlag::over(Arc::new(Memory::heap(PAD)), 0)
    }

    /// The flag that is the word at `at`, alone in its lines.
    pub(crate) fn over(memory: Arc<Memory>, at: usize) -> SleepFlag {
        SleepFlag { memory, at }
    }

    /// Sleeper: announces the sleep. Look at every input once more after it, then wait on the doorbell, or [`cancel`](Self::cancel).
    #[inline]
    pub fn prepare(&self) {
        self.announce();
        // Pairs with the fence in `is_sleeping_after_publish`.
        fence(Ordering::SeqCst);
    }

    /// Sleeper with several flags: raises this one, and that is all. [`prepare`](Self::prepare) another one behind it.
    #[inline]
    pub fn announce(&self) {
        // Relaxed suffices: the fence of `prepare` orders it before the sleeper's second look.
        self.memory.store(self.at, 1, Ordering::Relaxed);
    }

    /// Sleeper: awake again, or not going to sleep after all.
    #[inline]
    pub fn cancel(&self) {
        // Relaxed: a publisher that still sees the flag rings once too often, no more.
        self.memory.store(self.at, 0, Ordering::Relaxed);
    }

    /// Publisher, after publishing: whether the sleeper needs the doorbell. Once per flush: it costs a fence.
    #[inline]
    pub fn is_sleeping_after_publish(&self) -> bool {
        // Pairs with the fence in `prepare`.
        fence(Ordering::SeqCst);
        self.memory.load(self.at, Ordering::Relaxed) != 0
    }

    /// As [`is_sleeping_after_publish`](Self::is_sleeping_after_publish), and lowers the flag, so that of many publishers only one rings. Whoever
    /// gets `true` must ring.
    ///
    /// A publisher that finds the flag lowered by another is safe: the sleeper is woken by that one's bell, and before it sleeps again it
    /// prepares again, with a fence after this publisher's.
    #[inline]
    pub fn claim_wake_after_publish(&self) -> bool {
        // The load first: it leaves the line shared while nobody sleeps.
        self.is_sleeping_after_publish() && self.memory.swap(self.at, 0, Ordering::Relaxed) != 0
    }
}
