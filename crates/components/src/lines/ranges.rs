//! Which lines of which files a task reads.
//!
//! A file is cut into ranges of equal length, so that several tasks can share one large file. Range
//! `k` of a file belongs to task `(start + k) mod tasks`, where `start` is a hash of the file's path:
//! every task comes to the same answer from the path alone, so a file that appears while tasks start
//! never shifts the ranges of the others, and small files spread evenly.
//!
//! A line belongs to the range that holds the newline *before* it; the first line of a file belongs
//! to range 0. So a range with `start > 0` begins after the first newline at or past `start`, and
//! reads past its end to finish its last line. Every line belongs to exactly one range, wherever the
//! cuts fall.

use std::ops::Range;
use std::path::Path;

/// One task's place among the tasks that share the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// This task, counted from zero.
    pub index: u32,
    /// How many tasks share the input; at least 1.
    pub count: u32,
}

impl Share {
    /// The only reader: everything belongs to it.
    pub const WHOLE: Share = Share { index: 0, count: 1 };
}

/// The ranges of a file of `len` bytes that belong to `share`, in order.
///
/// A file whose length is given as 0 has one range without an end: files such as those of `/proc` say 0
/// and still have content.
pub(crate) fn ranges_of(path: &Path, len: u64, range_bytes: u64, share: Share) -> Ranges {
    assert!(range_bytes > 0 && share.index < share.count, "checked when the reader was made");
    let count = u64::from(share.count);
    let start = path_hash(path) % count;
    let first = (u64::from(share.index) + count - start) % count;
    Ranges { next: first, step: count, range_bytes, len }
}

/// Iterator over the ranges of one file that belong to one task.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    next: u64,
    step: u64,
    range_bytes: u64,
    len: u64,
}

impl Iterator for Ranges {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let index = self.next;
        self.next += self.step;
        if self.len == 0 {
            return (index == 0).then_some(0..u64::MAX);
        }
        let start = index.checked_mul(self.range_bytes).filter(|&start| start < self.len)?;
        Some(start..start.saturating_add(self.range_bytes).min(self.len))
    }
}

/// FNV-1a with a final mix: equal in all processes, unlike the standard library's hasher.
fn path_hash(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    let hash =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_shares(name: &str, len: u64, range_bytes: u64, count: u32) -> Vec<Range<u64>> {
        let share = |index| Share { index, count };
        let mut ranges: Vec<_> =
            (0..count).flat_map(|index| ranges_of(Path::new(name), len, range_bytes, share(index))).collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    #[test]
    fn the_ranges_of_all_tasks_cover_a_file_once() {
        for len in 1..40 {
            for range_bytes in 1..=len + 1 {
                for count in 1..6 {
                    let ranges = all_shares("some/file", len, range_bytes, count);
                    assert_eq!(ranges[0].start, 0);
                    assert_eq!(ranges.last().unwrap().end, len);
                    assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                    assert!(ranges.iter().all(|range| range.start < range.end));
                }
            }
        }
    }

    #[test]
    fn a_file_without_a_known_length_is_one_open_range_of_one_task() {
        for count in 1..6 {
            assert_eq!(all_shares("proc/cpuinfo", 0, 4096, count), vec![0..u64::MAX]);
        }
    }

    #[test]
    fn a_huge_file_is_dealt_evenly() {
        for index in 0..4 {
            let share = Share { index, count: 4 };
            let ranges = ranges_of(Path::new("huge"), 1 << 30, 1 << 22, share);
            assert_eq!(ranges.count(), 64);
        }
    }

    #[test]
    fn small_files_spread_over_the_tasks() {
        let mut files = [0; 4];
        for file in 0..4000 {
            let name = format!("folder/file-{file}.txt");
            for (index, files) in files.iter_mut().enumerate() {
                let share = Share { index: index as u32, count: 4 };
                *files += ranges_of(Path::new(&name), 10, 1 << 22, share).count();
            }
        }
        assert_eq!(files.iter().sum::<usize>(), 4000);
        assert!(files.iter().all(|&count| (900..1100).contains(&count)), "{files:?}");
    }

    #[test]
    fn a_range_near_the_largest_offset_does_not_overflow() {
        let ranges = ranges_of(Path::new("x"), u64::MAX, u64::MAX - 1, Share::WHOLE);
        assert_eq!(ranges.collect::<Vec<_>>(), vec![0..u64::MAX - 1, u64::MAX - 1..u64::MAX]);
    }
}
