//! Topologies that are known to be hard, and those that bit once. Each runs under many schedules.

use squall_sim::scenario::*;
use squall_sim::{Dice, Report, Scenario, run};

use GroupScript::{All, ByKey, Custom, Global, LocalOrShuffle, Shuffle};

/// Runs a scenario under a hundred schedules of all policies; returns the sums.
fn under_all_schedules(scenario: &Scenario) -> Report {
    let mut sum: Option<Report> = None;
    for seed in 0..100 {
        let mut dice = Dice::new(seed, 7);
        let mut s = scenario.clone();
        s.seed = seed;
        s.schedule = Schedule {
            policy: dice.pick(&[
                Policy::Uniform,
                Policy::StarveReactor(0),
                Policy::StarveReactor(1),
                Policy::StarveLink { from: 0, to: 1 },
                Policy::StarveLink { from: 1, to: 0 },
                Policy::DelayCredit,
                Policy::Bursts(20),
                Policy::TurnsFirst,
                Policy::DeliveriesFirst,
            ]),
            starve_hard: dice.percent(50),
            flush_percent: dice.pick(&[0, 20, 100]),
            drift_permille: dice.pick(&[0, 50]),
            rig: if dice.percent(10) { RigKind::Memory } else { RigKind::Audited },
            stop_at: s.schedule.stop_at,
        };
        let report = run(&s).unwrap_or_else(|failure| panic!("schedule {seed} ({:?}): {failure}", s.schedule));
        let sum = sum.get_or_insert_with(|| Report { emitted: 0, executed: 0, dropped: 0, ..report.clone() });
        sum.emitted += report.emitted;
        sum.executed += report.executed;
        sum.dropped += report.dropped;
        sum.large += report.large;
        sum.refused += report.refused;
        sum.moved_bytes += report.moved_bytes;
        sum.fullest_percent = sum.fullest_percent.max(report.fullest_percent);
    }
    sum.expect("a hundred schedules ran")
}

fn spout(tuples: u32) -> ComponentScript {
    ComponentScript::spout("source", tuples)
}

fn bolt(name: &str) -> ComponentScript {
    ComponentScript::bolt(name)
}

fn sub(from: usize, to: usize, grouping: GroupScript) -> SubScript {
    SubScript::new(from, to, grouping)
}

#[test]
fn a_diamond_with_tiny_credits_ends() {
    let components = vec![spout(80).tasks(2), bolt("left").tasks(2), bolt("right").tasks(3), bolt("join").tasks(2)];
    let subs = vec![sub(0, 1, Shuffle), sub(0, 2, All), sub(1, 3, ByKey), sub(2, 3, ByKey)];
    let report = under_all_schedules(&Scenario::tiny(0, components, subs));
    assert!(report.moved_bytes > 0 && report.fullest_percent >= 75, "the diamond was not tight: {report:?}");
}

/// Executors are dealt in turn, so every edge of this chain leads from one of two reactors to the other: each waits for
/// the other with its links full in both directions.
#[test]
fn a_chain_that_alternates_between_two_reactors_ends() {
    let components = vec![spout(150), bolt("b"), bolt("c"), bolt("d")];
    let subs = vec![sub(0, 1, Shuffle), sub(1, 2, Shuffle), sub(2, 3, Shuffle)];
    let report = under_all_schedules(&Scenario::tiny(0, components, subs));
    assert!(report.refused > 0 && report.moved_bytes > 0, "the chain was never stopped: {report:?}");
}

#[test]
fn a_fan_in_of_eight_ends() {
    let mut components = vec![spout(60)];
    components.extend((0..8).map(|i| bolt(&format!("part-{i}")).as_bolt(|b| b.burst_percent = 20)));
    components.push(bolt("all").tasks(2));
    let mut subs: Vec<SubScript> = (1..9).map(|b| sub(0, b, Custom(b as u64))).collect();
    subs.extend((1..9).map(|b| sub(b, 9, Shuffle)));
    let mut scenario = Scenario::tiny(0, components, subs);
    (scenario.sizes.workers, scenario.sizes.reactors) = (2, 2);
    under_all_schedules(&scenario);
}

