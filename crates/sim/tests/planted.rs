//! Ten bugs on purpose (docs/planted.md): those of the engine. The simulator finds each of them within its number of seeds.
//!
//! `cargo test -p squall-sim -p squall-io --features planted --test planted` runs these and those of the drivers.

use std::panic::catch_unwind;

use squall_engine::planted::{Bug, plant};
use squall_sim::{run_crashes, run_seed};

/// Looks for a bug until a seed fails; returns which, and what was wrong.
fn find(bug: Bug, most: u64, run: fn(u64) -> Result<(), String>) -> (u64, String) {
    for seed in 0..most {
        plant(Some(bug));
        // Some of them break what the engine asserts.
        let came = catch_unwind(|| run(seed)).unwrap_or_else(|_| Err("an assertion of the engine failed".into()));
        plant(None);
        if let Err(what) = came {
            return (seed, what);
        }
    }
    panic!("{bug:?} was not found in {most} seeds");
}

fn whole(seed: u64) -> Result<(), String> {
    // Without the search for a smaller scenario: it is found, and that is all that is asked.
    let scenario = squall_sim::Scenario::draw(seed);
    squall_sim::run(&scenario).map(drop).map_err(|failure| failure.what)
}

fn deaths(seed: u64) -> Result<(), String> {
    run_crashes(seed).map(drop)
}

/// `most`: about ten times as many seeds as it took.
fn is_found(bug: Bug, most: u64, run: fn(u64) -> Result<(), String>) {
    let (seed, what) = find(bug, most, run);
    println!("{bug:?}: found by seed {seed}: {}", what.lines().next().unwrap_or_default());
}

#[test]
fn nothing_is_found_where_nothing_is_planted() {
    for seed in 0..100 {
        run_seed(seed).and_then(|_| deaths(seed)).unwrap_or_else(|what| panic!("{what}"));
    }
}

#[test]
fn an_ack_that_is_folded_twice_is_found() {
    is_found(Bug::AckTwice, 20, whole);
}

#[test]
fn an_xor_that_is_dropped_is_found() {
    is_found(Bug::XorDropped, 40, whole);
}

#[test]
fn an_ack_before_the_sink_has_written_is_found() {
    is_found(Bug::AckBeforeWrite, 50, deaths);
}

#[test]
fn credit_that_leaks_when_a_worker_is_restarted_is_found() {
    is_found(Bug::CreditLeaked, 140, deaths);
}

#[test]
fn an_epoch_that_is_not_checked_is_found() {
    is_found(Bug::EpochUnchecked, 40, deaths);
}

#[test]
fn a_timeout_by_the_wall_clock_is_found() {
    is_found(Bug::WallClock, 20, whole);
}

#[test]
fn keys_that_move_after_a_restart_are_found() {
    is_found(Bug::KeyMoved, 60, deaths);
}

#[test]
fn a_dead_letter_that_is_lost_is_found() {
    is_found(Bug::LetterLost, 220, whole);
}
