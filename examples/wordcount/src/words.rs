//! What the parent keeps of the counted words: totals, the most frequent, and the first that differs
//! from a plain count.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::plain::Counts;

/// Totals and the most frequent words, gathered row by row: memory for the `top` words only.
#[derive(Debug)]
pub(crate) struct Summary {
    /// Sum of all counts.
    pub(crate) total: u64,
    /// Number of different words.
    pub(crate) distinct: u64,
    top: usize,
    /// The best so far, the worst of them first.
    best: BinaryHeap<Reverse<(u64, Reverse<Box<str>>)>>,
}

impl Summary {
    /// An empty summary that keeps so many of the most frequent words.
    pub(crate) fn new(top: usize) -> Summary {
        Summary { total: 0, distinct: 0, top, best: BinaryHeap::new() }
    }

    /// Takes one row in.
    pub(crate) fn add(&mut self, word: &str, count: u64) {
        self.total += count;
        self.distinct += 1;
        let full = self.best.len() >= self.top;
        let worst = self.best.peek().map(|Reverse((count, Reverse(word)))| (*count, Reverse(&**word)));
        if full && worst.is_none_or(|worst| (count, Reverse(word)) <= worst) {
            return;
        }
        if full {
            self.best.pop();
        }
        self.best.push(Reverse((count, Reverse(word.into()))));
    }

    /// The most frequent words, the most frequent first, equal counts in order of the words.
    pub(crate) fn top(&self) -> Vec<(&str, u64)> {
        let mut rows: Vec<(&str, u64)> =
            self.best.iter().map(|Reverse((count, Reverse(word)))| (&**word, *count)).collect();
        rows.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        rows
    }
}

/// A word that the topology and the plain loop counted differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) word: Box<str>,
    /// The plain loop's count; 0 where it has no such word (any more: a second row of a word differs too).
    pub(crate) plain: u64,
    /// The topology's count; 0 where it has no such word.
    pub(crate) topology: u64,
}

/// Compares rows with a plain count, which it takes apart as it goes: the words are in memory once.
#[derive(Debug)]
pub(crate) struct Comparison {
    plain: Counts,
    /// How many words differ.
    pub(crate) differing: u64,
    /// The first of them in order of the words, whatever order the rows come in.
    pub(crate) first: Option<Difference>,
}

impl Comparison {
    /// Compares with this count.
    pub(crate) fn with(plain: Counts) -> Comparison {
        Comparison { plain, differing: 0, first: None }
    }

    /// Compares one row.
    pub(crate) fn row(&mut self, word: &str, count: u64) {
        let plain = self.plain.remove(word).unwrap_or(0);
        if plain != count {
            self.differs(word, plain, count);
        }
    }

    /// All rows have come: what the plain count has left was not counted.
    pub(crate) fn finish(&mut self) {
        for (word, plain) in std::mem::take(&mut self.plain) {
            self.differs(&word, plain, 0);
        }
    }

    fn differs(&mut self, word: &str, plain: u64, topology: u64) {
        self.differing += 1;
        if self.first.as_ref().is_none_or(|first| word < &*first.word) {
            self.first = Some(Difference { word: word.into(), plain, topology });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(&str, u64)]) -> Counts {
        rows.iter().map(|(word, count)| ((*word).into(), *count)).collect()
    }

    #[test]
    fn the_most_frequent_words_are_kept_in_any_order_of_the_rows() {
        let rows = [("d", 2), ("a", 5), ("c", 2), ("b", 2), ("e", 1)];
        for rotation in 0..rows.len() {
            let mut summary = Summary::new(3);
            let mut turned = rows;
            turned.rotate_left(rotation);
            turned.iter().for_each(|(word, count)| summary.add(word, *count));
            assert_eq!(summary.top(), [("a", 5), ("b", 2), ("c", 2)]);
            assert_eq!((summary.total, summary.distinct), (12, 5));
        }
    }

    #[test]
    fn no_top_at_all_still_counts() {
        let mut summary = Summary::new(0);
        summary.add("a", 3);
        assert_eq!((summary.top().len(), summary.total), (0, 3));
    }

    #[test]
    fn equal_counts_leave_no_difference() {
        let mut comparison = Comparison::with(counts(&[("a", 1), ("b", 2)]));
        comparison.row("b", 2);
        comparison.row("a", 1);
        comparison.finish();
        assert_eq!((comparison.differing, comparison.first), (0, None));
    }

    #[test]
    fn the_first_differing_word_is_told_with_both_counts() {
        let plain = counts(&[("a", 1), ("b", 2), ("c", 3)]);
        let mut comparison = Comparison::with(plain);
        comparison.row("c", 4);
        comparison.row("a", 1);
        comparison.row("x", 1);
        comparison.finish();
        let first = Difference { word: "b".into(), plain: 2, topology: 0 };
        assert_eq!((comparison.differing, comparison.first), (3, Some(first)));
    }

    #[test]
    fn a_word_counted_by_two_tasks_differs() {
        let mut comparison = Comparison::with(counts(&[("a", 2)]));
        comparison.row("a", 1);
        comparison.row("a", 1);
        comparison.finish();
        assert_eq!(comparison.differing, 2);
    }
}
