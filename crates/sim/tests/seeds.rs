//! A thousand seeds, or as many as `SQUALL_SIM_SEEDS` says, or as fit in `SQUALL_SIM_SECS` seconds; `SQUALL_SIM_SEED`
//! replays one.

extern crate squall_api as squall;

use std::ops::Range;
use std::time::Duration;

use squall::FailKind;
use squall_sim::{CrashReport, Report, run_crashes, run_seed, sweep};

fn from_env(name: &str) -> Option<u64> {
    // The Makefile passes on what was left empty.
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, which is no number")))
}

/// The seeds to run, and for how long at most. Both tests of this file run at once, so the time is that of both.
fn wanted() -> (Range<u64>, Option<Duration>) {
    let most = from_env("SQUALL_SIM_SECS").map(Duration::from_secs);
    match from_env("SQUALL_SIM_SEED") {
        Some(seed) => (seed..seed + 1, most),
        None => (0..from_env("SQUALL_SIM_SEEDS").unwrap_or(if most.is_some() { u64::MAX } else { 1000 }), most),
    }
}

fn sum_failed(reports: &[Report], kind: FailKind) -> u64 {
    reports.iter().map(|r| r.roots.failed[kind as usize]).sum()
}

#[test]
fn every_seed_ends_with_every_tuple_delivered_once_and_in_order() {
    let (seeds, most) = wanted();
    let reports = sweep(seeds, most, run_seed).unwrap_or_else(|failed| panic!("{}", failed.what));
    let count = reports.len();
    let sum = |f: fn(&Report) -> u64| reports.iter().map(f).sum::<u64>();
    println!(
        "{count} seeds passed: {} steps, {} tuples emitted, {} executed, {} dropped on feedback edges, {} batches ({} large), \
         {} offers refused, {} bytes moved out, {} kept, {} failed, {} executors restarted, {} dead letters; {} roots acked, {:?} failed by reason, {} records of acks",
        sum(|r| r.steps),
        sum(|r| r.emitted),
        sum(|r| r.executed),
        sum(|r| r.dropped),
        sum(|r| r.batches),
        sum(|r| r.large),
        sum(|r| r.refused),
        sum(|r| r.moved_bytes),
        sum(|r| r.kept),
        sum(|r| r.failed),
        sum(|r| r.restarts),
        sum(|r| r.letters),
        sum(|r| r.roots.acked),
        FailKind::ALL.map(|kind| (kind, sum_failed(&reports, kind))),
        sum(|r| r.acks),
    );
    // A check that looks at nothing is always green: all this must have happened somewhere.
    if count >= 1000 {
        for (what, seen) in [
            ("a drop on a feedback edge", sum(|r| r.dropped)),
            ("a batch larger than its link's batches", sum(|r| r.large)),
            ("a full link", sum(|r| r.refused)),
            ("a batch moved out for a paused cohort", sum(|r| r.moved_bytes)),
            ("a full window", reports.iter().filter(|r| r.fullest_percent >= 100).count() as u64),
            ("a kept tuple", sum(|r| r.kept)),
            ("a failed tuple", sum(|r| r.failed)),
            ("an acked root", sum(|r| r.roots.acked)),
            ("a root failed by a bolt", sum_failed(&reports, FailKind::Failed)),
            ("a root failed by a drop", sum_failed(&reports, FailKind::Dropped)),
            ("a root that timed out", sum_failed(&reports, FailKind::TimedOut)),
            ("a root that came of age", sum_failed(&reports, FailKind::TooOld)),
            ("a root whose spout was lost", sum_failed(&reports, FailKind::SpoutLost)),
            ("a restarted executor", sum(|r| r.restarts)),
            ("a dead letter", sum(|r| r.letters)),
        ] {
            assert!(seen > 0, "no seed had {what}");
        }
    }
}

/// Deaths of workers at any step: D1, D4, D6 and the counts over all lives.
#[test]
fn deaths_of_workers_lose_no_root_and_every_emission_ends_once() {
    let (seeds, most) = wanted();
    let reports = sweep(seeds, most, run_crashes).unwrap_or_else(|failed| panic!("{}", failed.what));
    let count = reports.len();
    let mut sum = CrashReport::default();
    reports.iter().for_each(|report| sum.add(report));
    println!("{count} seeds with deaths of workers passed: {sum:?}");
    if count >= 1000 {
        let CrashReport { deaths, failed, spout_lost, refused, broken, .. } = sum;
        let happened = [deaths, failed, spout_lost, refused, broken];
        assert!(happened.iter().all(|n| *n > 100), "a kind of trouble never came: {sum:?}");
    }
}
