//! Where a source goes on after a restart: for each key (a file, a partition) the place up to which everything was acknowledged.
//!
//! One file per task, `STATE/TOPOLOGY/COMPONENT-TASK.offsets`, appended to: a header of 8 bytes (`SQOFFS01`), then records of a
//! length (4 bytes) and a CRC-32 (4 bytes) of what follows them, a value (8 bytes) and a key; all numbers little-endian. The last record of a key counts.
//! A torn or damaged record and what follows it are cut off when the file is opened: older places stay, so what is lost is
//! only time. For the same reason nothing waits for the disk but the end of a run. When most of the file is out of date it is
//! written anew beside its place, synced, and renamed.
//!
//! Invariant: a place is never ahead of what was acknowledged. The file is locked while it is open, so that two runs with one
//! state do not mix.
//!
//! Without a state folder the places live in the worker's memory: they outlast an executor, not the worker.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use squall::Context;

const MAGIC: &[u8; 8] = b"SQOFFS01";
/// Bytes of a record beside its key.
const RECORD_BYTES: usize = 16;
/// The longest key: a path and a little more.
const KEY_BYTES_MAX: usize = 64 << 10;
/// Bytes out of date that a file may hold in any case.
const STALE_BYTES_MIN: u64 = 1 << 20;

/// Why places cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OffsetError {
    /// The file or its folder cannot be used.
    #[error("the state in {path} cannot be {what}: {cause}; check the folder given with --state, and its free space")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// Another run has it open.
    #[error("the state in {path} is in use by another run; wait for its end, or give this run another --state")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is another kind of file.
    #[error("{path} is no file of offsets; move it away, or give another --state")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

type Places = HashMap<String, u64>;

/// See the module.
pub struct OffsetStore {
    places: Places,
    /// Keys with a new place, without repetition.
    changed: Vec<String>,
    kept: Kept,
}

enum Kept {
    /// By the worker.
    Memory(Arc<Mutex<Places>>),
    File {
        path: PathBuf,
        file: File,
        bytes: u64,
        stale: u64,
    },
}

fn at(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> OffsetError {
    let path = path.to_owned();
    move |cause| OffsetError::Io { path, what, cause }
}

impl OffsetStore {
    /// The places of a task: in the state folder of the run, or in the worker's memory.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn of_task(ctx: &Context) -> Result<OffsetStore, OffsetError> {
        match ctx.state_dir() {
            Some(folder) => Self::open(&folder.join(format!("{}-{}.offsets", ctx.component(), ctx.task_index()))),
            None => {
                let places = ctx.resource(&format!("offsets of task {}", ctx.task()), Mutex::<Places>::default);
                let known = places.lock().expect("nothing panics while it is held").clone();
                Ok(OffsetStore { places: known, changed: Vec::new(), kept: Kept::Memory(places) })
            }
        }
    }

    /// The places in a file, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be used, is in use, or is another kind of file.
    pub fn open(path: &Path) -> Result<OffsetStore, OffsetError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder, "made"))?;
        }
        let opened = File::options().read(true).append(true).create(true).open(path);
        let mut file = opened.map_err(at(path, "opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OffsetError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(at(path, "locked")(cause)),
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(at(path, "read"))?;
        // A file that is shorter than its header was torn when it was made.
        if content.len() >= MAGIC.len() && !content.starts_with(MAGIC)
            || !MAGIC.starts_with(&content[..content.len().min(8)])
        {
            return Err(OffsetError::Foreign { path: path.to_owned() });
        }
        let (places, whole, stale) = read_records(&content);
        if whole < content.len() || content.len() < MAGIC.len() {
            file.set_len(whole as u64).map_err(at(path, "mended"))?;
        }
        let mut bytes = whole as u64;
        if whole == 0 {
            file.write_all(MAGIC).map_err(at(path, "written"))?;
            bytes = MAGIC.len() as u64;
        }
        Ok(OffsetStore { places, changed: Vec::new(), kept: Kept::File { path: path.to_owned(), file, bytes, stale } })
    }

    /// The place of a key; 0 if it has none.
    pub fn get(&self, key: &str) -> u64 {
        self.places.get(key).copied().unwrap_or(0)
    }

    /// All places.
    pub fn places(&self) -> &HashMap<String, u64> {
        &self.places
    }

    /// Notes a place, for the next [`OffsetStore::commit`].
    pub fn set(&mut self, key: &str, place: u64) {
        match self.places.get_mut(key) {
            Some(known) => *known = place,
            None => drop(self.places.insert(key.to_owned(), place)),
        }
        if self.changed.iter().rev().all(|k| k != key) {
            self.changed.push(key.to_owned());
        }
    }

    /// Whether something was noted since the last commit.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes what was noted since the last call: it outlasts the process from here on.
    ///
    /// # Errors
    /// The file cannot be written. What was noted stays, for another attempt.
    pub fn commit(&mut self) -> Result<(), OffsetError> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let OffsetStore { places, changed, kept } = self;
        match kept {
            Kept::Memory(shared) => {
                let mut shared = shared.lock().expect("nothing panics while it is held");
                for key in changed.drain(..) {
                    let place = places[&key];
                    shared.insert(key, place);
                }
            }
            Kept::File { path, file, bytes, stale } => {
                let mut records = Vec::new();
                changed.iter().for_each(|key| put_record(&mut records, key, places[key]));
                if let Err(cause) = file.write_all(&records) {
                    // What is torn would hide what follows it.
                    drop(file.set_len(*bytes));
                    return Err(at(path, "written")(cause));
                }
                *bytes += records.len() as u64;
                // At most: keys that are new have no older record.
                *stale += records.len() as u64;
                changed.clear();
                if *stale > STALE_BYTES_MIN && *stale > *bytes / 2 {
                    self.rewrite()?;
                }
            }
        }
        Ok(())
    }

    /// Writes the file anew with the last record of each key only.
    fn rewrite(&mut self) -> Result<(), OffsetError> {
        let OffsetStore { places, kept: Kept::File { path, file, bytes, stale }, .. } = self else { return Ok(()) };
        let mut content = MAGIC.to_vec();
        places.iter().for_each(|(key, place)| put_record(&mut content, key, *place));
        let beside = path.with_extension("new");
        let write = || -> io::Result<File> {
            // Locked before anybody else can see it under its name.
            let new = File::options().read(true).append(true).create(true).open(&beside)?;
            new.set_len(0)?;
            (&new).write_all(&content)?;
            new.sync_all()?;
            new.lock()?;
            fs::rename(&beside, &*path)?;
            Ok(new)
        };
        *file = write().map_err(at(path, "written anew"))?;
        (*bytes, *stale) = (content.len() as u64, 0);
        Ok(())
    }

    /// Commits, and waits for the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&mut self) -> Result<(), OffsetError> {
        self.commit()?;
        match &self.kept {
            Kept::Memory(_) => Ok(()),
            Kept::File { path, file, .. } => file.sync_all().map_err(at(path, "synced")),
        }
    }
}

