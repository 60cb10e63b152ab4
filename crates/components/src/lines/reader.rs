//! Reads the lines of files, or one task's share of them: what the `Lines` spout does, as a value.
//!
//! It is public because a program that checks a topology's result needs to read by the same rules.
//! See the module above for these rules.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ReadError;
use super::ranges::{Ranges, Share, ranges_of};
use super::split::{LineSplitter, Step, cut_beside_whitespace};
use super::unpack::{MAGIC_BYTES, unpacked};
use super::walk::{LinesInput, Walk};

/// How many bytes at the start of a file are searched for a NUL.
pub const BINARY_TEST_BYTES: usize = 8 * 1024;
/// Bytes read from a file at a time: large enough that the system call does not show, small enough to
/// stay in a core's cache.
const CHUNK_BYTES: usize = 128 * 1024;

/// What to read and in which portions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesOptions {
    /// Files, folders and lists, read in this order. Default: none.
    pub inputs: Vec<LinesInput>,
    /// Length of the ranges that files are cut into for sharing among tasks. Default 4 MiB, at least
    /// 4 KiB. Ranges of equal inputs are equal in all tasks only if this is equal too.
    pub range_bytes: u64,
    /// Longest text of one tuple; a longer line comes in several. Default 16 MiB − 4 KiB, which leaves
    /// room for the headers of a tuple within the default `max_tuple_bytes` of a topology. At least
    /// 1 KiB.
    pub line_bytes_max: usize,
}

impl Default for LinesOptions {
    fn default() -> Self {
        LinesOptions { inputs: Vec::new(), range_bytes: 4 << 20, line_bytes_max: (16 << 20) - (4 << 10) }
    }
}

impl LinesOptions {
    /// Default options for the inputs given.
    pub fn over<I: Into<LinesInput>>(inputs: impl IntoIterator<Item = I>) -> LinesOptions {
        LinesOptions { inputs: inputs.into_iter().map(Into::into).collect(), ..LinesOptions::default() }
    }

    /// Bytes of all files of the inputs as they are now, for telling how far a run is: files that will be
    /// passed over are in it. `None` if there are more than `files_max` files, where looking takes long.
    ///
    /// # Errors
    /// When an input does not exist or a folder cannot be listed.
    pub fn total_bytes(&self, files_max: usize) -> Result<Option<u64>, ReadError> {
        let mut walk = Walk::new(self.inputs.clone())?;
        let mut files = 0;
        let mut bytes = 0;
        while let Some(found) = walk.next_file()? {
            files += 1;
            if files > files_max {
                return Ok(None);
            }
            bytes += found.len;
        }
        Ok(Some(bytes))
    }

    fn check(&self) -> Result<(), ReadError> {
        let wrong = |text: String| Err(ReadError::Options(text));
        if self.inputs.is_empty() {
            return wrong("no input; name at least one file, folder or @list".to_owned());
        }
        if self.range_bytes < 4096 {
            return wrong(format!("`range_bytes` is {}; the least is 4096", self.range_bytes));
        }
        if self.line_bytes_max < 1024 {
            return wrong(format!("`line_bytes_max` is {}; the least is 1024", self.line_bytes_max));
        }
        Ok(())
    }
}

/// What a reader has handed out and passed over so far. Summed over all shares, `lines` and `bytes` are
/// those of the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Lines, however many pieces each came in.
    pub lines: u64,
    /// Bytes of those lines in their files, newlines included.
    pub bytes: u64,
    /// Files of which this reader read the start.
    pub files: u64,
    /// Files passed over for a NUL in their first 8 KiB, each counted by the reader of its start.
    pub skipped_binary: u64,
    /// Entries of folders passed over because they are no plain files. Every reader walks the whole
    /// input, so only the reader of share 0 counts them.
    pub skipped_special: u64,
    /// Pieces of text that were not UTF-8 and were decoded with replacement characters.
    pub invalid_utf8: u64,
}

/// A line, or a piece of one that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineText<'a> {
    /// The text, without the newline.
    pub text: &'a str,
    /// Whether the line ends with this piece.
    pub last: bool,
}

