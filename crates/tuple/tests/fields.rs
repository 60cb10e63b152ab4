//! Every field type goes in and comes out, owned and borrowed; names and identities of types.

#![allow(missing_docs, unreachable_pub, reason = "tuple types made by a macro")]

mod common;

use common::{opened, tuple_type};
use squall_tuple::sample::{Pod, PodRef, Word, WordRef};
use squall_tuple::{Emit, FieldType, Full, Tuple, TupleRef, TupleType};

tuple_type!(Inner, ArchivedInner, InnerRef, "Inner" { name: String = 0, x: u8 = 1, pairs: Vec<(u32, String)> = 2 });

tuple_type!(All, ArchivedAll, AllRef, "All" {
    a: u8 = 0, b: u16 = 1, c: u32 = 2, d: u64 = 3,
    e: i8 = 4, f: i16 = 5, g: i32 = 6, h: i64 = 7,
    i: f32 = 8, j: f64 = 9, k: bool = 10, l: char = 11,
    text: String = 12,
    bytes: Vec<u8> = 13,
    texts: Vec<String> = 14,
    nested_list: Vec<Vec<Option<u64>>> = 15,
    maybe: Option<u64> = 16,
    maybe_text: Option<String> = 17,
    array: [u64; 3] = 18,
    texts_array: [String; 2] = 19,
    pair: (u8, String) = 20,
    triple: (u8, String, f32) = 21,
    quad: (u8, String, f32, Option<i16>) = 22,
    inner: Inner = 23,
    inners: Vec<Inner> = 24,
    maybe_inner: Option<Inner> = 25,
    pods: Vec<Pod> = 26,
});

tuple_type!(Nothing, ArchivedNothing, NothingRef, "Nothing" {});

fn inner(text: &str) -> Inner {
    Inner { name: text.into(), x: 200, pairs: vec![(1, text.into()), (2, String::new())] }
}

fn all(text: &str) -> All {
    All {
        a: u8::MAX,
        b: u16::MAX,
        c: u32::MAX,
        d: u64::MAX,
        e: i8::MIN,
        f: i16::MIN,
        g: i32::MIN,
        h: i64::MIN,
        i: f32::MIN_POSITIVE,
        j: f64::MAX,
        k: true,
        l: '🌩',
        text: text.into(),
        bytes: text.as_bytes().to_vec(),
        texts: vec![text.into(), String::new(), "exactly8".into(), "and nine!".into()],
        nested_list: vec![vec![], vec![None, Some(5)]],
        maybe: Some(1),
        maybe_text: Some(text.into()),
        array: [1, 2, 3],
        texts_array: [text.into(), "b".into()],
        pair: (1, text.into()),
        triple: (2, text.into(), 0.5),
        quad: (3, text.into(), -0.5, Some(-3)),
        inner: inner(text),
        inners: vec![inner(text), inner("")],
        maybe_inner: Some(inner(text)),
        pods: vec![Pod { a: 1, b: 2, c: 3, d: 4 }, Pod::default()],
    }
}

fn bare() -> All {
    All {
        texts: vec![],
        nested_list: vec![],
        maybe: None,
        maybe_text: None,
        inners: vec![],
        maybe_inner: None,
        pods: vec![],
        bytes: vec![],
        ..all("")
    }
}

/// Pushes by value, twin, reference and archive; each must give the same bytes and the same value.
fn round_trip<T>(value: &T, twin: impl Emit<T>)
where
    T: Tuple + Emit<T> + PartialEq + std::fmt::Debug,
{
    let mut buf = opened::<T>(1 << 16);
    let taken = buf.push_plain::<T, T>(1, 2, 3, value).unwrap();
    buf.push_plain::<T, _>(1, 2, 3, &twin).unwrap();
    buf.push_plain::<T, _>(1, 2, 3, &value).unwrap();
    let first = buf.view();
    let mut copies = opened::<T>(1 << 16);
    for frame in first.iter() {
        assert_eq!(frame.byte_len(), taken);
        copies.push_plain::<T, _>(1, 2, 3, &frame.tuple::<T>()).unwrap();
    }
    let copies = copies.view();
    let tuples: Vec<TupleRef<'_, T>> = first.iter().chain(copies.iter()).map(|frame| frame.tuple()).collect();
    assert_eq!(tuples.len(), 6);
    for tuple in &tuples {
        assert_eq!(tuple.bytes(), tuples[0].bytes(), "one archive, however it is emitted");
        T::validate(tuple.bytes()).unwrap();
        assert_eq!(&tuple.to_owned(), value);
        let aligned = common::aligned(tuple.bytes());
        assert_eq!(&TupleRef::<T>::from_bytes(&aligned).unwrap().to_owned(), value);
    }
}

#[test]
fn every_field_type_round_trips_owned_and_borrowed() {
    for value in [all("a text that is not inline"), all("short"), bare()] {
        round_trip(&value, value.to_ref());
    }
}

