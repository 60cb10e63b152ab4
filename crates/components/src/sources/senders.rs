//! Acknowledgements to whoever sends over a connection: how many of its lines are done, in order, each time on a line of its
//! own.
//!
//! The spout's thread counts; a thread per connection writes, so that a sender that does not read stops nobody. Numbers are
//! coalesced: only the last one matters.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

/// One connection, as the spout's thread knows it.
pub(crate) struct Acks {
    /// Lines that were taken.
    taken: AtomicU64,
    /// Lines that are done, all before them too.
    done: Arc<AtomicU64>,
    /// Wakes the thread that writes.
    changed: Sender<()>,
}

/// The lines of a connection that are done before others ahead of them.
#[derive(Default)]
pub(crate) struct Ahead(BTreeSet<u64>);

impl Acks {
    /// Starts the thread that writes to the sender. It ends when the last of these has gone.
    pub(crate) fn to(connection: TcpStream) -> std::io::Result<(Arc<Acks>, JoinHandle<()>)> {
        let (changed, waits) = bounded(1);
        let done = Arc::new(AtomicU64::new(0));
        let reads = done.clone();
        let write = move || {
            for () in waits {
                // Acquire pairs with the Release of `count`; the token comes after the number in any case.
                let line = format!("{}\n", reads.load(Ordering::Acquire));
                if (&connection).write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("tcp-acks".into()).spawn(write)?;
        Ok((Arc::new(Acks { taken: AtomicU64::new(0), done, changed }), thread))
    }

    /// The number of the next line, from 1.
    pub(crate) fn take(&self) -> u64 {
        // Relaxed: by the spout's thread only.
        self.taken.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A line is done. `ahead`: this connection's.
    pub(crate) fn count(&self, line: u64, ahead: &mut Ahead) {
        let before = self.done.load(Ordering::Relaxed);
        if line != before + 1 {
            ahead.0.insert(line);
            return;
        }
        let mut last = line;
        while ahead.0.remove(&(last + 1)) {
            last += 1;
        }
        self.done.store(last, Ordering::Release);
        // A full channel says all there is to say.
        let _ = self.changed.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    #[test]
    fn a_sender_is_told_of_lines_in_order_whatever_the_order_in_which_they_are_done() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (acks, thread) = Acks::to(listener.accept().unwrap().0).unwrap();
        assert_eq!((1..=5).map(|_| acks.take()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let mut ahead = Ahead::default();
        let mut told = BufReader::new(sender).lines().map(|l| l.unwrap().parse::<u64>().unwrap());
        acks.count(1, &mut ahead);
        assert_eq!(told.next(), Some(1));
        acks.count(4, &mut ahead);
        acks.count(3, &mut ahead);
        acks.count(2, &mut ahead);
        assert_eq!(told.next(), Some(4));
        acks.count(5, &mut ahead);
        drop(acks);
        assert_eq!(told.last(), Some(5));
        thread.join().unwrap();
    }
}
