//! Checking bytes that another process wrote.

use thiserror::Error;

use super::header::{
    AT_CRC, BatchHeader, BatchKind, HEADER_BYTES, MAGIC, TUPLE_HEADER_BYTES, VERSION, batch_flags, tuple_flags,
};
use super::read::Outline;
use super::record::{AckRecord, CreditRecord, MarkRecord};
use super::{Batch, crc, pad8, u32_at, u64_at};
use crate::schema::{InvalidTuple, TupleType};

/// Why bytes are not a well-formed batch. The link that brought them is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The buffer does not start where tuples could be read in place.
    #[error("the batch starts at an address that is {remainder} beyond a multiple of 16: copy it to an aligned buffer")]
    Misaligned {
        /// Address modulo 16.
        remainder: usize,
    },
    /// Fewer bytes than needed.
    #[error("the batch is cut off: {needed} bytes are needed, {found} are there")]
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// More bytes than the batch has.
    #[error("{excess} bytes follow the end of the batch")]
    Excess {
        /// Bytes too many.
        excess: usize,
    },
    /// Not a batch at all.
    #[error(
        "not a batch: it starts with {found:#06x} instead of {:#06x}; the peer is no Squall worker, or the stream lost its place",
        MAGIC
    )]
    Magic {
        /// The first two bytes.
        found: u16,
    },
    /// Another version of the format.
    #[error("batch format version {found} is not supported, only {}: run one build of Squall on all workers", VERSION)]
    Version {
        /// The version.
        found: u8,
    },
    /// The header's length is not that of this version.
    #[error("the batch header claims {found} bytes instead of {}", HEADER_BYTES)]
    HeaderLength {
        /// The length.
        found: u8,
    },
    /// An unknown kind.
    #[error("unknown kind of batch {found}: run one build of Squall on all workers")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// Flags that must be understood and are not.
    #[error("unknown batch flags {unknown:#04x} that must be understood: run one build of Squall on all workers")]
    BatchFlags {
        /// The unknown bits.
        unknown: u8,
    },
    /// The length cannot be that of a batch.
    #[error("the batch claims a length of {found} bytes, which is below 64 or not a multiple of 8")]
    ByteLength {
        /// The length.
        found: u32,
    },
    /// The batch is longer than the receiver takes.
    #[error(
        "the batch claims {found} bytes, more than the limit of {max}: raise `max_tuple_bytes` if tuples are this large"
    )]
    TooLong {
        /// The length.
        found: u32,
        /// The limit.
        max: usize,
    },
    /// The count contradicts the length.
    #[error("a count of {count} contradicts the batch length of {byte_len} bytes")]
    Count {
        /// The count.
        count: u32,
        /// The length.
        byte_len: u32,
    },
    /// The sum is wrong.
    #[error("the batch was damaged on its way: CRC-32C is {computed:#010x}, its header says {claimed:#010x}")]
    Crc {
        /// The sum in the header.
        claimed: u32,
        /// The sum of the bytes.
        computed: u32,
    },
    /// A batch of tuples, but no type to check them against.
    #[error(
        "the batch holds tuples of stream {stream}, of which this worker knows no type: the plans of the workers differ"
    )]
    UnknownStream {
        /// The stream.
        stream: u32,
    },
    /// The tuples are of another type.
    #[error("the batch holds tuples of schema {found:#018x}{}, expected {expected:#018x}: the workers' builds or plans differ", if *.dynamic { " (rows)" } else { "" })]
    Schema {
        /// The schema id in the header.
        found: u64,
        /// Whether the header says the tuples are rows.
        dynamic: bool,
        /// The schema id of the stream.
        expected: u64,
    },
    /// A record of an unknown kind.
    #[error("record {index} of the {batch:?} batch has the unknown kind {found}")]
    Record {
        /// Kind of the batch.
        batch: BatchKind,
        /// Which record.
        index: u32,
        /// Its kind.
        found: u32,
    },
    /// A malformed tuple.
    #[error("tuple {index} of the batch, at byte {at}: {fault}")]
    Tuple {
        /// Which tuple.
        index: u32,
        /// Where it starts.
        at: u32,
        /// What is wrong.
        fault: TupleFault,
    },
    /// The tuples do not fill the batch.
    #[error("the {count} tuples of the batch end {left} bytes before it does")]
    Leftover {
        /// The count.
        count: u32,
        /// Bytes after the last tuple.
        left: usize,
    },
}