/// Reads the lines of a share of an input, file by file.
#[derive(Debug)]
pub struct LineReader {
    walk: Walk,
    share: Share,
    range_bytes: u64,
    line_bytes_max: usize,
    file: Option<OpenFile>,
    splitter: LineSplitter,
    decoded: Decoded,
    counts: ReadCounts,
    /// By key of a file: what was read of it before and is not to be read again.
    done: HashMap<String, u64>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// Tells it from others, and from one that takes its place later.
    key: Arc<str>,
    /// Up to here its lines, as far as they are this share's, were read before.
    done: u64,
    source: Source,
    /// Length when it was opened; 0 means unknown. What is appended later is not read.
    len: u64,
    ranges: Ranges,
    /// Where the next chunk is read.
    position: u64,
}

/// Where the bytes of a file come from.
enum Source {
    /// The file itself, in any order.
    Plain(File),
    /// What was compressed, in order; first what was looked at already.
    Packed { ahead: Vec<u8>, at: usize, rest: Box<dyn Read> },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Source::Plain(_)) { "Plain" } else { "Packed" })
    }
}

impl Source {
    fn read_at(&mut self, room: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Source::Plain(file) => file.read_at(room, position),
            Source::Packed { ahead, at, rest } => {
                if *at == ahead.len() {
                    return rest.read(room);
                }
                let read = room.len().min(ahead.len() - *at);
                room[..read].copy_from_slice(&ahead[*at..*at + read]);
                *at += read;
                Ok(read)
            }
        }
    }

    /// Goes back to the start, after the first bytes were looked at.
    fn rewind(&mut self, looked_at: &[u8]) {
        if let Source::Packed { ahead, at, .. } = self {
            looked_at.clone_into(ahead);
            *at = 0;
        }
    }
}

/// A piece of text that had to be decoded, handed out in parts if decoding made it too long.
#[derive(Debug, Default)]
struct Decoded {
    text: String,
    /// Start of what has not been handed out.
    at: usize,
    /// Whether the line ends with the end of the text.
    last: bool,
}

impl LineReader {
    /// A reader at the start of its share.
    ///
    /// # Errors
    /// When an option is out of its range or an input does not exist.
    pub fn new(options: &LinesOptions, share: Share) -> Result<LineReader, ReadError> {
        options.check()?;
        if share.index >= share.count {
            let Share { index, count } = share;
            return Err(ReadError::Options(format!("share {index} of {count} does not exist")));
        }
        Ok(LineReader {
            walk: Walk::new(options.inputs.clone())?,
            share,
            range_bytes: options.range_bytes,
            line_bytes_max: options.line_bytes_max,
            file: None,
            splitter: LineSplitter::new(CHUNK_BYTES, options.line_bytes_max),
            decoded: Decoded::default(),
            counts: ReadCounts::default(),
            done: HashMap::new(),
        })
    }

    /// Leaves out what was read before: places by key, as [`LineReader::place`] told them. Only for the same share and options,
    /// which the keys tell.
    pub fn resume(&mut self, done: HashMap<String, u64>) {
        self.done = done;
    }

    /// Where the reader is: the key of its file, and the position behind the last line, or within a line that came in part.
    /// Everything of this share that lies before it in that file has been handed out.
    pub fn place(&self) -> Option<(Arc<str>, u64)> {
        self.file.as_ref().map(|file| (file.key.clone(), self.splitter.offset()))
    }

    /// What was read so far.
    pub fn counts(&self) -> ReadCounts {
        let skipped_special = if self.share.index == 0 { self.walk.skipped_special() } else { 0 };
        ReadCounts { skipped_special, ..self.counts }
    }

