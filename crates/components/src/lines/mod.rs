//! Lines of files and folders.
//!
//! The reading rules, wherever lines are read ([`Lines`] and [`LineReader`]):
//! - Files come in the order of the inputs; the files below a folder in order of their paths. A file
//!   whose first 8 KiB hold a NUL is no text: it is passed over and counted.
//! - A line ends with `\n`; the last line of a file need not. The text is without the `\n`; a `\r`
//!   before it stays, as the whitespace it is.
//! - Bytes that are not UTF-8 become U+FFFD as in `String::from_utf8_lossy`, and are counted.
//! - A line longer than the limit comes in several pieces, cut beside whitespace, and counts as one
//!   line. A single word longer than the limit is an error.
//! - A file is read to the length it had when its task opened it. If it shrinks while it is read,
//!   that is an error.
//! - A file that begins as gzip or Zstandard files do is read as what was compressed, by one task.
//!
//! The parts that decide (which ranges of which files are a task's, where a line ends) are values
//! without I/O: `ranges` and `split`. [`RowLines`] emits rows of lines, of JSON objects or of CSV records, and can follow files
//! that grow (`follow`). Deliberately absent: encodings other than UTF-8.

mod error;
mod follow;
mod ranges;
mod reader;
mod rows;
mod split;
mod spout;
mod unpack;
mod walk;

pub use error::ReadError;
pub use ranges::Share;
pub use reader::{BINARY_TEST_BYTES, LineReader, LineText, LinesOptions, ReadCounts};
pub(crate) use rows::described;
pub use rows::{RowLines, Start};
pub use spout::{DeadLine, Line, LineRef, Lines, LinesAndLetters, LinesAndLettersStreams, LinesOut};
pub use walk::LinesInput;
