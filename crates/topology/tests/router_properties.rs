//! What each grouping promises, for any targets, keys and seeds.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;
use squall_topology::rng::Rng;
use squall_topology::{CustomGrouping, Grouping, MAX_KEY_GROUPS, Pick, RouteKey, Router, Target};
use squall_tuple::{Key, group_task, hash_key, hash_keys, key_group};

const GROUPS: u32 = 1024;

/// A tuple of keys.
struct Tuple<'a>(&'a [Key<'a>]);

impl RouteKey for Tuple<'_> {
    fn key(&self, field: u16) -> Key<'_> {
        self.0.get(field as usize).copied().unwrap_or(Key::Null)
    }
}

/// A tuple whose key has this hash.
struct Hashed(u64);

impl RouteKey for Hashed {
    fn key(&self, _: u16) -> Key<'_> {
        unreachable!("the router asks for the hash")
    }

    fn key_hash(&self, _: &[u16]) -> u64 {
        self.0
    }
}

/// A tuple that must not be looked at.
struct Sealed;

impl RouteKey for Sealed {
    fn key(&self, _: u16) -> Key<'_> {
        panic!("this grouping does not depend on the tuple")
    }
}

/// Tasks 10, 11, …; bit i of `local` says whether target i is in the sender's worker.
fn targets(count: u32, local: u64) -> Vec<Target> {
    (0..count).map(|at| Target { task: 10 + at, local: local >> (at % 64) & 1 == 1 }).collect()
}

fn router(grouping: Grouping, targets: &[Target], seed: u64) -> Router {
    Router::new(&grouping, targets, GROUPS, seed, None)
}

fn one(pick: Pick<'_>) -> u32 {
    match pick {
        Pick::One(index) => index,
        other => panic!("one target expected, not {other:?}"),
    }
}

/// How often each target is picked.
fn counts(router: &mut Router, tuples: u32, tuple: &impl RouteKey) -> Vec<u32> {
    let mut counts = vec![0; router.targets() as usize];
    for _ in 0..tuples {
        counts[one(router.pick(tuple)) as usize] += 1;
    }
    counts
}

fn spread(counts: &[u32]) -> u32 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

