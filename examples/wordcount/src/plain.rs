//! The plain loop that a run is checked against: one thread, one map, no topology.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use squall::components::{LineReader, LinesInput, LinesOptions, ReadCounts, ReadError, Share};

/// Words and how often each occurs.
pub(crate) type Counts = AHashMap<Box<str>, u64>;

/// What the loop found, and how long it took.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) counts: Counts,
    pub(crate) read: ReadCounts,
    pub(crate) took: Duration,
}

/// Counts the words of the inputs, read by the same rules as the spout reads them.
pub(crate) fn count(inputs: &[LinesInput]) -> Result<Plain, ReadError> {
    let began = Instant::now();
    let mut reader = LineReader::new(&LinesOptions::over(inputs.iter().cloned()), Share::WHOLE)?;
    let mut counts = Counts::new();
    while let Some(line) = reader.next_line()? {
        for word in line.text.split_whitespace() {
            add(&mut counts, word);
        }
    }
    Ok(Plain { counts, read: reader.counts(), took: began.elapsed() })
}

/// Counts one occurrence; allocates for a new word only.
pub(crate) fn add(counts: &mut Counts, word: &str) {
    match counts.get_mut(word) {
        Some(count) => *count += 1,
        None => {
            counts.insert(word.into(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_inputs_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "to be or\nnot to be").unwrap();
        std::fs::write(folder.path().join("b"), "be\r\n").unwrap();
        let plain = count(&[folder.path().to_owned().into()]).unwrap();
        let mut rows: Vec<(&str, u64)> = plain.counts.iter().map(|(word, count)| (&**word, *count)).collect();
        rows.sort_unstable();
        assert_eq!(rows, [("be", 3), ("not", 1), ("or", 1), ("to", 2)]);
        assert_eq!((plain.read.lines, plain.read.bytes, plain.read.files), (3, 22, 2));
    }

    #[test]
    fn a_missing_input_is_an_error_that_names_it() {
        let error = count(&["/nowhere/text".into()]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/text"), "{error}");
    }
}
