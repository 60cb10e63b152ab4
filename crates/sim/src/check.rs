//! What must be true when a run has finished.

use std::collections::BTreeMap;

use squall::TaskId;
use squall_engine::{ComponentStats, Core};

use crate::grouping::{Expected, expected};
use crate::scenario::GroupScript;
use crate::world::{Emission, Inner, World};

/// Deliveries that did not happen, all of them over feedback edges.
#[derive(Default)]
struct Missing {
    /// By emitting component.
    sent: BTreeMap<u32, u64>,
    /// By receiving component.
    due: BTreeMap<u32, u64>,
}

/// Checks everything that only the end can tell.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn check(world: &World, cores: &[Core]) -> Result<(), String> {
    let stats = crate::rig::stats(&world.plan, cores);
    let inner = &*world.inner.borrow();
    tasks(world, inner)?;
    let missing = deliveries(world, inner)?;
    world.all_told(inner)?;
    balance(world, inner)?;
    counters(world, inner, cores)?;
    drops(world, &stats, &missing)?;
    latencies(world, &stats, cores)
}

/// Every task lived its whole life, and its hook saw the same.
fn tasks(world: &World, inner: &Inner) -> Result<(), String> {
    for (task, log) in inner.tasks.iter().enumerate() {
        let task = task as TaskId;
        let name = || world.task_name(task);
        let lives = if log.broken == 0 { log.prepared == 1 } else { log.prepared >= 1 && !log.down };
        if !lives || log.cleaned != u32::from(!log.abandoned) || !log.ended || log.letters_due > 0 {
            return Err(format!("{} has not lived its life: {log:?}", name()));
        }
        let spout = world.is_spout(world.plan.component_of(task));
        if (log.finish_calls > 0) == spout {
            return Err(format!("`finish` of {} was called {} times", name(), log.finish_calls));
        }
        let acked = log.executed - log.kept - log.failed + log.kept_acked;
        let failed = log.failed + log.kept_failed;
        let hook = (log.hook_prepares, log.hook_executes);
        let prepares = hook.0 == 1 || hook.0 > 1 && log.broken > 0;
        if world.script(task).hooked && !(prepares && hook.1 == log.executed) {
            return Err(format!("the hook of {} saw {hook:?} prepares and executes: {log:?}", name()));
        }
        if log.kept != log.kept_acked + log.kept_failed {
            return Err(format!("{} has not ended all the tuples it kept: {log:?}", name()));
        }
        // Acks of kept tuples name the task that happens to run, so they are compared by component.
        debug_assert!(acked + failed == log.executed);
    }
    Ok(())
}

/// Each emission reached exactly the tasks that its grouping chose, but for what feedback edges dropped.
fn deliveries(world: &World, inner: &Inner) -> Result<Missing, String> {
    let plan = &*world.plan;
    let mut missing = Missing::default();
    for (at, sub) in plan.spec.subscriptions.iter().enumerate() {
        let script = world.scenario.subscriptions[at].grouping;
        let targets = plan.tasks_of(sub.to);
        for (source, emissions) in plan.source_tasks(sub.stream).zip(&inner.emissions[sub.stream as usize]) {
            for (place, emission) in emissions.iter().enumerate() {
                let got: Vec<TaskId> = emission.delivered.iter().copied().filter(|t| targets.contains(t)).collect();
                let wanted = wanted(world, at as u32, script, source, emission);
                let lost = lost(&wanted, &got, sub.feedback).map_err(|what| {
                    format!(
                        "number {place} of {} on {} {what} ({script:?}, {:?})",
                        world.task_name(source),
                        plan.spec.stream_name(sub.stream),
                        emission.draft
                    )
                })?;
                if lost > 0 {
                    *missing.sent.entry(plan.component_of(source)).or_default() += lost;
                    *missing.due.entry(sub.to).or_default() += lost;
                }
            }
        }
    }
    Ok(missing)
}

/// The targets of an emission: what the hook was told, if there is one, else what the grouping must choose.
fn wanted(world: &World, sub: u32, script: GroupScript, source: TaskId, emission: &Emission) -> Expected {
    let by_rule = expected(&world.plan, sub, script, source, emission);
    let Some(told) = &emission.hooked else { return by_rule };
    let targets = world.plan.tasks_of(world.plan.spec.subscriptions[sub as usize].to);
    let mut told: Vec<TaskId> = told.iter().copied().filter(|t| targets.contains(t)).collect();
    told.sort_unstable();
    let agrees = match &by_rule {
        Expected::All(tasks) => *tasks == told,
        Expected::OneOf(tasks) => told.len() == 1 && tasks.contains(&told[0]),
    };
    // Where the hook was told something else, the rule stands: the difference shows as a wrong delivery.
    if agrees { Expected::All(told) } else { by_rule }
}

