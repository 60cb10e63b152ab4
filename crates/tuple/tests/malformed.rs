//! Each malformation gives an error that names what is wrong.

mod common;

use common::{opened, opening};
use squall_tuple::rkyv::util::AlignedVec;
use squall_tuple::sample::{Pod, Word, WordRef};
use squall_tuple::{
    AckKind, AckRecord, AnchorEdge, Batch, BatchBuf, BatchHeader, BatchKind, CreditRecord, Dest, MarkKind, MarkRecord,
    OpenBatch, Row, Tuple, TupleHead, TupleType, Value, rkyv,
};

const TUPLE: usize = 64;

fn pods() -> BatchBuf {
    let mut buf = opened::<Pod>(4096);
    let anchors = [AnchorEdge { root: 1, edge: 2 }, AnchorEdge { root: 3, edge: 4 }];
    // 16 + origin none + anchors 40 + list 16 + event 8 + group 8 + trace 8 = 96, then 32.
    let head = TupleHead {
        source: 1,
        dest: Dest::List(&[5, 6, 7]),
        origin_ns: 10,
        anchors: &anchors,
        event_time: Some(1),
        key_group: Some(2),
        trace: Some(3),
    };
    buf.push::<Pod, _>(&head, &Pod { a: 1, b: 2, c: 3, d: 4 }).unwrap();
    buf.push_plain::<Pod, _>(1, 2, 10, &Pod::default()).unwrap();
    buf.seal(1, 2, false);
    buf
}

fn plain_pod() -> BatchBuf {
    let mut buf = opened::<Pod>(1024);
    buf.push_plain::<Pod, _>(1, 2, 10, &Pod::default()).unwrap();
    buf.seal(1, 2, false);
    buf
}

fn word(text: &str) -> BatchBuf {
    let mut buf = opened::<Word>(1024);
    buf.push_plain::<Word, _>(1, 2, 3, &WordRef { word: text, n: 7 }).unwrap();
    buf.seal(1, 2, false);
    buf
}

/// Applies the change to a copy, and gives what the validator says.
fn refusal<T: Tuple>(buf: &BatchBuf, change: impl FnOnce(&mut AlignedVec<64>)) -> String {
    let mut bytes = common::aligned(buf);
    let ty = TupleType::of::<T>();
    Batch::validate(&bytes, Some(&ty), 1 << 16).expect("valid before the change");
    change(&mut bytes);
    match Batch::validate(&bytes, Some(&ty), 1 << 16) {
        Ok(batch) => panic!("accepted: {batch:?}"),
        Err(error) => error.to_string(),
    }
}

fn put<const N: usize>(at: usize, new: [u8; N]) -> impl FnOnce(&mut AlignedVec<64>) {
    move |bytes| bytes[at..at + N].copy_from_slice(&new)
}

macro_rules! refused {
    ($ty:ty, $buf:expr, $change:expr, $message:literal) => {
        let message = refusal::<$ty>(&$buf, $change);
        assert!(message.contains($message), "expected {:?} in {:?}", $message, message);
    };
}

#[test]
fn a_wrong_header_is_named() {
    refused!(Pod, pods(), put(0, [0x47, 0x45]), "not a batch: it starts with 0x4547 instead of 0x5351");
    refused!(Pod, pods(), put(2, [2]), "format version 2 is not supported, only 1");
    refused!(Pod, pods(), put(3, [72]), "header claims 72 bytes instead of 64");
    refused!(Pod, pods(), put(4, [4]), "unknown kind of batch 4");
    refused!(Pod, pods(), put(5, [0x20]), "unknown batch flags 0x20 that must be understood");
    refused!(Pod, pods(), put(5, [0x80]), "unknown batch flags 0x80 that must be understood");
    refused!(Pod, pods(), put(40, [63, 0, 0, 0]), "length of 63 bytes, which is below 64");
    refused!(Pod, pods(), put(40, [100, 0, 0, 0]), "length of 100 bytes, which is below 64 or not a multiple of 8");
    refused!(Pod, pods(), put(40, [0xF8, 0xFF, 0xFF, 0xFF]), "claims 4294967288 bytes, more than the limit of 65536");
    refused!(Pod, pods(), put(40, [0, 1, 0, 1]), "claims 16777472 bytes, more than the limit");
    refused!(Pod, pods(), put(40, [0, 2, 0, 0]), "cut off: 512 bytes are needed, 240 are there");
    refused!(Pod, pods(), put(36, [0xFF; 4]), "a count of 4294967295 contradicts the batch length of 240 bytes");
    refused!(Pod, pods(), put(36, [0; 4]), "a count of 0 contradicts the batch length of 240 bytes");
    refused!(
        Pod,
        pods(),
        |bytes: &mut AlignedVec<64>| bytes.resize(63, 0),
        "cut off: 64 bytes are needed, 63 are there"
    );
    refused!(
        Pod,
        pods(),
        |bytes: &mut AlignedVec<64>| bytes.resize(200, 0),
        "cut off: 240 bytes are needed, 200 are there"
    );
}

