//! Follows files that grow, are rotated and are truncated, as a value: what is read comes out line by line, and time comes in.
//!
//! A file is known by device and inode, not by its path. So one that is renamed (rotated) goes on where it was, and what appears
//! under its path is another file, read from its start. Handles stay open, so no inode is used again meanwhile, and what is
//! written to a file after it was renamed or removed is still read: for [`LINGER_NS`] after no input leads to it any more.
//!
//! A file that is shorter than what was read of it was truncated and is read from its start. So is one whose last bytes before
//! the place of reading are not what they were: it was truncated and has grown beyond that place since the last look. What was
//! written and truncated away between two looks is lost: nobody can read it any more.
//!
//! One look reads at most 64 KiB of each of at most 512 files, so at most 32 MiB wait.
//!
//! Only lines with their newline come out; an unfinished last line comes out when its file is let go or truncated.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use super::error::ReadError;
use super::ranges::Share;
use super::walk::{LinesInput, Walk};

/// How long a file that no input leads to any more is still read.
pub(crate) const LINGER_NS: u64 = 10_000_000_000;
/// Files followed at a time by one task, at most: each has an open handle.
const FILES_MAX: usize = 512;
/// Bytes before the place of reading that tell whether the file is still the one that was read.
const TAIL_BYTES: usize = 64;
/// Bytes read of one file in one look.
const CHUNK_BYTES: usize = 64 * 1024;

/// Follows the files of inputs.
pub(crate) struct Follower {
    inputs: Vec<LinesInput>,
    share: Share,
    line_bytes_max: usize,
    /// Files that exist at the first look are read from their end.
    from_end: bool,
    looked: bool,
    files: Vec<Followed>,
    lines: VecDeque<Vec<u8>>,
    /// Lines that were longer than the limit and came out cut.
    pub(crate) cut: u64,
    pub(crate) truncated: u64,
}

/// Device and inode.
type FileId = (u64, u64);

struct Followed {
    id: FileId,
    path: PathBuf,
    file: File,
    offset: u64,
    /// What was read last, up to [`TAIL_BYTES`].
    tail: Vec<u8>,
    /// An unfinished line.
    part: Vec<u8>,
    /// When no input led to it any more.
    gone_ns: Option<u64>,
}

impl Follower {
    pub(crate) fn new(inputs: Vec<LinesInput>, share: Share, line_bytes_max: usize, from_end: bool) -> Follower {
        Follower {
            inputs,
            share,
            line_bytes_max,
            from_end,
            looked: false,
            files: Vec::new(),
            lines: VecDeque::new(),
            cut: 0,
            truncated: 0,
        }
    }

    /// The next line that was read.
    pub(crate) fn next_line(&mut self) -> Option<Vec<u8>> {
        self.lines.pop_front()
    }

    /// Looks at all files; what is new comes out of [`Follower::next_line`]. `false`: there was nothing new.
    ///
    /// # Errors
    /// When a file or folder cannot be read; an input that does not exist (yet, or just now) is none.
    pub(crate) fn look(&mut self, now_ns: u64) -> Result<bool, ReadError> {
        let before = self.lines.len();
        let found = self.find()?;
        for file in &mut self.files {
            match found.iter().find(|(id, _)| *id == file.id) {
                Some((_, path)) => {
                    file.gone_ns = None;
                    path.clone_into(&mut file.path);
                }
                None => {
                    file.gone_ns.get_or_insert(now_ns);
                }
            }
        }
        for (id, path) in found {
            if !self.files.iter().any(|f| f.id == id) {
                self.open(id, path)?;
            }
        }
        self.looked = true;
        let mut more = false;
        for file in &mut self.files {
            more |= file.read(self.line_bytes_max, &mut self.lines, &mut self.cut, &mut self.truncated)?;
        }
        let lines = &mut self.lines;
        self.files.retain_mut(|file| {
            let gone = file.gone_ns.is_some_and(|since| now_ns.saturating_sub(since) >= LINGER_NS);
            if gone && !more {
                file.finish_part(lines);
            }
            !gone || more
        });
        Ok(more || self.lines.len() > before)
    }

