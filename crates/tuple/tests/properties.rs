//! What goes into a batch comes out of it: any tuples under any heads, through sealing, checking, cutting and passing on.

#![allow(missing_docs, unreachable_pub, reason = "tuple types made by a macro")]

mod common;

use common::{opened, tuple_type};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use squall_tuple::sample::{Word, WordRef};
use squall_tuple::{
    AnchorEdge, Batch, BatchBuf, Cursor, Dest, DestRef, FieldType, Frame, Full, Tuple, TupleHead, TupleType,
};

tuple_type!(Part, ArchivedPart, PartRef, "Part" { name: String = 0, weights: Vec<f32> = 1, tag: Option<char> = 2 });

tuple_type!(Rich, ArchivedRich, RichRef, "Rich" {
    id: u64 = 0,
    small: i8 = 1,
    flag: bool = 2,
    letter: char = 3,
    text: String = 4,
    raw: Vec<u8> = 5,
    texts: Vec<String> = 6,
    nested: Vec<Vec<Option<i16>>> = 7,
    maybe: Option<String> = 8,
    array: [u32; 3] = 9,
    pair: (u16, String) = 10,
    parts: Vec<Part> = 11,
    part: Option<Part> = 12,
});

fn parts() -> impl Strategy<Value = Part> {
    (".{0,12}", vec(-1e3f32..1e3, 0..4), any::<Option<char>>()).prop_map(|(name, weights, tag)| Part {
        name,
        weights,
        tag,
    })
}

fn rich() -> impl Strategy<Value = Rich> {
    let first = (any::<u64>(), any::<i8>(), any::<bool>(), any::<char>(), ".{0,40}", vec(any::<u8>(), 0..40));
    let second = (
        vec(".{0,12}", 0..5),
        vec(vec(any::<Option<i16>>(), 0..4), 0..4),
        prop::option::of(".{0,12}"),
        any::<[u32; 3]>(),
        (any::<u16>(), ".{0,12}"),
        vec(parts(), 0..3),
        prop::option::of(parts()),
    );
    (first, second).prop_map(
        |((id, small, flag, letter, text, raw), (texts, nested, maybe, array, pair, parts, part))| Rich {
            id,
            small,
            flag,
            letter,
            text,
            raw,
            texts,
            nested,
            maybe,
            array,
            pair,
            parts,
            part,
        },
    )
}

#[derive(Debug, Clone, PartialEq)]
enum To {
    Task(u32),
    Set(u32),
    List(Vec<u32>),
}

/// A head that owns what it refers to.
#[derive(Debug, Clone, PartialEq)]
struct Head {
    source: u32,
    dest: To,
    origin_ns: u64,
    anchors: Vec<AnchorEdge>,
    event_time: Option<i64>,
    key_group: Option<u32>,
    trace: Option<u64>,
}