#[test]
fn unknown_flags_that_may_be_ignored_are() {
    for (at, flag) in [(5, 0x02), (5, 0x08)] {
        let mut bytes = common::aligned(&pods());
        bytes[at] |= flag;
        Batch::validate(&bytes, Some(&TupleType::of::<Pod>()), 1 << 16).unwrap();
    }
    // An unknown low flag of a tuple, with a section of its own after the known ones.
    let mut bytes = common::aligned(&plain_pod());
    bytes[TUPLE + 12] = 1 << 4;
    bytes[TUPLE + 14] = 3;
    bytes[TUPLE] += 8;
    bytes[40] += 8;
    let tuple_at = TUPLE + 16;
    let mut longer = common::aligned(&bytes[..tuple_at]);
    longer.extend_from_slice(&[0xEE; 8]);
    longer.extend_from_slice(&bytes[tuple_at..]);
    let batch = Batch::validate(&longer, None, 1 << 16).err();
    assert!(batch.is_some_and(|error| error.to_string().contains("knows no type")));
    let ty = TupleType::of::<Pod>();
    let batch = Batch::validate(&longer, Some(&ty), 1 << 16).unwrap();
    assert_eq!(batch.iter().next().unwrap().tuple::<Pod>().to_owned(), Pod::default());
}

#[test]
fn a_misaligned_buffer_is_named() {
    let batch = pods();
    let mut bytes: AlignedVec<64> = AlignedVec::new();
    bytes.resize(8, 0);
    bytes.extend_from_slice(&batch);
    let error = Batch::validate(&bytes[8..], Some(&TupleType::of::<Pod>()), 1 << 16).unwrap_err();
    assert!(error.to_string().contains("8 beyond a multiple of 16: copy it to an aligned buffer"), "{error}");
    // A header can be read anywhere.
    assert_eq!(BatchHeader::parse(&bytes[8..]).unwrap().count, 2);
}

#[test]
fn a_damaged_batch_with_a_sum_is_named_wherever_the_damage_is() {
    let mut buf = pods();
    buf.seal(1, 2, true);
    let mut bytes = common::aligned(&buf);
    let ty = TupleType::of::<Pod>();
    Batch::validate(&bytes, Some(&ty), 1 << 16).unwrap();
    for at in (6..36).chain(44..bytes.len()) {
        bytes[at] ^= 0x10;
        let error = Batch::validate(&bytes, Some(&ty), 1 << 16).unwrap_err();
        assert!(error.to_string().contains("damaged on its way: CRC-32C"), "byte {at}: {error}");
        bytes[at] ^= 0x10;
    }
}

#[test]
fn another_type_is_named() {
    let bytes = common::aligned(&pods());
    let error = Batch::validate(&bytes, Some(&TupleType::of::<Word>()), 1 << 16).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the batch holds tuples of schema 0xdfab78fac166f3c2, expected 0xb51765aef3bb3868: the workers' builds or plans differ"
    );
    let error = Batch::validate(&bytes, None, 1 << 16).unwrap_err();
    assert!(error.to_string().contains("tuples of stream 3, of which this worker knows no type"), "{error}");
    refused!(Pod, pods(), put(5, [0x10]), "schema 0xdfab78fac166f3c2 (rows), expected");
    refused!(Pod, pods(), put(16, [0; 8]), "schema 0x0000000000000000, expected");
    refused!(Pod, pods(), put(16, [0xFF; 8]), "schema 0xffffffffffffffff, expected");
}

