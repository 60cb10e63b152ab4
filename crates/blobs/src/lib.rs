//! Artifacts by the hash of their content.
//!
//! A blob is a file of bytes named by its SHA-256. It comes in chunks, is hashed as it comes, and is put in its place (one rename) only when hash
//! and size are what was announced; so whatever has a blob's name is that blob, a blob that is there already is not sent again, and a crash leaves
//! nothing but unfinished files that the next start removes. [`BlobStore::verify`] reads a blob again and puts a damaged one aside.
//!
//! Who asks for a blob names it by its hash, and an upload by a number: no path ever comes from outside.
//!
//! Bytes are written by a [`Disk`]: with tokio-uring where the kernel allows io_uring (feature `uring`), else by plain calls
//! ([`best_disk`] chooses and says why). Calls block; not for reactors.
//!
//! Bounds: [`Limits`]. Deliberately absent: archives (a blob is never unpacked), access lists, and deciding what is still needed.
#![forbid(unsafe_code)]

mod disk;
mod store;
#[cfg(feature = "uring")]
mod uring;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sha2::Digest;

pub use disk::{Disk, DiskFile, PlainDisk, best_disk};
pub use store::{Begin, BlobStore, UploadId};
#[cfg(feature = "uring")]
pub use uring::UringDisk;

/// SHA-256 of a blob's content: its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = BlobError;

    /// 64 hexadecimal digits, in lower case.
    fn from_str(text: &str) -> Result<Hash, BlobError> {
        let bad = || BlobError::BadName { name: text.chars().take(80).collect() };
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Hash(bytes))
    }
}

/// How much a store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one blob. Default 2 GiB.
    pub blob: u64,
    /// Bytes of one chunk. Default 1 MiB.
    pub chunk: usize,
    /// Uploads at once. Default 64.
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { blob: 2 << 30, chunk: 1 << 20, uploads: 64 }
    }
}

/// Why a blob cannot be had or taken.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Not the name of a blob.
    #[error("{name:?} is no blob: 64 hexadecimal digits in lower case are")]
    BadName {
        /// What was given, its first characters.
        name: String,
    },
    /// There is no such blob.
    #[error("there is no blob {hash}")]
    Missing {
        /// Which.
        hash: Hash,
    },
    /// There is no such upload: it ended, was given up, or belongs to a start before this one.
    #[error("there is no upload {0}: begin it again")]
    NoUpload(UploadId),
    /// A chunk that does not follow the last one.
    #[error("the upload has {has} bytes and the chunk begins at {at}: go on from there")]
    Offset {
        /// Bytes there are.
        has: u64,
        /// Where the chunk begins.
        at: u64,
    },
    /// More than a limit.
    #[error("{what} has {bytes} bytes, and {limit} are the limit")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Too many uploads at once.
    #[error("{0} uploads are under way already: try again")]
    Busy(usize),
    /// What came is not what was announced. It was thrown away.
    #[error(
        "the upload of {expected} came as {actual}: send it again; if that repeats, look at the sender's disk and memory"
    )]
    Mismatch {
        /// The name it was to have.
        expected: Hash,
        /// What came, by hash or size.
        actual: String,
    },
    /// A blob whose content changed on the disk. It was put aside, so that it can be fetched again.
    #[error("blob {hash} is damaged on this disk and was moved to {}", .aside.display())]
    Damaged {
        /// Which.
        hash: Hash,
        /// Where it is now.
        aside: PathBuf,
    },
    /// The disk.
    #[error("{}: {error}{}", .path.display(), full(.error))]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

fn full(error: &std::io::Error) -> &'static str {
    if error.kind() == std::io::ErrorKind::StorageFull { ": free some space, nothing was changed" } else { "" }
}
