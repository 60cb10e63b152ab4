//! Writing, reading, checking and hashing allocate nothing (design §2: a tuple never waits for an allocation).

#![allow(missing_docs, unreachable_pub, reason = "tuple types made by a macro")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{opened, opening, tuple_type};
use squall_tuple::sample::{Pod, Word, WordRef};
use squall_tuple::{
    AnchorEdge, Batch, BatchBuf, Dest, FieldType, Key, OpenBatch, Row, RowRef, TupleHead, TupleType, ValueRef,
    hash_key, hash_keys,
};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: passes everything on to `System`; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    f();
    ALLOCATED.get() - before
}

tuple_type!(Lists, ArchivedLists, ListsRef, "Lists" { lists: Vec<Vec<String>> = 0, maybe: Option<String> = 1 });

fn lists(outer: usize, inner: usize) -> Lists {
    Lists { lists: vec![vec!["a text that is not inline".to_owned(); inner]; outer], maybe: Some("x".into()) }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
}

#[test]
fn pushes_allocate_nothing() {
    let mut pods = opened::<Pod>(1 << 14);
    let mut words = opened::<Word>(1 << 14);
    let mut rows = BatchBuf::with_capacity(1 << 14);
    let row = TupleType::row(["a", "b"]);
    let anchors = [AnchorEdge { root: 1, edge: 2 }; 200];
    let counted = allocations(|| {
        rows.open(&OpenBatch { schema_id: row.schema_id(), dynamic: true, ..opening::<Row>() });
        for i in 0..20 {
            pods.push_plain::<Pod, _>(1, 2, i / 3, &Pod::default()).unwrap();
            words.push_plain::<Word, _>(1, 2, 3, &WordRef { word: "a word that is not inline", n: i }).unwrap();
            let values =
                [ValueRef::Str("a text that is not inline"), ValueRef::List(&[ValueRef::I64(1), ValueRef::Null])];
            rows.push_plain::<Row, _>(1, 2, 3, &RowRef(&values)).unwrap();
        }
        let head = TupleHead { anchors: &anchors, dest: Dest::List(&[1, 2]), ..TupleHead::plain(1, 2, 3) };
        pods.push::<Pod, _>(&head, &Pod::default()).unwrap();
        for buf in [&mut pods, &mut words, &mut rows] {
            buf.seal(1, 2, true);
        }
    });
    assert_eq!(counted, 0);
}

/// Scratch memory is given back from list to list: a hundred inner lists need no more than one.
#[test]
fn lists_allocate_only_beyond_the_scratch_memory() {
    let mut buf = opened::<Lists>(1 << 20);
    let value = lists(100, 40);
    assert_eq!(allocations(|| assert!(buf.push_plain::<Lists, _>(1, 2, 3, &value.to_ref()).is_ok())), 0);
    let large = lists(1, 1000);
    let counted = allocations(|| assert!(buf.push_plain::<Lists, _>(1, 2, 3, &large).is_ok()));
    assert_eq!(counted, 1, "1000 resolvers of 4 bytes take one block");
    assert_eq!(buf.count(), 2);
}

#[test]
fn reading_checking_and_hashing_allocate_nothing_whether_or_not_the_batch_is_good() {
    let mut words = opened::<Word>(1 << 14);
    let mut large = opened::<Lists>(1 << 20);
    for i in 0..20 {
        words.push_plain::<Word, _>(1, 2, i / 2, &WordRef { word: "a word that is not inline", n: i }).unwrap();
    }
    large.push_plain::<Lists, _>(1, 2, 3, &lists(20, 20)).unwrap();
    words.seal(1, 2, true);
    large.seal(1, 2, false);
    let (word, list) = (TupleType::of::<Word>(), TupleType::of::<Lists>());
    let mut bad = common::aligned(&large);
    let mut sum = 0;
    let counted = allocations(|| {
        for frame in Batch::validate(&words, Some(&word), 1 << 20).unwrap().iter() {
            let tuple = frame.tuple::<Word>();
            sum ^= hash_key(tuple.key(0)) ^ hash_keys([tuple.key(0), tuple.key(1), Key::Str(LONG)]);
        }
        Batch::validate(&large, Some(&list), 1 << 20).unwrap();
        for at in (0..bad.len()).step_by(7) {
            bad[at] ^= 0xA5;
            sum ^= Batch::validate(&bad, Some(&list), 1 << 20).is_ok() as u64;
            bad[at] ^= 0xA5;
        }
    });
    assert_ne!(sum, 0);
    assert_eq!(counted, 0);
}

static LONG: &str = "a key that, together with the others, is longer than what is put together on the stack, so that it \
    is hashed as a stream: its length is well above one hundred bytes";