impl Head {
    fn with<R>(&self, f: impl FnOnce(&TupleHead<'_>) -> R) -> R {
        let dest = match &self.dest {
            To::Task(task) => Dest::Task(*task),
            To::Set(set) => Dest::Set(*set),
            To::List(tasks) => Dest::List(tasks),
        };
        let Head { source, origin_ns, event_time, key_group, trace, .. } = *self;
        f(&TupleHead { source, dest, origin_ns, anchors: &self.anchors, event_time, key_group, trace })
    }

    fn of(frame: &Frame<'_>) -> Head {
        Head {
            source: frame.source(),
            dest: match frame.dest() {
                DestRef::Task(task) => To::Task(task),
                DestRef::Set(set) => To::Set(set),
                DestRef::List(tasks) => To::List(tasks.collect()),
            },
            origin_ns: frame.origin_ns(),
            anchors: frame.anchors().collect(),
            event_time: frame.event_time(),
            key_group: frame.key_group(),
            trace: frame.trace(),
        }
    }
}

fn heads() -> impl Strategy<Value = Head> {
    let few_or_many = |max| prop_oneof![4 => 0usize..4, 1 => 0usize..max];
    let anchors = few_or_many(300).prop_flat_map(|n| vec((any::<u64>(), any::<u64>()), n));
    let dest = prop_oneof![
        4 => any::<u32>().prop_map(To::Task),
        1 => any::<u32>().prop_map(To::Set),
        2 => few_or_many(600).prop_flat_map(|n| vec(any::<u32>(), n)).prop_map(To::List),
    ];
    // Origins come in runs, and may go back.
    let origin = prop_oneof![8 => 1000u64..1003, 1 => any::<u64>()];
    (any::<u32>(), dest, origin, anchors, any::<Option<i64>>(), any::<Option<u32>>(), any::<Option<u64>>()).prop_map(
        |(source, dest, origin_ns, anchors, event_time, key_group, trace)| Head {
            source,
            dest,
            origin_ns,
            anchors: anchors.into_iter().map(|(root, edge)| AnchorEdge { root, edge }).collect(),
            event_time,
            key_group,
            trace,
        },
    )
}

fn contents<T: Tuple>(batch: &Batch<'_>, cursor: &Cursor) -> Vec<(Head, T)> {
    let mut cursor = cursor.clone();
    let frames = std::iter::from_fn(|| batch.next(&mut cursor));
    frames.map(|frame| (Head::of(&frame), T::to_owned(frame.tuple::<T>().get()))).collect()
}

fn all<T: Tuple>(batch: &Batch<'_>) -> Vec<(Head, T)> {
    contents(batch, &batch.cursor())
}

fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(200, 5))]

    #[test]
    fn tuples_and_heads_come_out_as_they_went_in(
        tuples in vec((heads(), rich(), any::<bool>()), 0..12),
        crc: bool,
        cut: prop::sample::Index,
    ) {
        let ty = TupleType::of::<Rich>();
        let mut buf = opened::<Rich>(1 << 18);
        for (head, value, borrowed) in &tuples {
            let bytes = head.with(|head| match borrowed {
                true => buf.push::<Rich, _>(head, &value.to_ref()),
                false => buf.push::<Rich, _>(head, value),
            });
            prop_assert!(bytes.unwrap() % 8 == 0);
        }
        let want: Vec<(Head, Rich)> = tuples.iter().map(|(head, value, _)| (head.clone(), value.clone())).collect();
        prop_assert_eq!(&all::<Rich>(&buf.view()), &want);

        buf.seal(7, 8, crc);
        let bytes = common::aligned(&buf);
        let batch = Batch::validate(&bytes, Some(&ty), 1 << 18).unwrap();
        prop_assert_eq!(batch.header(), buf.view().header());
        prop_assert_eq!(&all::<Rich>(&batch), &want);

        let at = cut.index(want.len() + 1);
        let mut cursor = batch.cursor();
        (0..at).for_each(|_| assert!(batch.next(&mut cursor).is_some()));
        let mut tail = BatchBuf::with_capacity(1 << 18);
        tail.copy_tail(&batch, &cursor).unwrap();
        prop_assert_eq!(&contents::<Rich>(&batch, &cursor), &want[at..]);
        prop_assert_eq!(&all::<Rich>(&tail.view()), &want[at..]);

        // All of it again behind the tail, passed on unchanged.
        for frame in batch.iter() {
            Head::of(&frame).with(|head| tail.push::<Rich, _>(head, &frame.tuple::<Rich>())).unwrap();
        }
        tail.seal(1, 2, crc);
        let tail = common::aligned(&tail);
        let tail = Batch::validate(&tail, Some(&ty), 1 << 19).unwrap();
        prop_assert_eq!(&all::<Rich>(&tail), &[&want[at..], &want[..]].concat());
    }

    /// Against a model: a buffer takes what fits and refuses the rest, whatever the sizes.
    #[test]
    fn a_buffer_takes_what_fits_and_nothing_else(
        size in 128usize..1500,
        words in vec((heads(), ".{0,200}", any::<u64>()), 0..30),
    ) {
        let mut buf = opened::<Word>(size);
        let mut model: Vec<(Head, Word)> = Vec::new();
        for (head, word, n) in words {
            let before = (buf.len(), buf.count());
            // In a buffer that is large enough, which also gives the size.
            let mut roomy = BatchBuf::with_capacity(1 << 16);
            roomy.copy_tail(&buf.view(), &buf.view().cursor()).unwrap();
            let value = WordRef { word: &word, n };
            let needed = head.with(|head| roomy.push::<Word, _>(head, &value)).unwrap();
            match head.with(|head| buf.push::<Word, _>(head, &value)) {
                Ok(bytes) => {
                    prop_assert_eq!((bytes, buf.len(), buf.count()), (needed, before.0 + bytes as usize, before.1 + 1));
                    prop_assert!(buf.len() <= buf.capacity());
                    model.push((head, Word { word, n }));
                }
                Err(Full) => {
                    prop_assert!(before.0 + needed as usize > buf.capacity());
                    prop_assert_eq!((buf.len(), buf.count()), before);
                }
            }
            prop_assert_eq!(all::<Word>(&buf.view()), &model[..]);
        }
    }
}

proptest! {
    #![proptest_config(config(20, 6))]

    /// Maximal: tuples of the default limit of 16 MiB, and the last that fits a buffer to the byte.
    #[test]
    fn large_tuples_travel(len in 0usize..(16 << 20), texts in 0usize..20_000) {
        let size = (16 << 20) + (1 << 20);
        let mut buf = opened::<Rich>(size);
        let value = Rich {
            id: 1, small: 1, flag: true, letter: 'x', text: "t".repeat(len), raw: vec![7; 1000],
            texts: (0..texts).map(|i| i.to_string()).collect(), nested: vec![], maybe: None, array: [0; 3],
            pair: (1, String::new()), parts: vec![], part: None,
        };
        buf.push_plain::<Rich, _>(1, 2, 3, &value).unwrap();
        let exact = buf.len();
        buf.seal(1, 2, false);
        let batch = Batch::validate(&buf, Some(&TupleType::of::<Rich>()), size).unwrap();
        prop_assert!(batch.iter().next().unwrap().tuple::<Rich>().to_owned() == value);
        let mut fitting = opened::<Rich>(exact);
        prop_assert!(fitting.push_plain::<Rich, _>(1, 2, 3, &value).is_ok());
        prop_assert!(fitting.capacity() - exact < 64);
        let mut short = opened::<Rich>(fitting.capacity() - 64);
        prop_assert_eq!(short.push_plain::<Rich, _>(1, 2, 3, &value), Err(Full));
    }
}
