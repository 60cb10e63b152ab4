//! Dynamic tuples: owned and borrowed values give one archive, and come back as they were.

mod common;

use common::opening;
use proptest::prelude::*;
use squall_tuple::{
    BatchBuf, Emit, Full, Key, OpenBatch, Row, RowRef, Tuple, TupleType, Value, ValueRef, value::ArchivedValue,
};

fn opened(bytes: usize) -> BatchBuf {
    let mut buf = BatchBuf::with_capacity(bytes);
    let ty = TupleType::row(["a", "b"]);
    buf.open(&OpenBatch { schema_id: ty.schema_id(), dynamic: ty.dynamic(), ..opening::<Row>() });
    buf
}

fn archive(row: &impl Emit<Row>) -> Vec<u8> {
    let mut buf = opened(1 << 20);
    buf.push_plain::<Row, _>(1, 2, 3, row).unwrap();
    buf.view().iter().next().unwrap().tuple::<Row>().bytes().to_vec()
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
        ".{0,12}".prop_map(Value::Str),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::vec((".{0,10}", inner), 0..5).prop_map(Value::map),
        ]
    })
}

/// The borrowed twin, of memory that is never given back.
fn twin(value: &Value) -> ValueRef<'static> {
    match value.clone() {
        Value::Null => ValueRef::Null,
        Value::Bool(b) => ValueRef::Bool(b),
        Value::I64(n) => ValueRef::I64(n),
        Value::F64(x) => ValueRef::F64(x),
        Value::Str(s) => ValueRef::Str(s.leak()),
        Value::Bytes(b) => ValueRef::Bytes(b.leak()),
        Value::List(items) => ValueRef::List(items.iter().map(twin).collect::<Vec<_>>().leak()),
        Value::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| (&*key.leak(), twin(&value)));
            ValueRef::Map(pairs.collect::<Vec<_>>().leak())
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && same(a, b))
        }
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(4), ..ProptestConfig::default() })]

    #[test]
    fn rows_come_back_as_they_were_and_borrowed_ones_have_the_same_archive(value in values(), more in values()) {
        let row = Row(vec![value.clone(), more.clone()]);
        let bytes = common::aligned(&archive(&row));
        Row::validate(&bytes).unwrap();
        let back = squall_tuple::TupleRef::<Row>::from_bytes(&bytes).unwrap().to_owned();
        prop_assert!(back.0.len() == 2 && same(&back.0[0], &value) && same(&back.0[1], &more), "{:?}", back);
        let borrowed = archive(&RowRef(&[twin(&value), twin(&more)]));
        prop_assert_eq!(&borrowed[..], &bytes[..]);
    }
}

/// A list of a list of … of text that is not inline.
fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Str("a text that is not inline".into()), |value, i| match i % 2 {
        0 => Value::List(vec![value]),
        _ => Value::map([("a key that is not inline", value)]),
    })
}

#[test]
fn what_may_be_emitted_is_what_receivers_accept() {
    let deepest = Row(vec![nested(Value::MAX_DEPTH)]);
    let bytes = common::aligned(&archive(&deepest));
    Row::validate(&bytes).unwrap();
    assert_eq!(squall_tuple::TupleRef::<Row>::from_bytes(&bytes).unwrap().to_owned(), deepest);
}

#[test]
#[should_panic(expected = "flatten it before emitting")]
fn a_row_that_nests_too_deep_is_refused_where_it_is_emitted() {
    archive(&Row(vec![nested(Value::MAX_DEPTH + 1)]));
}

#[test]
#[should_panic(expected = "flatten it before emitting")]
fn a_borrowed_row_that_nests_too_deep_is_refused_where_it_is_emitted() {
    archive(&RowRef(&[twin(&nested(Value::MAX_DEPTH + 1))]));
}

#[test]
fn archived_values_are_read_in_place() {
    let row = Row(vec![
        Value::I64(7),
        Value::F64(0.5),
        "text".into(),
        Value::map([("b", Value::Null), ("a", Value::I64(1)), ("b", Value::I64(2))]),
        Value::List(vec![true.into()]),
    ]);
    let bytes = common::aligned(&archive(&row));
    let row = squall_tuple::TupleRef::<Row>::from_bytes(&bytes).unwrap();
    assert_eq!(row.len(), 5);
    assert_eq!((row[0].as_i64(), row[0].as_f64(), row[0].as_str()), (Some(7), Some(7.0), None));
    assert_eq!((row[1].as_i64(), row[1].as_f64()), (None, Some(0.5)));
    assert_eq!((row[2].as_str(), row[2].as_f64(), row[2].key()), (Some("text"), None, Key::Str("text")));
    assert_eq!(row[3].get("b").and_then(ArchivedValue::as_i64), Some(2), "of pairs with one key the last stays");
    assert_eq!((row[3].get("c").is_none(), row[2].get("a").is_none(), row[3].scalar()), (true, true, None));
    assert_eq!(row[4].to_value(), Value::List(vec![Value::Bool(true)]));
    // Fields of an incoming row go out again without owning them.
    let again = archive(&RowRef(&[row[2].scalar().unwrap(), row[0].scalar().unwrap()]));
    assert_eq!(again, archive(&Row(vec!["text".into(), Value::I64(7)])));
}

#[test]
fn empty_rows_and_rows_of_other_lengths_than_the_names_travel() {
    for row in [Row(vec![]), Row(vec![Value::Null; 1000])] {
        let bytes = common::aligned(&archive(&row));
        assert_eq!(squall_tuple::TupleRef::<Row>::from_bytes(&bytes).unwrap().to_owned(), row);
    }
    assert_eq!(opened(128).push_plain::<Row, _>(1, 2, 3, &Row(vec![Value::Null; 10])), Err(Full));
}

#[test]
fn row_types_differ_by_their_field_names() {
    assert_eq!(TupleType::row(["a", "b"]), TupleType::row(vec!["a".to_owned(), "b".to_owned()]));
    assert_ne!(TupleType::row(["a", "b"]), TupleType::row(["b", "a"]));
    assert_ne!(TupleType::row(["a"]), TupleType::row(["a", "b"]));
    let fields = TupleType::row(["a"]);
    assert_eq!(fields.fields(), [("a".to_owned(), "any".to_owned())]);
    assert!(fields.dynamic());
}
