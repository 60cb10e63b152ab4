//! A table of a file, by key: CSV with a line of names, or JSON objects, one a line.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use squall::Value;

use super::csv::CsvFields;
use super::parse::Column;
use crate::rows::parse_object;
use crate::state::write_key;

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// CSV whose first line names its columns. A record is a line.
    Csv,
    /// JSON objects, one a line.
    Json,
}

/// What of a file becomes a table.
#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    pub(crate) path: PathBuf,
    pub(crate) format: TableFormat,
    pub(crate) key: String,
    pub(crate) columns: Vec<String>,
    pub(crate) types: Vec<(String, Column)>,
    pub(crate) rows_max: usize,
}

/// What a file was when it was looked at: it has changed when this has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// The rows of a file by key: of rows with one key the last.
pub(crate) struct Table {
    rows: HashMap<Vec<u8>, Vec<Value>, ahash::RandomState>,
    pub(crate) version: Version,
}

pub(crate) fn version(path: &Path) -> std::io::Result<Version> {
    let metadata = fs::metadata(path)?;
    Ok(Version { inode: metadata.ino(), bytes: metadata.len(), modified: metadata.modified().ok() })
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with the file or one of its lines, which is named; half a table is none.
    pub(crate) fn read(spec: &TableSpec) -> Result<Table, String> {
        let at = spec.path.display();
        let cannot = |cause| format!("cannot read the table {at}: {cause}; check the path and that it may be read");
        // Before it is read: what changes meanwhile is seen at the next look.
        let version = version(&spec.path).map_err(cannot)?;
        let mut lines = BufReader::new(File::open(&spec.path).map_err(cannot)?).lines();
        let mut reader = match spec.format {
            TableFormat::Json => LineReader::Json,
            TableFormat::Csv => {
                let names = lines.next().transpose().map_err(cannot)?.unwrap_or_default();
                LineReader::csv(spec, &names).map_err(|cause| format!("the table {at}: {cause}"))?
            }
        };
        let skipped = if spec.format == TableFormat::Csv { 2 } else { 1 };
        let fields: Vec<String> = [&spec.key].into_iter().chain(&spec.columns).cloned().collect();
        let (mut rows, mut values, mut key) = (HashMap::default(), Vec::new(), Vec::new());
        for (number, line) in lines.enumerate() {
            let line = line.map_err(cannot)?;
            if line.trim().is_empty() {
                continue;
            }
            let wrong = |cause: String| format!("line {} of the table {at}: {cause}; correct it", number + skipped);
            reader.read(&line, &fields, &mut values).map_err(wrong)?;
            key.clear();
            write_key(values[0].key(), &mut key);
            rows.insert(key.clone(), values[1..].to_vec());
            if rows.len() > spec.rows_max {
                let most = spec.rows_max;
                return Err(format!(
                    "the table {at} has more than {most} rows; raise `rows_max` or use a smaller table"
                ));
            }
        }
        Ok(Table { rows, version })
    }

    /// The columns of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[Value]> {
        self.rows.get(key).map(Vec::as_slice)
    }
}

enum LineReader {
    Json,
    /// For the key and each column, its place and kind.
    Csv {
        record: CsvFields,
        places: Vec<(usize, Column)>,
        count: usize,
    },
}

impl LineReader {
    fn csv(spec: &TableSpec, names: &str) -> Result<LineReader, String> {
        let mut record = CsvFields::new(b',');
        let count = record.read(names.as_bytes())?;
        let names: Vec<String> =
            (0..count).map(|i| String::from_utf8_lossy(record.get(i).unwrap_or_default()).into_owned()).collect();
        let place = |name: &String| {
            let place = names.iter().position(|n| n == name);
            let kind = spec.types.iter().find(|(n, _)| n == name).map_or(Column::Text, |(_, kind)| *kind);
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let missing = || format!("it has no column `{name}`; {}", crate::registry::meant(name, &known, "columns"));
            place.map(|at| (at, kind)).ok_or_else(missing)
        };
        let places = [&spec.key].into_iter().chain(&spec.columns).map(place).collect::<Result<_, _>>()?;
        Ok(LineReader::Csv { record, places, count })
    }

    fn read(&mut self, line: &str, fields: &[String], into: &mut Vec<Value>) -> Result<(), String> {
        match self {
            LineReader::Json => parse_object(line.as_bytes(), fields, into),
            LineReader::Csv { record, places, count } => {
                into.clear();
                let found = record.read(line.as_bytes())?;
                if found != *count {
                    return Err(format!("the record has {found} fields, not {count}"));
                }
                for (at, kind) in places.iter() {
                    let part = std::str::from_utf8(record.get(*at).unwrap_or_default()).map_err(|e| e.to_string())?;
                    into.push(kind.read(part)?);
                }
                Ok(())
            }
        }
    }
}
