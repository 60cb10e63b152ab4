//! `#[derive(Tuple)]` on real types: what is written is what is read, by every way a tuple is emitted.

#![forbid(unsafe_code)]

#[path = "support/mod.rs"]
mod support;

use squall_macros::Tuple;
use squall_tuple::rkyv::Archive;
use squall_tuple::{Emit, Field, FieldType, Key, Tuple as _, TupleRef, hash_key, sample};
use support::{buffer, pushed};

type Archived<T> = <T as Archive>::Archived;

#[derive(Tuple, Debug, Clone, PartialEq)]
#[squall(crate = crate::support)]
struct Word {
    word: String,
    n: u64,
}

#[derive(Tuple, Debug, Clone, Copy, PartialEq, Default)]
#[squall(crate = crate::support)]
struct Pod {
    a: u64,
    b: u64,
    c: u64,
    d: u64,
}

#[derive(Tuple, Debug, Clone, PartialEq)]
#[squall(crate = crate::support)]
struct Point {
    x: f64,
    label: String,
}

#[derive(Tuple, Debug, Clone, PartialEq)]
#[squall(crate = crate::support)]
struct Everything {
    text: String,
    byte: u8,
    small: i16,
    wide: i64,
    ratio: f32,
    exact: f64,
    yes: bool,
    letter: char,
    raw: Vec<u8>,
    words: Vec<String>,
    maybe: Option<u64>,
    maybe_text: Option<String>,
    address: [u8; 16],
    pair: (u32, String),
    point: Point,
    points: Vec<Point>,
    maybe_point: Option<Point>,
}

/// Deterministic values of all lengths: strings short enough to lie in the root and too long for it, empty lists.
fn everything(seed: usize) -> Everything {
    let text = |len: usize| "aé語🦀zyxwvutsrq".chars().cycle().skip(seed).take(len).collect::<String>();
    let point = |i: usize| Point { x: i as f64 / 3.0, label: text(i) };
    Everything {
        text: text(seed),
        byte: seed as u8,
        small: -(seed as i16),
        wide: i64::MIN + seed as i64,
        ratio: seed as f32 * 0.5,
        exact: f64::MAX / (seed + 1) as f64,
        yes: seed % 2 == 1,
        letter: char::from(b'a' + (seed % 26) as u8),
        raw: (0..seed).map(|i| i as u8).collect(),
        words: (0..seed % 5).map(text).collect(),
        maybe: (!seed.is_multiple_of(3)).then_some(u64::MAX - seed as u64),
        maybe_text: (seed % 3 > 1).then(|| text(20)),
        address: [seed as u8; 16],
        pair: (seed as u32, text(seed / 2)),
        point: point(seed),
        points: (0..seed % 4).map(point).collect(),
        maybe_point: seed.is_multiple_of(2).then(|| point(9)),
    }
}

/// The archive of a value, as it lies in a batch.
fn archive<T: squall_tuple::Tuple>(value: &impl Emit<T>) -> Vec<u8> {
    pushed::<T, _>(value, |frame| frame.tuple::<T>().bytes().to_vec())
}

#[test]
fn every_field_type_comes_back_as_it_was_sent() {
    for seed in 0..40 {
        let sent = everything(seed);
        let received = pushed::<Everything, _>(&sent, |frame| frame.tuple::<Everything>().to_owned());
        assert_eq!(received, sent);
    }
}

#[test]
fn a_tuple_is_read_in_place_through_its_fields() {
    pushed::<Everything, _>(&everything(11), |frame| {
        let seen: TupleRef<'_, Everything> = frame.tuple();
        assert_eq!(seen.text, everything(11).text);
        assert_eq!(seen.wide, i64::MIN + 11);
        assert_eq!(seen.words[0], "");
        assert_eq!(seen.point.label, everything(11).point.label);
        assert_eq!(seen.pair.1, everything(11).pair.1);
        assert!(seen.maybe_point.is_none());
    });
}

#[test]
fn owned_borrowed_and_incoming_tuples_have_the_same_archive() {
    for seed in 0..20 {
        let owned = everything(seed);
        let bytes = archive::<Everything>(&owned);
        assert_eq!(archive::<Everything>(&&owned), bytes);
        assert_eq!(archive::<Everything>(&owned.to_ref()), bytes);
        let passed_on = pushed::<Everything, _>(&owned, |frame| archive::<Everything>(&frame.tuple::<Everything>()));
        assert_eq!(passed_on, bytes);
        Everything::validate(&aligned(&bytes)).expect("our own archive");
    }
}

