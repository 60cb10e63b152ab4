//! The bytes of a tuple on its way out and back.
//!
//! ```text
//! record  len:u32  check:u32  seq:u64  due_ns:u64  sent_ns:u64  body
//! return  len:u32  part:u16  parts:u16  flags:u32  0:u32  ingest_ns:u64  egress_ns:u64  record
//! ```
//! All little-endian; `len` is that of the whole thing. The checksum is the lower half of XXH3-64 over everything behind it, so it covers the
//! stamps too. A chunk is records one after another, or returns.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes before a record's body.
pub const HEADER_BYTES: usize = 32;
/// Bytes before the record in a return.
pub const RETURN_BYTES: usize = 32;
/// The largest record.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// A return whose tuple was found to differ from what was sent before it came to the egress.
pub const FLAG_CORRUPT: u32 = 1;
/// A return that stands for a tuple made from the one that was sent: its body stayed behind.
pub const FLAG_DERIVED: u32 = 2;

/// A record as it lies in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Number of the tuple, from 0.
    pub seq: u64,
    /// When it was due, on the generator's clock.
    pub due_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// The checksum that came with it.
    pub check: u32,
    /// Its own bytes.
    pub body: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Whether the checksum fits.
    #[inline]
    pub fn intact(&self) -> bool {
        checksum(&self.bytes[8..]) == self.check
    }

    /// The whole record.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A return as it lies in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return<'a> {
    /// Which of the tuples that were made of one, from 0.
    pub part: u16,
    /// How many were made of it, at least 1.
    pub parts: u16,
    /// `FLAG_…`.
    pub flags: u32,
    /// When the ingest spout took it in.
    pub ingest_ns: u64,
    /// When the egress sink executed it.
    pub egress_ns: u64,
    /// What was sent.
    pub record: Record<'a>,
}

/// Bytes that are no record or return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}: is the other side of another version?")]
pub struct Malformed(pub &'static str);

#[inline]
fn checksum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

/// Appends a record whose body `body` writes. Gives its length.
///
/// # Panics
/// If it becomes longer than [`RECORD_BYTES_MAX`].
#[inline]
pub fn push(chunk: &mut Vec<u8>, seq: u64, due_ns: u64, sent_ns: u64, body: impl FnOnce(&mut Vec<u8>)) -> usize {
    let at = chunk.len();
    let mut header = [0; HEADER_BYTES];
    header[8..16].copy_from_slice(&seq.to_le_bytes());
    header[16..24].copy_from_slice(&due_ns.to_le_bytes());
    header[24..32].copy_from_slice(&sent_ns.to_le_bytes());
    chunk.extend_from_slice(&header);
    body(chunk);
    let len = chunk.len() - at;
    assert!(len <= RECORD_BYTES_MAX, "a record of {len} bytes; the most is {RECORD_BYTES_MAX}: lower the size");
    let record = &mut chunk[at..];
    let check = checksum(&record[8..]);
    record[..4].copy_from_slice(&(len as u32).to_le_bytes());
    record[4..8].copy_from_slice(&check.to_le_bytes());
    len
}

/// Gives all records of a chunk another time of sending: it could not leave when it was made.
pub fn restamp(chunk: &mut [u8], sent_ns: u64) {
    let mut at = 0;
    while let Some(len) = word32(chunk, at) {
        let end = (at + len as usize).min(chunk.len());
        if (len as usize) < HEADER_BYTES || end - at < HEADER_BYTES {
            return;
        }
        let record = &mut chunk[at..end];
        record[24..32].copy_from_slice(&sent_ns.to_le_bytes());
        let check = checksum(&record[8..]);
        record[4..8].copy_from_slice(&check.to_le_bytes());
        at = end;
    }
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn word64(bytes: &[u8; 32], at: usize) -> u64 {
    u64::from_le_bytes([
        bytes[at],
        bytes[at + 1],
        bytes[at + 2],
        bytes[at + 3],
        bytes[at + 4],
        bytes[at + 5],
        bytes[at + 6],
        bytes[at + 7],
    ])
}

/// The record at the start of `chunk`, and its length.
///
/// # Errors
/// If there is none.
#[inline]
pub fn parse(chunk: &[u8]) -> Result<(Record<'_>, usize), Malformed> {
    let header: &[u8; HEADER_BYTES] = chunk.first_chunk().ok_or(Malformed("a record is cut off"))?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if !(HEADER_BYTES..=RECORD_BYTES_MAX).contains(&len) {
        return Err(Malformed("a record of impossible length"));
    }
    let bytes = chunk.get(..len).ok_or(Malformed("a record is cut off"))?;
    let record = Record {
        seq: word64(header, 8),
        due_ns: word64(header, 16),
        sent_ns: word64(header, 24),
        check: u32::from_le_bytes([header[4], header[5], header[6], header[7]]),
        body: &bytes[HEADER_BYTES..],
        bytes,
    };
    Ok((record, len))
}

/// Stamps of a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// See [`Return::part`].
    pub part: u16,
    /// See [`Return::parts`].
    pub parts: u16,
    /// See [`Return::flags`].
    pub flags: u32,
    /// See [`Return::ingest_ns`].
    pub ingest_ns: u64,
    /// See [`Return::egress_ns`].
    pub egress_ns: u64,
}

/// What identifies a record: its stamps, and the checksum that it was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamps {
    /// See [`Record::seq`].
    pub seq: u64,
    /// See [`Record::due_ns`].
    pub due_ns: u64,
    /// See [`Record::sent_ns`].
    pub sent_ns: u64,
}

