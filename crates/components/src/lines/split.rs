//! Cuts the bytes of a range of a file into lines, without reading anything itself.
//!
//! The owner asks for [`room`](LineSplitter::room), puts bytes there, says
//! [`filled`](LineSplitter::filled), and takes steps until one is [`Step::NeedInput`]. Where the bytes
//! were cut into chunks makes no difference to the steps: tests try every chunking.
//!
//! A line ends with `\n`, which is not part of its text; a `\r` before it is, as whitespace. The last
//! line of a file need not end with `\n`. A line longer than the limit comes in pieces, cut beside a
//! whitespace character of any script, so that no word is cut and the pieces put together are the line.
//!
//! Memory: one buffer of the chunk size; while a longer line passes, up to the limit and one chunk. It
//! shrinks again afterwards.

use std::ops::Range;

/// Most bytes in which UTF-8 writes a whitespace character.
const WHITESPACE_BYTES_MAX: usize = 3;

/// State of one range being cut. Invariant: `start <= scanned <= end <= buffer.len()`.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    buffer: Vec<u8>,
    /// First byte not yet handed out.
    start: usize,
    /// No newline lies in `start..scanned`.
    scanned: usize,
    /// End of the bytes filled in.
    end: usize,
    /// Position in the file of the byte at `start`.
    offset: u64,
    /// Lines that start after this position belong to a later range.
    range_end: u64,
    state: State,
    /// No more bytes will come.
    closed: bool,
    chunk_bytes: usize,
    line_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Looking for the newline after which the first own line starts.
    Skipping,
    /// A line starts at `start`.
    LineStart,
    /// The first pieces of the line at `start` have been handed out.
    InsideLine,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A line or a piece of one: `last` tells the last (or only) piece. `raw_bytes` is what was taken
    /// from the file for it, the newline included. Read the text by [`LineSplitter::text`] before the
    /// next step.
    Piece { text: Range<usize>, raw_bytes: usize, last: bool },
    /// Fill in more bytes, or close.
    NeedInput,
    /// All lines of the range have been handed out.
    End,
    /// A single word is longer than the limit; `offset` is where it (or the line's rest before it) starts.
    WordTooLong { offset: u64 },
}

impl LineSplitter {
    /// `line_bytes_max` bounds the text of a piece. `chunk_bytes` is how much room is offered at a time.
    pub(crate) fn new(chunk_bytes: usize, line_bytes_max: usize) -> LineSplitter {
        assert!(chunk_bytes > 0 && line_bytes_max > 0, "checked when the reader was made");
        LineSplitter {
            buffer: vec![0; chunk_bytes],
            start: 0,
            scanned: 0,
            end: 0,
            offset: 0,
            range_end: 0,
            state: State::LineStart,
            closed: true,
            chunk_bytes,
            line_bytes_max,
        }
    }

    /// Forgets what is left of the last range and begins another; its bytes are filled in from
    /// `range.start` on.
    pub(crate) fn begin(&mut self, range: Range<u64>) {
        (self.start, self.scanned, self.end) = (0, 0, 0);
        self.offset = range.start;
        self.range_end = range.end;
        self.state = if range.start == 0 { State::LineStart } else { State::Skipping };
        self.closed = false;
    }