proptest! {
    #![proptest_config(common::cases(256))]

    #[test]
    fn shuffle_stays_balanced_within_one_after_every_tuple(count in 1..40u32, seed: u64) {
        let mut router = router(Grouping::Shuffle, &targets(count, 0), seed);
        let mut sent = vec![0; count as usize];
        for _ in 0..5 * count {
            sent[one(router.pick(&Sealed)) as usize] += 1;
            prop_assert!(spread(&sent) <= 1, "{:?}", sent);
        }
    }

    #[test]
    fn local_or_shuffle_uses_only_local_targets_if_there_are_any(count in 1..40u32, local: u64, seed: u64) {
        let targets = targets(count, local);
        let mut router = router(Grouping::LocalOrShuffle, &targets, seed);
        let any_local = targets.iter().any(|t| t.local);
        let sent = counts(&mut router, 7 * count, &Sealed);
        let (used, unused): (Vec<_>, Vec<_>) = (0..count as usize).partition(|&at| targets[at].local || !any_local);
        prop_assert!(unused.iter().all(|&at| sent[at] == 0), "{:?}", sent);
        prop_assert!(spread(&used.iter().map(|&at| sent[at]).collect::<Vec<_>>()) <= 1, "{:?}", sent);
    }

    #[test]
    fn fields_agrees_with_group_task_for_any_hash(
        hash: u64, groups in 1..=MAX_KEY_GROUPS, count in 1..300u32, seed: u64
    ) {
        let mut router = Router::new(&Grouping::Fields(vec![0]), &targets(count, 0), groups, seed, None);
        let expected = group_task(key_group(hash, groups), groups, count);
        prop_assert_eq!(router.pick(&Hashed(hash)), Pick::One(expected));
    }

    #[test]
    fn fields_sends_equal_keys_to_one_task_whoever_sends_and_whatever_else_is_in_the_tuple(
        word in ".{0,20}", n: u64, other: i64, count in 1..40u32, seeds: (u64, u64), local: u64
    ) {
        let grouping = Grouping::Fields(vec![0, 2]);
        let mut ours = router(grouping.clone(), &targets(count, local), seeds.0);
        let mut theirs = router(grouping, &targets(count, !local), seeds.1);
        let first = ours.pick(&Tuple(&[Key::Str(&word), Key::I64(other), Key::from_u64(n)]));
        let first = one(first);
        // The same number, tagged by hand; and another value in a field that does not count.
        prop_assert_eq!(one(theirs.pick(&Tuple(&[Key::Str(&word), Key::Null, Key::U64(n)]))), first);
        let hash = hash_keys([Key::Str(&word), Key::from_u64(n)]);
        prop_assert_eq!(first, group_task(key_group(hash, GROUPS), GROUPS, count));
    }

    #[test]
    fn partial_key_gives_each_key_at_most_two_tasks_the_same_two_for_every_sender(
        keys in prop::collection::vec(0..50u64, 1..400), count in 2..40u32, seeds: (u64, u64)
    ) {
        let mut used: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for seed in [seeds.0, seeds.1] {
            let mut router = router(Grouping::PartialKey(vec![0]), &targets(count, 0), seed);
            for &key in &keys {
                let index = one(router.pick(&Tuple(&[Key::from_u64(key)])));
                prop_assert!(index < count);
                used.entry(key).or_default().insert(index);
            }
        }
        prop_assert!(used.values().all(|tasks| tasks.len() <= 2), "{:?}", used);
    }

    #[test]
    fn partial_key_alternates_between_two_different_tasks_for_a_single_key(key: u64, count in 2..40u32, n in 1..100u32) {
        let mut router = router(Grouping::PartialKey(vec![0]), &targets(count, 0), 0);
        let mut sent = counts(&mut router, n, &Tuple(&[Key::from_u64(key)]));
        sent.sort_unstable();
        prop_assert_eq!(sent[sent.len() - 1], n.div_ceil(2));
        prop_assert_eq!(sent[sent.len() - 2], n / 2);
    }

    #[test]
    fn partial_key_balances_a_hot_key_that_fields_cannot(count in 3..16u32, salt: u64, seed: u64) {
        let mut fields = router(Grouping::Fields(vec![0]), &targets(count, 0), seed);
        let mut partial = router(Grouping::PartialKey(vec![0]), &targets(count, 0), seed);
        let mut rng = Rng::new(salt);
        let (mut by_fields, mut by_partial) = (vec![0; count as usize], vec![0; count as usize]);
        const TUPLES: u32 = 4000;
        for _ in 0..TUPLES {
            let key = if rng.below(10) < 6 { salt } else { rng.next_u64() };
            by_fields[one(fields.pick(&Tuple(&[Key::from_u64(key)]))) as usize] += 1;
            by_partial[one(partial.pick(&Tuple(&[Key::from_u64(key)]))) as usize] += 1;
        }
        // 6 in 10 tuples have one key: at least 58 % on one task by fields, about 33 % by partial key.
        let (worst_by_fields, worst_by_partial) = (*by_fields.iter().max().unwrap(), *by_partial.iter().max().unwrap());
        prop_assert!(worst_by_fields >= TUPLES * 58 / 100, "{:?}", by_fields);
        prop_assert!(worst_by_partial <= TUPLES * 40 / 100, "{:?}", by_partial);
    }

    #[test]
    fn all_picks_every_target_without_looking_at_the_tuple(count in 2..40u32, seed: u64) {
        let mut router = router(Grouping::All, &targets(count, 0), seed);
        prop_assert_eq!(router.pick(&Sealed), Pick::All);
    }

    #[test]
    fn global_picks_the_lowest_task(count in 1..40u32, local: u64, seed: u64) {
        let mut router = router(Grouping::Global, &targets(count, local), seed);
        for _ in 0..10 {
            prop_assert_eq!(router.pick(&Sealed), Pick::One(0));
        }
    }

    #[test]
    fn none_is_uniform_up_to_chance(count in 1..20u32, seed: u64) {
        let mut router = router(Grouping::None, &targets(count, 0), seed);
        // Mean 1000 and a deviation below 32 a target: 6 deviations are 192.
        let sent = counts(&mut router, 1000 * count, &Sealed);
        prop_assert!(sent.iter().all(|&n| (808..=1192).contains(&n)), "{:?}", sent);
    }

    #[test]
    fn load_aware_is_as_even_as_its_ring_while_loads_are_equal(count in 2..40u32, load in 0..=100u8, seed: u64) {
        let mut router = router(Grouping::LoadAwareShuffle, &targets(count, 0), seed);
        for _ in 0..3 {
            router.set_load(&vec![load; count as usize]);
        }
        let ring = (5 * count).max(1000);
        let sent = counts(&mut router, 4 * ring, &Sealed);
        // The ring holds ⌊ring ÷ count⌋ places each; the rest, below `count`, go by chance.
        let least = 4 * (ring / count);
        prop_assert!(sent.iter().all(|&n| n >= least), "{:?}", sent);
    }

    #[test]
    fn load_aware_sends_less_to_a_loaded_target_with_every_refresh_and_comes_back_slowly(
        count in 2..20u32, busy: prop::sample::Index, seed: u64
    ) {
        let busy = busy.index(count as usize);
        let mut router = router(Grouping::LoadAwareShuffle, &targets(count, 0), seed);
        let mut loads = vec![20; count as usize];
        loads[busy] = 90;
        let mut last = u32::MAX;
        for _ in 0..10 {
            router.set_load(&loads);
            let sent = counts(&mut router, 1000, &Sealed);
            let idle: u32 = (0..count as usize).filter(|&at| at != busy).map(|at| sent[at]).min().unwrap();
            prop_assert!(sent[busy] < idle, "{:?}", sent);
            prop_assert!(sent[busy] < last, "less than before: {:?}", sent);
            last = sent[busy].max(1);
        }
        prop_assert_eq!(counts(&mut router, 1000, &Sealed)[busy], 0, "100 − 10 × 10 = 0");
        loads[busy] = 20;
        router.set_load(&loads);
        let sent = counts(&mut router, 1000, &Sealed)[busy];
        prop_assert!(sent <= 40, "one refresh gives back one of 100: {}", sent);
        for _ in 0..100 {
            router.set_load(&loads);
        }
        let sent = counts(&mut router, 1000, &Sealed);
        prop_assert!(sent[busy] >= 1000 / count, "{:?}", sent);
    }

    #[test]
    fn load_aware_takes_any_sequence_of_loads_and_never_leaves_its_scope(
        count in 2..40u32, local: u64, seed: u64,
        loads in prop::collection::vec(prop::collection::vec(0..=100u8, 40), 0..30)
    ) {
        let targets = targets(count, local);
        let mut router = router(Grouping::LoadAwareShuffle, &targets, seed);
        let locals: Vec<usize> = (0..count as usize).filter(|&at| targets[at].local).collect();
        let mut wide = locals.is_empty();
        for load in &loads {
            router.set_load(&load[..count as usize]);
            if !locals.is_empty() {
                let mean = locals.iter().map(|&at| u32::from(load[at])).sum::<u32>() / locals.len() as u32;
                wide = if wide { mean >= 20 } else { mean > 80 };
            }
            let sent = counts(&mut router, 500, &Sealed);
            prop_assert!(wide || (0..count as usize).all(|at| targets[at].local || sent[at] == 0), "{:?}", sent);
        }
    }

    #[test]
    fn equal_seeds_give_equal_picks(which in 0..8usize, count in 1..40u32, local: u64, seed: u64) {
        let grouping = [
            Grouping::Shuffle, Grouping::LoadAwareShuffle, Grouping::LocalOrShuffle, Grouping::Fields(vec![0]),
            Grouping::PartialKey(vec![0]), Grouping::All, Grouping::Global, Grouping::None,
        ][which].clone();
        let targets = targets(count, local);
        let (mut a, mut b) = (router(grouping.clone(), &targets, seed), router(grouping, &targets, seed));
        for n in 0..200u64 {
            if n == 100 {
                let load: Vec<u8> = (0..count).map(|at| (at * 7 % 101) as u8).collect();
                a.set_load(&load);
                b.set_load(&load);
            }
            let tuple = [Key::from_u64(n % 17)];
            prop_assert_eq!(a.pick(&Tuple(&tuple)), b.pick(&Tuple(&tuple)));
        }
    }

    #[test]
    fn a_custom_grouping_reaches_the_targets_it_names_once_each(
        chosen in prop::collection::vec(0..6u32, 0..12), count in 6..10u32
    ) {
        let mut router = custom(chosen.clone(), count).0;
        let expected: BTreeSet<u32> = chosen.into_iter().collect();
        for _ in 0..2 {
            let picked = match router.pick(&Tuple(&[])) {
                Pick::One(only) => vec![only],
                Pick::Many(several) => { prop_assert_ne!(several.len(), 1); several.to_vec() }
                Pick::All => panic!("a custom grouping names its targets"),
            };
            prop_assert_eq!(&picked, &expected.iter().copied().collect::<Vec<_>>());
        }
    }
}

