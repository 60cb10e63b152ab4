//! The files a topology is read from, and places in them.

use std::ops::Range;
use std::path::PathBuf;

/// A file, by its position in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIx(u32);

/// A place: a file and a range of bytes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileIx,
    /// First byte.
    pub start: u32,
    /// Byte behind the last.
    pub end: u32,
}

impl Span {
    /// The bytes.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// A part of this place: `from..to` counted from its start, cut at its end.
    pub(crate) fn part(self, from: usize, to: usize) -> Span {
        let at = |offset: usize| self.start.saturating_add(offset as u32).min(self.end);
        Span { file: self.file, start: at(from), end: at(to) }
    }
}

/// One file that was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// As messages name it: as it was given, or joined to the folder of the file that includes it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Line and column of a byte, both from 1; the column counts characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// All files of one topology: the one that was named first, then what it includes.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Largest file that is read. A topology of a thousand components has a tenth of it.
    pub const FILE_BYTES_MAX: u64 = 4 << 20;

    pub(crate) fn add(&mut self, path: PathBuf, text: String) -> FileIx {
        let ix = FileIx(self.files.len() as u32);
        self.files.push(Source { path, text });
        ix
    }

    /// A file.
    pub fn get(&self, file: FileIx) -> &Source {
        &self.files[file.0 as usize]
    }

    /// The text at a place.
    pub fn text(&self, span: Span) -> &str {
        &self.get(span.file).text[span.range()]
    }
}
