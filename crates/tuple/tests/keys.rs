//! Keys: golden vectors (computed with the reference implementation of XXH3), typed and dynamic alike.

#![allow(missing_docs, unreachable_pub, reason = "tuple types made by a macro")]

mod common;

use common::{opened, tuple_type};
use proptest::prelude::*;
use squall_tuple::{
    Batch, BatchBuf, Emit, Frame, Key, KeyField, OpenBatch, Row, RowRef, Tuple, TupleType, Value, ValueRef, group_task,
    hash_key, hash_keys, key_group,
};

fn long() -> String {
    "x".repeat(300)
}

fn vectors() -> Vec<(Key<'static>, u64)> {
    static LONG: std::sync::LazyLock<String> = std::sync::LazyLock::new(long);
    vec![
        (Key::Null, 0x2d06_8005_38d3_94c2),
        (Key::Bool(false), 0x5eaa_c1f7_b17e_f730),
        (Key::Bool(true), 0x0e08_a51c_8536_156c),
        (Key::I64(0), 0x13c3_c355_e8de_d66a),
        (Key::I64(1), 0x40ec_3339_838d_6d11),
        (Key::I64(-1), 0x69ac_43b1_fe16_8c79),
        (Key::I64(i64::MAX), 0x826a_9ba2_806c_ee57),
        (Key::I64(i64::MIN), 0x3662_2007_84b0_cf9e),
        (Key::U64(1 << 63), 0x0f06_3aef_9d22_9627),
        (Key::U64(u64::MAX), 0xa692_96be_964d_b6e3),
        (Key::F64(0.0), 0x3cae_c76b_0631_9273),
        (Key::F64(1.0), 0xacec_4089_307c_625c),
        (Key::F64(-1.5), 0x6435_c1f1_d1b3_c296),
        (Key::F64(f64::NAN), 0x6220_533f_9e36_3d2f),
        (Key::Str(""), 0x388e_c5bd_0562_e095),
        (Key::Str("squall"), 0xe20a_31f2_4fde_4345),
        (Key::Str(&LONG), 0xd051_4304_799c_f8f7),
        (Key::Bytes(b""), 0x67c1_4dd6_5e9d_3f81),
        (Key::Bytes(b"squall"), 0xf04a_e6ba_5ea2_458a),
    ]
}

#[test]
fn single_keys_have_their_golden_hashes() {
    for (key, hash) in vectors() {
        assert_eq!(hash_key(key), hash, "{key:?}");
        assert_eq!(hash_keys([key]), hash, "one key of several is the key itself: {key:?}");
    }
}

#[test]
fn compound_keys_have_their_golden_hashes() {
    assert_eq!(hash_keys([Key::Str("squall"), Key::I64(7)]), 0xcbad_6145_2b4c_323e);
    assert_eq!(hash_keys([Key::Null, Key::Null]), 0x4a9f_fcfb_2837_fbcc);
    assert_eq!(hash_keys([Key::Str(&long()), Key::I64(-1), Key::Bytes(b"squall")]), 0xa694_1626_7624_689b);
    // 5 + 110 + 5 + 8 = 128 bytes just fit the stack buffer; one more does not.
    assert_eq!(hash_keys([Key::Str(&"y".repeat(110)), Key::I64(1)]), 0x8b29_6ce3_8824_652e);
    assert_eq!(hash_keys([Key::Str(&"y".repeat(111)), Key::I64(1)]), 0xf302_06bc_9e68_4a91);
    assert_ne!(hash_keys([Key::Str("ab"), Key::Str("c")]), hash_keys([Key::Str("a"), Key::Str("bc")]));
}

#[test]
fn equal_numbers_of_different_types_are_one_key() {
    for hash in
        [7u8.key(), 7u16.key(), 7u32.key(), 7u64.key(), 7i8.key(), 7i16.key(), 7i32.key(), Key::U64(7)].map(hash_key)
    {
        assert_eq!(hash, hash_key(7i64.key()));
    }
    assert_eq!(hash_key(0.5f32.key()), hash_key(0.5f64.key()));
    assert_eq!(hash_key((-0.0f64).key()), hash_key(0.0f64.key()));
    assert_eq!(hash_key(f64::from_bits(0xFFF8_0000_0000_0001).key()), hash_key(f64::NAN.key()));
    assert_eq!(hash_key(None::<u64>.key()), hash_key(Key::Null));
    assert_eq!(hash_key(Some(7u64).key()), hash_key(7i64.key()));
}