struct Fixed {
    chosen: Vec<u32>,
    prepared: Rc<RefCell<Vec<Vec<u32>>>>,
}

impl CustomGrouping for Fixed {
    fn prepare(&mut self, targets: &[u32]) {
        self.prepared.borrow_mut().push(targets.to_vec());
    }

    fn choose(&mut self, _: &dyn RouteKey, out: &mut Vec<u32>) {
        assert!(out.is_empty());
        out.extend(&self.chosen);
    }
}

/// The router, and the target lists its grouping was prepared with.
fn custom(chosen: Vec<u32>, count: u32) -> (Router, Rc<RefCell<Vec<Vec<u32>>>>) {
    let prepared = Rc::default();
    let grouping = Fixed { chosen, prepared: Rc::clone(&prepared) };
    let name = Grouping::Custom("fixed".into());
    (Router::new(&name, &targets(count, 0), GROUPS, 0, Some(Box::new(grouping))), prepared)
}

#[test]
fn a_custom_grouping_is_prepared_once_with_the_task_ids_and_asked_even_with_one_target() {
    let (mut router, prepared) = custom(Vec::new(), 1);
    assert_eq!(*prepared.borrow(), [[10]]);
    assert_eq!(router.pick(&Sealed), Pick::Many(&[]));
    assert_eq!(prepared.borrow().len(), 1);
}

