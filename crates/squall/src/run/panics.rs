//! What a panic of a component writes to standard error, without holding up its reactor: a backtrace is cheap to take, but finding the names for it
//! takes some hundred milliseconds, in which all other executors of the reactor would stand still (D7).
//!
//! The message is written at once. The backtrace (where `RUST_BACKTRACE` asks for one) follows from a thread of its own, which says whose it is. Limits:
//! [`WAITING_MAX`] backtraces wait; further ones are left out, and that is said. Deliberately absent: a panic of the main thread, which has nobody to
//! hold up, keeps the usual way.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Backtraces that wait for being written.
const WAITING_MAX: usize = 16;
/// How long the end of a process waits for them at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Backtraces that are not written yet.
pub(crate) struct Backtraces {
    open: Arc<AtomicUsize>,
}

/// From now on panics of other threads than this one are told that way.
///
/// # Errors
/// The thread could not be started.
pub(crate) fn install() -> std::io::Result<Backtraces> {
    let (sender, receiver) = bounded(WAITING_MAX);
    let open = Arc::new(AtomicUsize::new(0));
    let (counted, main, usual) = (open.clone(), std::thread::current().id(), panic::take_hook());
    std::thread::Builder::new().name("backtraces".into()).spawn({
        let open = open.clone();
        move || write_all(&receiver, &open)
    })?;
    panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == main {
            return usual(info);
        }
        let thread = std::thread::current().name().unwrap_or("<unnamed>").to_owned();
        let more = hand_on(&sender, &counted, &thread);
        // Nobody is left to be told that it cannot be written.
        let _ = write!(std::io::stderr().lock(), "\nthread '{thread}' {info}\n{more}");
    }));
    Ok(Backtraces { open })
}

/// Hands the backtrace on; what there is to say about it at once.
fn hand_on(sender: &Sender<(String, Backtrace)>, open: &AtomicUsize, thread: &str) -> &'static str {
    let backtrace = Backtrace::capture();
    if backtrace.status() != BacktraceStatus::Captured {
        return "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    }
    open.fetch_add(1, Ordering::Relaxed);
    match sender.try_send((thread.to_owned(), backtrace)) {
        Ok(()) => "",
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
            open.fetch_sub(1, Ordering::Relaxed);
            "its backtrace is left out: those of panics before it are still being written\n"
        }
    }
}

fn write_all(backtraces: &Receiver<(String, Backtrace)>, open: &AtomicUsize) {
    for (thread, backtrace) in backtraces {
        let text = format!("backtrace of thread '{thread}':\n{backtrace}\n");
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        open.fetch_sub(1, Ordering::Release);
    }
}

impl Backtraces {
    /// Waits until all are written, for a bounded time: the process is about to end.
    pub(crate) fn finish(&self) {
        let until = Instant::now() + PATIENCE;
        while self.open.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