#[test]
fn a_wrong_tuple_header_is_named() {
    refused!(Pod, pods(), put(TUPLE, [8, 0, 0, 0]), "tuple 0 of the batch, at byte 64: its length 8 is below 16");
    refused!(
        Pod,
        pods(),
        put(TUPLE, [129, 0, 0, 0]),
        "its length 129 is below 16, not a multiple of 8, or beyond the 176"
    );
    refused!(
        Pod,
        pods(),
        put(TUPLE, [184, 0, 0, 0]),
        "its length 184 is below 16, not a multiple of 8, or beyond the 176"
    );
    refused!(Pod, pods(), put(TUPLE, [0xF8, 0xFF, 0xFF, 0xFF]), "its length 4294967288");
    refused!(Pod, pods(), put(TUPLE, [176, 0, 0, 0]), "tuple 1 of the batch, at byte 240: its length 0");
    refused!(Pod, pods(), put(36, [1, 0, 0, 0]), "the 1 tuples of the batch end 48 bytes before it does");
    refused!(Pod, pods(), put(TUPLE + 13, [0x16]), "unknown flags 0x1000 that must be understood");
    refused!(Pod, pods(), put(TUPLE + 13, [0x86]), "unknown flags 0x8000 that must be understood");
    refused!(Pod, pods(), put(TUPLE + 13, [0x07]), "give it both one anchor and a list of anchors");
    refused!(Pod, pods(), put(TUPLE + 13, [0x0E]), "give it both a list of destinations and a task set");
    refused!(Pod, pods(), put(TUPLE + 14, [1]), "its header of 8 bytes and padding of 0 do not fit its length of 128");
    refused!(
        Pod,
        pods(),
        put(TUPLE + 14, [17]),
        "its header of 136 bytes and padding of 0 do not fit its length of 128"
    );
    refused!(Pod, pods(), put(TUPLE + 15, [8]), "its header of 96 bytes and padding of 8 do not fit its length of 128");
    refused!(Pod, pods(), put(TUPLE + 15, [0xFF]), "padding of 255");
    refused!(Pod, plain_pod(), put(TUPLE + 14, [0]), "its header of 0 bytes");
    refused!(
        Pod,
        plain_pod(),
        |bytes: &mut AlignedVec<64>| {
            bytes[TUPLE + 14] = 0;
            bytes[TUPLE + 16..TUPLE + 24].copy_from_slice(&u64::MAX.to_le_bytes());
        },
        "its header of 18446744073709551615 bytes"
    );
}

#[test]
fn padding_that_reaches_into_the_header_is_named() {
    let mut buf = opened::<Pod>(128);
    buf.push_plain::<Pod, _>(1, 2, 3, &Pod::default()).unwrap();
    buf.seal(1, 2, false);
    refused!(
        Pod,
        buf,
        |bytes: &mut AlignedVec<64>| {
            bytes[TUPLE] = 16;
            bytes[TUPLE + 15] = 7;
            bytes[40] = 80;
        },
        "its header of 16 bytes and padding of 7 do not fit its length of 16"
    );
}

