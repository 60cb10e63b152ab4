//! The state folder of a supervisor: its identity, its lock, a file for each slot. Blocking calls; not for reactors.
//!
//! Each file is replaced as a whole (written beside it, synced, renamed, the folder synced), so a crash leaves the old one or the new one.
//! A worker holds a lock on its slot's lock file for as long as it lives, inherited from whoever started it: a supervisor that crashed
//! between start and note can be told from one that crashed before the start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{Found, Liveness, Process, WorkerFile};

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another supervisor works on it.
    #[error("{} is in use by another supervisor: stop that one, or give this one a folder of its own", .0.display())]
    InUse(PathBuf),
    /// The disk is full, or permissions are missing.
    #[error("{}: {error}", .path.display())]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file makes no sense.
    #[error("{}: {why}. If no worker of this node runs any more, remove it; nothing was changed", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A state folder, locked for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    identity: String,
    _lock: File,
}

impl Folder {
    /// Opens a folder, making it with a new identity if there is none.
    ///
    /// # Errors
    /// It is in use, or cannot be written.
    pub fn open(path: &Path) -> Result<Folder, FolderError> {
        std::fs::create_dir_all(path).map_err(failed(path))?;
        let lock_path = path.join("lock");
        let lock = open_lock(&lock_path).map_err(failed(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(FolderError::InUse(path.to_owned())),
            Err(error) => return Err(failed(&lock_path)(error.into())),
        }
        let identity_path = path.join("identity");
        let identity = match std::fs::read_to_string(&identity_path) {
            Ok(text) if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) => text,
            Ok(_) => {
                let why = "it is no identity (32 hexadecimal digits)".into();
                return Err(FolderError::Damaged { path: identity_path, why });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = random_hex().map_err(failed(&identity_path))?;
                replace(&identity_path, made.as_bytes()).map_err(failed(&identity_path))?;
                made
            }
            Err(error) => return Err(failed(&identity_path)(error)),
        };
        Ok(Folder { path: path.to_owned(), identity, _lock: lock })
    }

    /// Made at random with the folder.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The lock file of a slot, to be locked exclusively by the worker's starter and inherited by the worker.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn slot_lock(&self, slot: u16) -> Result<File, FolderError> {
        let path = self.path.join(format!("slot-{slot}.lock"));
        open_lock(&path).map_err(failed(&path))
    }

    /// Writes a slot's file, or removes it; it is on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written: then no worker may be started.
    pub fn persist(&self, slot: u16, file: Option<&WorkerFile>) -> Result<(), FolderError> {
        let path = self.slot_path(slot);
        let done = match file {
            Some(file) => replace(&path, &serde_json::to_vec(file).expect("plain data")),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed.and_then(|()| sync_folder(&self.path)),
            },
        };
        done.map_err(failed(&path))
    }

    /// All slots that have a file, with what became of their workers.
    ///
    /// # Errors
    /// A file that makes no sense, or a worker that lives but cannot be told apart: better no supervisor than two workers.
    pub fn found(&self) -> Result<Vec<Found>, FolderError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed(&self.path))? {
            let path = entry.map_err(failed(&self.path))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let slot = name.strip_prefix("slot-").and_then(|rest| rest.strip_suffix(".json")).map(str::parse::<u16>);
            let Some(Ok(slot)) = slot else { continue };
            let bytes = std::fs::read(&path).map_err(failed(&path))?;
            let file: WorkerFile = serde_json::from_slice(&bytes)
                .map_err(|error| FolderError::Damaged { path: path.clone(), why: error.to_string() })?;
            if file.slot != slot {
                let why = format!("it is of slot {}, not of {slot}", file.slot);
                return Err(FolderError::Damaged { path, why });
            }
            let liveness = self.liveness(&file, &path)?;
            found.push(Found { file, liveness });
        }
        found.sort_by_key(|found| found.file.slot);
        Ok(found)
    }

    fn liveness(&self, file: &WorkerFile, path: &Path) -> Result<Liveness, FolderError> {
        if let Some(process) = file.process {
            let alive = start_of(process.pid).is_some_and(|start| start == process.start);
            return Ok(if alive { Liveness::Alive(process) } else { Liveness::Dead });
        }
        // Started perhaps, and then the supervisor crashed: the lock tells.
        let lock = self.slot_lock(file.slot)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Liveness::Dead),
            Err(_) => match holder(&lock).map_err(failed(path))? {
                Some(process) => Ok(Liveness::Alive(process)),
                None => {
                    let why =
                        "its slot is locked by a process that cannot be found; wait until that has ended".to_owned();
                    Err(FolderError::Damaged { path: path.to_owned(), why })
                }
            },
        }
    }

    fn slot_path(&self, slot: u16) -> PathBuf {
        self.path.join(format!("slot-{slot}.json"))
    }
}