    /// The file being read.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// The next line or piece of a line; `None` after the last. May block on the disk.
    ///
    /// # Errors
    /// When a file or folder cannot be read, shrinks, or has a word longer than the limit. After an
    /// error the reader must not be used.
    pub fn next_line(&mut self) -> Result<Option<LineText<'_>>, ReadError> {
        if self.decoded.is_done() {
            let Some((span, last)) = self.next_piece()? else {
                return Ok(None);
            };
            let bytes = self.splitter.text(span);
            match std::str::from_utf8(bytes) {
                Ok(text) => return Ok(Some(LineText { text, last })),
                Err(_) => {
                    self.counts.invalid_utf8 += 1;
                    self.decoded = Decoded::from_bytes(bytes, last);
                }
            }
        }
        match self.decoded.next(self.line_bytes_max) {
            Some(line) => Ok(Some(line)),
            None => Err(word_too_long(&self.file, self.splitter.offset(), self.line_bytes_max)),
        }
    }

    /// The place of the next piece in the splitter's buffer, and whether its line ends with it.
    fn next_piece(&mut self) -> Result<Option<(Range<usize>, bool)>, ReadError> {
        loop {
            match self.splitter.step() {
                Step::Piece { text, raw_bytes, last } => {
                    self.counts.bytes += raw_bytes as u64;
                    self.counts.lines += u64::from(last);
                    return Ok(Some((text, last)));
                }
                Step::NeedInput => self.fill()?,
                Step::End => {
                    if !self.next_range()? {
                        return Ok(None);
                    }
                }
                Step::WordTooLong { offset } => {
                    return Err(word_too_long(&self.file, offset, self.line_bytes_max));
                }
            }
        }
    }

    /// Goes to the next range of this share, in the open file or a later one.
    fn next_range(&mut self) -> Result<bool, ReadError> {
        loop {
            if let Some(file) = &mut self.file
                && let Some(range) = file.ranges.next()
            {
                let Some(range) = unread(range, file.done) else { continue };
                file.go_to(range.start)?;
                self.splitter.begin(range);
                return Ok(true);
            }
            self.file = None;
            if !self.next_file()? {
                return Ok(false);
            }
        }
    }

    /// Opens the next file of which this share has a part; `false` after the last.
    fn next_file(&mut self) -> Result<bool, ReadError> {
        while let Some(found) = self.walk.next_file()? {
            let ranges = |len| ranges_of(&found.path, len, self.range_bytes, self.share);
            if ranges(found.len).next().is_none() {
                continue;
            }
            let opened = File::open(&found.path).and_then(|file| Ok((file.metadata()?, file)));
            let (key, (len, source)) = match opened {
                Ok((metadata, file)) => (self.key(&found.path, &metadata), unpack(metadata.len(), file)),
                Err(cause) => {
                    return Err(ReadError::Open { path: found.path, cause });
                }
            };
            let ranges = ranges(len);
            let Some(first) = ranges.clone().next() else {
                // A compressed file has one range, and it is another task's.
                continue;
            };
            let reads_start = first.start == 0;
            let done = self.done.get(&*key).copied().unwrap_or(0);
            // A file that has become shorter is another one.
            let done = if len > 0 && done > len { 0 } else { done };
            let mut file = OpenFile { path: found.path, key, done, source, len, ranges, position: 0 };
            if file.is_binary()? {
                self.counts.skipped_binary += u64::from(reads_start);
                continue;
            }
            self.counts.files += u64::from(reads_start);
            self.file = Some(file);
            return Ok(true);
        }
        Ok(false)
    }

    /// The file itself by its number, and how it is shared: with other ranges a place means something else.
    fn key(&self, path: &Path, metadata: &Metadata) -> Arc<str> {
        let Share { index, count } = self.share;
        let number = metadata.ino();
        format!("{number} {index}/{count} {} {}", self.range_bytes, path.display()).into()
    }

    /// Puts the next chunk of the open file into the splitter.
    fn fill(&mut self) -> Result<(), ReadError> {
        let file = self.file.as_mut().expect("a range that needs input has its file open");
        let read = file.read(self.splitter.room())?;
        self.splitter.filled(read);
        if read == 0 || (file.len > 0 && file.position == file.len) {
            self.splitter.close();
        }
        Ok(())
    }
}

/// What of a range is left where all lines of it that begin before `done` were read: from the newline before `done` on, since a
/// line belongs to the range that holds the newline before it. `None`: nothing.
fn unread(range: Range<u64>, done: u64) -> Option<Range<u64>> {
    let Some(newline) = done.checked_sub(1) else { return Some(range) };
    (range.end > newline).then(|| range.start.max(newline)..range.end)
}