fn put_record(out: &mut Vec<u8>, key: &str, place: u64) {
    // Longer ones are cut, and so are told apart less: what they cost is only time.
    let key = &key.as_bytes()[key.len().saturating_sub(KEY_BYTES_MAX)..];
    let start = out.len();
    out.extend((key.len() as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(place.to_le_bytes());
    out.extend(key);
    let sum = crc32fast::hash(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// The places, the bytes of whole records with the header, and how many of them are out of date.
fn read_records(content: &[u8]) -> (Places, usize, u64) {
    let mut places = Places::new();
    let mut stale = 0;
    let mut at = if content.len() < MAGIC.len() { return (places, 0, 0) } else { MAGIC.len() };
    while let Some((key, place)) = read_record(&content[at..]) {
        let bytes = RECORD_BYTES + key.len();
        if places.insert(key.to_owned(), place).is_some() {
            stale += bytes as u64;
        }
        at += bytes;
    }
    (places, at, stale)
}

fn read_record(rest: &[u8]) -> Option<(&str, u64)> {
    let word = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let len = word(0)? as usize;
    if len > KEY_BYTES_MAX {
        return None;
    }
    let body = rest.get(8..RECORD_BYTES + len)?;
    if crc32fast::hash(body) != word(4)? {
        return None;
    }
    let place = u64::from_le_bytes(body[..8].try_into().ok()?);
    Some((std::str::from_utf8(&body[8..]).ok()?, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(path: &Path) -> OffsetStore {
        OffsetStore::open(path).unwrap()
    }

    #[test]
    fn places_are_there_again_after_a_restart_as_of_the_last_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/lines-0.offsets");
        let mut first = store(&path);
        first.set("a", 5);
        first.set("b", 7);
        first.set("a", 9);
        first.commit().unwrap();
        first.set("b", 1000);
        drop(first);
        let again = store(&path);
        assert_eq!([again.get("a"), again.get("b"), again.get("c")], [9, 7, 0]);
    }

    #[test]
    fn whatever_is_torn_or_damaged_at_the_end_older_places_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.offsets");
        let mut first = store(&path);
        for place in 1..=20 {
            first.set("a", place);
            first.commit().unwrap();
        }
        drop(first);
        let whole = fs::read(&path).unwrap();
        let record = RECORD_BYTES + 1;
        for len in 0..=whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let found = store(&path).get("a");
            assert_eq!(found, (len.saturating_sub(8) / record) as u64, "cut to {len} bytes");
        }
        for at in 8..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            let mut found = store(&path);
            assert_eq!(found.get("a"), ((at - 8) / record) as u64, "damaged at {at}");
            // And it goes on behind what is whole.
            found.set("a", 99);
            found.commit().unwrap();
            drop(found);
            assert_eq!(store(&path).get("a"), 99);
        }
    }

    #[test]
    fn a_file_of_old_places_is_written_anew_and_stays_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.offsets");
        let mut first = store(&path);
        let long = "k".repeat(1000);
        for place in 0..3000 {
            first.set(&long, place);
            first.set("short", place);
            first.commit().unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 2 * STALE_BYTES_MIN);
        assert!(matches!(OffsetStore::open(&path), Err(OffsetError::InUse { .. })));
        drop(first);
        let again = store(&path);
        assert_eq!((again.get(&long), again.get("short")), (2999, 2999));
    }

    #[test]
    fn another_kind_of_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.offsets");
        for content in ["a letter to somebody", "abc"] {
            fs::write(&path, content).unwrap();
            assert!(matches!(OffsetStore::open(&path), Err(OffsetError::Foreign { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
}
