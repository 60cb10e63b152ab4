//! The wire format, byte by byte. A failure here means that workers of two builds would not understand each other: if
//! that is wanted, raise the format's version.

mod common;

use common::{hex, opened, opening};
use squall_tuple::sample::{Pod, Word};
use squall_tuple::{
    AckKind, AckRecord, AnchorEdge, BatchBuf, BatchKind, CreditRecord, Dest, MarkKind, MarkRecord, OpenBatch, Row,
    Tuple, TupleHead, TupleType, Value,
};

fn lines(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split('|').next().unwrap_or("").replace(' ', ""))
        .filter(|l| !l.is_empty())
        .collect();
    lines.join("\n")
}

#[test]
fn a_plain_batch_of_fixed_size_tuples_has_these_bytes() {
    let mut buf = opened::<Pod>(1024);
    let pod = Pod { a: 1, b: 2, c: 3, d: 0xFFEE_DDCC_BBAA_9988 };
    buf.push_plain::<Pod, _>(0x0A0B_0C0D, 0x0102_0304, 1_000_000, &pod).unwrap();
    buf.push_plain::<Pod, _>(5, 6, 1_000_000, &pod).unwrap();
    buf.seal(0x1122_3344_5566_7788, 77, false);
    assert_eq!(
        hex(&buf),
        lines(
            "5153 01 40 00 00 0000 | magic, version, header length, kind, flags, reserved
             03000000 02000000     | stream, source reactor
             c2f366c1fa78abdf      | schema id
             8877665544332211      | link sequence
             09000000 02000000     | epoch, count
             a0000000 00000000     | byte length, CRC
             4d00000000000000      | enqueued
             40420f0000000000      | base
             30000000 0d0c0b0a     | length, source
             04030201 0000 02 00   | destination, flags, header length, padding
             0100000000000000
             0200000000000000
             0300000000000000
             8899aabbccddeeff
             30000000 05000000
             06000000 0000 02 00
             0100000000000000
             0200000000000000
             0300000000000000
             8899aabbccddeeff"
        )
    );
}

#[test]
fn every_section_has_its_place() {
    let mut buf = opened::<Pod>(1024);
    let pod = Pod { a: 1, b: 2, c: 3, d: 4 };
    let one = [AnchorEdge { root: 0xA1, edge: 0xE1 }];
    let two = [AnchorEdge { root: 0xA2, edge: 0xE2 }, AnchorEdge { root: 0xA3, edge: 0xE3 }];
    let head = TupleHead {
        source: 1,
        dest: Dest::Set(9),
        origin_ns: 500,
        anchors: &one,
        event_time: None,
        key_group: None,
        trace: Some(0x7ACE),
    };
    buf.push::<Pod, _>(&head, &pod).unwrap();
    let head = TupleHead {
        source: 1,
        dest: Dest::List(&[4, 5]),
        origin_ns: 498,
        anchors: &two,
        event_time: Some(-1),
        key_group: Some(0x6B),
        trace: Some(0x7ACE),
    };
    buf.push::<Pod, _>(&head, &pod).unwrap();
    buf.seal(0, 0, false);
    assert_eq!(
        hex(&buf[64..]),
        lines(
            "48000000 01000000
             09000000 0809 05 00   | task set 9; one anchor, task set, trace
             a100000000000000
             e100000000000000
             ce7a000000000000
             0100000000000000
             0200000000000000
             0300000000000000
             0400000000000000
             88000000 01000000
             02000000 0f06 0d 00   | two tasks; anchors, list, origin, event time, key group, trace
             feffffffffffffff      | origin: base − 2
             0200000000000000      | two anchors
             a200000000000000
             e200000000000000
             a300000000000000
             e300000000000000
             02000000 04000000     | two tasks: 4 and 5
             05000000 00000000
             ffffffffffffffff      | event time −1
             6b00000000000000      | key group
             ce7a000000000000      | trace
             0100000000000000
             0200000000000000
             0300000000000000
             0400000000000000"
        )
    );
}

#[test]
fn a_header_too_long_for_its_length_field_says_so_by_zero_and_a_word() {
    let mut buf = opened::<Pod>(8192);
    let anchors: Vec<AnchorEdge> = (0..127).map(|i| AnchorEdge { root: i, edge: i + 1 }).collect();
    let head = TupleHead { anchors: &anchors, ..TupleHead::plain(1, 2, 3) };
    buf.push::<Pod, _>(&head, &Pod::default()).unwrap();
    // 16 + 8 + 8 + 127 × 16 = 2064 bytes of header = 258 words; 2096 with the archive.
    assert_eq!(
        hex(&buf[64..64 + 48]),
        lines(
            "30080000 01000000
             02000000 0002 00 00
             0201000000000000
             7f00000000000000
             0000000000000000
             0100000000000000"
        )
    );
}