    /// Everything that the inputs lead to and that is this share's.
    fn find(&self) -> Result<Vec<(FileId, PathBuf)>, ReadError> {
        let mut all = Vec::new();
        for input in &self.inputs {
            let LinesInput::Path(path) = input else {
                let what = "a list of paths cannot be followed; name the files or folders themselves";
                return Err(ReadError::Options(what.to_owned()));
            };
            if fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                continue;
            }
            let walk = Walk::new(vec![input.clone()]);
            let mut walk = match walk {
                Ok(walk) => walk,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            loop {
                match walk.next_file() {
                    Ok(Some(found)) => {
                        let Ok(metadata) = fs::metadata(&found.path) else { continue };
                        let id = (metadata.dev(), metadata.ino());
                        if !is_compressed(&found.path) && self.is_mine(id) && !all.iter().any(|(i, _)| *i == id) {
                            all.push((id, found.path));
                        }
                    }
                    Ok(None) => break,
                    // Renamed or removed between being listed and being looked at: the next look sees.
                    Err(error) if error.is_not_found() => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }

    fn is_mine(&self, id: FileId) -> bool {
        // Not the path's hash: a file must stay with its task when it is renamed.
        let mut hasher = std::hash::DefaultHasher::new();
        id.hash(&mut hasher);
        hasher.finish() % u64::from(self.share.count) == u64::from(self.share.index)
    }

    fn open(&mut self, id: FileId, path: PathBuf) -> Result<(), ReadError> {
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(ReadError::Open { path, cause }),
        };
        // Rotated between the look and the opening: this is another file, which the next look finds.
        if (metadata.dev(), metadata.ino()) != id {
            return Ok(());
        }
        if self.files.len() == FILES_MAX {
            let what = format!(
                "more than {FILES_MAX} files are to be followed by one task; name fewer, or give the spout more tasks"
            );
            return Err(ReadError::Options(what));
        }
        let offset = if self.from_end && !self.looked { metadata.len() } else { 0 };
        let mut followed = Followed { id, path, file, offset, tail: Vec::new(), part: Vec::new(), gone_ns: None };
        followed.remember()?;
        self.files.push(followed);
        Ok(())
    }
}

fn is_compressed(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|e| e == "gz" || e == "zst")
}

impl Followed {
    /// Reads what is new, a chunk at most; `true`: there may be more.
    fn read(
        &mut self,
        line_bytes_max: usize,
        lines: &mut VecDeque<Vec<u8>>,
        cut: &mut u64,
        truncated: &mut u64,
    ) -> Result<bool, ReadError> {
        let len = self.file.metadata().map_err(|cause| self.failed(cause))?.len();
        if len < self.offset || (len > self.offset && !self.tail_is_unchanged()?) {
            *truncated += 1;
            self.finish_part(lines);
            self.offset = 0;
            self.tail.clear();
        }
        let want = usize::try_from(len.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        if want == 0 {
            return Ok(false);
        }
        let mut chunk = vec![0; want];
        let read = read_at(&self.file, &mut chunk, self.offset).map_err(|cause| self.failed(cause))?;
        chunk.truncate(read);
        self.offset += read as u64;
        let mut rest = &chunk[..];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let mut line = std::mem::take(&mut self.part);
            line.extend_from_slice(&rest[..end]);
            lines.push_back(line);
            rest = &rest[end + 1..];
        }
        self.part.extend_from_slice(rest);
        if self.part.len() > line_bytes_max {
            *cut += 1;
            lines.push_back(std::mem::take(&mut self.part));
        }
        self.remember()?;
        Ok(read == CHUNK_BYTES)
    }

    /// Notes the bytes before the place of reading.
    fn remember(&mut self) -> Result<(), ReadError> {
        let want = (self.offset as usize).min(TAIL_BYTES);
        self.tail.resize(want, 0);
        let mut tail = std::mem::take(&mut self.tail);
        let read = read_at(&self.file, &mut tail, self.offset - want as u64).map_err(|cause| self.failed(cause))?;
        tail.truncate(read);
        self.tail = tail;
        Ok(())
    }

    fn tail_is_unchanged(&self) -> Result<bool, ReadError> {
        let mut now = vec![0; self.tail.len()];
        let start = self.offset.saturating_sub(self.tail.len() as u64);
        let read = read_at(&self.file, &mut now, start).map_err(|cause| self.failed(cause))?;
        Ok(now[..read] == self.tail[..])
    }

    fn finish_part(&mut self, lines: &mut VecDeque<Vec<u8>>) {
        if !self.part.is_empty() {
            lines.push_back(std::mem::take(&mut self.part));
        }
    }

