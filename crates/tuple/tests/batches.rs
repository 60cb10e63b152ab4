//! How batches are filled, read, cut and received.

mod common;

use common::{opened, opening};
use squall_tuple::sample::{Pod, Word, WordRef};
use squall_tuple::{
    AckKind, AckRecord, AnchorEdge, Batch, BatchBuf, BatchError, BatchHeader, BatchKind, CreditRecord, Dest, DestRef,
    Full, MarkKind, MarkRecord, OpenBatch, Row, TupleHead, TupleType, Value,
};

fn pod(i: u64) -> Pod {
    Pod { a: i, b: i + 1, c: i + 2, d: i + 3 }
}

/// Origins that stay, go on, go back and jump.
fn origins() -> [u64; 8] {
    [500, 500, 510, 510, 490, u64::MAX, 0, 500]
}

fn filled() -> BatchBuf {
    let mut buf = opened::<Pod>(4096);
    for (i, origin) in origins().into_iter().enumerate() {
        buf.push_plain::<Pod, _>(i as u32, 7, origin, &pod(i as u64)).unwrap();
    }
    buf
}

fn read(batch: &Batch<'_>) -> Vec<(u32, u64, Pod)> {
    batch.iter().map(|f| (f.source(), f.origin_ns(), f.tuple::<Pod>().to_owned())).collect()
}

fn expected(from: usize) -> Vec<(u32, u64, Pod)> {
    let all = origins().into_iter().enumerate().map(|(i, origin)| (i as u32, origin, pod(i as u64)));
    all.skip(from).collect()
}

#[test]
fn origins_are_written_where_they_change_only() {
    let buf = filled();
    assert_eq!(read(&buf.view()), expected(0));
    let lengths: Vec<u32> = buf.view().iter().map(|f| f.byte_len()).collect();
    assert_eq!(lengths, [48, 48, 56, 48, 56, 56, 56, 56]);
    assert_eq!(buf.view().header().base_ns, 500);
}

#[test]
fn a_full_buffer_refuses_and_stays_as_it_was() {
    let mut buf = opened::<Pod>(64 + 48 * 3);
    let anchors: Vec<AnchorEdge> = (0..200).map(|i| AnchorEdge { root: i, edge: i }).collect();
    let mut pushed = 0;
    while buf.push_plain::<Pod, _>(1, 2, 3, &pod(pushed)).is_ok() {
        pushed += 1;
    }
    assert_eq!(pushed, 4, "256 bytes: 64 for the header, 4 × 48");
    let before = buf.to_vec();
    for head in [
        TupleHead::plain(1, 2, 3),
        TupleHead::plain(1, 2, 4),
        TupleHead { anchors: &anchors[..1], ..TupleHead::plain(1, 2, 3) },
        TupleHead { anchors: &anchors, ..TupleHead::plain(1, 2, 4) },
    ] {
        assert_eq!(buf.push::<Pod, _>(&head, &pod(9)), Err(Full));
    }
    assert_eq!(buf.push_plain::<Pod, _>(1, 2, 3, &pod(9)), Err(Full));
    assert_eq!((buf.to_vec(), buf.count(), buf.len()), (before, 4, 256));
    assert_eq!(read(&buf.view()).len(), 4);
}

#[test]
fn a_refused_first_tuple_leaves_no_base_behind() {
    let mut buf = opened::<Word>(192);
    let word = "x".repeat(200);
    assert_eq!(buf.push_plain::<Word, _>(1, 2, 77, &WordRef { word: &word, n: 1 }), Err(Full));
    buf.push_plain::<Word, _>(1, 2, 5, &WordRef { word: "a", n: 1 }).unwrap();
    assert_eq!(buf.view().header().base_ns, 5);
    assert_eq!(buf.view().iter().next().unwrap().origin_ns(), 5);
}