/// Looks whether a file is compressed: then its length is that of what was compressed, which is unknown (0).
fn unpack(len: u64, file: File) -> (u64, Source) {
    let mut head = [0; MAGIC_BYTES];
    // What cannot be read is told where it is read.
    let read = file.read_at(&mut head, 0).unwrap_or(0);
    match unpacked(&head[..read], file) {
        Ok(rest) => (0, Source::Packed { ahead: Vec::new(), at: 0, rest }),
        Err(file) => (len, Source::Plain(file)),
    }
}

fn word_too_long(file: &Option<OpenFile>, offset: u64, limit: usize) -> ReadError {
    let path = file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
    ReadError::WordTooLong { path, offset, limit }
}

impl Decoded {
    fn from_bytes(bytes: &[u8], last: bool) -> Decoded {
        Decoded { text: String::from_utf8_lossy(bytes).into_owned(), at: 0, last }
    }

    fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    /// The next part of at most `max` bytes; `None` when a single word is longer.
    fn next(&mut self, max: usize) -> Option<LineText<'_>> {
        let rest = &self.text[self.at..];
        let bytes = if rest.len() <= max { rest.len() } else { cut_beside_whitespace(rest.as_bytes(), max)? };
        self.at += bytes;
        Some(LineText { text: &rest[..bytes], last: self.last && self.at == self.text.len() })
    }
}

impl OpenFile {
    /// What is read next begins there. What was compressed is read up to there.
    fn go_to(&mut self, position: u64) -> Result<(), ReadError> {
        if matches!(self.source, Source::Packed { .. }) {
            let mut room = vec![0; CHUNK_BYTES];
            while self.position < position {
                let most = room.len().min((position - self.position) as usize);
                if self.read(&mut room[..most])? == 0 {
                    break;
                }
            }
        }
        self.position = position;
        Ok(())
    }

