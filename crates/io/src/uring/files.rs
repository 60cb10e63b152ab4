//! Registered files: sockets in a table of the ring, so that an operation does not look up a descriptor and count its use.
//!
//! It saves nothing measurable at one socket, some tens of nanoseconds per operation at many. A socket that finds no place is used by its
//! descriptor; a registered one is closed only when it leaves the table too.

use super::ops::Target;
use io_uring::IoUring;
use std::os::fd::{AsRawFd, OwnedFd};

/// Places of a table: no more than the usual limit of open files, which bounds it.
const PLACES_MAX: usize = 256;
const PLACES_MIN: usize = 16;

pub(super) struct Files {
    /// Places that no socket has.
    free: Vec<u32>,
}

impl Files {
    /// A table for about `streams`. Where the kernel refuses it, an empty one and the reason.
    pub(super) fn new(ring: &IoUring, streams: usize) -> (Files, Option<String>) {
        let places = streams.saturating_mul(2).clamp(PLACES_MIN, PLACES_MAX) as u32;
        match ring.submitter().register_files_sparse(places) {
            Ok(()) => (Files { free: (0..places).rev().collect() }, None),
            Err(e) => {
                let note = format!(
                    "io_uring registers no files here ({e}): sockets are used by their descriptors; raising `ulimit -n` and `ulimit -l` permits it"
                );
                (Files { free: Vec::new() }, Some(note))
            }
        }
    }

    /// Registers a socket if there is a place.
    pub(super) fn add(&mut self, ring: &IoUring, fd: &OwnedFd) -> Target {
        let raw = fd.as_raw_fd();
        let Some(place) = self.free.pop() else { return Target::Descriptor(raw) };
        match ring.submitter().register_files_update(place, &[raw]) {
            Ok(1) => Target::Registered(place),
            _ => {
                self.free.push(place);
                Target::Descriptor(raw)
            }
        }
    }

    /// Takes a socket out of the table. Whether a system call was made.
    pub(super) fn remove(&mut self, ring: &IoUring, target: Target) -> bool {
        let Target::Registered(place) = target else { return false };
        // If it could not be emptied, the place keeps its socket: do not use it for another.
        if ring.submitter().register_files_update(place, &[-1]).is_ok() {
            self.free.push(place);
        }
        true
    }
}
