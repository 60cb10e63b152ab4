//! The process that breaks a silence: it stamps shared memory with the time and wakes whoever waits, either by the futex in
//! that memory or by the doorbell (an eventfd) of a reactor. One wake-up in either path.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::futex;
use serde::{Deserialize, Serialize};

use crate::clock::now_ns;
use crate::error::BenchError;
use crate::machine::pin;
use crate::peer;
use crate::shared::{APART, Shared};

const MEMORY_BYTES: usize = 4096;
/// Offsets: how many stamps there have been (the futex), the last one, and how many were taken.
const COUNT: usize = 0;
const STAMP: usize = APART;
const TAKEN: usize = 2 * APART;
/// The injector runs: the first silence has begun.
const READY: usize = 3 * APART;
/// How long it may take to.
const READY_MAX: Duration = Duration::from_secs(10);

/// The longest wait for a futex: then the waiter looks whether its round is over.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// The memory: one process stamps, one takes.
pub(crate) struct Stamps(Shared);

impl Stamps {
    pub(crate) fn create() -> Result<(Stamps, OwnedFd), BenchError> {
        let (memory, fd) = Shared::create(MEMORY_BYTES).map_err(BenchError::io("shared memory"))?;
        Ok((Stamps(memory), fd))
    }

    fn count(&self) -> &AtomicU32 {
        self.0.half_word(COUNT)
    }

    fn stamp(&self) -> &AtomicU64 {
        self.0.word(STAMP)
    }

    /// The stamp after the `seen`-th: its number and its time.
    pub(crate) fn next(&self, seen: u64) -> Option<(u64, u64)> {
        // Acquire pairs with the Release in `stamp_now`: the stamp of that count is there.
        let n = u64::from(self.count().load(Ordering::Acquire));
        (n != seen).then(|| (n, self.stamp().load(Ordering::Relaxed)))
    }

    /// Sleeps on the futex for the stamp after the `seen`-th, for a while: its number, and how long ago it was made.
    pub(crate) fn wait(&self, seen: u64) -> Option<(u64, u64)> {
        let timeout = futex::Timespec { tv_sec: 0, tv_nsec: i64::from(WAIT_MAX.subsec_nanos()) };
        // Whatever ends it, the count says whether there is a stamp.
        let _ = futex::wait(self.count(), futex::Flags::empty(), seen as u32, Some(&timeout));
        let now = now_ns();
        self.next(seen).map(|(n, stamped)| (n, now.saturating_sub(stamped)))
    }

    /// The `n`-th stamp was taken: the next silence may begin.
    pub(crate) fn taken(&self, n: u64) {
        self.0.word(TAKEN).store(n, Ordering::Relaxed);
    }

    fn stamp_now(&self) {
        self.stamp().store(now_ns(), Ordering::Relaxed);
        // One writer. Release: see `next`.
        self.count().store(self.count().load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    fn all_taken(&self) -> bool {
        self.0.word(TAKEN).load(Ordering::Relaxed) == u64::from(self.count().load(Ordering::Relaxed))
    }
}

/// How the injector wakes.
pub(crate) enum Ring {
    /// `FUTEX_WAKE` on the count.
    Futex,
    /// A write to this eventfd.
    Doorbell(OwnedFd),
}

#[derive(Serialize, Deserialize)]
struct Job {
    doorbell: bool,
    silence_ns: u64,
    core: usize,
}

/// The other process, while it runs.
pub(crate) struct Injector(Child);

impl Injector {
    /// Starts it: a stamp `silence` after the one before was taken, the first one `silence` from its start, which
    /// this waits for.
    pub(crate) fn start(memory: OwnedFd, ring: Ring, silence: Duration, core: usize) -> Result<Injector, BenchError> {
        let job = Job { doorbell: matches!(ring, Ring::Doorbell(_)), silence_ns: silence.as_nanos() as u64, core };
        let stdout = match ring {
            Ring::Futex => Stdio::null(),
            Ring::Doorbell(fd) => Stdio::from(fd),
        };
        let stamps = Shared::open(&memory, MEMORY_BYTES).map_err(BenchError::io("the stamps"))?;
        let injector = Injector(peer::spawn("injector", &job, memory, stdout)?);
        let deadline = Instant::now() + READY_MAX;
        while stamps.word(READY).load(Ordering::Relaxed) == 0 {
            if Instant::now() > deadline {
                return Err(BenchError::Stuck("the start of the injector", READY_MAX.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(injector)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // It has nothing to tell and runs until it is told to end.
        peer::kill(&mut self.0);
    }
}

/// The injector's process: the memory is stdin, the doorbell stdout. Ends with its parent.
pub(crate) fn injector_main(job: &str) -> Result<(), BenchError> {
    let job: Job = serde_json::from_str(job).map_err(|e| BenchError::Peer(e.to_string()))?;
    let parent = rustix::process::getppid();
    pin(job.core);
    let memory = Shared::open(peer::inherited()?, MEMORY_BYTES).map_err(BenchError::io("the stamps"))?;
    let stamps = Stamps(memory);
    let mut doorbell = job.doorbell.then(peer::inherited_stdout).transpose()?.map(File::from);
    stamps.0.word(READY).store(1, Ordering::Relaxed);
    while rustix::process::getppid() == parent {
        std::thread::sleep(Duration::from_nanos(job.silence_ns));
        if !stamps.all_taken() {
            continue;
        }
        stamps.stamp_now();
        match &mut doorbell {
            Some(bell) => bell.write_all(&1_u64.to_ne_bytes()).map_err(BenchError::io("ringing the doorbell"))?,
            None => {
                futex::wake(stamps.count(), futex::Flags::empty(), 1)
                    .map_err(|e| BenchError::Io("waking", e.into()))?;
            }
        }
    }
    Ok(())
}