#[test]
fn text_of_up_to_eight_bytes_lies_inline_and_longer_text_before_the_root() {
    let mut buf = opened::<Word>(1024);
    buf.push_plain::<Word, _>(1, 2, 3, &Word { word: "squall".into(), n: 7 }).unwrap();
    buf.push_plain::<Word, _>(1, 2, 3, &Word { word: "cumulonimbus".into(), n: 7 }).unwrap();
    buf.seal(0, 0, false);
    assert_eq!(
        hex(&buf[64..]),
        lines(
            "20000000 01000000
             02000000 0000 02 00
             737175616c6c ffff     | \"squall\"
             0700000000000000
             30000000 01000000
             02000000 0000 02 00
             63756d756c6f6e69      | \"cumuloni
             6d627573 00000000     | mbus\"
             8c000000 f0ffffff     | length 12, 16 bytes back
             0700000000000000"
        )
    );
}

#[test]
fn a_row_has_these_bytes() {
    let row_type = TupleType::row(["a", "b", "c", "d", "e"]);
    let mut buf = BatchBuf::with_capacity(1024);
    buf.open(&OpenBatch { schema_id: row_type.schema_id(), dynamic: true, ..opening::<Row>() });
    let row = Row(vec![
        Value::I64(-2),
        Value::Str("squall".into()),
        Value::List(vec![Value::Null, Value::Bool(true), Value::F64(0.5)]),
        Value::Bytes(vec![1, 2, 3]),
        Value::map([("k", 1i64)]),
    ]);
    buf.push_plain::<Row, _>(1, 2, 3, &row).unwrap();
    buf.seal(0, 0, false);
    assert_eq!(buf[5], 0x10, "the flag for rows");
    assert_eq!(
        hex(&buf[64..]),
        lines(
            "b8000000 01000000
             02000000 0000 02 00
             00 00000000000000     | the list: null
             0000000000000000
             01 01 000000000000    | true
             0000000000000000
             03 00000000000000     | 0.5
             000000000000e03f
             010203 0000000000     | the bytes
             6b ffffffffffffff     | the map: \"k\", and
             02 00000000000000     | 1
             0100000000000000
             02 00000000000000     | the row: −2
             feffffffffffffff
             04 000000 73717561    | \"squa
             6c6cffff 00000000     | ll\"
             06 000000 8cffffff    | a list 116 bytes back,
             03000000 00000000     | of 3
             05 000000 acffffff    | bytes 84 bytes back,
             03000000 00000000     | 3 of them
             07 000000 a4ffffff    | a map 92 bytes back,
             01000000 00000000     | of 1
             b0ffffff 05000000     | root: 80 bytes back, 5 values"
        )
    );
}

#[test]
fn marks_acks_and_credits_have_these_bytes() {
    let mut buf = BatchBuf::with_capacity(1024);
    let open = |kind| OpenBatch { kind, stream: 0, schema_id: 0, dynamic: false, source_reactor: 1, epoch: 1 };
    buf.open(&open(BatchKind::Mark));
    buf.push_mark(&MarkRecord { kind: MarkKind::Drain, stream: 2, source: 3, value: 4 }).unwrap();
    buf.seal(0, 0, false);
    assert_eq!(buf[4], 2);
    assert_eq!(hex(&buf[64..]), lines("05000000 02000000\n03000000 00000000\n0400000000000000"));

    buf.open(&open(BatchKind::Ack));
    buf.push_ack(&AckRecord { root: 0xA, xor: 0xB, kind: AckKind::Reset, detail: 6 }).unwrap();
    buf.seal(0, 0, false);
    assert_eq!(buf[4], 1);
    assert_eq!(hex(&buf[64..]), lines("0a00000000000000\n0b00000000000000\n02000000 06000000"));
    buf.open(&open(BatchKind::Ack));
    buf.push_ack(&AckRecord { root: 0, xor: 5, kind: AckKind::NoRoom, detail: 0 }).unwrap();
    buf.seal(0, 0, false);
    assert_eq!(hex(&buf[64..]), lines("0000000000000000\n0500000000000000\n03000000 00000000"));

    buf.open(&open(BatchKind::Control));
    buf.push_credit(&CreditRecord { inbox: 7, consumed: 8 }).unwrap();
    buf.seal(0, 0, false);
    assert_eq!(buf[4], 3);
    assert_eq!(hex(&buf[64..]), lines("07000000 00000000\n0800000000000000"));
}

#[test]
fn the_sum_covers_the_whole_batch_with_itself_as_zero() {
    let mut buf = opened::<Pod>(1024);
    buf.push_plain::<Pod, _>(1, 2, 3, &Pod::default()).unwrap();
    buf.seal(4, 5, true);
    assert_eq!(buf[5], 0x01);
    assert_eq!(hex(&buf[40..48]), lines("70000000 37457f14"));
}

#[test]
fn schema_ids_are_hashes_of_signatures() {
    assert_eq!(TupleType::of::<Word>().to_string(), "Word{word: string, n: u64}");
    assert_eq!(Word::ID, squall_tuple::schema::text_id("Word{word: string, n: u64}"));
    assert_eq!(TupleType::row(["a", "b"]).to_string(), "row{a: any, b: any}");
    assert_eq!(TupleType::row(["a", "b"]).schema_id(), squall_tuple::schema::text_id("row{a: any, b: any}"));
    assert_eq!((Word::ID, Pod::ID, Row::ID), (0xb517_65ae_f3bb_3868, 0xdfab_78fa_c166_f3c2, 0xd778_dfb4_c3b4_0247));
}