#[test]
fn a_custom_grouping_sees_keys_and_their_hashes() {
    struct ByKey;
    impl CustomGrouping for ByKey {
        fn prepare(&mut self, _: &[u32]) {}
        fn choose(&mut self, tuple: &dyn RouteKey, out: &mut Vec<u32>) {
            assert_eq!(tuple.key_hash(&[0]), hash_key(tuple.key(0)));
            let Key::I64(n) = tuple.key(0) else { panic!("a number was given") };
            out.push(n as u32);
        }
    }
    let name = Grouping::Custom("by-key".into());
    let mut router = Router::new(&name, &targets(4, 0), GROUPS, 0, Some(Box::new(ByKey)));
    assert_eq!(router.pick(&Tuple(&[Key::I64(3)])), Pick::One(3));
}

#[test]
#[should_panic(expected = "the custom grouping `fixed` chose target 3, but the targets are 0 to 2")]
fn a_custom_grouping_that_names_a_target_beyond_the_last_panics() {
    custom(vec![0, 3], 3).0.pick(&Sealed);
}

#[test]
#[should_panic(expected = "no code was given for the custom grouping `mine`")]
fn a_custom_grouping_without_code_panics_when_it_is_made() {
    router(Grouping::Custom("mine".into()), &targets(2, 0), 0);
}