#[test]
fn a_feedback_loop_ends_and_counts_what_it_drops() {
    let components = vec![spout(100).tasks(2), bolt("a").tasks(2), bolt("b").tasks(2)];
    let subs = vec![sub(0, 1, Shuffle), sub(1, 2, ByKey), sub(2, 1, All).back(), sub(2, 2, Global).back()];
    let report = under_all_schedules(&Scenario::tiny(0, components, subs));
    assert!(report.dropped > 0, "nothing was dropped: {report:?}");
}

/// Batches of an ordinary edge were charged to the feedback subscriber on the same reactor as well. It was paused, and
/// waited in its turn for the sender: the cycle that a feedback edge must not close for waiting was closed.
#[test]
fn a_feedback_subscriber_does_not_hold_up_an_ordinary_one_of_the_same_stream() {
    let components = vec![spout(100), bolt("a"), bolt("b"), bolt("c").as_bolt(|b| b.none_percent = 100)];
    let subs = vec![sub(0, 1, Shuffle), sub(1, 2, Shuffle), sub(2, 3, Shuffle), sub(2, 1, Shuffle).back()];
    let mut scenario = Scenario::tiny(0, components, subs);
    for reactors in [1, 2] {
        scenario.sizes.reactors = reactors;
        under_all_schedules(&scenario);
    }
}

/// Drops after the end were counted by batch, so also the tuples for others in it; and one for a tuple with two targets.
#[test]
fn what_a_finished_component_drops_is_counted_once_per_delivery() {
    let slow = |b: &mut BoltScript| (b.slow_percent, b.slow_ns_max) = (100, 900_000);
    let components = vec![spout(40), bolt("a").tasks(4), bolt("b").as_bolt(slow), bolt("c")];
    let subs = vec![sub(0, 1, Shuffle), sub(1, 2, Shuffle), sub(2, 3, Shuffle), sub(2, 1, All).back()];
    let report = under_all_schedules(&Scenario::tiny(0, components, subs));
    assert!(report.dropped > 0, "nothing was dropped: {report:?}");
}

#[test]
fn a_tuple_larger_than_batch_and_credit_passes() {
    let components =
        vec![spout(30).pads(20_000), bolt("pass").as_bolt(|b| b.forward_percent = 100), bolt("end").tasks(2)];
    let subs = vec![sub(0, 1, Shuffle), sub(1, 2, All)];
    for workers in [1, 2] {
        let mut scenario = Scenario::tiny(0, components.clone(), subs.clone());
        (scenario.sizes.workers, scenario.sizes.reactors) = (workers, 2);
        let report = under_all_schedules(&scenario);
        assert!(report.large > 0, "no batch was large: {report:?}");
    }
}

/// Every call of `wide` emits far more than its outputs have room for.
#[test]
fn a_burst_beyond_the_room_of_its_outputs_waits_in_burst_memory() {
    let wide = bolt("wide").pads(200).as_bolt(|b| (b.burst_percent, b.burst_max) = (100, 60));
    let components = vec![spout(20), wide.tasks(2), bolt("end").tasks(3)];
    let mut scenario = Scenario::tiny(0, components, vec![sub(0, 1, Shuffle), sub(1, 2, All)]);
    scenario.settle_limits(true);
    let report = under_all_schedules(&scenario);
    assert!(report.moved_bytes > 0, "`wide` was never paused: {report:?}");
}

/// What the last tuple of a batch had sealed stayed behind until the next turn, and so did that of the next batch: calls
/// that each kept to the burst memory exceeded it together.
#[test]
fn batches_that_arrive_between_two_turns_do_not_add_up_their_bursts() {
    let large = bolt("large").pads(3000).as_bolt(|b| (b.forward_percent, b.depth_max) = (0, 1));
    // Most tuples of the source fill a batch each, so that no batch is left half executed.
    let components = vec![spout(200).pads(400), large, bolt("end")];
    let mut scenario = Scenario::tiny(0, components, vec![sub(0, 1, Shuffle), sub(1, 2, Shuffle)]);
    scenario.sizes.link_batches = 64;
    scenario.sizes.credit_bytes = 16 << 10;
    scenario.settle_limits(true);
    under_all_schedules(&scenario);
}