#[test]
fn the_sample_types_round_trip() {
    for word in ["", "a", "exactly8", "nine char", "ein längeres Wort mit Umlauten"] {
        round_trip(&Word { word: word.into(), n: u64::MAX }, WordRef { word, n: u64::MAX });
    }
    round_trip(&Pod { a: 1, b: 2, c: 3, d: 4 }, PodRef { a: 1, b: 2, c: 3, d: 4 });
}

#[test]
fn a_tuple_without_fields_is_a_header() {
    round_trip(&Nothing {}, Nothing {}.to_ref());
    let mut buf = opened::<Nothing>(1024);
    assert_eq!(buf.push_plain::<Nothing, _>(1, 2, 3, &Nothing {}), Ok(16));
}

#[test]
fn lists_longer_than_the_scratch_memory_round_trip() {
    let texts = (0..1000).map(|i| format!("text number {i}")).collect();
    let nested_list = (0..300).map(|i| vec![Some(i); i as usize % 5]).collect();
    let inners = (0..300).map(|i| inner(&i.to_string())).collect();
    let value = All { texts, nested_list, inners, ..all("x") };
    let mut buf = opened::<All>(1 << 17);
    buf.push_plain::<All, _>(1, 2, 3, &value).unwrap();
    assert_eq!(buf.view().iter().next().unwrap().tuple::<All>().to_owned(), value);
    // The same, failing at every size: scratch blocks are given back, and nothing is written beyond the room.
    let needed = buf.len();
    for size in (128..needed).step_by(64 * 97) {
        let mut small = opened::<All>(size);
        assert_eq!(small.push_plain::<All, _>(1, 2, 3, &value), Err(Full));
        assert_eq!((small.len(), small.count()), (64, 0));
    }
}

#[test]
fn padding_and_absent_values_hold_nothing_of_what_the_buffer_held_before() {
    let mut used = opened::<Pod>(4096);
    while used.push_plain::<Pod, _>(!0, !0, !0, &Pod { a: !0, b: !0, c: !0, d: !0 }).is_ok() {}
    let mut fresh = opened::<All>(4096);
    used.open(&common::opening::<All>());
    for buf in [&mut used, &mut fresh] {
        for value in [bare(), all("a text that is not inline")] {
            buf.push_plain::<All, _>(1, 2, 3, &value).unwrap();
            buf.push_plain::<All, _>(1, 2, 3, &value.to_ref()).unwrap();
        }
    }
    assert!(used[..] == fresh[..]);
}

#[test]
fn types_are_named_in_full() {
    assert_eq!(<Vec<Vec<Option<u64>>> as FieldType>::TYPE, "list<list<option<u64>>>");
    assert_eq!(<[String; 12] as FieldType>::TYPE, "[string; 12]");
    assert_eq!(<[u8; 0] as FieldType>::TYPE, "[u8; 0]");
    assert_eq!(<(u8, String, f32, Option<char>) as FieldType>::TYPE, "(u8, string, f32, option<char>)");
    assert_eq!(<Inner as FieldType>::TYPE, "Inner{name: string, x: u8, pairs: list<(u32, string)>}");
    assert_eq!(<Nothing as FieldType>::TYPE, "Nothing{}");
    assert_eq!(<Inner as FieldType>::TYPE_ID, <Inner as Tuple>::ID, "the signature is the identity");
    assert_eq!(TupleType::of::<Inner>().to_string(), <Inner as FieldType>::TYPE);
}

mod renamed {
    use super::common::tuple_type;
    tuple_type!(Wort, ArchivedWort, WortRef, "Wort" { word: String = 0, n: u64 = 1 });
    tuple_type!(Other, ArchivedOther, OtherRef, "Word" { wort: String = 0, n: u64 = 1 });
    tuple_type!(Signed, ArchivedSigned, SignedRef, "Word" { word: String = 0, n: i64 = 1 });
    tuple_type!(Twin, ArchivedTwin, TwinRef, "Word" { word: String = 0, n: u64 = 1 });
}

#[test]
fn identity_depends_on_name_field_names_and_field_types_and_on_nothing_else() {
    let ids = [Word::ID, renamed::Wort::ID, renamed::Other::ID, renamed::Signed::ID, Inner::ID, Pod::ID, Nothing::ID];
    for (i, a) in ids.iter().enumerate() {
        assert_eq!(ids.iter().filter(|b| *b == a).count(), 1, "id {i} is not unique");
    }
    assert_eq!(renamed::Twin::ID, Word::ID);
    assert_eq!(TupleType::of::<renamed::Twin>(), TupleType::of::<Word>());
}

#[test]
fn bytes_that_are_no_archive_of_the_type_are_refused() {
    let short = common::aligned(&[0; 8]);
    let refused = TupleRef::<Pod>::from_bytes(&short).unwrap_err();
    assert_eq!(refused.to_string(), "the archive is invalid: 8 bytes cannot hold a root of 32");
    let shifted = common::aligned(&[0; 64]);
    let refused = TupleRef::<Pod>::from_bytes(&shifted[4..]).unwrap_err();
    assert_eq!(refused.cause(), "the archive does not start at a multiple of 8");
}