    fn failed(&self, cause: io::Error) -> ReadError {
        ReadError::Read { path: self.path.clone(), offset: self.offset, cause }
    }
}

fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Tail {
        follower: Follower,
        now_ns: u64,
    }

    impl Tail {
        fn of(path: PathBuf, from_end: bool) -> Tail {
            Tail { follower: Follower::new(vec![path.into()], Share::WHOLE, 1 << 20, from_end), now_ns: 0 }
        }

        fn lines(&mut self) -> Vec<String> {
            while self.follower.look(self.now_ns).unwrap() {}
            std::iter::from_fn(|| self.follower.next_line()).map(|l| String::from_utf8(l).unwrap()).collect()
        }
    }

    fn append(path: &std::path::Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_that_grows_gives_each_line_once_and_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail::of(path.clone(), false);
        assert!(tail.lines().is_empty(), "it does not exist yet");
        append(&path, "one\ntw");
        assert_eq!(tail.lines(), ["one"]);
        append(&path, "o\n\nthree\n");
        assert_eq!(tail.lines(), ["two", "", "three"]);
        assert!(tail.lines().is_empty());
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_even_if_written_afterwards_and_the_new_one_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        append(&path, "a\n");
        let mut tail = Tail::of(path.clone(), false);
        assert_eq!(tail.lines(), ["a"]);
        append(&path, "b\n");
        fs::rename(&path, &old).unwrap();
        append(&path, "c\n");
        append(&old, "late\nunfinished");
        let mut lines = tail.lines();
        lines.sort();
        assert_eq!(lines, ["b", "c", "late"]);
        append(&old, ", later\nlast");
        assert_eq!(tail.lines(), ["unfinished, later"]);
        tail.now_ns += LINGER_NS;
        assert_eq!(tail.lines(), ["last"], "an unfinished line comes when its file is let go");
        append(&old, " unseen\n");
        append(&path, "d\n");
        assert_eq!(tail.lines(), ["d"]);
    }

    #[test]
    fn a_truncated_file_is_read_from_its_start_also_when_it_has_grown_beyond_the_place_of_reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "old 1\nold 2\npart");
        let mut tail = Tail::of(path.clone(), false);
        assert_eq!(tail.lines(), ["old 1", "old 2"]);
        fs::write(&path, "new\n").unwrap();
        assert_eq!(tail.lines(), ["part", "new"]);
        fs::write(&path, "quite another text, longer than what was there\n").unwrap();
        assert_eq!(tail.lines(), ["quite another text, longer than what was there"]);
        assert_eq!(tail.follower.truncated, 2);
    }

    #[test]
    fn renaming_within_a_followed_folder_doubles_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        append(&at("log"), "1\n");
        let mut tail = Tail::of(folder.path().to_owned(), false);
        assert_eq!(tail.lines(), ["1"]);
        for round in 2..6 {
            fs::rename(at("log"), at(&format!("log.{round}"))).unwrap();
            append(&at("log"), &format!("{round}\n"));
            fs::write(at("log.1.gz"), b"not read").unwrap();
            assert_eq!(tail.lines(), [round.to_string()]);
        }
    }

    #[test]
    fn from_the_end_only_what_comes_later_is_read_but_new_files_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "before\n");
        let mut tail = Tail::of(folder.path().to_owned(), true);
        assert!(tail.lines().is_empty());
        append(&path, "after\n");
        append(&folder.path().join("new"), "whole\n");
        assert_eq!(tail.lines(), ["after", "whole"]);
    }

    #[test]
    fn tasks_share_the_files_and_keep_them_when_they_are_renamed() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..20 {
            append(&folder.path().join(format!("{i}")), &format!("{i}\n"));
        }
        let inputs = vec![LinesInput::Path(folder.path().to_owned())];
        let mut tails: Vec<Tail> = (0..3)
            .map(|index| Tail {
                follower: Follower::new(inputs.clone(), Share { index, count: 3 }, 1 << 20, false),
                now_ns: 0,
            })
            .collect();
        let read = |tails: &mut Vec<Tail>| tails.iter_mut().flat_map(Tail::lines).collect::<Vec<_>>();
        assert_eq!(read(&mut tails).len(), 20);
        for i in 0..20 {
            fs::rename(folder.path().join(format!("{i}")), folder.path().join(format!("renamed-{i}"))).unwrap();
            append(&folder.path().join(format!("renamed-{i}")), "more\n");
        }
        assert_eq!(read(&mut tails), vec!["more"; 20]);
    }
}