#[test]
fn the_last_byte_of_the_buffer_can_be_used() {
    let mut buf = opened::<Word>(128);
    // 16 header, 40 text, 16 root: 64 bytes left are not enough for 41 and just enough for 32.
    assert_eq!(buf.push_plain::<Word, _>(1, 2, 3, &WordRef { word: &"x".repeat(33), n: 1 }), Err(Full));
    assert_eq!(buf.push_plain::<Word, _>(1, 2, 3, &WordRef { word: &"x".repeat(32), n: 1 }), Ok(64));
    assert_eq!(buf.len(), buf.capacity());
}

#[test]
fn closed_and_sealed_buffers_take_nothing_until_opened() {
    let mut buf = BatchBuf::with_capacity(1024);
    assert_eq!((buf.len(), buf.count(), buf.is_empty()), (BatchBuf::EMPTY_BYTES, 0, true));
    buf.open(&opening::<Pod>());
    buf.push_plain::<Pod, _>(1, 2, 3, &pod(1)).unwrap();
    buf.seal(1, 2, false);
    assert_eq!(buf.push_plain::<Pod, _>(1, 2, 3, &pod(1)), Err(Full));
    buf.open(&opening::<Pod>());
    assert!(buf.is_empty());
    buf.push_plain::<Pod, _>(1, 2, 3, &pod(1)).unwrap();
}

#[test]
#[should_panic(expected = "a `Word` (schema 0xb51765aef3bb3868) was pushed to a batch opened for Data")]
fn a_tuple_of_another_type_is_refused() {
    let _ = opened::<Pod>(1024).push_plain::<Word, _>(1, 2, 3, &WordRef { word: "", n: 0 });
}

#[test]
#[should_panic(expected = "was pushed to a batch opened for Mark")]
fn a_tuple_among_marks_is_refused() {
    let mut buf = BatchBuf::with_capacity(1024);
    buf.open(&OpenBatch { kind: BatchKind::Mark, ..opening::<Pod>() });
    let _ = buf.push_plain::<Pod, _>(1, 2, 3, &pod(0));
}

#[test]
#[should_panic(expected = "a record of kind Ack was pushed to a batch opened for Data")]
fn a_record_among_tuples_is_refused() {
    let _ = opened::<Pod>(1024).push_ack(&AckRecord { root: 0, xor: 0, kind: AckKind::Ack, detail: 0 });
}

#[test]
#[should_panic(expected = "was read as `Word`")]
fn a_tuple_read_as_another_type_is_refused() {
    let buf = filled();
    let _ = buf.view().iter().next().unwrap().tuple::<Word>();
}

#[test]
#[should_panic(expected = "was read as `row`")]
fn a_typed_tuple_read_as_a_row_is_refused() {
    let buf = filled();
    let _ = buf.view().iter().next().unwrap().tuple::<Row>();
}

#[test]
#[should_panic(expected = "was read as `Pod`")]
fn a_row_under_the_schema_id_of_a_type_is_not_read_as_that_type() {
    let mut buf = BatchBuf::with_capacity(1024);
    buf.open(&OpenBatch { dynamic: true, ..opening::<Pod>() });
    buf.push_plain::<Row, _>(1, 2, 3, &Row(vec![Value::Null])).unwrap();
    let _ = buf.view().iter().next().unwrap().tuple::<Pod>();
}