#[test]
fn the_borrowed_twin_is_written_from_parts_that_nobody_owns_together() {
    let borrowed = PairTextRef { left: "a text that is too long to lie in the root", right: Some("b"), all: &[] };
    let owned = pushed::<PairText, _>(&borrowed, |frame| frame.tuple::<PairText>().to_owned());
    assert_eq!(owned.left, borrowed.left);
    assert_eq!(owned.right.as_deref(), borrowed.right);
    assert!(owned.all.is_empty());
}

#[derive(Tuple)]
#[squall(crate = crate::support)]
struct PairText {
    left: String,
    right: Option<String>,
    all: Vec<String>,
}

#[test]
fn the_derive_and_the_hand_written_sample_agree_in_schema_and_bytes() {
    assert_eq!(Word::ID, sample::Word::ID);
    assert_eq!(Word::FIELDS, sample::Word::FIELDS);
    assert_eq!(<Word as FieldType>::TYPE, <sample::Word as FieldType>::TYPE);
    assert_eq!(Pod::ID, sample::Pod::ID);
    for word in ["", "eight ch", "nine char", "a good deal longer than that"] {
        let (ours, theirs) = (WordRef { word, n: 7 }, sample::WordRef { word, n: 7 });
        assert_eq!(archive::<Word>(&ours), archive::<sample::Word>(&theirs));
    }
}

#[test]
fn the_schema_names_the_fields_and_their_types_in_order() {
    let fields: Vec<(&str, &str)> = Everything::FIELDS.iter().map(|field| (field.name, field.ty)).collect();
    assert_eq!(fields[0], ("text", "string"));
    assert_eq!(fields[9], ("words", "list<string>"));
    assert_eq!(fields[10], ("maybe", "option<u64>"));
    assert_eq!(fields[12], ("address", "[u8; 16]"));
    assert_eq!(fields[15], ("points", "list<Point{x: f64, label: string}>"));
    assert_eq!(Everything::NAME, "Everything");
}

#[test]
fn another_name_order_or_type_is_another_id() {
    mod renamed {
        #[derive(squall_macros::Tuple)]
        #[squall(crate = crate::support)]
        pub(super) struct Word {
            pub(super) text: String,
            pub(super) n: u64,
        }
    }
    mod reordered {
        #[derive(squall_macros::Tuple)]
        #[squall(crate = crate::support)]
        pub(super) struct Word {
            pub(super) n: u64,
            pub(super) word: String,
        }
    }
    mod retyped {
        #[derive(squall_macros::Tuple)]
        #[squall(crate = crate::support)]
        pub(super) struct Word {
            pub(super) word: String,
            pub(super) n: u32,
        }
    }
    let mut ids = vec![Word::ID, renamed::Word::ID, reordered::Word::ID, retyped::Word::ID];
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    let texts = (renamed::Word { text: String::new(), n: 0 }, reordered::Word { n: 0, word: String::new() });
    assert_eq!((texts.0.text, texts.0.n, texts.1.word, texts.1.n), (String::new(), 0, String::new(), 0));
    assert_eq!(retyped::WordRef { word: "", n: 1 }.n, 1);
}

// ------------------------------------------------------------------------------------------------- numbers only

#[test]
fn a_struct_of_numbers_is_its_little_endian_bytes_and_nothing_else() {
    let pod = Pod { a: 1, b: u64::MAX, c: 0x0102_0304_0506_0708, d: 9 };
    let expected: Vec<u8> = [pod.a, pod.b, pod.c, pod.d].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(archive::<Pod>(&pod), expected);
    assert_eq!(archive::<Pod>(&PodRef { a: pod.a, b: pod.b, c: pod.c, d: pod.d }), expected);
    assert_eq!(size_of::<Archived<Pod>>(), 32);
    // Nothing to remember between serializing and resolving: no field writes anything before the root.
    assert_eq!(size_of::<<Pod as Archive>::Resolver>(), 0);
}

#[derive(Tuple, Debug, Clone, Copy, PartialEq)]
#[squall(crate = crate::support)]
struct Gaps {
    small: u8,
    wide: u64,
    flag: bool,
    middle: u16,
}

#[derive(Tuple, Debug, PartialEq)]
#[squall(crate = crate::support)]
struct Gappy {
    gaps: Vec<Gaps>,
    maybe: Option<u64>,
    last: Gaps,
}

