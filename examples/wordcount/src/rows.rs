//! Counted words as bytes, on their way from the workers to the parent of the run.
//!
//! A row is the word's length (u32), the word, and its count (u64), little-endian. Rows are packed into
//! chunks of about [`CHUNK_BYTES`], so that a row costs no message of its own.

use std::fmt;

/// The key under which chunks are pushed.
pub(crate) const KEY: &str = "words";
/// A chunk is closed once it is this long. A word of any length fits: chunks hold at least one row.
pub(crate) const CHUNK_BYTES: usize = 32 * 1024;

/// Appends a row.
pub(crate) fn encode(chunk: &mut Vec<u8>, word: &str, count: u64) {
    let len = u32::try_from(word.len()).expect("a word is part of a tuple, which is shorter than 4 GiB");
    chunk.extend_from_slice(&len.to_le_bytes());
    chunk.extend_from_slice(word.as_bytes());
    chunk.extend_from_slice(&count.to_le_bytes());
}

/// The rows of a chunk; ends with an error where the chunk is not what [`encode`] made.
pub(crate) fn decode(chunk: &[u8]) -> impl Iterator<Item = Result<(&str, u64), Malformed>> {
    let mut rest = Some(chunk).filter(|chunk| !chunk.is_empty());
    std::iter::from_fn(move || {
        let row = decode_first(rest?);
        rest = row.as_ref().ok().map(|(_, rest)| *rest).filter(|rest| !rest.is_empty());
        Some(row.map(|(row, _)| row))
    })
}

type Row<'a> = (&'a str, u64);

fn decode_first(bytes: &[u8]) -> Result<(Row<'_>, &[u8]), Malformed> {
    let (len, bytes) = bytes.split_first_chunk().ok_or(Malformed)?;
    let (word, bytes) = bytes.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(Malformed)?;
    let (count, bytes) = bytes.split_first_chunk().ok_or(Malformed)?;
    let word = std::str::from_utf8(word).map_err(|_| Malformed)?;
    Ok(((word, u64::from_le_bytes(*count)), bytes))
}

/// A chunk that no worker of this build sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result row is malformed; are parent and workers of one build?")
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_packed() {
        let rows = [("", 0), ("a", 1), ("größer", u64::MAX), ("日本語", 7)];
        let mut chunk = Vec::new();
        rows.iter().for_each(|(word, count)| encode(&mut chunk, word, *count));
        assert!(decode(&chunk).map(Result::unwrap).eq(rows));
        assert_eq!(decode(&[]).count(), 0);
    }

    #[test]
    fn a_chunk_cut_anywhere_inside_a_row_is_malformed() {
        let mut chunk = Vec::new();
        encode(&mut chunk, "one", 1);
        let first = chunk.len();
        encode(&mut chunk, "two", 2);
        for len in (1..chunk.len()).filter(|len| *len != first) {
            let rows: Vec<_> = decode(&chunk[..len]).collect();
            assert_eq!(rows.last(), Some(&Err(Malformed)), "cut at {len}");
        }
    }

    #[test]
    fn a_word_that_is_not_utf8_is_malformed() {
        assert!(decode(b"\x01\0\0\0\xff\0\0\0\0\0\0\0\0").eq([Err(Malformed)]));
    }
}