/// Appends a return. With `body` it is the tuple that was sent, and `check` travels on as it came; without one it is derived, and gets a
/// checksum of its own.
#[inline]
pub fn push_return(chunk: &mut Vec<u8>, way: Way, stamps: Stamps, body: Option<(&[u8], u32)>) {
    let at = chunk.len();
    let mut header = [0; RETURN_BYTES + HEADER_BYTES];
    let flags = if body.is_none() { way.flags | FLAG_DERIVED } else { way.flags };
    header[4..6].copy_from_slice(&way.part.to_le_bytes());
    header[6..8].copy_from_slice(&way.parts.to_le_bytes());
    header[8..12].copy_from_slice(&flags.to_le_bytes());
    header[16..24].copy_from_slice(&way.ingest_ns.to_le_bytes());
    header[24..32].copy_from_slice(&way.egress_ns.to_le_bytes());
    header[40..48].copy_from_slice(&stamps.seq.to_le_bytes());
    header[48..56].copy_from_slice(&stamps.due_ns.to_le_bytes());
    header[56..64].copy_from_slice(&stamps.sent_ns.to_le_bytes());
    let bytes = body.map_or(&[][..], |(bytes, _)| bytes);
    let check = body.map_or_else(|| checksum(&header[40..]), |(_, check)| check);
    header[32..36].copy_from_slice(&((HEADER_BYTES + bytes.len()) as u32).to_le_bytes());
    header[36..40].copy_from_slice(&check.to_le_bytes());
    chunk.extend_from_slice(&header);
    chunk.extend_from_slice(bytes);
    let len = (chunk.len() - at) as u32;
    chunk[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// The return at the start of `chunk`, and its length.
///
/// # Errors
/// If there is none.
#[inline]
pub fn parse_return(chunk: &[u8]) -> Result<(Return<'_>, usize), Malformed> {
    let header: &[u8; RETURN_BYTES] = chunk.first_chunk().ok_or(Malformed("a return is cut off"))?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let bytes = chunk.get(..len).ok_or(Malformed("a return is cut off"))?;
    let (record, inner) = parse(bytes.get(RETURN_BYTES..).ok_or(Malformed("a return of impossible length"))?)?;
    if inner + RETURN_BYTES != len {
        return Err(Malformed("a return of another length than its record"));
    }
    let parts = u16::from_le_bytes([header[6], header[7]]);
    let found = Return {
        part: u16::from_le_bytes([header[4], header[5]]),
        parts: parts.max(1),
        flags: u32::from_le_bytes([header[8], header[9], header[10], header[11]]),
        ingest_ns: word64(header, 16),
        egress_ns: word64(header, 24),
        record,
    };
    Ok((found, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written_and_any_changed_byte_shows() {
        let mut chunk = Vec::new();
        assert_eq!(push(&mut chunk, 7, 100, 105, |b| b.extend_from_slice(b"hello")), HEADER_BYTES + 5);
        push(&mut chunk, 8, 200, 201, |_| {});
        let (first, len) = parse(&chunk).unwrap();
        assert_eq!((first.seq, first.due_ns, first.sent_ns, first.body), (7, 100, 105, &b"hello"[..]));
        assert!(first.intact());
        assert_eq!(parse(&chunk[len..]).unwrap().0.seq, 8);
        for at in 4..len {
            let mut damaged = chunk.clone();
            damaged[at] ^= 0x10;
            assert!(!parse(&damaged).unwrap().0.intact(), "byte {at}");
        }
    }

    #[test]
    fn a_later_time_of_sending_leaves_the_records_intact() {
        let mut chunk = Vec::new();
        for n in 0..3 {
            push(&mut chunk, n, n, n, |b| b.extend_from_slice(&[n as u8; 9]));
        }
        restamp(&mut chunk, 77);
        let mut at = 0;
        while at < chunk.len() {
            let (record, len) = parse(&chunk[at..]).unwrap();
            assert!(record.intact() && record.sent_ns == 77);
            at += len;
        }
    }

    #[test]
    fn a_return_carries_the_record_and_its_checksum_or_its_stamps_alone() {
        let mut sent = Vec::new();
        push(&mut sent, 9, 10, 11, |b| b.extend_from_slice(b"body"));
        let (record, _) = parse(&sent).unwrap();
        let stamps = Stamps { seq: 9, due_ns: 10, sent_ns: 11 };
        let way = Way { part: 1, parts: 2, flags: 0, ingest_ns: 12, egress_ns: 13 };
        let mut chunk = Vec::new();
        push_return(&mut chunk, way, stamps, Some((record.body, record.check)));
        push_return(&mut chunk, way, stamps, None);
        let (whole, len) = parse_return(&chunk).unwrap();
        assert!(whole.record.intact() && whole.record.body == b"body" && whole.flags == 0);
        assert_eq!((whole.part, whole.parts, whole.ingest_ns, whole.egress_ns), (1, 2, 12, 13));
        let (derived, _) = parse_return(&chunk[len..]).unwrap();
        assert!(derived.record.intact() && derived.flags == FLAG_DERIVED && derived.record.body.is_empty());
    }

    #[test]
    fn bytes_of_no_record_are_refused() {
        assert!(parse(&[0; 31]).is_err());
        assert!(parse(&[0; 64]).is_err(), "no length");
        let mut long = [0xff; 64];
        assert!(parse(&long).is_err());
        long[..4].copy_from_slice(&65_u32.to_le_bytes());
        assert!(parse(&long).is_err(), "cut off");
        assert!(parse_return(&[0; 100]).is_err());
    }
}
