//! A typed and a dynamic tuple with equal keys meet in one task.

mod common;

use proptest::prelude::*;
use squall_topology::{Grouping, Pick, RouteKey, Router, Target};
use squall_tuple::{Key, KeyField, Value};

struct Typed {
    word: String,
    n: u64,
    flag: Option<bool>,
    ratio: f32,
    raw: Vec<u8>,
}

impl RouteKey for Typed {
    fn key(&self, field: u16) -> Key<'_> {
        match field {
            0 => self.word.key(),
            1 => self.n.key(),
            2 => KeyField::key(&self.flag),
            3 => self.ratio.key(),
            4 => self.raw.key(),
            _ => Key::Null,
        }
    }
}

struct Dynamic(Vec<Value>);

impl RouteKey for Dynamic {
    fn key(&self, field: u16) -> Key<'_> {
        self.0.get(field as usize).map_or(Key::Null, Value::key)
    }
}

proptest! {
    #![proptest_config(common::cases(256))]

    #[test]
    fn equal_keys_meet_in_one_task_typed_or_dynamic(
        word in ".{0,20}", n in 0..=i64::MAX as u64, flag: Option<bool>, ratio: f32, raw: Vec<u8>,
        fields in prop::sample::subsequence(vec![0u16, 1, 2, 3, 4], 1..=5), tasks in 1..40u32, seeds: (u64, u64)
    ) {
        let dynamic = Dynamic(vec![
            Value::from(word.as_str()),
            Value::I64(n as i64),
            Value::from(flag),
            Value::F64(f64::from(ratio)),
            Value::from(raw.clone()),
        ]);
        let typed = Typed { word, n, flag, ratio, raw };
        let targets: Vec<Target> = (0..tasks).map(|task| Target { task, local: false }).collect();
        let new = |seed| Router::new(&Grouping::Fields(fields.clone()), &targets, 1024, seed, None);
        let (mut ours, mut theirs) = (new(seeds.0), new(seeds.1));
        let Pick::One(index) = ours.pick(&typed) else { panic!("fields picks one target") };
        prop_assert_eq!(theirs.pick(&dynamic), Pick::One(index));
    }
}
