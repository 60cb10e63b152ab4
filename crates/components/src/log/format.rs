//! Segments as bytes.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use squall::AlignedVec;

const MAGIC: &[u8; 8] = b"SQUALLG1";
/// A row's archive, at most: what `max_tuple_bytes` may be, and no more than a file of one record.
const ROW_BYTES_MAX: u32 = 1 << 30;
const NAMES_BYTES_MAX: u32 = 1 << 20;

/// What is wrong with a log, with the file and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("cannot {what} {}: {cause}; check the path, the permissions and the disk", path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("{} is no log of rows: {what}; name a folder that the component log-append wrote", path.display())]
    NoLog { path: PathBuf, what: &'static str },
    #[error(
        "{} is damaged at byte {at}: {what}; move the file away to go on without its rows, or restore it", path.display()
    )]
    Damaged { path: PathBuf, at: u64, what: String },
    #[error("{} has rows with the fields {found:?}, not {wanted:?}; correct `fields`", path.display())]
    Fields { path: PathBuf, found: Vec<String>, wanted: Vec<String> },
}

impl LogError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |cause| LogError::Io { what, path, cause }
    }
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() & 7
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Appends the header of a segment.
pub(crate) fn write_header(fields: &[String], out: &mut Vec<u8>) {
    let names = serde_json::to_vec(fields).expect("names are text");
    out.extend_from_slice(MAGIC);
    write_block(&names, out);
}

/// Appends a record.
pub(crate) fn write_record(row: &[u8], out: &mut Vec<u8>) {
    write_block(row, out);
}

fn write_block(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len()), 0);
}

/// Segments of a partition by their first offset, ascending.
pub(crate) fn segments(partition: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let list = || -> io::Result<Vec<(u64, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(partition)? {
            let path = entry?.path();
            let base = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".log")?.parse().ok());
            all.extend(base.map(|base| (base, path)));
        }
        all.sort();
        Ok(all)
    };
    list().map_err(LogError::io("list", partition))
}

pub(crate) fn segment_path(partition: &Path, base: u64) -> PathBuf {
    partition.join(format!("{base:020}.log"))
}

/// Reads one segment from its start.
pub(crate) struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    pub(crate) fields: Vec<String>,
    /// Where the next record begins.
    pub(crate) at: u64,
    row: AlignedVec,
}

impl SegmentReader {
    /// Opens a segment and reads its header. `None`: the header is not written whole (yet).
    pub(crate) fn open(path: &Path) -> Result<Option<SegmentReader>, LogError> {
        let file = File::open(path).map_err(LogError::io("open", path))?;
        let mut reader = SegmentReader {
            path: path.to_owned(),
            file: BufReader::with_capacity(64 * 1024, file),
            fields: Vec::new(),
            at: 0,
            row: AlignedVec::new(),
        };
        let mut magic = [0; 8];
        if !reader.fill(&mut magic)? {
            return Ok(None);
        }
        let no_log = |what| LogError::NoLog { path: path.to_owned(), what };
        if magic != *MAGIC {
            return Err(no_log("it begins otherwise"));
        }
        reader.at = 8;
        if !reader.block(NAMES_BYTES_MAX)? {
            return Ok(None);
        }
        reader.fields = serde_json::from_slice(&reader.row).map_err(|_| no_log("its names are none"))?;
        Ok(Some(reader))
    }

    /// The next row's archive, 8-aligned; `None` at the end of what is written whole. May be called again when more is written.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, LogError> {
        Ok(if self.block(ROW_BYTES_MAX)? { Some(&self.row) } else { None })
    }

    pub(crate) fn damaged(&self, at: u64, what: impl Into<String>) -> LogError {
        LogError::Damaged { path: self.path.clone(), at, what: what.into() }
    }

    /// Reads a block into `row` and goes behind it; `false`, and nowhere, if it is not written whole.
    fn block(&mut self, most: u32) -> Result<bool, LogError> {
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return self.back();
        }
        let (length, sum) = (u32_at(&head, 0), u32_at(&head, 4));
        let left = self.len()?.saturating_sub(self.at + 8);
        let whole = u64::from(length) + padding(length as usize) as u64;
        // The length of a torn record may be anything: it never sizes memory beyond the file.
        if whole > left {
            return self.back();
        }
        if length > most || length == 0 {
            // Zeros are what some systems leave of a record that was being written when they stopped.
            return if self.is_zero_to_the_end()? {
                self.back()
            } else {
                Err(self.damaged(self.at, "a length cannot be"))
            };
        }
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.resize(whole as usize, 0);
        let filled = self.fill(&mut row)?;
        row.resize(length as usize, 0);
        self.row = row;
        if !filled {
            return self.back();
        }
        if crc32fast::hash(&self.row) != sum {
            let last = left == whole;
            return if last { self.back() } else { Err(self.damaged(self.at, "a record does not match its checksum")) };
        }
        self.at += 8 + whole;
        Ok(true)
    }

    fn len(&self) -> Result<u64, LogError> {
        Ok(self.file.get_ref().metadata().map_err(LogError::io("look at", &self.path))?.len())
    }

    fn is_zero_to_the_end(&mut self) -> Result<bool, LogError> {
        let (path, mut bytes) = (self.path.clone(), [0; 4096]);
        loop {
            match self.file.read(&mut bytes).map_err(LogError::io("read", &path))? {
                0 => return Ok(true),
                read if bytes[..read].iter().any(|b| *b != 0) => return Ok(false),
                _ => {}
            }
        }
    }

    fn back(&mut self) -> Result<bool, LogError> {
        let path = self.path.clone();
        self.file.seek(SeekFrom::Start(self.at)).map_err(LogError::io("read", &path))?;
        Ok(false)
    }

    /// Fills the buffer; `false` if the file ends before.
    fn fill(&mut self, into: &mut [u8]) -> Result<bool, LogError> {
        match self.file.read_exact(into) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(cause) => Err(LogError::Io { what: "read", path: self.path.clone(), cause }),
        }
    }
}