#[test]
fn a_wrong_section_is_named() {
    const ANCHORS: usize = TUPLE + 16;
    const DESTS: usize = ANCHORS + 40;
    const GROUP: usize = DESTS + 24;
    refused!(Pod, pods(), put(ANCHORS, [3]), "its destination list has 1 tasks, its header says 3");
    refused!(Pod, pods(), put(ANCHORS, [4]), "its sections, up to the destinations, take 104 bytes of a header of 96");
    refused!(Pod, pods(), put(ANCHORS, [6]), "its sections, up to the anchors, take 120 bytes of a header of 96");
    refused!(Pod, pods(), put(ANCHORS, [0xFF; 8]), "its sections, up to the anchors, take");
    refused!(Pod, pods(), put(ANCHORS, [1]), "its key group 30064771078 exceeds 32 bits");
    refused!(Pod, pods(), put(DESTS, [4]), "its destination list has 4 tasks, its header says 3");
    refused!(Pod, pods(), put(DESTS, [0xFF; 4]), "its sections, up to the destinations, take");
    refused!(Pod, pods(), put(TUPLE + 8, [4]), "its destination list has 3 tasks, its header says 4");
    refused!(Pod, pods(), put(GROUP, [0, 0, 0, 0, 1]), "its key group 4294967296 exceeds 32 bits");
    refused!(Pod, plain_pod(), put(TUPLE + 12, [0x08]), "up to the trace id, take 24 bytes of a header of 16");
    refused!(Pod, pods(), put(TUPLE + 12, [0x06]), "its sections, up to the last, take 88 bytes of a header of 96");
    refused!(
        Pod,
        plain_pod(),
        put(TUPLE + 12, [0x01]),
        "its sections, up to the origin, take 24 bytes of a header of 16"
    );
    refused!(Pod, plain_pod(), put(TUPLE + 12, [0x02]), "up to the event time");
    refused!(Pod, plain_pod(), put(TUPLE + 12, [0x04]), "up to the key group");
    refused!(Pod, plain_pod(), put(TUPLE + 13, [0x01]), "up to the anchor, take 32 bytes");
    refused!(Pod, plain_pod(), put(TUPLE + 13, [0x02]), "up to the count of anchors");
    refused!(Pod, plain_pod(), put(TUPLE + 13, [0x04]), "up to the count of destinations");
    refused!(Pod, plain_pod(), put(TUPLE + 14, [3]), "its sections, up to the last, take 16 bytes of a header of 24");
}

#[test]
fn a_wrong_archive_is_named() {
    // Text of 16 bytes, then the root: length and offset, n.
    const TEXT: usize = TUPLE + 16;
    const ROOT: usize = TEXT + 16;
    let long = || word("sixteen bytes ok");
    let short = || word("short");
    refused!(
        Word,
        long(),
        put(TEXT, [0xFF]),
        "tuple 0 of the batch, at byte 64: the archive is invalid: invalid UTF-8"
    );
    refused!(Word, short(), put(TEXT, [0x7F, 0xC3, 0x28]), "invalid UTF-8");
    refused!(Word, long(), put(ROOT, [0x81, 0, 0, 0]), "length was too short");
    refused!(
        Word,
        long(),
        put(ROOT, [0xBF, 0xFF, 0xFF, 0xFF]),
        "the archive is invalid: subtree pointer overran range"
    );
    refused!(Word, long(), put(ROOT + 4, [0xEF, 0xFF, 0xFF, 0xFF]), "subtree pointer overran range");
    refused!(Word, long(), put(ROOT + 4, [0xF8, 0xFF, 0xFF, 0xFF]), "subtree pointer overran range");
    refused!(Word, long(), put(ROOT + 4, [0, 0, 0, 0x80]), "subtree pointer overran range");
    refused!(Word, long(), put(TUPLE + 14, [5]), "its sections");
    refused!(Word, short(), put(TUPLE + 15, [4]), "the archive is invalid: 12 bytes cannot hold a root of 16");
    refused!(Word, long(), put(TUPLE + 15, [4]), "the archive is invalid: unaligned pointer");
    refused!(Pod, plain_pod(), put(TUPLE + 15, [1]), "31 bytes cannot hold a root of 32");
}

fn rows(row: &Row) -> (BatchBuf, TupleType) {
    let ty = TupleType::row(["a"]);
    let mut buf = BatchBuf::with_capacity(1 << 16);
    buf.open(&OpenBatch { schema_id: ty.schema_id(), dynamic: true, ..opening::<Row>() });
    buf.push_plain::<Row, _>(1, 2, 3, row).unwrap();
    buf.seal(1, 2, false);
    (buf, ty)
}