    /// Room for more bytes, at least one.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // Grows by doubling, so that a line of n bytes is moved log n times.
            let longer = (self.buffer.len() * 2).min(self.buffer_bytes_max());
            self.buffer.resize(longer.max(self.end + 1), 0);
        } else if self.buffer.len() > self.chunk_bytes && self.end < self.chunk_bytes / 2 {
            self.buffer.truncate(self.chunk_bytes);
            self.buffer.shrink_to_fit();
        }
        &mut self.buffer[self.end..]
    }

    fn buffer_bytes_max(&self) -> usize {
        self.line_bytes_max.saturating_add(self.chunk_bytes)
    }

    /// Says that `bytes` bytes of the room now hold input.
    pub(crate) fn filled(&mut self, bytes: usize) {
        assert!(bytes <= self.buffer.len() - self.end, "more was filled in than there was room");
        self.end += bytes;
    }

    /// Says that the file ends here.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Position in the file of the next byte to hand out.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The text of the piece that the last step told.
    pub(crate) fn text(&self, piece: Range<usize>) -> &[u8] {
        &self.buffer[piece]
    }

    /// Takes the next step.
    pub(crate) fn step(&mut self) -> Step {
        if self.state == State::Skipping
            && let Some(step) = self.skip_foreign_line()
        {
            return step;
        }
        if self.state == State::LineStart && self.offset > self.range_end {
            return Step::End;
        }
        match memchr::memchr(b'\n', &self.buffer[self.scanned..self.end]) {
            Some(found) => {
                // The newline stays unscanned, so that the pieces of a long line find it at once.
                self.scanned += found;
                self.hand_out(self.scanned, 1)
            }
            None => {
                self.scanned = self.end;
                if self.closed && self.start == self.end {
                    return Step::End;
                }
                // A cut looks at the character after the limit, so it waits for that.
                let enough = self.line_bytes_max + WHITESPACE_BYTES_MAX;
                if self.closed || self.end - self.start > enough { self.hand_out(self.end, 0) } else { Step::NeedInput }
            }
        }
    }

    /// Passes over the end of a line that belongs to the range before; `None` once an own line starts.
    fn skip_foreign_line(&mut self) -> Option<Step> {
        let in_range = usize::try_from(self.range_end - self.offset).unwrap_or(usize::MAX);
        let window = in_range.min(self.end - self.start);
        match memchr::memchr(b'\n', &self.buffer[self.start..self.start + window]) {
            Some(found) => {
                self.take(found + 1);
                self.state = State::LineStart;
                None
            }
            None => {
                self.take(window);
                let done = self.closed || self.offset == self.range_end;
                Some(if done { Step::End } else { Step::NeedInput })
            }
        }
    }

    /// Hands out the line whose known text ends at `text_end`, or a piece of it if it is too long.
    /// `newline_bytes` follow the text; without them the line may go on unless the file ends.
    fn hand_out(&mut self, text_end: usize, newline_bytes: usize) -> Step {
        let text = self.start..text_end;
        if text.len() <= self.line_bytes_max {
            self.take(text.len() + newline_bytes);
            self.state = State::LineStart;
            return Step::Piece { raw_bytes: text.len() + newline_bytes, text, last: true };
        }
        match cut_beside_whitespace(&self.buffer[text.clone()], self.line_bytes_max) {
            Some(cut) => {
                self.take(cut);
                self.state = State::InsideLine;
                Step::Piece { text: text.start..text.start + cut, raw_bytes: cut, last: false }
            }
            None => Step::WordTooLong { offset: self.offset },
        }
    }

    fn take(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
        self.scanned = self.scanned.max(self.start);
    }
}

/// The largest cut of at most `max` bytes into a text longer than that, so that a whitespace character
/// ends before the cut or starts after it. `None` where the first `max` bytes and more are one word.
///
/// Whitespace is recognized in bytes that need not be UTF-8: it starts with a byte that always starts a
/// character, so lossy decoding sees the same character there.
pub(crate) fn cut_beside_whitespace(text: &[u8], max: usize) -> Option<usize> {
    debug_assert!(text.len() > max);
    if whitespace_at(&text[max..]).is_some() {
        return Some(max);
    }
    (0..max).rev().find_map(|at| {
        let bytes = whitespace_at(&text[at..])?;
        // A character that straddles the limit stays whole in the rest; one at the very start then
        // leaves nothing to cut off.
        if at + bytes <= max { Some(at + bytes) } else { Some(at).filter(|&at| at > 0) }
    })
}

