//! One record of CSV (RFC 4180), read into fields and written from them, with buffers that are used again.

use std::ops::Range;

use squall::Value;

use super::parse::Column;

/// Reads records, one at a time.
pub(crate) struct CsvFields {
    /// Its tables take half a kilobyte.
    reader: Box<csv_core::Reader>,
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl CsvFields {
    pub(crate) fn new(delimiter: u8) -> CsvFields {
        let reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        CsvFields { reader: Box::new(reader), text: vec![0; 256], ends: vec![0; 16], count: 0 }
    }

    /// Takes a record apart; gives the number of its fields.
    ///
    /// # Errors
    /// When the text holds another record behind the first, or none.
    pub(crate) fn read(&mut self, record: &[u8]) -> Result<usize, String> {
        use csv_core::ReadRecordResult::{End, InputEmpty, OutputEndsFull, OutputFull, Record};
        self.reader.reset();
        let (mut input, mut written, mut ends) = (record, 0, 0);
        loop {
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.text[written..], &mut self.ends[ends..]);
            (input, written, ends) = (&input[read..], written + wrote, ends + ended);
            match result {
                // Called again with no input: that is the end of the record.
                InputEmpty => {}
                OutputFull => self.text.resize(self.text.len() * 2, 0),
                OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                Record if input.iter().all(|b| b"\r\n".contains(b)) => {
                    self.count = ends;
                    return Ok(ends);
                }
                Record => return Err("the text has more than one CSV record".to_owned()),
                End => return Err("the text has no CSV record".to_owned()),
            }
        }
    }

    /// Takes a record with exactly these columns apart.
    ///
    /// # Errors
    /// When it has more or fewer fields, or one that is not of its column's kind.
    pub(crate) fn read_columns(
        &mut self,
        record: &str,
        columns: &[(String, Column)],
        into: &mut Vec<Value>,
    ) -> Result<(), String> {
        into.clear();
        let count = self.read(record.as_bytes())?;
        if count != columns.len() {
            return Err(format!("the record has {count} fields, not {}", columns.len()));
        }
        for (i, (name, kind)) in columns.iter().enumerate() {
            let part = std::str::from_utf8(self.get(i).unwrap_or_default()).map_err(|e| e.to_string())?;
            into.push(kind.read(part).map_err(|e| format!("`{name}`: {e}"))?);
        }
        Ok(())
    }

    fn range(&self, field: usize) -> Range<usize> {
        let start = if field == 0 { 0 } else { self.ends[field - 1] };
        start..self.ends[field]
    }

    /// A field of the record that was read last.
    pub(crate) fn get(&self, field: usize) -> Option<&[u8]> {
        (field < self.count).then(|| &self.text[self.range(field)])
    }
}

/// Appends a field, in quotes where it needs them.
pub(crate) fn write_csv_field(field: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special = |b: &u8| *b == delimiter || matches!(b, b'"' | b'\n' | b'\r');
    if !field.is_empty() && !field.iter().any(special) {
        return out.extend_from_slice(field);
    }
    // An empty field in quotes: a record of one empty field would be no record.
    out.push(b'"');
    for part in field {
        if *part == b'"' {
            out.push(b'"');
        }
        out.push(*part);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in proptest::collection::vec("[a-c\",;\n\r é]{0,6}", 1..40)) {
            let mut record = Vec::new();
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    record.push(b',');
                }
                write_csv_field(field.as_bytes(), b',', &mut record);
            }
            let mut read = CsvFields::new(b',');
            prop_assert_eq!(read.read(&record).unwrap(), fields.len());
            for (i, field) in fields.iter().enumerate() {
                prop_assert_eq!(read.get(i).unwrap(), field.as_bytes());
            }
            prop_assert_eq!(read.get(fields.len()), None);
        }
    }

    #[test]
    fn two_records_or_none_are_refused_and_a_line_end_is_not() {
        let mut read = CsvFields::new(b';');
        assert_eq!(read.read(b"a;b\r\n").unwrap(), 2);
        assert!(read.read(b"a\nb").unwrap_err().contains("more than one"));
        assert!(read.read(b"").unwrap_err().contains("no CSV record"));
        assert_eq!(read.read(b"a,b").unwrap(), 1);
    }
}