/// When a process started, in clock ticks since the machine did. `None`: there is none, or it is dead and only waits to be reaped.
pub fn start_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold anything; what follows the last bracket is numbers.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The process that has this lock file open: the one descriptor it was given.
fn holder(lock: &File) -> io::Result<Option<Process>> {
    use std::os::unix::fs::MetadataExt;
    let wanted = lock.metadata()?;
    let own = std::process::id();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Processes of others cannot be looked into, and are none of ours.
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let same = |fd: io::Result<std::fs::DirEntry>| {
            let meta = fd.and_then(|fd| std::fs::metadata(fd.path()));
            meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()))
        };
        if pid != own && descriptors.into_iter().any(same) {
            return Ok(start_of(pid).map(|start| Process { pid, start }));
        }
    }
    Ok(None)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("files lie in folders");
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::Io { path, error }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::epoch::Epoch;

    fn file(slot: u16, process: Option<Process>) -> WorkerFile {
        WorkerFile { slot, topology: "words-1".into(), epoch: Epoch::first(3), process }
    }

    #[test]
    fn the_identity_stays_and_two_cannot_work_on_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path()).unwrap();
        let identity = first.identity().to_owned();
        assert_eq!(identity.len(), 32);
        assert!(matches!(Folder::open(folder.path()), Err(FolderError::InUse(_))));
        drop(first);
        assert_eq!(Folder::open(folder.path()).unwrap().identity(), identity);
        std::fs::write(folder.path().join("identity"), "torn").unwrap();
        let error = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no identity"), "{error}");
    }

    #[test]
    fn a_worker_is_found_by_pid_and_start_time_and_not_by_pid_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = Folder::open(folder.path()).unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let start = start_of(child.id()).unwrap();
        let process = Process { pid: child.id(), start };
        state.persist(0, Some(&file(0, Some(process)))).unwrap();
        state.persist(1, Some(&file(1, Some(Process { start: start + 1, ..process })))).unwrap();
        state.persist(2, Some(&file(2, None))).unwrap();
        let liveness = |state: &Folder| state.found().unwrap().iter().map(|f| f.liveness).collect::<Vec<_>>();
        assert_eq!(liveness(&state), [Liveness::Alive(process), Liveness::Dead, Liveness::Dead]);
        child.kill().unwrap();
        // A zombie is dead, too.
        while start_of(process.pid).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(liveness(&state)[0], Liveness::Dead);
        child.wait().unwrap();
        state.persist(0, None).unwrap();
        state.persist(0, None).unwrap();
        assert_eq!(state.found().unwrap().len(), 2);
    }

    #[test]
    fn a_worker_that_was_started_but_not_noted_is_found_by_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let state = Folder::open(folder.path()).unwrap();
        state.persist(4, Some(&file(4, None))).unwrap();
        let lock = state.slot_lock(4).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        // The child inherits it as its standard input; ours is closed, as a crash would.
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::from(lock)).spawn().unwrap();
        let process = Process { pid: child.id(), start: start_of(child.id()).unwrap() };
        assert_eq!(state.found().unwrap()[0].liveness, Liveness::Alive(process));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state.found().unwrap()[0].liveness, Liveness::Dead);
    }

    #[test]
    fn a_damaged_file_is_named_and_nothing_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let state = Folder::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("slot-7.json"), "{\"slot\": 7").unwrap();
        let error = state.found().unwrap_err().to_string();
        assert!(error.contains("slot-7.json") && error.contains("nothing was changed"), "{error}");
        state.persist(7, Some(&file(8, None))).unwrap();
        assert!(matches!(state.found(), Err(FolderError::Damaged { .. })));
    }
}
