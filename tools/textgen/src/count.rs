//! A plain word count, for comparison.
//!
//! It keeps the reading rules of `make run` (files of a folder in order of their paths; a file with a
//! NUL in its first 8 KiB is skipped; a word is what `split_whitespace` yields; bytes that are not
//! UTF-8 are read lossily; an unterminated last line counts), but is written once more from
//! the standard library alone: an error in the stock line reader must not repeat here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordCount {
    /// How often each word occurs.
    pub words: HashMap<String, u64>,
    /// Sum of all counts.
    pub total: u64,
    /// Lines, an unterminated last one included.
    pub lines: u64,
    /// Bytes of the files read, newlines included.
    pub bytes: u64,
    /// Files read.
    pub files: u64,
    /// Files left out for a NUL in their first 8 KiB.
    pub skipped_binary: u64,
    /// Lines that are not UTF-8.
    pub invalid_utf8: u64,
}

/// A file that could not be counted.
#[derive(Debug)]
pub struct CountError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

impl std::fmt::Display for CountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot read {}: {}; name files and folders that this user may read", self.path.display(), self.cause)
    }
}

impl std::error::Error for CountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl WordCount {
    /// Counts a file, a folder with all below it, or (with a leading `@`) the files a file lists.
    ///
    /// # Errors
    /// The first path that cannot be read. What was counted before it stays counted.
    pub fn add_path(&mut self, path: &Path) -> Result<(), CountError> {
        if let Some(list) = path.to_str().and_then(|p| p.strip_prefix('@')) {
            let text = std::fs::read_to_string(list).map_err(|cause| CountError { path: list.into(), cause })?;
            return text.lines().filter(|line| !line.is_empty()).try_for_each(|line| self.add_path(Path::new(line)));
        }
        self.add_tree(path).map_err(|cause| CountError { path: path.to_owned(), cause })
    }

    fn add_tree(&mut self, path: &Path) -> io::Result<()> {
        if !std::fs::metadata(path)?.is_dir() {
            return self.add_file(File::open(path)?);
        }
        let mut entries: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let kind = entry.file_type()?;
            if kind.is_dir() || std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) {
                self.add_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, mut file: File) -> io::Result<()> {
        let mut head = Vec::new();
        file.by_ref().take(8192).read_to_end(&mut head)?;
        if head.contains(&0) {
            self.skipped_binary += 1;
            return Ok(());
        }
        file.rewind()?;
        self.files += 1;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            self.add_line(&line);
            line.clear();
        }
        Ok(())
    }

    /// Counts one line, given with its newline if it has one.
    pub fn add_line(&mut self, line: &[u8]) {
        self.lines += 1;
        self.bytes += line.len() as u64;
        let text = String::from_utf8_lossy(line);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            self.invalid_utf8 += 1;
        }
        for word in text.split_whitespace() {
            self.total += 1;
            match self.words.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    self.words.insert(word.to_owned(), 1);
                }
            }
        }
    }

    /// The `n` most frequent words, the most frequent first, equal counts in order of the words.
    pub fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut rows: Vec<(&str, u64)> = self.words.iter().map(|(word, &count)| (word.as_str(), count)).collect();
        rows.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        rows.truncate(n);
        rows
    }

    /// The counts under the keys that a run's report uses: `words{total,distinct,top}, lines, bytes`,
    /// and the rest beside them.
    pub fn to_json(&self, top: usize) -> serde_json::Value {
        let rows: Vec<_> = self
            .top(top)
            .into_iter()
            .map(|(word, count)| serde_json::json!({ "word": word, "count": count }))
            .collect();
        serde_json::json!({
            "words": { "total": self.total, "distinct": self.words.len(), "top": rows },
            "lines": self.lines,
            "bytes": self.bytes,
            "files": self.files,
            "skipped_binary": self.skipped_binary,
            "invalid_utf8": self.invalid_utf8,
        })
    }

    /// Compares with the report of a run over the same input: a sentence for each key that differs.
    pub fn differences(&self, report: &serde_json::Value) -> Vec<String> {
        let top = report["words"]["top"].as_array().map_or(0, Vec::len);
        let counted = self.to_json(top);
        let keys = ["/words/total", "/words/distinct", "/words/top", "/lines", "/bytes"];
        let differs = |key: &&str| report.pointer(key) != counted.pointer(key);
        keys.iter()
            .filter(|key| differs(key))
            .map(|key| {
                let show =
                    |value: &serde_json::Value| value.pointer(key).map_or("missing".to_owned(), ToString::to_string);
                format!("{key}: counted {}, reported {}", show(&counted), show(report))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &[u8]) -> WordCount {
        let mut count = WordCount::default();
        text.split_inclusive(|&b| b == b'\n').for_each(|line| count.add_line(line));
        count
    }

    #[test]
    fn words_lines_and_bytes_are_counted() {
        let count = counted(b"a b a\n\n  b\tc\r\nlast a");
        assert_eq!(count.top(9), [("a", 3), ("b", 2), ("c", 1), ("last", 1)]);
        assert_eq!((count.total, count.lines, count.bytes), (7, 4, 20));
    }

    #[test]
    fn invalid_bytes_are_read_as_the_replacement_character_and_counted_by_line() {
        let count = counted(b"ok\nx\xffy \xff\n");
        assert_eq!(count.invalid_utf8, 1);
        assert_eq!(count.words["x\u{fffd}y"], 1);
    }

    #[test]
    fn a_folder_a_list_and_its_files_give_the_same_count() {
        let folder = std::env::temp_dir().join(format!("textgen-count-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("b.txt"), "one two\n").unwrap();
        std::fs::write(folder.join("sub/a.txt"), "two").unwrap();
        std::fs::write(folder.join("c.bin"), b"two\0two").unwrap();
        let list = folder.with_extension("list");
        let names = ["b.txt", "c.bin", "sub/a.txt"].map(|n| folder.join(n).display().to_string());
        std::fs::write(&list, names.join("\n")).unwrap();

        let mut by_folder = WordCount::default();
        by_folder.add_path(&folder).unwrap();
        let mut by_list = WordCount::default();
        by_list.add_path(Path::new(&format!("@{}", list.display()))).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::remove_file(&list).unwrap();

        assert_eq!(by_folder, by_list);
        assert_eq!((by_folder.files, by_folder.skipped_binary, by_folder.lines), (2, 1, 2));
        assert_eq!(by_folder.top(1), [("two", 2)]);
    }

    #[test]
    fn a_report_is_compared_key_by_key() {
        let count = counted(b"a b a\n");
        let mut report = count.to_json(1);
        assert_eq!(count.differences(&report), Vec::<String>::new());
        report["lines"] = 2.into();
        report["words"].as_object_mut().unwrap().remove("total");
        assert_eq!(
            count.differences(&report),
            ["/words/total: counted 3, reported missing", "/lines: counted 1, reported 2"]
        );
        report["words"]["top"][0]["count"] = 1.into();
        assert_eq!(count.differences(&report).len(), 3);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = WordCount::default().add_path(Path::new("/nowhere/at all")).unwrap_err();
        assert!(error.to_string().contains("cannot read /nowhere/at all"), "{error}");
    }
}
