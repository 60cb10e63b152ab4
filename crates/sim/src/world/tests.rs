//! The world notices what is wrong.

use super::*;
use crate::scenario::SubScript;
use crate::tuples::Item;
use squall::Tuple;
use squall_tuple::{BatchBuf, BatchKind, OpenBatch};

/// A spout (task 0) that a bolt (task 1) reads; the spout has emitted three tuples.
fn world() -> (Rc<World>, [Draft; 3]) {
    let components = vec![ComponentScript::spout("a", 1), ComponentScript::bolt("b")];
    let scenario = Scenario::tiny(0, components, vec![SubScript::new(0, 1, GroupScript::Shuffle)]);
    let (plan, _) = crate::topology::build(&scenario).unwrap();
    let world = World::new(plan, VirtualClock::at(100), Rc::new(scenario));
    world.prepared(0);
    world.prepared(1);
    let drafts = [0, 1, 2].map(|id| Draft { id, key: 0, depth: 0, pad: 3 });
    for draft in drafts {
        world.emitting(0, 0, draft, None, None);
    }
    (world, drafts)
}

/// The bolt executes a tuple.
fn execute(world: &World, draft: &Draft) {
    let mut buf = BatchBuf::with_capacity(4096);
    buf.open(&OpenBatch {
        kind: BatchKind::Data,
        stream: 0,
        schema_id: <Item as Tuple>::ID,
        dynamic: false,
        source_reactor: 0,
        epoch: 0,
    });
    buf.push_plain::<Item, Item>(0, 1, 0, &draft.item()).unwrap();
    let frame = buf.view().iter().next().unwrap();
    world.executed(1, 0, 0, 0, Arrived::Item(frame.tuple::<Item>()));
}

fn violation(world: &World) -> String {
    world.violation().expect("something is wrong")
}

#[test]
fn tuples_in_order_are_fine_and_gaps_are_for_the_end_to_judge() {
    let (world, [first, _, third]) = world();
    execute(&world, &first);
    execute(&world, &third);
    assert_eq!(world.violation(), None);
    assert_eq!(world.left_waiting().len(), 1);
}

#[test]
fn a_tuple_that_comes_late_is_noticed() {
    let (world, [first, second, _]) = world();
    execute(&world, &second);
    execute(&world, &first);
    assert!(violation(&world).contains("out of order"), "{}", violation(&world));
}

#[test]
fn a_tuple_that_comes_twice_is_noticed() {
    let (world, [first, ..]) = world();
    execute(&world, &first);
    execute(&world, &first);
    assert!(violation(&world).contains("twice"), "{}", violation(&world));
}

#[test]
fn a_tuple_that_nobody_emitted_is_noticed() {
    let (world, [first, ..]) = world();
    execute(&world, &Draft { id: 7, ..first });
    assert!(violation(&world).contains("never emitted"), "{}", violation(&world));
    let (world, [first, ..]) = self::world();
    execute(&world, &Draft { pad: 4, ..first });
    assert!(violation(&world).contains("other contents"), "{}", violation(&world));
}

#[test]
fn what_happens_at_the_wrong_time_of_a_life_is_noticed() {
    let (world, _) = world();
    world.finishing(1);
    assert!(violation(&world).contains("before a[0] (task 0) ended"), "{}", violation(&world));

    let (world, [first, ..]) = self::world();
    world.ended(0);
    world.finishing(1);
    assert_eq!(world.violation(), None);
    execute(&world, &first);
    assert!(violation(&world).contains("after `finish`"), "{}", violation(&world));

    let (world, [first, ..]) = self::world();
    world.ended(0);
    world.emitting(0, 0, Draft { id: 9, ..first }, None, None);
    assert!(violation(&world).contains("emitted after"), "{}", violation(&world));
}

#[test]
fn more_than_credit_and_bursts_allow_is_noticed() {
    let (world, [first, ..]) = world();
    for id in 10..2000 {
        world.emitting(0, 0, Draft { id, pad: 100, ..first }, None, None);
    }
    assert!(violation(&world).contains("(D2)"), "{}", violation(&world));
}