#[test]
fn all_that_a_head_says_comes_back() {
    let many: Vec<AnchorEdge> = (0..300).map(|i| AnchorEdge { root: i * 3, edge: i * 5 }).collect();
    let tasks: Vec<u32> = (0..700).collect();
    let anchors: [&[AnchorEdge]; 4] = [&[], &many[..1], &many[..2], &many];
    let dests = [Dest::Task(u32::MAX), Dest::Set(3), Dest::List(&[]), Dest::List(&tasks[..1]), Dest::List(&tasks)];
    let mut buf = opened::<Pod>(1 << 20);
    let mut heads = Vec::new();
    for anchors in anchors {
        for dest in dests {
            for mask in 0..8 {
                heads.push(TupleHead {
                    source: heads.len() as u32,
                    dest,
                    origin_ns: 1000 + heads.len() as u64 / 3,
                    anchors,
                    event_time: (mask & 1 != 0).then_some(i64::MIN),
                    key_group: (mask & 2 != 0).then_some(u32::MAX),
                    trace: (mask & 4 != 0).then_some(u64::MAX),
                });
            }
        }
    }
    for (i, head) in heads.iter().enumerate() {
        buf.push::<Pod, _>(head, &pod(i as u64)).unwrap();
    }
    buf.seal(1, 2, true);
    let bytes = common::aligned(&buf);
    let checked = Batch::validate(&bytes, Some(&TupleType::of::<Pod>()), 1 << 20).unwrap();
    for batch in [buf.view(), checked] {
        let mut cursor = batch.cursor();
        for (i, head) in heads.iter().enumerate() {
            let frame = batch.next(&mut cursor).unwrap();
            assert_eq!(frame.source(), head.source);
            assert_eq!(frame.origin_ns(), head.origin_ns);
            assert_eq!(frame.anchors().len(), head.anchors.len());
            assert_eq!(frame.anchors().is_empty(), head.anchors.is_empty());
            assert!(frame.anchors().eq(head.anchors.iter().copied()));
            match (frame.dest(), head.dest) {
                (DestRef::Task(a), Dest::Task(b)) | (DestRef::Set(a), Dest::Set(b)) => assert_eq!(a, b),
                (DestRef::List(a), Dest::List(b)) => {
                    assert_eq!(a.len(), b.len());
                    assert!(a.eq(b.iter().copied()));
                }
                (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
            }
            assert_eq!(frame.event_time(), head.event_time);
            assert_eq!(frame.key_group(), head.key_group);
            assert_eq!(frame.trace(), head.trace);
            assert_eq!(frame.tuple::<Pod>().to_owned(), pod(i as u64));
        }
        assert!(batch.next(&mut cursor).is_none());
        assert!(batch.next(&mut cursor).is_none(), "the end stays the end");
    }
}

#[test]
fn a_cursor_can_be_kept_and_used_later() {
    let buf = filled();
    let mut cursor = buf.view().cursor();
    for i in 0..origins().len() {
        assert_eq!((cursor.left() as usize, cursor.pos() < buf.len() as u32), (origins().len() - i, true));
        let frame = buf.view().next(&mut cursor).unwrap();
        assert_eq!((frame.source(), frame.origin_ns(), cursor.origin_ns()), (i as u32, origins()[i], origins()[i]));
    }
    assert_eq!((cursor.pos() as usize, cursor.left()), (buf.len(), 0));
}

#[test]
#[should_panic(expected = "the cursor is not of this batch")]
fn a_cursor_of_another_batch_is_noticed() {
    let (a, b) = (filled(), filled());
    b.view().next(&mut a.view().cursor());
}

#[test]
#[should_panic(expected = "filled anew")]
fn a_cursor_of_an_earlier_filling_is_noticed() {
    let mut buf = filled();
    let mut cursor = buf.view().cursor();
    buf.open(&opening::<Pod>());
    for (i, origin) in origins().into_iter().enumerate() {
        buf.push_plain::<Pod, _>(i as u32, 7, origin, &pod(i as u64)).unwrap();
    }
    buf.view().next(&mut cursor);
}

#[test]
fn a_tail_is_cut_at_any_tuple_and_more_can_follow() {
    let mut whole = filled();
    whole.seal(31, 32, true);
    let batch = whole.view();
    let mut cursor = batch.cursor();
    for from in 0..=origins().len() {
        let mut tail = BatchBuf::with_capacity(128);
        if from < origins().len() {
            let before = tail.to_vec();
            assert_eq!(tail.copy_tail(&batch, &cursor).is_err(), HEADER + (whole.len() - cursor.pos() as usize) > 128);
            if tail.count() == 0 {
                assert_eq!(tail.to_vec(), before, "refused, so unchanged");
            }
        }
        tail.grow_to(whole.len());
        tail.copy_tail(&batch, &cursor).unwrap();
        assert_eq!(read(&tail.view()), expected(from));
        let header = tail.view().header();
        assert_eq!((header.stream, header.epoch, header.link_seq, header.enqueued_ns), (3, 9, 31, 32));
        assert_eq!(header.count as usize, origins().len() - from);
        // What follows has its origin right whether or not it differs from the last.
        tail.grow_to(4096);
        let mut want = expected(from);
        for origin in [500, 500, 501] {
            tail.push_plain::<Pod, _>(99, 7, origin, &pod(origin)).unwrap();
            want.push((99, origin, pod(origin)));
        }
        assert_eq!(read(&tail.view()), want);
        tail.seal(1, 2, true);
        let bytes = common::aligned(&tail);
        let checked = Batch::validate(&bytes, Some(&TupleType::of::<Pod>()), 4096).unwrap();
        assert_eq!(read(&checked), want);
        batch.next(&mut cursor);
    }
}

const HEADER: usize = BatchBuf::EMPTY_BYTES;

#[test]
fn a_tail_of_tuples_with_long_headers_keeps_its_origins() {
    let anchors: Vec<AnchorEdge> = (0..200).map(|i| AnchorEdge { root: i, edge: i }).collect();
    let mut whole = opened::<Pod>(1 << 16);
    for (i, origin) in origins().into_iter().enumerate() {
        let head = TupleHead { anchors: &anchors, ..TupleHead::plain(i as u32, 7, origin) };
        whole.push::<Pod, _>(&head, &pod(i as u64)).unwrap();
    }
    let batch = whole.view();
    let mut cursor = batch.cursor();
    for from in 0..origins().len() {
        let mut tail = BatchBuf::with_capacity(1 << 16);
        tail.copy_tail(&batch, &cursor).unwrap();
        assert_eq!(read(&tail.view()), expected(from));
        batch.next(&mut cursor);
    }
}

#[test]
fn growing_keeps_the_content_and_lets_pushes_go_on() {
    let mut buf = opened::<Pod>(128);
    buf.push_plain::<Pod, _>(0, 7, 1, &pod(0)).unwrap();
    assert_eq!(buf.push_plain::<Pod, _>(1, 7, 1, &pod(1)), Err(Full));
    buf.grow_to(1000);
    assert_eq!(buf.capacity(), 1024);
    buf.push_plain::<Pod, _>(1, 7, 1, &pod(1)).unwrap();
    assert_eq!(read(&buf.view()), [(0, 1, pod(0)), (1, 1, pod(1))]);
    buf.grow_to(10);
    assert_eq!(buf.capacity(), 1024, "it never shrinks");
    buf.seal(1, 1, false);
    buf.grow_to(5000);
    assert_eq!(buf.push_plain::<Pod, _>(1, 7, 1, &pod(1)), Err(Full), "sealed stays sealed");
}

#[test]
#[should_panic(expected = "exceeds the limit of 1 GiB")]
fn a_buffer_beyond_a_gigabyte_is_refused() {
    BatchBuf::with_capacity(BatchBuf::MAX_CAPACITY + 1);
}

#[test]
fn padding_holds_nothing_of_what_the_buffer_held_before() {
    let mut used = opened::<Pod>(1024);
    while used.push_plain::<Pod, _>(!0, !0, !0, &Pod { a: !0, b: !0, c: !0, d: !0 }).is_ok() {}
    let mut fresh = BatchBuf::with_capacity(1024);
    let row_type = TupleType::row(["a"]);
    let rows = OpenBatch { schema_id: row_type.schema_id(), dynamic: true, ..opening::<Row>() };
    let row = Row(vec![Value::Null, true.into(), "seven b".into(), vec![1u8].into(), Value::List(vec![Value::Null])]);
    for buf in [&mut used, &mut fresh] {
        buf.open(&rows);
        buf.push_plain::<Row, _>(1, 2, 3, &row).unwrap();
        let head = TupleHead { dest: Dest::List(&[1, 2]), ..TupleHead::plain(1, 2, 3) };
        buf.push::<Row, _>(&head, &row).unwrap();
        buf.seal(1, 2, false);
    }
    assert_eq!(used[..], fresh[..]);
}

fn records(kind: BatchKind) -> BatchBuf {
    let mut buf = BatchBuf::with_capacity(128);
    buf.open(&OpenBatch { kind, stream: 0, schema_id: 0, dynamic: false, source_reactor: 1, epoch: 1 });
    buf
}

#[test]
fn records_come_back_in_order_and_a_full_buffer_refuses_them() {
    use MarkKind::*;
    let kinds = [EndOfStream, Watermark, Checkpoint, Epoch, Drain];
    let mark = |i: usize| MarkRecord { kind: kinds[i % 5], stream: i as u32, source: !0, value: u64::MAX - i as u64 };
    let kinds = [AckKind::Ack, AckKind::Fail, AckKind::Reset, AckKind::NoRoom];
    let ack = |i: usize| AckRecord { root: !0, xor: i as u64, kind: kinds[i % 4], detail: i as u32 };
    let credit = |i: usize| CreditRecord { inbox: i as u32, consumed: !0 };

    let (mut marks, mut acks, mut credits) =
        (records(BatchKind::Mark), records(BatchKind::Ack), records(BatchKind::Control));
    marks.grow_to(256);
    acks.grow_to(256);
    for i in 0..8 {
        marks.push_mark(&mark(i)).unwrap();
        acks.push_ack(&ack(i)).unwrap();
    }
    (0..4).for_each(|i| credits.push_credit(&credit(i)).unwrap());
    assert_eq!(marks.push_mark(&mark(8)), Err(Full));
    assert_eq!(acks.push_ack(&ack(8)), Err(Full));
    assert_eq!(credits.push_credit(&credit(4)), Err(Full));
    for buf in [&mut marks, &mut acks, &mut credits] {
        buf.seal(1, 2, true);
    }
    for (own, which) in [(&marks, 0), (&acks, 1), (&credits, 2)] {
        let bytes = common::aligned(own);
        for batch in [own.view(), Batch::validate(&bytes, None, 1024).unwrap()] {
            let found = (batch.marks().collect::<Vec<_>>(), batch.acks().collect::<Vec<_>>(), batch.credits().count());
            match which {
                0 => assert_eq!(found, ((0..8).map(mark).collect(), vec![], 0)),
                1 => assert_eq!(found, (vec![], (0..8).map(ack).collect(), 0)),
                _ => assert!(found == (vec![], vec![], 4) && batch.credits().eq((0..4).map(credit))),
            }
            assert!(batch.next(&mut batch.cursor()).is_none(), "records are no tuples");
        }
    }
}

#[test]
fn a_batch_is_received_in_pieces_of_any_size() {
    let mut sent = filled();
    sent.seal(5, 6, true);
    let ty = TupleType::of::<Pod>();
    let mut buf = BatchBuf::with_capacity(4096);
    for piece in [1, 7, 64, 65, 4096] {
        buf.receive_begin();
        for piece in sent.chunks(piece) {
            buf.receive(piece).unwrap();
            if buf.len() >= HEADER {
                assert_eq!(BatchHeader::parse(&buf).unwrap().byte_len as usize, sent.len());
            }
        }
        buf.receive_end(Some(&ty), 4096).unwrap();
        assert_eq!(read(&buf.view()), expected(0));
        assert_eq!((buf.count(), buf.kind(), buf.view().header().link_seq), (8, BatchKind::Data, 5));
        assert_eq!(buf.push_plain::<Pod, _>(1, 2, 3, &pod(1)), Err(Full), "as if sealed");
        let mut tail = BatchBuf::with_capacity(4096);
        tail.copy_tail(&buf.view(), &buf.view().cursor()).unwrap();
        assert_eq!(read(&tail.view()), expected(0));
    }
}

#[test]
fn a_damaged_or_overlong_batch_is_not_received() {
    let mut sent = filled();
    sent.seal(5, 6, true);
    let ty = TupleType::of::<Pod>();
    let mut buf = BatchBuf::with_capacity(sent.len() + 8);
    buf.receive_begin();
    buf.receive(&sent).unwrap();
    buf.receive(&[0; 8]).unwrap();
    assert_eq!(buf.receive_end(Some(&ty), 4096), Err(BatchError::Excess { excess: 8 }));
    assert!(buf.is_empty() && buf.view().iter().next().is_none(), "empty after an error");

    buf.receive_begin();
    buf.receive(&sent[..100]).unwrap();
    let error = buf.receive_end(Some(&ty), 4096).unwrap_err();
    assert_eq!(error, BatchError::Truncated { needed: sent.len(), found: 100 });

    buf.receive_begin();
    buf.receive(&sent).unwrap();
    assert_eq!(buf.receive(&[0; 4096]), Err(Full));
    assert_eq!(buf.len(), sent.len());
    buf.receive_end(Some(&ty), 4096).unwrap();
    assert_eq!(read(&buf.view()), expected(0), "the batch that fits is not spoiled by the piece that does not");
}

#[test]
#[should_panic(expected = "still being received")]
fn unchecked_bytes_are_not_viewed() {
    let mut buf = BatchBuf::with_capacity(1024);
    buf.receive_begin();
    buf.receive(&filled()).unwrap();
    buf.view();
}

#[test]
fn unchecked_bytes_are_not_added_to() {
    let mut buf = BatchBuf::with_capacity(4096);
    buf.open(&opening::<Pod>());
    buf.receive_begin();
    buf.receive(&filled()).unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        assert_eq!(buf.push_steady::<Pod, _>(1, 2, 3, &pod(0)), Err(Full));
    }));
    assert!(refused.is_err(), "no type is open, so it is a tuple of another type");
}

