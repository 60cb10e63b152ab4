//! Record and replay of the exact stream: when each tuple is due, and its bytes.
//!
//! ```text
//! "SQTRACE1"  schema length:u32  schema  then per tuple  offset_ns:u64  length:u32  body
//! ```
//! All little-endian. A trace is read into memory as a whole, at most [`TRACE_BYTES_MAX`].

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use squall_load::Schema;
use squall_load::record::{HEADER_BYTES, RECORD_BYTES_MAX};

use super::arrival::Schedule;
use super::body::Body;

const MAGIC: &[u8; 8] = b"SQTRACE1";
/// The longest trace that is read.
pub const TRACE_BYTES_MAX: u64 = 4 << 30;

/// A recorded stream.
#[derive(Debug, Clone)]
pub struct Trace {
    /// When each tuple is due.
    pub offsets: Arc<[u64]>,
    bytes: Arc<[u8]>,
    /// Where each body begins and ends.
    places: Arc<[(usize, usize)]>,
    schema: Schema,
}

/// Writes the stream of a schedule and its bodies, without sending anything. Gives the number of tuples.
///
/// # Errors
/// What the system says.
pub fn record(schedule: &mut Schedule, body: &mut dyn Body, to: &mut dyn Write) -> io::Result<u64> {
    let schema = body.schema().to_string();
    to.write_all(MAGIC)?;
    to.write_all(&(schema.len() as u32).to_le_bytes())?;
    to.write_all(schema.as_bytes())?;
    let (mut n, mut bytes) = (0, Vec::new());
    while let Some(offset) = schedule.next_ns() {
        bytes.clear();
        body.write(n, offset, &mut bytes);
        to.write_all(&offset.to_le_bytes())?;
        to.write_all(&(bytes.len() as u32).to_le_bytes())?;
        to.write_all(&bytes)?;
        n += 1;
    }
    to.flush()?;
    Ok(n)
}

/// As [`record`], into a file.
///
/// # Errors
/// What the system says.
pub fn record_file(schedule: &mut Schedule, body: &mut dyn Body, path: &Path) -> io::Result<u64> {
    record(schedule, body, &mut BufWriter::with_capacity(1 << 20, File::create(path)?))
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// What is wrong with the file, with its name.
    pub fn read(path: &Path) -> Result<Trace, String> {
        let told = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let mut file = File::open(path).map_err(|e| told(&e))?;
        let length = file.metadata().map_err(|e| told(&e))?.len();
        if length > TRACE_BYTES_MAX {
            return Err(told(&format!("{length} bytes; a trace is read whole and has at most {TRACE_BYTES_MAX}")));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.read_to_end(&mut bytes).map_err(|e| told(&e))?;
        Trace::parse(bytes).map_err(|e| told(&e))
    }

    /// Reads the bytes of a trace.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: Vec<u8>) -> Result<Trace, String> {
        let cut = || "the trace is cut off; record it again".to_owned();
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
        if bytes.get(..8) != Some(MAGIC) {
            return Err("this is no trace of this version; `tuplegen record` writes them".to_owned());
        }
        let len = word(8).ok_or_else(cut)?;
        let schema = bytes.get(12..12 + len).ok_or_else(cut)?;
        let schema = String::from_utf8_lossy(schema).parse::<Schema>().map_err(|e| e.to_string())?;
        let (mut offsets, mut places, mut at) = (Vec::new(), Vec::new(), 12 + len);
        while at < bytes.len() {
            let offset = bytes.get(at..at + 8).and_then(|b| b.first_chunk()).map(|b| u64::from_le_bytes(*b));
            let (offset, len) = (offset.ok_or_else(cut)?, word(at + 8).ok_or_else(cut)?);
            if len > RECORD_BYTES_MAX - HEADER_BYTES || at + 12 + len > bytes.len() {
                return Err(cut());
            }
            if offsets.last().is_some_and(|last| offset < *last) {
                return Err("its times go backwards; record it again".to_owned());
            }
            offsets.push(offset);
            places.push((at + 12, at + 12 + len));
            at += 12 + len;
        }
        Ok(Trace { offsets: offsets.into(), places: places.into(), bytes: bytes.into(), schema })
    }
}

impl Body for Trace {
    fn write(&mut self, seq: u64, _: u64, to: &mut Vec<u8>) {
        if let Some((from, end)) = self.places.get(seq as usize) {
            to.extend_from_slice(&self.bytes[*from..*end]);
        }
    }

    fn schema(&self) -> Schema {
        self.schema.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::arrival::{Arrival, Length};
    use super::super::body::{FieldSpecs, Fields};
    use super::*;

    fn stream() -> (Schedule, Fields) {
        let length = Length { end_ns: u64::MAX, count: 500 };
        let specs = FieldSpecs::parse("id:u64=seq,word:str=zipf(100,1)", &|_| Err(String::new())).unwrap();
        let schedule = Schedule::new(&Arrival::Poisson, 1e5, length, 9, None).unwrap();
        (schedule, Fields::new(specs, "64..200".parse().unwrap(), 9))
    }

    #[test]
    fn a_replayed_trace_is_the_stream_that_was_recorded() {
        let mut bytes = Vec::new();
        let (mut schedule, mut body) = stream();
        assert_eq!(record(&mut schedule, &mut body, &mut bytes).unwrap(), 500);
        let mut trace = Trace::parse(bytes.clone()).unwrap();
        let (mut schedule, mut body) = stream();
        for n in 0..500 {
            let (mut due, mut got) = (Vec::new(), Vec::new());
            let offset = schedule.next_ns().unwrap();
            body.write(n, offset, &mut due);
            trace.write(n, 0, &mut got);
            assert_eq!((trace.offsets[n as usize], got), (offset, due));
        }
        assert_eq!(trace.schema().to_string(), "id:u64,word:str");
        // And recorded once more it is the same file.
        let length = Length { end_ns: u64::MAX, count: u64::MAX };
        let offsets = Some(trace.offsets.clone());
        let mut replayed = Schedule::new(&Arrival::Trace("t".into()), 0.0, length, 0, offsets).unwrap();
        let mut again = Vec::new();
        record(&mut replayed, &mut trace, &mut again).unwrap();
        assert!(again == bytes);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let mut bytes = Vec::new();
        let (mut schedule, mut body) = stream();
        record(&mut schedule, &mut body, &mut bytes).unwrap();
        assert!(Trace::parse(bytes[..bytes.len() - 1].to_vec()).unwrap_err().contains("cut off"));
        assert!(Trace::parse(b"something else".to_vec()).unwrap_err().contains("no trace"));
        assert!(Trace::parse(bytes[..11].to_vec()).is_err());
    }
}
