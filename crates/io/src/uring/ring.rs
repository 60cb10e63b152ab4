//! The ring itself: submissions in, completions out, and the count of what is in flight.

use super::ops::{Completion, Kind};
use crate::IoOptions;
use io_uring::IoUring;
use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use rustix::io::Errno;
use std::io;
use std::time::Duration;

/// Submission entries. Small: a user's locked memory may be 64 KiB.
const ENTRIES: u32 = 64;
/// Completion entries: a burst of receives of many streams without an overflow.
pub(super) const COMPLETIONS: u32 = 256;
/// How long the kernel's submission thread spins without work before it sleeps, in milliseconds.
const SQPOLL_IDLE_MS: u32 = 50;

pub(super) struct Ring {
    ring: IoUring,
    /// A thread of the kernel submits and completes: entering is for waking it and for sleeping only.
    sqpoll: bool,
    /// Operations that the kernel has, or will have with the next submission, and has not completed for good.
    in_flight: usize,
    /// Of those, zero-copy sends that are over but for their notification.
    notifications: usize,
    /// System calls made here.
    pub(super) syscalls: u64,
}

impl Ring {
    pub(super) fn new(options: &IoOptions) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        // One bad submission must not hold up those behind it.
        builder.setup_single_issuer().setup_submit_all().setup_cqsize(COMPLETIONS);
        if options.sqpoll {
            // Its thread runs what is deferred, so nothing is left for us to be flagged.
            builder.setup_sqpoll(SQPOLL_IDLE_MS);
        } else {
            builder.setup_defer_taskrun().setup_taskrun_flag();
        }
        let ring = builder.build(ENTRIES)?;
        Ok(Ring { ring, sqpoll: options.sqpoll, in_flight: 0, notifications: 0, syscalls: 0 })
    }

    /// For registering and unregistering.
    pub(super) fn io_uring(&self) -> &IoUring {
        &self.ring
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether nothing but notifications is awaited.
    pub(super) fn only_notifications(&self) -> bool {
        self.in_flight == self.notifications
    }

    /// Puts an operation into the submission queue; submits first if that is full. `false`: there is no room before completions have been
    /// collected (or the submission thread has caught up); nothing was queued.
    ///
    /// # Safety
    /// What the operation points to stays as it is, and in place, until its last completion.
    pub(super) unsafe fn push(&mut self, entry: &Entry) -> io::Result<bool> {
        if self.ring.submission().is_full() {
            self.enter(0, None)?;
        }
        // SAFETY: `SubmissionQueue::push` demands what this function demands.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.in_flight += usize::from(pushed);
        Ok(pushed)
    }

    /// Whether entering the kernel would do something: there are submissions, deferred work or completions that found no room. Reads memory that
    /// is shared with the kernel, no more.
    pub(super) fn must_enter(&mut self) -> bool {
        let sqpoll = self.sqpoll;
        let queue = self.ring.submission();
        if sqpoll {
            return queue.cq_overflow() || (!queue.is_empty() && queue.need_wakeup());
        }
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Submits what is queued and lets the kernel complete what it has deferred. With `want` it sleeps until so many completions are there or
    /// the timeout has passed.
    pub(super) fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        self.syscalls += 1;
        let entered = match timeout {
            Some(timeout) => {
                let timeout = Timespec::from(timeout.min(Duration::from_secs(u32::MAX.into())));
                self.ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&timeout))
            }
            // With nothing wanted the crate asks for events only if the task-run or overflow flag is set, which is when there are any.
            None => self.ring.submitter().submit_and_wait(want),
        };
        match entered.map_err(|e| (e.raw_os_error().map(Errno::from_raw_os_error), e)) {
            Ok(_) => Ok(()),
            // A signal; the timeout; completions to be collected first; memory short for a moment. All pass: the next turn enters again.
            Err((Some(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN), _)) => Ok(()),
            Err((_, e)) => Err(e),
        }
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        let completion = Completion::from(self.ring.completion().next()?);
        if !completion.more {
            self.in_flight -= 1;
        }
        if completion.kind == Kind::SendZc {
            self.notifications += usize::from(completion.more);
            self.notifications -= usize::from(completion.notification.is_some());
        }
        Some(completion)
    }
}