#[test]
fn a_wrong_row_is_named() {
    let (buf, ty) = rows(&Row(vec![true.into(), Value::Null]));
    let check = |at: usize, new: u8, want: &str| {
        let mut bytes = common::aligned(&buf);
        bytes[at] = new;
        let error = Batch::validate(&bytes, Some(&ty), 1 << 16).unwrap_err().to_string();
        assert!(error.contains(want), "expected {want:?} in {error:?}");
    };
    let values = TUPLE + 16;
    check(values, 8, "the archive is invalid: invalid discriminant");
    check(values + 1, 2, "the archive is invalid: bool set to invalid byte 2");
    check(values + 16, 6, "the archive is invalid");
    check(values + 32 + 4, 3, "subtree pointer overran range");
    check(values + 32 + 7, 0xFF, "the archive is invalid");
}

/// rkyv's issue 684: an archive that nests by the thousand must not use up the stack.
#[test]
fn an_archive_that_nests_deeper_than_allowed_is_named_and_harmless() {
    let nested = |depth| (0..depth).fold(Value::Null, |value, _| Value::List(vec![value]));
    for (depth, accepted) in [(Value::MAX_DEPTH, true), (29, true), (30, false), (40, false), (1500, false)] {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Panic>(&Row(vec![nested(depth)])).unwrap();
        let checked = Row::validate(&common::aligned(&bytes));
        assert_eq!(checked.is_ok(), accepted, "depth {depth}: {checked:?}");
        if let Err(error) = checked {
            assert!(error.cause().starts_with("pushed a subtree range that exceeded the maximum subtree depth"));
        }
    }
}

/// Two values that point to one list of lists of lists … would take exponential time to check if that were allowed.
#[test]
fn archives_whose_parts_overlap_are_refused() {
    let list = Value::List(vec![Value::I64(1)]);
    let (buf, ty) = rows(&Row(vec![list.clone(), list]));
    let mut bytes = common::aligned(&buf);
    Batch::validate(&bytes, Some(&ty), 1 << 16).unwrap();
    // Values of 16 bytes: 1, 1, list (pointer at +4), list. The second list is turned to the first one's content.
    let second = TUPLE + 16 + 48 + 4;
    let offset = i32::from_le_bytes(bytes[second..second + 4].try_into().unwrap());
    bytes[second..second + 4].copy_from_slice(&(offset - 16).to_le_bytes());
    let error = Batch::validate(&bytes, Some(&ty), 1 << 16).unwrap_err().to_string();
    assert!(error.contains("subtree pointer overran range"), "{error}");
}

#[test]
fn wrong_records_are_named() {
    let open = |kind| {
        let mut buf = BatchBuf::with_capacity(256);
        buf.open(&OpenBatch { kind, stream: 0, schema_id: 0, dynamic: false, source_reactor: 1, epoch: 1 });
        buf
    };
    let mut marks = open(BatchKind::Mark);
    let mut acks = open(BatchKind::Ack);
    let mut credits = open(BatchKind::Control);
    for _ in 0..2 {
        marks.push_mark(&MarkRecord { kind: MarkKind::Drain, stream: 1, source: 2, value: 3 }).unwrap();
        acks.push_ack(&AckRecord { root: 1, xor: 2, kind: AckKind::Reset, detail: 3 }).unwrap();
        credits.push_credit(&CreditRecord { inbox: 1, consumed: 2 }).unwrap();
    }
    [&mut marks, &mut acks, &mut credits].into_iter().for_each(|buf| buf.seal(1, 2, false));
    refused!(Pod, marks, put(64 + 24, [6]), "record 1 of the Mark batch has the unknown kind 6");
    refused!(Pod, marks, put(64, [0]), "record 0 of the Mark batch has the unknown kind 0");
    refused!(Pod, acks, put(64 + 16, [4]), "record 0 of the Ack batch has the unknown kind 4");
    refused!(Pod, credits, put(64 + 16 + 4, [1]), "record 1 of the Control batch has the unknown kind 1");
    refused!(Pod, marks, put(36, [3]), "a count of 3 contradicts the batch length of 112 bytes");
    refused!(Pod, acks, put(36, [1]), "a count of 1 contradicts");
    refused!(Pod, credits, put(40, [104]), "a count of 2 contradicts the batch length of 104 bytes");
    refused!(Pod, marks, put(4, [0]), "the batch holds tuples of schema");
}
