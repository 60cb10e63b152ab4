//! Shared words: an array of counters that several processes of a host see, and that outlives each of them but its owner.
//!
//! Counts and heartbeats, no messages: every access is one relaxed atomic operation on one word, so nothing is ordered by it. Who writes which
//! word is said by the users. What a process wrote before it was killed stays.
//!
//! Limits: the number of words is fixed when the array is made; an access beyond it panics. Deliberately absent: names in a file system, but for
//! [`Words::file`], whose file somebody else wants to read.

use crate::memory::{Arc, Memory, Ordering, PAD};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const WORD: usize = 8;

/// See the module. Clones are the same words.
#[derive(Clone)]
pub struct Words {
    memory: Arc<Memory>,
}

fn bytes_of(words: usize) -> usize {
    (words.max(1) * WORD).next_multiple_of(PAD)
}

impl Words {
    /// Words of this process alone, all zero.
    pub fn heap(words: usize) -> Words {
        Words { memory: Arc::new(Memory::heap(bytes_of(words))) }
    }

    /// Words in memory that other processes can [`open`](Self::open): the descriptor is for them. All zero.
    ///
    /// # Errors
    /// The kernel's, if it gives neither a memfd nor an unnamed file in the folder for temporary files.
    pub fn create(words: usize) -> io::Result<(Words, OwnedFd)> {
        let fd = rustix::fs::memfd_create(c"squall-words", MemfdFlags::CLOEXEC).or_else(|_| {
            let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
            rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)
        })?;
        rustix::fs::ftruncate(&fd, bytes_of(words) as u64)?;
        let memory = Memory::map(fd.as_fd(), bytes_of(words))?;
        Ok((Words { memory: Arc::new(memory) }, fd))
    }

    /// The words behind a descriptor from [`create`](Self::create) of a process that is trusted not to shrink the file.
    ///
    /// # Errors
    /// The kernel's, or [`io::ErrorKind::InvalidData`] if the file is too short for so many words.
    pub fn open(fd: OwnedFd, words: usize) -> io::Result<Words> {
        let (has, due) = (rustix::fs::fstat(&fd)?.st_size, bytes_of(words));
        if has < due as i64 {
            let what = format!("{has} bytes of shared words where {due} are due; both ends must run the same build");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Words { memory: Arc::new(Memory::map(fd.as_fd(), due)?) })
    }

    /// The first `words` words of a file that is open for reading and writing, which is made long enough. Who cuts the file short while it is
    /// mapped ends every process that then touches it (SIGBUS).
    ///
    /// # Errors
    /// The kernel's.
    pub fn file(file: &std::fs::File, words: usize) -> io::Result<Words> {
        if file.metadata()?.len() < bytes_of(words) as u64 {
            file.set_len(bytes_of(words) as u64)?;
        }
        Ok(Words { memory: Arc::new(Memory::map(file.as_fd(), bytes_of(words))?) })
    }

    /// The word at `at`.
    #[inline]
    pub fn load(&self, at: usize) -> u64 {
        self.memory.load(at * WORD, Ordering::Relaxed)
    }

    /// Sets the word at `at`.
    #[inline]
    pub fn store(&self, at: usize, value: u64) {
        self.memory.store(at * WORD, value, Ordering::Relaxed);
    }

    /// Adds to the word at `at`, which others may write too. Returns what it was.
    #[inline]
    pub fn add(&self, at: usize, by: u64) -> u64 {
        self.memory.fetch_add(at * WORD, by, Ordering::Relaxed)
    }

    /// Sets the word at `at`, which others may write too. Returns what it was.
    #[inline]
    pub fn swap(&self, at: usize, value: u64) -> u64 {
        self.memory.swap(at * WORD, value, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads_and_a_short_file_is_refused() {
        let (ours, fd) = Words::create(20).expect("a memfd or a file");
        let theirs = Words::open(fd.try_clone().expect("a descriptor"), 20).expect("it is long enough");
        theirs.store(19, 7);
        assert_eq!((theirs.add(19, 3), theirs.swap(0, 5)), (7, 0));
        drop(theirs);
        assert_eq!((ours.load(19), ours.load(0), ours.load(1)), (10, 5, 0));
        let error = Words::open(fd, 1000).err().expect("too short");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    #[should_panic(expected = "outside of the shared memory")]
    fn a_word_beyond_the_end_is_a_panic() {
        Words::heap(16).load(16);
    }
}
