//! Worker processes: started apart from this process, watched by their pidfd, whether they are our children or were taken over.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use squall_control::Process;
use squall_control::files::start_of;
use tokio::sync::mpsc::UnboundedSender;

use super::Event;

/// How often a process without a process descriptor is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A process that is watched until it ends.
pub(super) struct Watched {
    pub(super) process: Process,
    /// `None` where the kernel or a filter has no process descriptors.
    pidfd: Option<Arc<OwnedFd>>,
}

impl Watched {
    /// Starts a worker in a process group of its own, so that a terminal's signals do not reach it. It inherits the lock of its slot where its
    /// standard input belongs, and writes to its log.
    pub(super) fn start(
        slot: u16,
        mut command: Command,
        lock: File,
        log: File,
        events: &UnboundedSender<Event>,
    ) -> io::Result<Watched> {
        command.stdin(Stdio::from(lock)).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut child = command.spawn()?;
        let Some(start) = start_of(child.id()) else {
            let status = child.wait()?;
            return Err(io::Error::other(format!("it ended at once ({status})")));
        };
        let process = Process { pid: child.id(), start };
        Watched::watch(slot, process, Some(child), events).inspect_err(|_| {
            // Nobody would hear of its end.
            if let Some(pid) = pid(process) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        })
    }

    /// Watches a process of an earlier supervisor.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(super) fn adopt(slot: u16, process: Process, events: &UnboundedSender<Event>) -> io::Result<Watched> {
        Watched::watch(slot, process, None, events)
    }

    fn watch(
        slot: u16,
        process: Process,
        child: Option<Child>,
        events: &UnboundedSender<Event>,
    ) -> io::Result<Watched> {
        let pidfd = pid(process).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        // The descriptor is of whoever has the id now: it is ours only if that began when ours did.
        let pidfd = pidfd.filter(|_| child.is_some() || start_of(process.pid) == Some(process.start)).map(Arc::new);
        let (waits, events) = (pidfd.clone(), events.clone());
        // A thread for each, which sleeps until the end.
        let watcher = std::thread::Builder::new().name(format!("slot-{slot}"));
        let started = watcher.spawn(move || {
            end_of(process, waits);
            // A child that has ended is only waited for by this.
            let status = child.and_then(|mut child| child.wait().ok());
            let how = match status.map(|status| (status.signal(), status.code())) {
                Some((Some(signal), _)) => format!("was killed by signal {signal}"),
                Some((None, code)) => format!("ended with code {}", code.unwrap_or(-1)),
                None => "ended".to_owned(),
            };
            let _ = events.send(Event::Exited { slot, process, how });
        });
        started.map(|_| Watched { process, pidfd })
    }

    /// Sends a signal, unless it has ended.
    pub(super) fn signal(&self, signal: Signal) {
        // It fails only for a process that has just ended.
        let _ = match &self.pidfd {
            Some(pidfd) => rustix::process::pidfd_send_signal(pidfd, signal),
            None if start_of(self.process.pid) == Some(self.process.start) => {
                pid(self.process).map_or(Ok(()), |pid| rustix::process::kill_process(pid, signal))
            }
            None => Ok(()),
        };
    }
}

fn pid(process: Process) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process.pid).ok()?)
}

fn end_of(process: Process, pidfd: Option<Arc<OwnedFd>>) {
    while let Some(pidfd) = &pidfd {
        match rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) {
            Ok(n) if n > 0 => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    while start_of(process.pid) == Some(process.start) {
        std::thread::sleep(LOOK);
    }
}
