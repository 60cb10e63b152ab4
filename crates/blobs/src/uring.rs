//! Files written through tokio-uring, on a thread of its own: its runtime is bound to a thread, and callers may come from any.
//!
//! Writes of one file are carried out in the order they were handed over, by whoever waits for them; several files at once share the ring.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender as Answer, channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio_uring::fs::{File, OpenOptions};

use crate::disk::{Disk, DiskFile};

/// Entries of the ring: more files at once wait in the kernel's place.
const ENTRIES: u32 = 64;

enum Order {
    Create(PathBuf, Answer<io::Result<Queue>>),
}

/// A file's own queue: its task ends when this is dropped.
type Queue = mpsc::UnboundedSender<FileOrder>;

enum FileOrder {
    Write(u64, Vec<u8>, Answer<io::Result<()>>),
    Sync(Answer<io::Result<()>>),
}

/// Writes through io_uring.
pub struct UringDisk {
    /// `None` while it is dropped.
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl UringDisk {
    /// Starts the thread.
    ///
    /// # Errors
    /// io_uring is blocked here: by a sysctl, by a container's seccomp filter, or for want of locked memory.
    pub fn start() -> io::Result<UringDisk> {
        // tokio-uring panics where there is no ring to be had, so one is made for a trial first.
        drop(io_uring::IoUring::new(ENTRIES)?);
        let (orders, mut queue) = mpsc::unbounded_channel::<Order>();
        let serve = async move {
            while let Some(Order::Create(path, answer)) = queue.recv().await {
                tokio_uring::spawn(async move {
                    let (sender, queue) = mpsc::unbounded_channel();
                    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).await {
                        Ok(file) => {
                            // Nobody waits any more: then the queue is closed, and the file with it.
                            let _ = answer.send(Ok(sender));
                            write(file, queue).await;
                        }
                        Err(error) => drop(answer.send(Err(error))),
                    }
                });
            }
        };
        let run = move || {
            let mut ring = tokio_uring::uring_builder();
            ring.setup_clamp();
            tokio_uring::builder().entries(ENTRIES).uring_builder(&ring).start(serve);
        };
        let thread = std::thread::Builder::new().name("squall-disk".into()).spawn(run)?;
        Ok(UringDisk { orders: Some(orders), thread: Some(thread) })
    }
}

/// One file's life.
async fn write(file: File, mut queue: mpsc::UnboundedReceiver<FileOrder>) {
    while let Some(order) = queue.recv().await {
        let (answer, result) = match order {
            FileOrder::Write(offset, bytes, answer) => (answer, file.write_all_at(bytes, offset).await.0),
            FileOrder::Sync(answer) => (answer, file.sync_all().await),
        };
        // Whoever asked may have given up.
        let _ = answer.send(result);
    }
    // What `close` could still say was said by `sync`.
    let _ = file.close().await;
}

impl Disk for UringDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let (answer, answered) = channel();
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders.send(Order::Create(path.to_owned(), answer)).map_err(|_| gone())?;
        let queue = answered.recv().map_err(|_| gone())??;
        Ok(Box::new(UringFile(queue)))
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked that was printed, and writers were told.
            let _ = thread.join();
        }
    }
}

struct UringFile(Queue);

impl UringFile {
    fn order(&self, order: impl FnOnce(Answer<io::Result<()>>) -> FileOrder) -> io::Result<()> {
        let (answer, answered) = channel();
        self.0.send(order(answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl DiskFile for UringFile {
    fn write_at(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        self.order(|answer| FileOrder::Write(offset, bytes, answer))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.order(FileOrder::Sync)
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes has ended")
}