/// What is wrong with one tuple.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TupleFault {
    /// The length is impossible.
    #[error("its length {len} is below 16, not a multiple of 8, or beyond the {left} bytes left")]
    Length {
        /// The length.
        len: u32,
        /// Bytes left in the batch.
        left: usize,
    },
    /// Header and padding do not fit.
    #[error("its header of {header} bytes and padding of {tail} do not fit its length of {len}")]
    Header {
        /// Bytes of header and sections.
        header: u64,
        /// Bytes of padding.
        tail: u8,
        /// The length.
        len: u32,
    },
    /// Flags that must be understood and are not.
    #[error("unknown flags {unknown:#06x} that must be understood: run one build of Squall on all workers")]
    Flags {
        /// The unknown bits.
        unknown: u16,
    },
    /// Two flags of which a tuple has at most one.
    #[error("its flags {flags:#06x} give it both {both}")]
    Contradiction {
        /// The flags.
        flags: u16,
        /// Which two.
        both: &'static str,
    },
    /// The sections do not fill the header.
    #[error("its sections, up to {section}, take {needed} bytes of a header of {header}")]
    Sections {
        /// The section at which this showed.
        section: &'static str,
        /// Bytes that header and sections take.
        needed: u64,
        /// Bytes that the header has.
        header: usize,
    },
    /// The destination list and the header disagree.
    #[error("its destination list has {list} tasks, its header says {header}")]
    DestCount {
        /// Tasks in the list.
        list: u32,
        /// Tasks by the header.
        header: u32,
    },
    /// The key group is no u32.
    #[error("its key group {found} exceeds 32 bits")]
    KeyGroup {
        /// The key group.
        found: u64,
    },
    /// The archive is not one of the type.
    #[error("{0}")]
    Archive(InvalidTuple),
}