/// Deliveries that are missing, if that is allowed.
fn lost(wanted: &Expected, got: &[TaskId], feedback: bool) -> Result<u64, String> {
    let allowed = match wanted {
        Expected::All(tasks) | Expected::OneOf(tasks) => tasks,
    };
    if let Some(stray) = got.iter().find(|t| !allowed.contains(t)) {
        return Err(format!("went to task {stray}, but was for {wanted:?}"));
    }
    let lost = wanted.count() as i64 - got.len() as i64;
    if lost < 0 || lost > 0 && !feedback {
        return Err(format!("was executed by {got:?}, but was for {wanted:?}"));
    }
    Ok(lost as u64)
}

/// Plain shuffles are balanced within one, per sending cohort. Feedback edges may drop, so they cannot be judged.
fn balance(world: &World, inner: &Inner) -> Result<(), String> {
    let plan = &*world.plan;
    for (at, sub) in plan.spec.subscriptions.iter().enumerate() {
        let script = world.scenario.subscriptions[at].grouping;
        if sub.feedback || !matches!(script, GroupScript::Shuffle | GroupScript::LocalOrShuffle) {
            continue;
        }
        let mut counts: BTreeMap<(u32, TaskId), u64> = BTreeMap::new();
        for (source, emissions) in plan.source_tasks(sub.stream).zip(&inner.emissions[sub.stream as usize]) {
            let reactor = plan.tasks[source as usize].reactor;
            for emission in emissions {
                if let Expected::OneOf(tasks) = expected(plan, at as u32, script, source, emission) {
                    for task in tasks {
                        let got = u64::from(emission.delivered.contains(&task));
                        *counts.entry((reactor, task)).or_default() += got;
                    }
                }
            }
        }
        for reactor in 0..plan.reactors.len() as u32 {
            let of = || counts.iter().filter(|((r, _), _)| *r == reactor).map(|(_, n)| *n);
            if let (Some(least), Some(most)) = (of().min(), of().max())
                && most - least > 1
            {
                let stream = plan.spec.stream_name(sub.stream);
                return Err(format!("reactor {reactor} dealt {stream} by {script:?} unevenly: {least} to {most}"));
            }
        }
    }
    Ok(())
}

/// What the engine counted is what was seen (D10): at the end, and whenever nothing is going on.
pub(crate) fn counters(world: &World, inner: &Inner, cores: &[Core]) -> Result<(), String> {
    for (component, counted) in crate::rig::stats(&world.plan, cores).iter().enumerate() {
        let component = component as u32;
        let logs = world.plan.tasks_of(component).map(|t| &inner.tasks[t as usize]);
        let mut seen = ComponentStats::default();
        let (mut hook_acks, mut hook_fails, mut lost) = (0, 0, 0);
        for log in logs {
            lost += log.roots_lost;
            seen.emitted += log.emitted;
            seen.executed += log.executed;
            seen.failed += log.failed + log.kept_failed + log.roots_failed;
            seen.acked += log.executed - log.kept - log.failed - log.letters_due + log.kept_acked + log.roots_acked;
            hook_acks += log.hook_acks;
            hook_fails += log.hook_fails;
        }
        let name = &world.plan.spec.components[component as usize].name;
        // Of roots whose spout broke the engine alone knows whether they had been acknowledged before.
        if counted.acked + counted.failed == seen.acked + seen.failed + lost && counted.acked >= seen.acked {
            (seen.acked, seen.failed) = (counted.acked, counted.failed);
        }
        for (what, counted, seen) in [
            ("emitted", counted.emitted, seen.emitted),
            ("executed", counted.executed, seen.executed),
            ("acked", counted.acked, seen.acked),
            ("failed", counted.failed, seen.failed),
        ] {
            if counted != seen {
                return Err(format!("{name} counted {counted} {what}, {seen} were seen"));
            }
        }
        if world.scenario.components[component as usize].hooked && (hook_acks, hook_fails) != (seen.acked, seen.failed)
        {
            let of = (seen.acked, seen.failed);
            return Err(format!("the hook of {name} saw {hook_acks} acks and {hook_fails} fails of {of:?}"));
        }
    }
    Ok(())
}

