//! A seed says everything: the same seed does the same twice, and a failure can be made smaller.

use squall_sim::scenario::*;
use squall_sim::{Scenario, run, run_seed, shrink};

#[test]
fn a_seed_replays_exactly() {
    let mut traces = Vec::new();
    for seed in 0..100 {
        let first = run_seed(seed).unwrap_or_else(|text| panic!("{text}"));
        let again = run_seed(seed).unwrap_or_else(|text| panic!("{text}"));
        assert_eq!(first, again, "seed {seed} did something else the second time");
        traces.push(first.trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 100, "two seeds did the same");
}

/// A bolt whose burst memory is too small for what it emits, among others that have nothing to do with it.
fn failing() -> Scenario {
    let mut wide = ComponentScript::bolt("wide").pads(2000).as_bolt(|b| (b.burst_percent, b.burst_max) = (100, 30));
    wide.burst_bytes = Some(256);
    let components = vec![
        ComponentScript::spout("source", 100).tasks(3),
        ComponentScript::bolt("other").tasks(4),
        wide.tasks(2),
        ComponentScript::bolt("end").tasks(3),
    ];
    let shuffle = |from, to| SubScript::new(from, to, GroupScript::Shuffle);
    Scenario::tiny(5, components, vec![shuffle(0, 1), shuffle(0, 2), shuffle(1, 3), shuffle(2, 3)])
}

#[test]
fn a_failure_replays_exactly_and_names_what_happened() {
    let [first, again] = [(); 2].map(|()| run(&failing()).expect_err("its burst memory is too small").to_string());
    assert_eq!(first, again);
    assert!(first.contains("wide (task") && first.contains("burst memory"), "{first}");
    assert!(first.contains("step ") && first.contains("Topology sim"), "{first}");
}

#[test]
fn a_failure_is_made_smaller() {
    let scenario = failing();
    let failure = run(&scenario).expect_err("its burst memory is too small");
    let smaller = shrink(&scenario, &failure);
    let names: Vec<&str> = smaller.scenario.components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["source", "wide", "end"], "`other` has nothing to do with it");
    assert!(smaller.scenario.components.iter().all(|c| c.tasks == 1), "{smaller}");
    assert!(smaller.what.contains("burst memory"), "{smaller}");
    assert_eq!(run(&smaller.scenario).expect_err("it fails as well").what, smaller.what);
}