#[test]
fn padding_is_zero_even_where_the_buffer_held_something_else() {
    #[derive(Tuple)]
    #[squall(crate = crate::support)]
    struct Fill {
        ones: Vec<u8>,
    }
    let gaps = Gaps { small: 0xEE, wide: u64::MAX, flag: true, middle: 0xDDDD };
    let mut expected = vec![0xEE, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([0xFF; 8]);
    expected.extend([1, 0, 0xDD, 0xDD, 0, 0, 0, 0]);

    let refilled = |push: &dyn Fn(&mut squall_tuple::BatchBuf)| {
        let mut buf = buffer::<Fill>();
        buf.push_plain::<Fill, _>(0, 0, 0, &FillRef { ones: &[0xFF; 1000] }).expect("fits");
        buf.open(&support::open::<Gaps>());
        push(&mut buf);
        buf.seal(0, 0, false);
        let batch = buf.view();
        batch.next(&mut batch.cursor()).expect("one tuple").payload().to_vec()
    };
    assert_eq!(refilled(&|buf| assert!(buf.push_plain::<Gaps, _>(0, 0, 0, &gaps).is_ok())), expected);
    // In a list and behind a `None` as well.
    let gappy = Gappy { gaps: vec![gaps; 2], maybe: None, last: gaps };
    let bytes = refilled(&|buf| {
        buf.open(&support::open::<Gappy>());
        buf.push_plain::<Gappy, _>(0, 0, 0, &gappy).expect("fits");
    });
    assert_eq!(bytes[..48], [&expected[..], &expected].concat());
    assert_eq!(bytes[56..72], [0; 16]);
    assert_eq!(bytes[72..], expected);
}

#[test]
fn lists_are_copied_as_a_block_only_where_the_struct_is_its_archive() {
    #[derive(Tuple, Debug, Clone, PartialEq)]
    #[squall(crate = crate::support)]
    struct Dense {
        a: u32,
        b: u16,
        c: [u8; 2],
    }
    #[derive(Tuple, Debug, PartialEq)]
    #[squall(crate = crate::support)]
    struct Many {
        all: Vec<Dense>,
    }
    assert!(Pod::COPY_OPTIMIZATION.is_enabled());
    assert!(!Gaps::COPY_OPTIMIZATION.is_enabled());
    assert!(!Word::COPY_OPTIMIZATION.is_enabled());
    let many = Many { all: (0..100).map(|n| Dense { a: n, b: n as u16, c: [1, 2] }).collect() };
    assert_eq!(pushed::<Many, _>(&many, |frame| frame.tuple::<Many>().to_owned()), many);
}

// ------------------------------------------------------------------------------------------------------- keys

type UserId = u64;

#[derive(Tuple)]
#[squall(crate = crate::support)]
struct Visit {
    #[squall(key)]
    user: UserId,
    tags: Vec<String>,
    name: String,
    host: Option<Vec<u8>>,
    id: i8,
}

#[test]
fn a_key_is_the_same_from_the_owned_the_borrowed_and_the_archived_field() {
    let visit = Visit {
        user: u64::MAX,
        tags: vec!["x".into()],
        name: "a name that is not inline".into(),
        host: Some(vec![1, 2]),
        id: -1,
    };
    let keys = [
        Key::U64(u64::MAX),
        Key::Null,
        Key::Str("a name that is not inline"),
        Key::Bytes(&[1, 2]),
        Key::I64(-1),
        Key::Null,
    ];
    pushed::<Visit, _>(&visit, |frame| {
        let seen = frame.tuple::<Visit>();
        for (field, key) in keys.iter().enumerate() {
            let field = field as u16;
            assert_eq!(visit.key(field), *key);
            assert_eq!(visit.key_of_owned(field), *key);
            assert_eq!(Emit::<Visit>::key(&visit.to_ref(), field), *key);
            assert_eq!(Visit::key_of(&seen, field), *key);
            assert_eq!(hash_key(seen.key(field)), hash_key(*key));
        }
        assert_eq!(Visit::key_of(&seen, u16::MAX), Key::Null);
    });
}

#[test]
fn key_fields_have_a_constant_with_their_index_even_where_it_hides_a_name_of_the_trait() {
    let constants: [Field<Visit>; 4] = [Visit::USER, Visit::NAME, Visit::HOST, Visit::ID];
    assert_eq!(constants.map(|field| field.index()), [0, 2, 3, 4]);
    assert_eq!(<Visit as squall_tuple::Tuple>::NAME, "Visit");
}

// ------------------------------------------------------------------------------- where a derive may have to stand

mod outer {
    pub(crate) mod inner {
        #[derive(squall_macros::Tuple)]
        #[squall(crate = crate::support)]
        pub(in crate::outer) struct Secret {
            pub(super) open: u64,
            closed: String,
        }

        pub(in crate::outer) fn closed(of: &super::super::Archived<Secret>) -> &str {
            &of.closed
        }

        pub(in crate::outer) fn secret() -> Secret {
            Secret { open: 1, closed: "closed".into() }
        }
    }

    /// A public tuple whose private field has a private type.
    #[derive(squall_macros::Tuple)]
    #[squall(crate = crate::support)]
    #[expect(unreachable_pub, reason = "the rule on private types in interfaces goes by what is written")]
    pub struct Envelope {
        pub stamp: u8,
        secret: inner::Secret,
    }

    #[test]
    fn visibility_follows_the_struct_and_its_fields() {
        let envelope = Envelope { stamp: 3, secret: inner::secret() };
        crate::pushed::<Envelope, _>(&envelope, |frame| {
            let seen = frame.tuple::<Envelope>();
            assert_eq!((seen.stamp, inner::closed(&seen.secret)), (3, "closed"));
            assert_eq!(seen.secret.open, 1);
        });
    }
}

/// No prelude, and names in scope that generated code must not trip over.
#[no_implicit_prelude]
mod bare {
    #![allow(dead_code, non_camel_case_types)]
    struct Option;
    struct Result;
    struct str;
    struct u16;
    mod core {}
    mod std {}
    const PORT: u8 = 0;

    #[derive(::squall_macros::Tuple)]
    #[squall(crate = crate::support)]
    pub(crate) struct Odd {
        pub(crate) r#type: ::core::primitive::u64,
        pub(crate) out: ::std::string::String,
        pub(crate) resolver: ::std::option::Option<::std::vec::Vec<::core::primitive::u8>>,
        pub(crate) w: bool,
        pub(crate) field: ::core::primitive::u16,
    }
}

#[test]
fn generated_code_does_not_depend_on_names_in_scope() {
    let odd = bare::Odd { r#type: 1, out: "o".into(), resolver: None, w: true, field: 2 };
    let back = pushed::<bare::Odd, _>(&odd, |frame| frame.tuple::<bare::Odd>().to_owned());
    assert_eq!((back.r#type, &*back.out, back.resolver, back.w, back.field), (1, "o", None, true, 2));
    let names: Vec<&str> = bare::Odd::FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names, ["type", "out", "resolver", "w", "field"]);
    assert_eq!([bare::Odd::TYPE, bare::Odd::OUT, bare::Odd::FIELD].map(|f| f.index()), [0, 1, 4]);
}

#[test]
fn a_macro_can_make_tuples() {
    macro_rules! reading {
        ($name:ident, $value:ty) => {
            #[derive(Tuple, Debug, PartialEq)]
            #[squall(crate = crate::support)]
            struct $name {
                at: u64,
                value: $value,
            }
        };
    }
    reading!(Level, f64);
    reading!(Note, String);
    let note = Note { at: 1, value: "n".into() };
    assert_eq!(pushed::<Note, _>(&note, |frame| frame.tuple::<Note>().to_owned()), note);
    assert_eq!((Level::VALUE.index(), Note::VALUE.index()), (1, 1));
    assert_eq!(Level { at: 0, value: 0.5 }.key(1), Key::F64(0.5));
}

#[test]
fn twins_can_be_printed() {
    let word = Word { word: "w".into(), n: 1 };
    assert_eq!(format!("{:?}", word.to_ref()), r#"WordRef { word: "w", n: 1 }"#);
    let archived = pushed::<Word, _>(&word, |frame| format!("{:?}", *frame.tuple::<Word>()));
    assert_eq!(archived, r#"ArchivedWord { word: "w", n: 1 }"#);
}

#[test]
fn damaged_archives_are_refused() {
    let bytes = archive::<Everything>(&everything(13));
    let short = aligned(&bytes[..bytes.len() - 8]);
    Everything::validate(&short).expect_err("a root that is cut off");
    Everything::validate(&[]).expect_err("nothing");
    let mut wild = aligned(&bytes);
    let yes = bytes.len() - size_of::<Archived<Everything>>() + std::mem::offset_of!(ArchivedEverything, yes);
    wild[yes] = 2;
    Everything::validate(&wild).expect_err("a bool that is neither");
}

/// The bytes at an 8-aligned address.
fn aligned(bytes: &[u8]) -> squall_tuple::rkyv::util::AlignedVec {
    let mut vec = squall_tuple::rkyv::util::AlignedVec::new();
    vec.extend_from_slice(bytes);
    vec
}
