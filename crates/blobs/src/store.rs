//! The folder of blobs.
//!
//! `sha256/ab/abcd…` are blobs, `partial/N` uploads under way, `damaged/…` what failed a verification. Invariant: a file under `sha256` was
//! complete, verified and on the disk before it got its name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::disk::{Disk, DiskFile};
use crate::{BlobError, Hash, Limits};

/// Bytes read at once when a blob is verified.
const READ: usize = 256 << 10;

/// An upload, for the life of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub u64);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Answer to the wish to upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The blob is there: nothing to send.
    Known,
    /// Send it in chunks of at most this many bytes.
    Send {
        /// To be named with each chunk.
        upload: UploadId,
        /// Bytes of a chunk, at most.
        chunk: usize,
    },
}

struct Upload {
    expected: Hash,
    size: u64,
    has: u64,
    hasher: Sha256,
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

struct Inner {
    /// `None` while a chunk of it is being written.
    uploads: BTreeMap<UploadId, Option<Upload>>,
    next: u64,
}

/// A folder of blobs. One process at a time; any thread.
pub struct BlobStore {
    root: PathBuf,
    limits: Limits,
    disk: Box<dyn Disk>,
    inner: Mutex<Inner>,
}

impl BlobStore {
    /// Opens a folder, making it if there is none, and throws away uploads of an earlier start.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(root: &Path, limits: Limits, disk: Box<dyn Disk>) -> Result<BlobStore, BlobError> {
        for folder in ["sha256", "damaged"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).map_err(|error| BlobError::Io { path, error })?;
        }
        let partial = root.join("partial");
        match std::fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BlobError::Io { path: partial, error });
            }
            _ => {}
        }
        std::fs::create_dir(&partial).map_err(|error| BlobError::Io { path: partial, error })?;
        let inner = Mutex::new(Inner { uploads: BTreeMap::new(), next: 1 });
        Ok(BlobStore { root: root.to_owned(), limits, disk, inner })
    }

    /// How bytes are written: `io_uring` or `plain`.
    pub fn disk(&self) -> &'static str {
        self.disk.name()
    }

    /// Begins an upload, unless the blob is there.
    ///
    /// # Errors
    /// It is too large, there are too many uploads, or the disk's.
    pub fn begin(&self, hash: Hash, size: u64) -> Result<Begin, BlobError> {
        if size > self.limits.blob {
            return Err(BlobError::TooLarge { what: "the blob", bytes: size, limit: self.limits.blob });
        }
        if self.has(hash) {
            return Ok(Begin::Known);
        }
        let mut inner = self.lock();
        if inner.uploads.len() >= self.limits.uploads {
            return Err(BlobError::Busy(inner.uploads.len()));
        }
        let upload = UploadId(inner.next);
        inner.next += 1;
        let path = self.root.join("partial").join(upload.to_string());
        let file = self.disk.create(&path).map_err(|error| BlobError::Io { path: path.clone(), error })?;
        let state = Upload { expected: hash, size, has: 0, hasher: Sha256::new(), file, path };
        inner.uploads.insert(upload, Some(state));
        Ok(Begin::Send { upload, chunk: self.limits.chunk })
    }

    /// Takes the next chunk. Answers with the bytes there are now.
    ///
    /// # Errors
    /// It is not the next one, it is too much, or the disk's: then the upload is given up.
    pub fn chunk(&self, id: UploadId, offset: u64, bytes: Vec<u8>) -> Result<u64, BlobError> {
        let mut upload = self.take(id)?;
        let length = bytes.len() as u64;
        let refusal = if offset != upload.has {
            Some(BlobError::Offset { has: upload.has, at: offset })
        } else if bytes.len() > self.limits.chunk {
            Some(BlobError::TooLarge { what: "the chunk", bytes: length, limit: self.limits.chunk as u64 })
        } else if upload.has + length > upload.size {
            Some(BlobError::TooLarge { what: "the upload", bytes: upload.has + length, limit: upload.size })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.put(id, upload);
            return Err(refusal);
        }
        upload.hasher.update(&bytes);
        match upload.file.write_at(offset, bytes) {
            Ok(()) => {
                upload.has += length;
                let has = upload.has;
                self.put(id, upload);
                Ok(has)
            }
            Err(error) => {
                let path = upload.path.clone();
                self.drop_upload(id, upload);
                Err(BlobError::Io { path, error })
            }
        }
    }

    /// Ends an upload: what came is verified and put in its place.
    ///
    /// # Errors
    /// It is not what was announced, or the disk's. The upload is gone either way.
    pub fn finish(&self, id: UploadId) -> Result<Hash, BlobError> {
        let mut upload = self.take(id)?;
        let (expected, actual) = (upload.expected, Hash(upload.hasher.clone().finalize().into()));
        if upload.has != upload.size || actual != expected {
            let size = (upload.has, upload.size);
            self.drop_upload(id, upload);
            let actual = if size.0 == size.1 { actual.to_string() } else { format!("{} of {} bytes", size.0, size.1) };
            return Err(BlobError::Mismatch { expected, actual });
        }
        let place = self.place(expected);
        let folder = place.parent().expect("blobs lie in folders").to_owned();
        let placed = upload.file.sync().and_then(|()| {
            std::fs::create_dir_all(&folder)?;
            std::fs::rename(&upload.path, &place)?;
            File::open(&folder)?.sync_all()
        });
        self.drop_upload(id, upload);
        placed.map_err(|error| BlobError::Io { path: place, error })?;
        Ok(expected)
    }

    /// Gives an upload up.
    pub fn abort(&self, id: UploadId) {
        if let Ok(upload) = self.take(id) {
            self.drop_upload(id, upload);
        }
    }

    /// The blob is here.
    pub fn has(&self, hash: Hash) -> bool {
        self.place(hash).exists()
    }

    /// Where a blob lies, to be executed or mapped.
    ///
    /// # Errors
    /// It is not here.
    pub fn path(&self, hash: Hash) -> Result<PathBuf, BlobError> {
        if self.has(hash) { Ok(self.place(hash)) } else { Err(BlobError::Missing { hash }) }
    }

    /// Bytes of a blob from an offset: fewer than asked for at its end, none behind it. With the blob's size.
    ///
    /// # Errors
    /// It is not here, the chunk is too large, or the disk's.
    pub fn read(&self, hash: Hash, offset: u64, length: usize) -> Result<(Vec<u8>, u64), BlobError> {
        if length > self.limits.chunk {
            let limit = self.limits.chunk as u64;
            return Err(BlobError::TooLarge { what: "the chunk", bytes: length as u64, limit });
        }
        let path = self.path(hash)?;
        let failed = |error| BlobError::Io { path: path.clone(), error };
        let file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut bytes = vec![0; (length as u64).min(size.saturating_sub(offset)) as usize];
        file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        Ok((bytes, size))
    }

    /// Reads a whole blob and compares. To be done before a blob is executed that lay here over a restart.
    ///
    /// # Errors
    /// It is not here, or damaged: then it is put aside.
    pub fn verify(&self, hash: Hash) -> Result<(), BlobError> {
        let path = self.path(hash)?;
        let failed = |error| BlobError::Io { path: path.clone(), error };
        let mut file = File::open(&path).map_err(failed)?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; READ]);
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
        if Hash(hasher.finalize().into()) == hash {
            return Ok(());
        }
        let aside = self.root.join("damaged").join(hash.to_string());
        std::fs::rename(&path, &aside).map_err(failed)?;
        Err(BlobError::Damaged { hash, aside })
    }

    /// All blobs, in the order of their names.
    ///
    /// # Errors
    /// The disk's.
    pub fn list(&self) -> Result<Vec<Hash>, BlobError> {
        let root = self.root.join("sha256");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| BlobError::Io { path, error }
        };
        let mut found = Vec::new();
        for folder in std::fs::read_dir(&root).map_err(failed(&root))? {
            let folder = folder.map_err(failed(&root))?.path();
            for file in std::fs::read_dir(&folder).map_err(failed(&folder))? {
                let name = file.map_err(failed(&folder))?.file_name();
                // What a person put there is none of ours.
                found.extend(name.to_str().and_then(|name| name.parse::<Hash>().ok()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes a blob that nobody needs any more; one that is not there is removed already.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(&self, hash: Hash) -> Result<(), BlobError> {
        let path = self.place(hash);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BlobError::Io { path, error }),
            _ => Ok(()),
        }
    }

    fn place(&self, hash: Hash) -> PathBuf {
        let name = hash.to_string();
        self.root.join("sha256").join(&name[..2]).join(name)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics under the lock that leaves the table half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an upload out, so that its bytes are written without the lock.
    fn take(&self, id: UploadId) -> Result<Upload, BlobError> {
        let mut inner = self.lock();
        let upload = inner.uploads.get_mut(&id).and_then(Option::take);
        upload.ok_or(BlobError::NoUpload(id))
    }

    fn put(&self, id: UploadId, upload: Upload) {
        self.lock().uploads.insert(id, Some(upload));
    }

    /// Forgets an upload and removes its file, if it still has that name.
    fn drop_upload(&self, id: UploadId, upload: Upload) {
        self.lock().uploads.remove(&id);
        // What cannot be removed now is removed at the next start.
        let _ = std::fs::remove_file(&upload.path);
    }
}
