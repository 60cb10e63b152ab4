//! What must hold of any bytes that arrive as a batch. Shared by the fuzz target and by `tests/decoder.rs`, which runs it on
//! mutations of valid batches without cargo-fuzz.

use squall_tuple::rkyv::util::AlignedVec;
use squall_tuple::sample::{Pod, Word};
use squall_tuple::{
    AnchorEdge, Batch, BatchBuf, BatchKind, Dest, DestRef, Emit, Frame, Row, Tuple, TupleHead, TupleRef, TupleType,
    hash_key,
};

/// The first byte chooses the type (low two bits) and whether the header is repaired (top bit), so that a search finds its
/// way to the tuples; the rest is the batch. Returns whether it was accepted.
///
/// # Panics
///
/// If something that must hold does not.
pub fn check(input: &[u8]) -> bool {
    let Some((choice, bytes)) = input.split_first() else { return false };
    let mut batch: AlignedVec<64> = AlignedVec::with_capacity(bytes.len().max(64));
    batch.extend_from_slice(bytes);
    let rows = TupleType::row(["a", "b"]);
    let ty = match choice & 3 {
        0 => Some(TupleType::of::<Pod>()),
        1 => Some(TupleType::of::<Word>()),
        2 => Some(rows),
        _ => None,
    };
    if choice & 0x80 != 0 {
        repair(&mut batch, ty.as_ref());
    }
    let max = if choice & 0x40 != 0 { 4096 } else { usize::MAX };
    match Batch::validate(&batch, ty.as_ref(), max) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
        Ok(accepted) => {
            assert!(accepted.bytes().len() <= max.min(batch.len()));
            match choice & 3 {
                0 => read_all::<Pod>(&accepted, ty.as_ref()),
                1 => read_all::<Word>(&accepted, ty.as_ref()),
                _ => read_all::<Row>(&accepted, ty.as_ref()),
            }
            true
        }
    }
}

fn repair(batch: &mut [u8], ty: Option<&TupleType>) {
    // As many tuples as have possible lengths.
    let (mut count, mut end) = (0u32, 64);
    while let Some(len) =
        batch.get(end..end + 4).map(|len| u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize)
    {
        if len < 16 || len % 8 != 0 || len > batch.len() - end {
            break;
        }
        count += 1;
        end += len;
    }
    let Some(head) = batch.first_chunk_mut::<64>() else { return };
    head[..4].copy_from_slice(&[0x51, 0x53, 1, 64]);
    head[5] = 0;
    if let Some(ty) = ty {
        head[4] = 0;
        head[5] = if ty.dynamic() { 0x10 } else { 0 };
        head[16..24].copy_from_slice(&ty.schema_id().to_le_bytes());
        head[36..40].copy_from_slice(&count.to_le_bytes());
        head[40..44].copy_from_slice(&(end as u32).to_le_bytes());
    }
}

/// Reads everything there is to read, and passes the batch on; what comes out must be accepted again and say the same.
fn read_all<T: Tuple + Emit<T>>(batch: &Batch<'_>, ty: Option<&TupleType>) {
    if batch.header().kind != BatchKind::Data {
        let records = batch.marks().count() + batch.acks().count() + batch.credits().count();
        assert_eq!(records, batch.header().count as usize);
        assert!(batch.iter().next().is_none());
        return;
    }
    let mut again = BatchBuf::with_capacity(batch.bytes().len() * 2 + 4096);
    let mut owned = BatchBuf::with_capacity(batch.bytes().len() * 2 + 4096);
    // With the header of the batch, and none of its tuples.
    let mut end = batch.cursor();
    while batch.next(&mut end).is_some() {}
    again.copy_tail(batch, &end).expect("a header fits");
    owned.copy_tail(batch, &end).expect("a header fits");

    let mut cursor = batch.cursor();
    let mut tails = 0;
    while let Some(frame) = batch.next(&mut cursor) {
        let tuple = frame.tuple::<T>();
        push(&mut again, &frame, &tuple);
        // Foreign archives may share nothing with ours but their meaning: a row may be longer when owned and written anew.
        let value = <T as Tuple>::to_owned(tuple.get());
        push(&mut owned, &frame, &value);
        for field in 0..4 {
            let _ = hash_key(tuple.key(field));
        }
        let _ = format!("{frame:?}");
        if tails < 8 && cursor.left() > 0 {
            tails += 1;
            let mut tail = BatchBuf::with_capacity(batch.bytes().len());
            tail.copy_tail(batch, &cursor).expect("a tail is not longer than the whole");
            assert_eq!(tail.count(), cursor.left());
            tail.seal(1, 2, true);
            let rest = accept(&tail, ty);
            let mut rest_of_batch = cursor.clone();
            for copied in rest.iter() {
                let original = batch.next(&mut rest_of_batch).expect("as many as in the tail");
                assert_eq!(copied.origin_ns(), original.origin_ns());
                assert_eq!(copied.payload(), original.payload());
            }
        }
    }
    for copy in [&mut again, &mut owned] {
        copy.seal(3, 4, true);
        let copy = accept(copy, ty);
        assert_eq!(copy.header().count, batch.header().count);
        for (copied, original) in copy.iter().zip(batch.iter()) {
            assert_eq!(copied.origin_ns(), original.origin_ns());
            assert!(copied.anchors().eq(original.anchors()));
            assert_eq!(format!("{:?}", copied.dest()), format!("{:?}", original.dest()));
            assert_eq!(copied.trace(), original.trace());
            for field in 0..4 {
                let (copied, original): (TupleRef<'_, T>, TupleRef<'_, T>) = (copied.tuple(), original.tuple());
                assert_eq!(hash_key(copied.key(field)), hash_key(original.key(field)));
            }
        }
    }
}

fn accept<'a>(buf: &'a BatchBuf, ty: Option<&TupleType>) -> Batch<'a> {
    match Batch::validate(buf, ty, usize::MAX) {
        Ok(batch) => batch,
        Err(error) => panic!("what was read cannot be passed on: {error}"),
    }
}

fn push<T: Tuple>(buf: &mut BatchBuf, frame: &Frame<'_>, value: &impl Emit<T>) {
    let anchors: Vec<AnchorEdge> = frame.anchors().collect();
    let mut tasks = Vec::new();
    let dest = match frame.dest() {
        DestRef::Task(task) => Dest::Task(task),
        DestRef::Set(set) => Dest::Set(set),
        DestRef::List(list) => {
            tasks.extend(list);
            Dest::List(&tasks)
        }
    };
    let head = TupleHead {
        source: frame.source(),
        dest,
        origin_ns: frame.origin_ns(),
        anchors: &anchors,
        event_time: frame.event_time(),
        key_group: frame.key_group(),
        trace: frame.trace(),
    };
    while buf.push::<T, _>(&head, value).is_err() {
        buf.grow_to(buf.capacity() * 2);
    }
}