    /// Reads at the position, never past the length that the file had when it was opened.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, ReadError> {
        let room = match usize::try_from(self.len - self.position.min(self.len)) {
            Ok(left) if self.len > 0 && left < room.len() => &mut room[..left],
            _ => room,
        };
        if room.is_empty() {
            return Ok(0);
        }
        loop {
            match self.source.read_at(room, self.position) {
                Ok(0) if self.position < self.len => {
                    return Err(ReadError::Shrank {
                        path: self.path.clone(),
                        expected: self.len,
                        found: self.position,
                    });
                }
                Ok(read) => {
                    self.position += read as u64;
                    return Ok(read);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    let (path, offset) = (self.path.clone(), self.position);
                    return Err(ReadError::Read { path, offset, cause });
                }
            }
        }
    }

    /// Whether a NUL lies in the first 8 KiB.
    fn is_binary(&mut self) -> Result<bool, ReadError> {
        let mut head = [0; BINARY_TEST_BYTES];
        let mut filled = 0;
        self.position = 0;
        while filled < head.len() {
            match self.read(&mut head[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        self.source.rewind(&head[..filled]);
        self.position = 0;
        Ok(memchr::memchr(0, &head[..filled]).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn options(path: &Path) -> LinesOptions {
        LinesOptions { range_bytes: 4096, line_bytes_max: 1024, ..LinesOptions::over([path.to_owned()]) }
    }

    /// All lines of a share, the pieces of a line joined by `|`.
    fn read(options: &LinesOptions, share: Share) -> Result<(Vec<String>, ReadCounts), ReadError> {
        let mut reader = LineReader::new(options, share)?;
        let mut lines = Vec::new();
        let mut inside = false;
        while let Some(line) = reader.next_line()? {
            assert!(line.text.len() <= options.line_bytes_max);
            if inside {
                let whole: &mut String = lines.last_mut().unwrap();
                whole.push('|');
                whole.push_str(line.text);
            } else {
                lines.push(line.text.to_owned());
            }
            inside = !line.last;
        }
        Ok((lines, reader.counts()))
    }

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn numbered_lines(count: usize) -> String {
        (0..count).map(|n| format!("line {n} {}\n", "x".repeat(n % 97))).collect()
    }

    #[test]
    fn several_tasks_share_a_file_and_read_every_line_once() {
        let text = numbered_lines(3000);
        let file = file_of(text.as_bytes());
        for count in 1..5 {
            let mut all = Vec::new();
            let mut sum = ReadCounts::default();
            for index in 0..count {
                let (lines, counts) = read(&options(file.path()), Share { index, count }).unwrap();
                assert_eq!(counts.lines, lines.len() as u64);
                all.extend(lines);
                sum.lines += counts.lines;
                sum.bytes += counts.bytes;
                sum.files += counts.files;
            }
            let number = |line: &String| line.split(' ').nth(1).unwrap().parse::<u32>().unwrap();
            all.sort_by_key(number);
            assert!(all.iter().map(String::as_str).eq(text.lines()), "{count} tasks");
            assert_eq!((sum.lines, sum.bytes, sum.files), (3000, text.len() as u64, 1));
        }
    }

    #[test]
    fn a_range_keeps_the_order_of_its_lines() {
        let text = numbered_lines(3000);
        let file = file_of(text.as_bytes());
        let (lines, _) = read(&options(file.path()), Share::WHOLE).unwrap();
        assert!(lines.iter().map(String::as_str).eq(text.lines()));
    }

    #[test]
    fn a_file_with_a_nul_in_its_first_8_kib_is_passed_over_and_counted_once() {
        let root = tempfile::tempdir().unwrap();
        let mut early = vec![b'x'; 20_000];
        early[8191] = 0;
        let mut late = vec![b'x'; 20_000];
        late.iter_mut().step_by(100).for_each(|b| *b = b' ');
        late[8192] = 0;
        fs::write(root.path().join("early"), early).unwrap();
        fs::write(root.path().join("late"), &late).unwrap();
        let mut sum = ReadCounts::default();
        for index in 0..3 {
            let (_, counts) = read(&options(root.path()), Share { index, count: 3 }).unwrap();
            sum.skipped_binary += counts.skipped_binary;
            sum.files += counts.files;
            sum.bytes += counts.bytes;
        }
        assert_eq!((sum.skipped_binary, sum.files, sum.bytes), (1, 1, 20_000));
    }

    #[test]
    fn crlf_stays_as_whitespace_and_the_last_line_needs_no_newline() {
        let file = file_of(b"one\r\n\r\nlast");
        let (lines, counts) = read(&options(file.path()), Share::WHOLE).unwrap();
        assert_eq!(lines, ["one\r", "\r", "last"]);
        assert_eq!((counts.lines, counts.bytes), (3, 11));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_as_the_standard_library_does_and_counted() {
        let bytes = b"ok\na\xff\xe3\x80 b\xf0\x9f\x8c\n\xed\xa0\x80\n";
        let file = file_of(bytes);
        let (lines, counts) = read(&options(file.path()), Share::WHOLE).unwrap();
        assert!(lines.iter().map(String::as_str).eq(String::from_utf8_lossy(bytes).lines()));
        assert_eq!((counts.invalid_utf8, counts.lines), (2, 3));
    }

    #[test]
    fn a_line_that_grows_beyond_the_limit_by_decoding_is_still_cut_beside_whitespace() {
        let line = b"\xff\xff\xff \xff\xff ".repeat(120);
        let file = file_of(&line);
        let (lines, counts) = read(&options(file.path()), Share::WHOLE).unwrap();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains('|'));
        assert_eq!(lines[0].replace('|', ""), String::from_utf8_lossy(&line));
        assert_eq!((counts.lines, counts.bytes), (1, line.len() as u64));
    }

    #[test]
    fn a_line_longer_than_the_limit_is_one_line_whose_words_stay_whole() {
        let words: Vec<String> = (0..2000).map(|n| format!("word{n}")).collect();
        let file = file_of(format!("short\n{}\nend\n", words.join(" ")).as_bytes());
        for count in 1..4 {
            let mut all = Vec::new();
            let mut lines_counted = 0;
            for index in 0..count {
                let (lines, counts) = read(&options(file.path()), Share { index, count }).unwrap();
                lines_counted += counts.lines;
                all.extend(lines);
            }
            assert_eq!((lines_counted, all.len()), (3, 3));
            let long = all.iter().find(|line| line.starts_with("word")).unwrap();
            assert!(long.matches('|').count() >= 10);
            assert!(long.split(['|', ' ']).filter(|w| !w.is_empty()).eq(&words));
        }
    }

    #[test]
    fn a_word_longer_than_the_limit_is_refused_with_its_file_its_place_and_the_remedy() {
        let file = file_of(format!("short\nab {}", "x".repeat(5000)).as_bytes());
        let error = read(&options(file.path()), Share::WHOLE).unwrap_err();
        assert!(matches!(error, ReadError::WordTooLong { offset: 9, limit: 1024, .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(&file.path().display().to_string()), "{message}");
        assert!(message.contains("max_tuple_bytes"), "{message}");
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error_that_says_so() {
        let text = numbered_lines(10_000);
        let file = file_of(text.as_bytes());
        let mut reader = LineReader::new(&options(file.path()), Share::WHOLE).unwrap();
        assert!(reader.next_line().unwrap().is_some());
        file.as_file().set_len(200_000).unwrap();
        let error = loop {
            match reader.next_line() {
                Ok(line) => assert!(line.is_some(), "the end was reached in silence"),
                Err(error) => break error,
            }
        };
        let ReadError::Shrank { expected, found, .. } = error else { panic!("{error}") };
        assert_eq!((expected, found), (text.len() as u64, 200_000));
    }

    #[test]
    fn a_file_that_grows_is_read_to_the_length_it_had_when_it_was_opened() {
        use std::io::Write;
        let text = numbered_lines(10_000);
        let file = file_of(text.as_bytes());
        let mut reader = LineReader::new(&options(file.path()), Share::WHOLE).unwrap();
        assert!(reader.next_line().unwrap().is_some());
        let mut appender = fs::OpenOptions::new().append(true).open(file.path()).unwrap();
        appender.write_all(b"more\n").unwrap();
        while reader.next_line().unwrap().is_some() {}
        assert_eq!(reader.counts().lines, 10_000);
    }

    #[test]
    fn a_file_that_gives_no_length_is_read_by_one_task() {
        let mut lines = 0;
        for index in 0..3 {
            let share = Share { index, count: 3 };
            lines += read(&options(Path::new("/proc/self/status")), share).unwrap().1.lines;
        }
        let expected = fs::read_to_string("/proc/self/status").unwrap().lines().count();
        assert_eq!(lines, expected as u64);
    }

    #[test]
    fn a_read_that_fails_names_the_file_the_place_and_the_cause() {
        let error = read(&options(Path::new("/proc/self/mem")), Share::WHOLE).unwrap_err();
        assert!(matches!(error, ReadError::Read { offset: 0, .. }), "{error:?}");
        assert!(error.to_string().contains("cannot read /proc/self/mem at byte 0"), "{error}");
    }

    #[test]
    fn empty_files_have_no_lines_and_still_count_as_files() {
        let file = file_of(b"");
        let (lines, counts) = read(&options(file.path()), Share::WHOLE).unwrap();
        assert!(lines.is_empty());
        assert_eq!(counts, ReadCounts { files: 1, ..ReadCounts::default() });
    }

    #[test]
    fn the_bytes_of_an_input_are_known_in_advance_unless_it_has_too_many_files() {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in [("a", 10), ("b", 20), ("c", 0)] {
            fs::write(root.path().join(name), vec![b'x'; bytes]).unwrap();
        }
        let options = options(root.path());
        assert_eq!(options.total_bytes(3).unwrap(), Some(30));
        assert_eq!(options.total_bytes(2).unwrap(), None);
        assert!(LinesOptions::over(["/nowhere"]).total_bytes(9).is_err());
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let good = options(Path::new("/"));
        for (wrong, word) in [
            (LinesOptions { inputs: Vec::new(), ..good.clone() }, "no input"),
            (LinesOptions { range_bytes: 4095, ..good.clone() }, "`range_bytes` is 4095"),
            (LinesOptions { line_bytes_max: 10, ..good.clone() }, "`line_bytes_max` is 10"),
        ] {
            let error = LineReader::new(&wrong, Share::WHOLE).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let share = Share { index: 2, count: 2 };
        assert!(LineReader::new(&good, share).unwrap_err().to_string().contains("share 2 of 2"));
    }
}