impl<'a> Batch<'a> {
    /// Checks bytes from another process, once, as a whole: header, every tuple header and section, every archive. What it
    /// accepts may be read without further checks.
    ///
    /// `bytes` may go on beyond the batch; they must be 16-aligned. `ty` is the type of the stream that the header names, and
    /// needed for batches of tuples only. `max_batch` bounds the batch's length in bytes. Takes time proportional to the
    /// batch; allocates nothing; never panics.
    ///
    /// # Errors
    ///
    /// [`BatchError`] names what is wrong.
    pub fn validate(bytes: &'a [u8], ty: Option<&TupleType>, max_batch: usize) -> Result<Batch<'a>, BatchError> {
        let remainder = bytes.as_ptr() as usize % 16;
        if remainder != 0 {
            return Err(BatchError::Misaligned { remainder });
        }
        let header = BatchHeader::parse(bytes)?;
        let byte_len = header.byte_len as usize;
        if byte_len > max_batch {
            return Err(BatchError::TooLong { found: header.byte_len, max: max_batch });
        }
        let Some(bytes) = bytes.get(..byte_len) else {
            return Err(BatchError::Truncated { needed: byte_len, found: bytes.len() });
        };
        if header.flags & batch_flags::CRC != 0 {
            check_crc(bytes, header.crc)?;
        }
        match header.kind {
            BatchKind::Data => check_tuples(bytes, &header, ty)?,
            BatchKind::Ack => check_records(bytes, &header, AckRecord::BYTES, |r| AckRecord::decode(r).err())?,
            BatchKind::Mark => check_records(bytes, &header, MarkRecord::BYTES, |r| MarkRecord::decode(r).err())?,
            BatchKind::Control => {
                check_records(bytes, &header, CreditRecord::BYTES, |r| CreditRecord::decode(r).err())?
            }
        }
        // SAFETY: 16-aligned, and everything that makes a batch well-formed was checked just now.
        Ok(unsafe { Batch::new(bytes, Outline::of(&header), header.link_seq) })
    }
}

fn check_crc(bytes: &[u8], claimed: u32) -> Result<(), BatchError> {
    let before = crc::crc32c(0, &bytes[..AT_CRC]);
    let zeroed = crc::crc32c(before, &[0; 4]);
    let computed = crc::crc32c(zeroed, &bytes[AT_CRC + 4..]);
    if computed == claimed { Ok(()) } else { Err(BatchError::Crc { claimed, computed }) }
}

fn check_records(
    bytes: &[u8],
    header: &BatchHeader,
    size: usize,
    unknown: impl Fn(&[u8]) -> Option<u32>,
) -> Result<(), BatchError> {
    for (index, record) in bytes[HEADER_BYTES..].chunks_exact(size).enumerate() {
        if let Some(found) = unknown(record) {
            return Err(BatchError::Record { batch: header.kind, index: index as u32, found });
        }
    }
    Ok(())
}

fn check_tuples(bytes: &[u8], header: &BatchHeader, ty: Option<&TupleType>) -> Result<(), BatchError> {
    let Some(ty) = ty else { return Err(BatchError::UnknownStream { stream: header.stream }) };
    if header.schema_id != ty.schema_id() || header.dynamic() != ty.dynamic() || header.schema_id == super::ROWS {
        return Err(BatchError::Schema {
            found: header.schema_id,
            dynamic: header.dynamic(),
            expected: ty.schema_id(),
        });
    }
    let mut at = HEADER_BYTES;
    for index in 0..header.count {
        let checked = check_tuple(&bytes[at..], ty);
        at += checked.map_err(|fault| BatchError::Tuple { index, at: at as u32, fault })?;
    }
    let left = bytes.len() - at;
    if left == 0 { Ok(()) } else { Err(BatchError::Leftover { count: header.count, left }) }
}

/// Checks the tuple at the start of `rest` (8-aligned, a multiple of 8 long). Gives its length.
#[inline]
fn check_tuple(rest: &[u8], ty: &TupleType) -> Result<usize, TupleFault> {
    let left = rest.len();
    let Some(head) = rest.first_chunk::<TUPLE_HEADER_BYTES>() else {
        return Err(TupleFault::Length { len: 0, left });
    };
    let (len, dest, word) = (u32_at(head, 0), u32_at(head, 8), u32_at(head, 12));
    let (flags, units, tail) = (word as u16, (word >> 16) as u8, (word >> 24) as u8);
    if (len as usize) < TUPLE_HEADER_BYTES || !len.is_multiple_of(8) || len as usize > left {
        return Err(TupleFault::Length { len, left });
    }
    let tuple = &rest[..len as usize];
    let header = if flags == 0 && units as usize * 8 == TUPLE_HEADER_BYTES {
        TUPLE_HEADER_BYTES
    } else {
        check_header(tuple, flags, units, dest)?
    };
    if tail > 7 || header + tail as usize > tuple.len() {
        return Err(TupleFault::Header { header: header as u64, tail, len });
    }
    let payload = &tuple[header..tuple.len() - tail as usize];
    match ty.validate(payload) {
        Ok(()) => Ok(tuple.len()),
        Err(invalid) => Err(TupleFault::Archive(invalid)),
    }
}

/// Checks flags and sections. Gives the bytes of header and sections, which are at most the tuple's.
#[inline(never)]
fn check_header(tuple: &[u8], flags: u16, units: u8, dest: u32) -> Result<usize, TupleFault> {
    let unknown = flags & tuple_flags::MUST_UNDERSTAND & !tuple_flags::UNDERSTOOD;
    if unknown != 0 {
        return Err(TupleFault::Flags { unknown });
    }
    let long = units == 0;
    let header = match long {
        false => units as u64 * 8,
        true if tuple.len() < TUPLE_HEADER_BYTES + 8 => 0,
        true => u64_at(tuple, TUPLE_HEADER_BYTES).saturating_mul(8),
    };
    let fixed = TUPLE_HEADER_BYTES + if long { 8 } else { 0 };
    if header < fixed as u64 || header > tuple.len() as u64 {
        return Err(TupleFault::Header { header, tail: 0, len: tuple.len() as u32 });
    }
    check_sections(&tuple[..header as usize], fixed, flags, dest)?;
    Ok(header as usize)
}

/// Checks that the sections fit the header, and fill it unless unknown ones may follow.
fn check_sections(header: &[u8], fixed: usize, flags: u16, dest: u32) -> Result<(), TupleFault> {
    let has = |flag: u16| flags & flag != 0;
    if has(tuple_flags::ANCHOR1) && has(tuple_flags::ANCHORS) {
        return Err(TupleFault::Contradiction { flags, both: "one anchor and a list of anchors" });
    }
    if has(tuple_flags::DEST_LIST) && has(tuple_flags::DEST_SET) {
        return Err(TupleFault::Contradiction { flags, both: "a list of destinations and a task set" });
    }
    let mut at = fixed;
    // Steps over `bytes`, or says which section does not fit.
    let mut step = |section: &'static str, bytes: u64| {
        let needed = (at as u64).saturating_add(bytes);
        if needed > header.len() as u64 {
            return Err(TupleFault::Sections { section, needed, header: header.len() });
        }
        let start = at;
        at = needed as usize;
        Ok(start)
    };
    if has(tuple_flags::ORIGIN) {
        step("the origin", 8)?;
    }
    if has(tuple_flags::ANCHOR1) {
        step("the anchor", 16)?;
    }
    if has(tuple_flags::ANCHORS) {
        let count = step("the count of anchors", 8)?;
        step("the anchors", u64_at(header, count).saturating_mul(16))?;
    }
    if has(tuple_flags::DEST_LIST) {
        let start = step("the count of destinations", 8)?;
        let list = u32_at(header, start);
        step("the destinations", pad8(4 + 4 * list as usize) as u64 - 8)?;
        if list != dest {
            return Err(TupleFault::DestCount { list, header: dest });
        }
    }
    if has(tuple_flags::EVENT_TIME) {
        step("the event time", 8)?;
    }
    if has(tuple_flags::KEY_GROUP) {
        let start = step("the key group", 8)?;
        let found = u64_at(header, start);
        if found > u32::MAX as u64 {
            return Err(TupleFault::KeyGroup { found });
        }
    }
    if has(tuple_flags::TRACE) {
        step("the trace id", 8)?;
    }
    let may_go_on = flags & !tuple_flags::MUST_UNDERSTAND & !tuple_flags::KNOWN_LOW != 0;
    if at != header.len() && !may_go_on {
        return Err(TupleFault::Sections { section: "the last", needed: at as u64, header: header.len() });
    }
    Ok(())
}