#[test]
fn trusted_bytes_read_like_the_buffer_they_are_of() {
    let mut buf = filled();
    buf.seal(5, 6, false);
    let mut longer = common::aligned(&buf);
    longer.extend_from_slice(&[0xAB; 40]);
    // SAFETY: an exact, aligned copy of a sealed batch.
    let batch = unsafe { Batch::from_trusted(&longer) };
    assert_eq!(read(&batch), expected(0));
    assert_eq!(batch.bytes(), &buf[..]);
}

#[test]
fn a_buffer_can_move_to_another_thread() {
    let buf = filled();
    let read = std::thread::spawn(move || read(&buf.view())).join().unwrap();
    assert_eq!(read, expected(0));
}

#[test]
fn a_writer_that_panics_leaves_the_batch_as_it_was() {
    let mut buf = BatchBuf::with_capacity(1024);
    let ty = TupleType::row(["a"]);
    buf.open(&OpenBatch { schema_id: ty.schema_id(), dynamic: true, ..opening::<Row>() });
    buf.push_plain::<Row, _>(1, 2, 3, &Row(vec!["kept".into()])).unwrap();
    let before = buf.to_vec();
    let deep = (0..100).fold(Value::Null, |value, _| Value::List(vec![value]));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = buf.push_plain::<Row, _>(1, 2, 99, &Row(vec!["lost".into(), deep]));
    }));
    assert!(caught.is_err());
    assert_eq!(buf.to_vec(), before);
    let left: Vec<Row> = buf.view().iter().map(|f| f.tuple::<Row>().to_owned()).collect();
    assert_eq!(left, [Row(vec!["kept".into()])]);
}

#[test]
fn a_steady_push_is_refused_at_another_origin_and_changes_nothing() {
    let mut buf = opened::<Pod>(1024);
    assert_eq!(buf.push_steady::<Pod, _>(1, 2, 7, &pod(1)), Ok(48));
    assert_eq!(buf.push_steady::<Pod, _>(1, 2, 7, &pod(2)), Ok(48));
    let before = buf.to_vec();
    assert_eq!(buf.push_steady::<Pod, _>(1, 2, 8, &pod(3)), Err(Full));
    assert_eq!((buf.count(), buf.to_vec()), (2, before));
    buf.push_plain::<Pod, _>(1, 2, 8, &pod(3)).unwrap();
    assert_eq!(buf.push_steady::<Pod, _>(1, 2, 8, &pod(4)), Ok(48));
    assert_eq!(buf.view().iter().map(|f| f.origin_ns()).collect::<Vec<_>>(), [7, 7, 8, 8]);
}