#[test]
#[should_panic(expected = "the emitter of a direct stream names the task")]
fn the_direct_grouping_is_never_asked() {
    router(Grouping::Direct, &targets(1, 0), 0).pick(&Sealed);
}

#[test]
#[should_panic(expected = "a router needs a target")]
fn a_router_without_targets_panics_when_it_is_made() {
    router(Grouping::Shuffle, &[], 0);
}

#[test]
#[should_panic(expected = "targets of a router ascend by task")]
fn targets_out_of_order_panic_when_a_router_is_made() {
    let mut targets = targets(3, 0);
    targets.swap(0, 1);
    router(Grouping::Global, &targets, 0);
}

#[test]
#[should_panic(expected = "one load value per target")]
fn a_load_for_other_targets_panics() {
    router(Grouping::LoadAwareShuffle, &targets(3, 0), 0).set_load(&[0, 0]);
}

#[test]
fn every_grouping_but_custom_short_cuts_a_single_target() {
    for grouping in [
        Grouping::Shuffle,
        Grouping::LoadAwareShuffle,
        Grouping::LocalOrShuffle,
        Grouping::Fields(vec![0]),
        Grouping::PartialKey(vec![0]),
        Grouping::All,
        Grouping::Global,
        Grouping::None,
    ] {
        let mut router = router(grouping.clone(), &targets(1, 0), 7);
        router.set_load(&[100]);
        // `Sealed` shows that no key is hashed.
        assert_eq!(router.pick(&Sealed), Pick::One(0), "{grouping:?}");
    }
}

#[test]
fn shuffles_of_different_seeds_begin_in_different_orders() {
    let order = |seed| {
        let mut router = router(Grouping::Shuffle, &targets(8, 0), seed);
        (0..8).map(|_| one(router.pick(&Sealed))).collect::<Vec<_>>()
    };
    let orders: BTreeSet<Vec<u32>> = (0..100).map(order).collect();
    assert!(orders.len() > 90, "{} orders of 100 seeds", orders.len());
}

#[test]
fn fields_agrees_with_group_task_in_every_group_and_reaches_every_task() {
    let cases = [
        (1024, 1),
        (1024, 3),
        (1024, 1024),
        (1000, 8),
        (1000, 7),
        (49, 7),
        (7, 5),
        (60_000, 24_000),
        (65_535, 255),
        (MAX_KEY_GROUPS, 1000),
    ];
    for (groups, count) in cases {
        let mut router = Router::new(&Grouping::Fields(vec![0]), &targets(count, 0), groups, 0, None);
        let mut reached = BTreeSet::new();
        for group in 0..groups {
            let first_hash = (u128::from(group) << 64).div_ceil(u128::from(groups)) as u64;
            assert_eq!(key_group(first_hash, groups), group);
            let index = one(router.pick(&Hashed(first_hash)));
            assert_eq!(index, group_task(group, groups, count), "group {group} of {groups}");
            reached.insert(index);
        }
        assert_eq!(reached.len(), count as usize, "{groups} groups, {count} tasks");
    }
}

#[test]
fn load_aware_keeps_to_its_worker_until_that_is_busy_and_returns_when_it_is_not() {
    // Targets 0 and 1 are local.
    let mut router = router(Grouping::LoadAwareShuffle, &targets(4, 0b0011), 1);
    let mut far = |load: Option<[u8; 4]>| {
        if let Some(load) = load {
            router.set_load(&load);
        }
        let sent = counts(&mut router, 1000, &Sealed);
        sent[2] + sent[3]
    };
    assert_eq!(far(None), 0);
    assert_eq!(far(Some([80, 80, 0, 0])), 0, "not above 80");
    assert!(far(Some([81, 81, 0, 0])) > 400, "above 80: wider");
    assert!(far(Some([20, 20, 90, 90])) > 0, "not below 20");
    assert_eq!(far(Some([19, 19, 0, 0])), 0, "below 20: narrower");
}