/// The bursts of all tasks of a cohort were added up where they are called one after the other.
#[test]
fn tasks_that_finish_and_tick_together_each_have_their_burst() {
    let mut emitter = bolt("emitter").pads(2000).tasks(5).as_bolt(|b| {
        (b.none_percent, b.burst_max) = (100, 2);
        (b.finish_tuples, b.finish_per_call) = (12, 3);
        b.batch_end_percent = 100;
    });
    emitter.ticks = Some((1, 100));
    let source = spout(20).as_spout(|s| (s.sleep_percent, s.sleep_ns_max) = (50, 3_000_000));
    let mut scenario = Scenario::tiny(0, vec![source, emitter, bolt("end")], vec![sub(0, 1, All), sub(1, 2, Shuffle)]);
    scenario.sizes.reactors = 1;
    scenario.settle_limits(true);
    under_all_schedules(&scenario);
}

/// An emit to many reactors can seal a batch for each of them, filled by the calls before: that was taken for its burst.
#[test]
fn batches_that_were_open_before_a_call_are_no_burst_of_it() {
    let components = vec![spout(200).pads(100), bolt("end").tasks(4)];
    let mut scenario = Scenario::tiny(0, components, vec![sub(0, 1, All)]);
    scenario.sizes.reactors = 5;
    (scenario.sizes.batch_bytes, scenario.sizes.credit_bytes) = (2048, 2048);
    scenario.settle_limits(true);
    under_all_schedules(&scenario);
}

/// A component whose inputs had ended was finished in the middle of a batch from a feedback edge, and the rest of that
/// batch was counted as dropped together with what had been executed.
#[test]
fn a_feedback_batch_that_was_begun_is_completed_before_finish() {
    let slow = |b: &mut BoltScript| (b.slow_percent, b.slow_ns_max) = (100, 1_500_000);
    let components = vec![spout(8), bolt("loop").as_bolt(slow).tasks(2)];
    let mut scenario = Scenario::tiny(0, components, vec![sub(0, 1, Shuffle), sub(1, 1, Shuffle).back()]);
    (scenario.sizes.batch_bytes, scenario.sizes.credit_bytes) = (4096, 4096);
    scenario.sizes.budget = 60;
    under_all_schedules(&scenario);
}

/// `finish` was called again on a task that was done as long as another task of its cohort asked for more.
#[test]
fn a_task_that_has_finished_is_left_alone_while_its_neighbours_go_on() {
    let last = bolt("last").tasks(4).as_bolt(|b| (b.finish_tuples, b.finish_pauses) = (5, 3));
    let components = vec![spout(10), last, bolt("end")];
    let mut scenario = Scenario::tiny(0, components, vec![sub(0, 1, Shuffle), sub(1, 2, LocalOrShuffle)]);
    scenario.sizes.reactors = 1;
    under_all_schedules(&scenario);
}

/// Ticks went on for spout tasks that had ended, and what they emitted followed their end-of-stream marks.
#[test]
fn a_spout_task_that_has_ended_gets_no_ticks() {
    let mut source = spout(20).tasks(3).as_spout(|s| (s.sleep_percent, s.sleep_ns_max) = (60, 5_000_000));
    source.ticks = Some((1, 100));
    let mut scenario = Scenario::tiny(0, vec![source, bolt("end").tasks(2)], vec![sub(0, 1, Shuffle)]);
    scenario.sizes.reactors = 1;
    under_all_schedules(&scenario);
}

/// Tuples that were kept until `finish` or `cleanup` were missing in the counts at the end of the run.
#[test]
fn tuples_that_are_kept_to_the_last_call_are_in_the_counts() {
    for settle in [Settle::Finish, Settle::Cleanup, Settle::Elsewhere] {
        let keeper = bolt("keeper").tasks(2).as_bolt(|b| (b.keep_percent, b.settle, b.fail_percent) = (70, settle, 20));
        let scenario =
            Scenario::tiny(0, vec![spout(40), keeper, bolt("end")], vec![sub(0, 1, Shuffle), sub(1, 2, Shuffle)]);
        under_all_schedules(&scenario);
    }
}

#[test]
fn spouts_that_never_end_by_themselves_are_stopped_wherever_they_are() {
    let source = spout(0).tasks(3).as_spout(|s| {
        s.tuples = None;
        (s.park_percent, s.idle_percent) = (20, 20);
        (s.sleep_percent, s.sleep_ns_max) = (20, 10_000_000);
    });
    for stop_at in [0, 1, 20, 300] {
        let mut scenario = Scenario::tiny(0, vec![source.clone(), bolt("end").tasks(2)], vec![sub(0, 1, Shuffle)]);
        scenario.schedule.stop_at = Some(stop_at);
        under_all_schedules(&scenario);
    }
}
