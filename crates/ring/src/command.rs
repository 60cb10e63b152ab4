//! The command queue: the one path from control to a reactor. Bounded; a refused command is handed back and counted, never hidden.
//!
//! It does not wake the reactor: ring its doorbell by the handshake of [`SleepFlag`](crate::SleepFlag) after pushing.

use crossbeam::queue::ArrayQueue;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Shared<T> {
    queue: ArrayQueue<T>,
    refused: AtomicU64,
    receiver_gone: AtomicBool,
}

/// Makes a queue of `capacity` commands: any number of senders, one receiver.
///
/// # Panics
/// If `capacity` is zero.
///
/// ```
/// let (sender, mut receiver) = squall_ring::command_queue(1);
/// sender.try_push("deactivate").unwrap();
/// assert_eq!(sender.try_push("kill").unwrap_err().command, "kill");
/// assert_eq!((receiver.pop(), receiver.pop(), receiver.refused()), (Some("deactivate"), None, 1));
/// ```
pub fn command_queue<T>(capacity: usize) -> (CommandSender<T>, CommandReceiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        refused: AtomicU64::new(0),
        receiver_gone: AtomicBool::new(false),
    });
    let sender = CommandSender { shared: Arc::clone(&shared) };
    (sender, CommandReceiver { shared })
}

/// A command was refused because the queue is full or its reactor is gone.
pub struct CommandQueueFull<T> {
    /// The command, handed back.
    pub command: T,
    /// Whether the receiver was dropped: trying again is useless then.
    pub receiver_gone: bool,
}

impl<T> fmt::Debug for CommandQueueFull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandQueueFull").field("receiver_gone", &self.receiver_gone).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for CommandQueueFull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.receiver_gone {
            "the reactor has ended and takes no more commands"
        } else {
            "the command queue is full: try again after the reactor has taken some"
        })
    }
}

impl<T> std::error::Error for CommandQueueFull<T> {}

/// Sends commands to one reactor from any thread.
pub struct CommandSender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for CommandSender<T> {
    fn clone(&self) -> Self {
        CommandSender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> CommandSender<T> {
    /// Queues `command`. Commands of one sender arrive in order.
    ///
    /// # Errors
    /// [`CommandQueueFull`] with the command, which is counted as refused.
    pub fn try_push(&self, command: T) -> Result<(), CommandQueueFull<T>> {
        // Pairs with the Release in the receiver's drop. A command pushed just before that is dropped with the queue.
        let receiver_gone = self.shared.receiver_gone.load(Ordering::Acquire);
        let refused = if receiver_gone { Some(command) } else { self.shared.queue.push(command).err() };
        match refused {
            None => Ok(()),
            Some(command) => {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                Err(CommandQueueFull { command, receiver_gone })
            }
        }
    }

    /// Commands refused so far, by all senders.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

/// The reactor's end of its command queue.
pub struct CommandReceiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> CommandReceiver<T> {
    /// The oldest command, if there is one.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }

    /// Whether a command waits; two loads.
    #[inline]
    pub fn pending(&self) -> bool {
        !self.shared.queue.is_empty()
    }

    /// Commands refused so far, by all senders.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl<T> Drop for CommandReceiver<T> {
    fn drop(&mut self) {
        // Pairs with the Acquire in `try_push`.
        self.shared.receiver_gone.store(true, Ordering::Release);
    }
}