/// At a quiet point nothing is under way, so counts of different components add up: what the senders of a component have emitted
/// to it was executed there, but for what feedback edges dropped, and that was counted (D3, D10).
pub(crate) fn adds_up(world: &World, inner: &Inner, cores: &[Core]) -> Result<(), String> {
    let plan = &*world.plan;
    let stats = crate::rig::stats(plan, cores);
    let mut due = vec![0; stats.len()];
    for (at, sub) in plan.spec.subscriptions.iter().enumerate() {
        let script = world.scenario.subscriptions[at].grouping;
        for (source, emissions) in plan.source_tasks(sub.stream).zip(&inner.emissions[sub.stream as usize]) {
            let count = |e: &Emission| expected(plan, at as u32, script, source, e).count() as u64;
            due[sub.to as usize] += emissions.iter().map(count).sum::<u64>();
        }
    }
    let executed: u64 = stats.iter().map(|c| c.executed).sum();
    let dropped: u64 = stats.iter().flat_map(|c| c.dropped.values()).sum();
    if due.iter().sum::<u64>() != executed + dropped {
        return Err(format!("{} deliveries are due, {executed} executed, {dropped} dropped", due.iter().sum::<u64>()));
    }
    for (component, (due, counted)) in due.iter().zip(&stats).enumerate() {
        let feeds_back = |s: &u32| plan.spec.subscriptions[*s as usize].feedback;
        if *due != counted.executed && !plan.inputs_of(component as u32).iter().any(feeds_back) {
            let name = &plan.spec.components[component].name;
            return Err(format!("{due} deliveries to {name} are due, {} executed", counted.executed));
        }
    }
    Ok(())
}

/// What feedback edges did not deliver was counted, each delivery once and where it happened (D3).
fn drops(world: &World, stats: &[ComponentStats], missing: &Missing) -> Result<(), String> {
    for (component, counted) in stats.iter().enumerate() {
        let component = component as u32;
        let reason = |r: &str| counted.dropped.get(r).copied().unwrap_or(0);
        let (full, late) = (reason("feedback full"), reason("after the end"));
        let sent = missing.sent.get(&component).copied().unwrap_or(0);
        let due = missing.due.get(&component).copied().unwrap_or(0);
        if full > sent || late > due {
            let name = &world.plan.spec.components[component as usize].name;
            return Err(format!(
                "{name} counted {full} drops for want of credit and {late} after its end, but only {sent} of its \
                 tuples and {due} for it are missing"
            ));
        }
    }
    let counted: u64 = stats.iter().flat_map(|c| c.dropped.values()).sum();
    let lost: u64 = missing.sent.values().sum();
    if counted != lost {
        return Err(format!("{lost} deliveries over feedback edges are missing, {counted} drops were counted (D3)"));
    }
    Ok(())
}

/// Every execution at a sink is one latency (D10).
fn latencies(world: &World, stats: &[ComponentStats], cores: &[Core]) -> Result<(), String> {
    let plan = &*world.plan;
    let sink = |c: u32| !world.is_spout(c) && plan.streams_of(c).iter().all(|s| plan.subscribers_of(*s).is_empty());
    let executed: u64 = (0..stats.len() as u32).filter(|c| sink(*c)).map(|c| stats[c as usize].executed).sum();
    let recorded: u64 = cores.iter().map(|c| c.latency().count()).sum();
    if recorded == executed { Ok(()) } else { Err(format!("{recorded} latencies for {executed} tuples at sinks")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_feedback_edges_may_lose_a_delivery_and_none_may_invent_one() {
        let one = Expected::OneOf(vec![3, 4]);
        assert_eq!(lost(&one, &[4], false), Ok(0));
        assert!(lost(&one, &[], false).is_err(), "lost");
        assert_eq!(lost(&one, &[], true), Ok(1));
        assert!(lost(&one, &[3, 4], true).is_err(), "one too many");
        assert!(lost(&one, &[5], true).is_err(), "not a target");
        let all = Expected::All(vec![3, 4, 5]);
        assert_eq!(lost(&all, &[5, 3, 4], false), Ok(0));
        assert_eq!(lost(&all, &[5], true), Ok(2));
        assert!(lost(&all, &[3, 4], false).is_err());
    }
}