#[test]
fn key_groups_and_tasks_split_evenly() {
    assert_eq!(key_group(0, 1024), 0);
    assert_eq!(key_group(u64::MAX, 1024), 1023);
    assert_eq!(key_group(1 << 63, 1024), 512);
    assert_eq!(key_group(u64::MAX, 0), 0);
    for (groups, tasks) in [(1024, 1), (1024, 3), (1024, 1024), (5, 3), (u32::MAX, 7)] {
        assert_eq!(group_task(0, groups, tasks), 0);
        assert_eq!(group_task(groups - 1, groups, tasks), tasks - 1);
    }
    let per_task = (0..1024).fold([0; 7], |mut count, group| {
        count[group_task(group, 1024, 7) as usize] += 1;
        count
    });
    assert!(per_task.iter().all(|&n| n == 146 || n == 147), "{per_task:?}");
}

tuple_type!(Keyed, ArchivedKeyed, KeyedRef, "Keyed" {
    flag: bool = 0,
    small: u16 = 1,
    big: u64 = 2,
    signed: i64 = 3,
    real: f64 = 4,
    text: String = 5,
    raw: Vec<u8> = 6,
    maybe: Option<String> = 7,
    not_a_key: Vec<f64> = 8,
});

fn row_of(keyed: &Keyed) -> Row {
    Row(vec![
        keyed.flag.into(),
        Value::I64(keyed.small as i64),
        Value::I64(keyed.big as i64),
        keyed.signed.into(),
        keyed.real.into(),
        keyed.text.as_str().into(),
        keyed.raw.clone().into(),
        keyed.maybe.clone().into(),
        Value::List(keyed.not_a_key.iter().map(|x| Value::F64(*x)).collect()),
    ])
}

fn only<'a>(batch: &Batch<'a>) -> Frame<'a> {
    batch.iter().next().expect("one tuple was pushed")
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..ProptestConfig::default() })]

    /// Design §3 Keys: typed and dynamic tuples with equal keys meet in one task, whatever form they are in.
    #[test]
    fn typed_and_dynamic_keys_are_equal_in_every_form(
        flag: bool, small: u16, big in 0..=i64::MAX as u64, signed: i64, real: f64, text: String, raw: Vec<u8>,
        maybe: Option<String>, not_a_key: Vec<f64>,
    ) {
        let keyed = Keyed { flag, small, big, signed, real, text, raw, maybe, not_a_key };
        let row = row_of(&keyed);
        let mut typed = opened::<Keyed>(1 << 16);
        typed.push_plain::<Keyed, _>(0, 0, 0, &keyed).unwrap();
        let ty = TupleType::row(["k"]);
        let mut dynamic = BatchBuf::with_capacity(1 << 16);
        dynamic.open(&OpenBatch { schema_id: ty.schema_id(), dynamic: true, ..common::opening::<Row>() });
        dynamic.push_plain::<Row, _>(0, 0, 0, &row).unwrap();
        let (typed, dynamic) = (typed.view(), dynamic.view());
        let (typed, dynamic) = (only(&typed).tuple::<Keyed>(), only(&dynamic).tuple::<Row>());
        let twin = squall_tuple::FieldType::to_ref(&keyed);
        for field in 0..10 {
            let want = hash_key(row.key_of_owned(field));
            prop_assert_eq!(hash_key(dynamic.key(field)), want);
            prop_assert_eq!(hash_key(typed.key(field)), want);
            prop_assert_eq!(hash_key(keyed.key_of_owned(field)), want);
            prop_assert_eq!(hash_key(Emit::<Keyed>::key(&twin, field)), want);
            prop_assert_eq!(hash_key(Emit::<Keyed>::key(&typed, field)), want);
        }
        prop_assert_eq!(typed.key(8), Key::Null, "a list of floats cannot be a key");
        prop_assert_eq!(typed.key(9), Key::Null, "there is no such field");
    }

    #[test]
    fn groups_stay_below_their_number_and_tasks_below_theirs(hash: u64, groups in 1u32.., tasks in 1u32..) {
        let group = key_group(hash, groups);
        prop_assert!(group < groups);
        prop_assert!(group_task(group, groups, tasks) < tasks);
    }
}

#[test]
fn borrowed_rows_have_the_keys_of_owned_ones() {
    let values = [
        ValueRef::Null,
        ValueRef::Bool(true),
        ValueRef::I64(7),
        ValueRef::F64(0.5),
        ValueRef::Str("squall"),
        ValueRef::Bytes(b"squall"),
        ValueRef::List(&[]),
        ValueRef::Map(&[]),
    ];
    let owned = Row(vec![
        Value::Null,
        true.into(),
        7i64.into(),
        0.5.into(),
        "squall".into(),
        b"squall".to_vec().into(),
        Value::List(vec![]),
        Value::Map(vec![]),
    ]);
    for field in 0..9 {
        assert_eq!(Emit::<Row>::key(&RowRef(&values), field), owned.key_of_owned(field));
    }
}