/// Length of the whitespace character (as in `char::is_whitespace`) at the start of `bytes`.
fn whitespace_at(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [b'\t'..=b'\r' | b' ', ..] => Some(1),
        [0xc2, 0x85 | 0xa0, ..] => Some(2),
        [0xe1, 0x9a, 0x80, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
        | [0xe2, 0x81, 0x9f, ..]
        | [0xe3, 0x80, 0x80, ..] => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with every kind of line end, of lengths for which all cuts can be tried.
    const TEXTS: &[&[u8]] = &[
        b"",
        b"\n",
        b"\n\n",
        b"a",
        b"a\n",
        b"one two\nthree\n",
        b"one\r\n\r\ntwo\r\n",
        b"\n\nx\n\nlast",
        b"\xff\xfe\n\xe3\x80\x80z\xe3\n",
        b"no newline at all",
    ];

    #[derive(Debug, Default, PartialEq, Eq, Clone)]
    struct Out {
        /// Pieces of a line joined by `|`.
        lines: Vec<Vec<u8>>,
        raw_bytes: usize,
    }

    /// Feeds `text` from the start of `range` on in the chunks given, the last repeated.
    fn split(text: &[u8], range: Range<u64>, chunks: &[usize], line_bytes_max: usize) -> Out {
        let mut splitter = LineSplitter::new(*chunks.iter().max().unwrap(), line_bytes_max);
        splitter.begin(range.clone());
        let mut at = range.start as usize;
        let mut sizes = chunks.iter().chain(std::iter::repeat(chunks.last().unwrap()));
        let mut out = Out::default();
        let mut inside = false;
        loop {
            match splitter.step() {
                Step::Piece { text, raw_bytes, last } => {
                    let piece = splitter.text(text);
                    assert!(piece.len() <= line_bytes_max);
                    if inside {
                        let line = out.lines.last_mut().unwrap();
                        line.push(b'|');
                        line.extend_from_slice(piece);
                    } else {
                        out.lines.push(piece.to_vec());
                    }
                    out.raw_bytes += raw_bytes;
                    inside = !last;
                }
                Step::NeedInput => {
                    let room = splitter.room();
                    let n = (*sizes.next().unwrap()).min(text.len() - at).min(room.len());
                    room[..n].copy_from_slice(&text[at..at + n]);
                    at += n;
                    splitter.filled(n);
                    if at == text.len() {
                        splitter.close();
                    }
                }
                Step::End => return out,
                Step::WordTooLong { offset } => panic!("word too long at {offset}"),
            }
        }
    }

    fn plain_lines(text: &[u8]) -> Vec<Vec<u8>> {
        let lines = text.split_inclusive(|&b| b == b'\n');
        lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()).collect()
    }

    #[test]
    fn every_chunking_gives_the_same_lines() {
        for text in TEXTS {
            for first in 1..=text.len().max(1) {
                for rest in 1..=text.len().max(1) {
                    let out = split(text, 0..u64::MAX, &[first, rest], 100);
                    assert_eq!(out.lines, plain_lines(text), "{text:?} in {first}, {rest}");
                    assert_eq!(out.raw_bytes, text.len());
                }
            }
        }
    }

    #[test]
    fn ranges_cut_anywhere_give_every_line_once_and_in_order() {
        for text in TEXTS.iter().filter(|text| !text.is_empty()) {
            let len = text.len() as u64;
            for cut in 1..=len {
                for second_cut in cut..=len {
                    for chunk in 1..=text.len() {
                        let mut all = Out::default();
                        for range in [0..cut, cut..second_cut, second_cut..len] {
                            if range.start < range.end {
                                let out = split(text, range, &[chunk], 100);
                                all.lines.extend(out.lines);
                                all.raw_bytes += out.raw_bytes;
                            }
                        }
                        assert_eq!(all.lines, plain_lines(text), "{text:?} cut at {cut}, {second_cut}");
                        assert_eq!(all.raw_bytes, text.len());
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_beside_whitespace_and_nothing_of_it_is_lost() {
        let text = "aa bb\u{3000}cc dd\u{a0}ee ff\u{2003}gg\n\nhh".as_bytes();
        let whole = plain_lines(text);
        for line_bytes_max in 5..40 {
            let at_once = split(text, 0..u64::MAX, &[text.len()], line_bytes_max);
            for chunk in 1..=text.len() {
                let out = split(text, 0..u64::MAX, &[chunk], line_bytes_max);
                assert_eq!(out, at_once, "limit {line_bytes_max}, chunks of {chunk}");
                assert_eq!(out.raw_bytes, text.len());
                let joined: Vec<Vec<u8>> =
                    out.lines.iter().map(|line| line.iter().copied().filter(|&b| b != b'|').collect()).collect();
                assert_eq!(joined, whole, "limit {line_bytes_max}, chunks of {chunk}");
                for line in &out.lines {
                    let line = std::str::from_utf8(line).unwrap();
                    let words: Vec<&str> = line.split('|').flat_map(str::split_whitespace).collect();
                    assert!(words.iter().all(|word| word.len() == 2), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_line_belongs_to_the_range_it_starts_in() {
        let text = b"a\nbb cc dd ee ff gg hh\ni\n";
        for chunk in 1..=text.len() {
            let first = split(text, 0..4, &[chunk], 6);
            assert_eq!(first.lines, [b"a".to_vec(), b"bb cc |dd ee |ff gg |hh".to_vec()]);
            assert!(split(text, 4..8, &[chunk], 6).lines.is_empty());
            assert_eq!(split(text, 8..25, &[chunk], 6).lines, [b"i".to_vec()]);
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_stays_whole() {
        for chunk in 1..12 {
            assert_eq!(split(b"abc de\nx", 0..99, &[chunk], 6).lines.len(), 2);
            assert_eq!(split(b"abc de", 0..99, &[chunk], 6).lines, [b"abc de".to_vec()]);
        }
    }

    #[test]
    fn a_word_of_exactly_the_limit_passes_and_a_longer_one_is_refused_with_its_place() {
        assert_eq!(split(b"abcdef ghi", 0..99, &[4], 6).lines, [b"abcdef| ghi".to_vec()]);
        let mut splitter = LineSplitter::new(64, 6);
        splitter.begin(0..99);
        let text = b"x\nab abcdefg ij";
        splitter.room()[..text.len()].copy_from_slice(text);
        splitter.filled(text.len());
        splitter.close();
        assert!(matches!(splitter.step(), Step::Piece { last: true, .. }));
        assert!(matches!(splitter.step(), Step::Piece { last: false, raw_bytes: 3, .. }));
        assert_eq!(splitter.step(), Step::WordTooLong { offset: 5 });
    }

    #[test]
    fn the_whitespace_table_agrees_with_the_standard_library() {
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let mut bytes = [0; 4];
            let text = c.encode_utf8(&mut bytes);
            let expected = c.is_whitespace().then_some(text.len());
            assert_eq!(whitespace_at(text.as_bytes()), expected, "{c:?}");
        }
    }

    #[test]
    fn the_buffer_stays_bounded_and_shrinks_after_a_long_line() {
        let mut splitter = LineSplitter::new(16, 1000);
        splitter.begin(0..u64::MAX);
        let mut largest = 0;
        let mut steps = 0;
        while steps < 200 {
            match splitter.step() {
                Step::NeedInput => {
                    let room = splitter.room();
                    // A space each tenth byte, and never a newline.
                    for (i, byte) in room.iter_mut().enumerate() {
                        *byte = if i % 10 == 0 { b' ' } else { b'x' };
                    }
                    let bytes = room.len();
                    splitter.filled(bytes);
                    largest = largest.max(splitter.buffer.len());
                }
                Step::Piece { .. } => steps += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(largest <= 1016, "{largest}");
        while splitter.step() != Step::NeedInput {}
        let room = splitter.room();
        room.fill(b'\n');
        let bytes = room.len();
        splitter.filled(bytes);
        while splitter.step() != Step::NeedInput {}
        assert_eq!(splitter.room().len(), 16);
    }
}
