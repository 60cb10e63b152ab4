//! The counting bolt: the one step of the topology that keeps state.

use std::collections::hash_map;

use squall::Results;
use squall::prelude::*;

use crate::plain::{self, Counts};
use crate::{Word, rows};

/// Counts the words that come to its task; when the input has ended, sends the counts to the parent of
/// the run.
#[derive(Default)]
pub(crate) struct Count {
    words: Counts,
    results: Option<Results>,
    /// What is left to send, once the input has ended.
    sending: Option<Sending>,
}

struct Sending {
    rows: hash_map::IntoIter<Box<str>, u64>,
    /// A chunk for which there was no room.
    waiting: Option<Vec<u8>>,
}

impl Bolt for Count {
    type In = Word;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.results = Some(ctx.results());
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Word>, _: &mut ()) -> Result<(), BoltError> {
        plain::add(&mut self.words, &input.word);
        Ok(())
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        let results = self.results.as_ref().expect("`prepare` comes first");
        let words = &mut self.words;
        let sending =
            self.sending.get_or_insert_with(|| Sending { rows: std::mem::take(words).into_iter(), waiting: None });
        while let Some(chunk) = sending.next_chunk() {
            if let Err((_, chunk)) = results.try_push(rows::KEY, chunk) {
                sending.waiting = Some(chunk);
                return Ok(Finish::More);
            }
        }
        Ok(Finish::Done)
    }
}

impl Sending {
    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        if let Some(chunk) = self.waiting.take() {
            return Some(chunk);
        }
        let mut chunk = Vec::new();
        while chunk.len() < rows::CHUNK_BYTES
            && let Some((word, count)) = self.rows.next()
        {
            rows::encode(&mut chunk, &word, count);
        }
        Some(chunk).filter(|chunk| !chunk.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall::testing::BoltHarness;

    fn counted(bolt: &mut BoltHarness<Count>) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = bolt
            .results()
            .iter()
            .inspect(|(key, _)| assert_eq!(key, rows::KEY))
            .flat_map(|(_, chunk)| {
                rows::decode(chunk)
                    .map(|row| row.map(|(word, count)| (word.to_owned(), count)).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn words_are_counted_and_sent_once_at_the_end() {
        let mut bolt = BoltHarness::new(Count::default);
        for word in ["be", "to", "be"] {
            bolt.send(Word { word: word.into() });
        }
        assert!(bolt.results().is_empty());
        bolt.finish();
        assert_eq!(counted(&mut bolt), [("be".to_owned(), 2), ("to".to_owned(), 1)]);
    }

    #[test]
    fn no_words_are_no_rows() {
        let mut bolt = BoltHarness::new(Count::default);
        bolt.finish();
        assert!(bolt.results().is_empty());
    }

    #[test]
    fn many_words_leave_in_chunks_of_bounded_size() {
        let words: Vec<(String, u64)> = (0..20_000).map(|n| (format!("word{n:05}"), 1)).collect();
        let mut counts: Counts = words.iter().map(|(word, count)| (word.as_str().into(), *count)).collect();
        let mut sending = Sending { rows: std::mem::take(&mut counts).into_iter(), waiting: None };
        let mut chunks = 0;
        let mut found = Vec::new();
        while let Some(chunk) = sending.next_chunk() {
            assert!(chunk.len() < rows::CHUNK_BYTES + 100);
            chunks += 1;
            found.extend(rows::decode(&chunk).map(|row| row.map(|(w, n)| (w.to_owned(), n)).unwrap()));
        }
        found.sort();
        assert_eq!(found, words);
        assert!(chunks > 10);
    }
}
