//! After a failure: looks for a smaller scenario that fails in the same way.

use std::fmt;

use crate::run::{Failure, run};
use crate::scenario::*;

/// Runs that a search may take.
const RUNS_MAX: u32 = 400;

/// The smallest failing scenario that was found.
#[derive(Debug, Clone)]
pub struct Smaller {
    /// It fails like the original.
    pub scenario: Scenario,
    /// How.
    pub what: String,
    /// Runs it took to find it.
    pub runs: u32,
}

impl fmt::Display for Smaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "smallest variant after {} runs: {}", self.runs, self.what)?;
        write!(f, "{:#?}", self.scenario)
    }
}

/// Changes a scenario for the smaller as long as it fails in the same kind of way. The schedule's random choices shift
/// with every change, so this is a search and not a proof.
pub fn shrink(scenario: &Scenario, failure: &Failure) -> Smaller {
    let mut best = Smaller { scenario: scenario.clone(), what: failure.what.clone(), runs: 0 };
    let mut changed = true;
    while std::mem::take(&mut changed) {
        let mut at = 0;
        // Candidates are made anew from each best; `at` goes on, so that those that failed to fail are not tried twice
        // in one round.
        while let Some(candidate) = candidates(&best.scenario).into_iter().nth(at) {
            if best.runs == RUNS_MAX {
                return best;
            }
            best.runs += 1;
            match run(&candidate) {
                Err(f) if f.kind == failure.kind => {
                    best.scenario = candidate;
                    best.what = f.what;
                    changed = true;
                }
                _ => at += 1,
            }
        }
    }
    best
}

/// Scenarios that are smaller by one change.
fn candidates(s: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend((0..s.components.len()).filter_map(|c| without(s, c)));
    for sub in 0..s.subscriptions.len() {
        all.extend(change(s, |s| {
            s.subscriptions.remove(sub);
        }));
        all.extend(change(s, |s| {
            if s.subscriptions[sub].grouping != GroupScript::Direct {
                s.subscriptions[sub].grouping = GroupScript::Shuffle;
            }
        }));
    }
    for at in 0..s.components.len() {
        let edits: [fn(&mut ComponentScript); 8] = [
            |c| (c.tasks, c.executors) = (1, 1),
            |c| (c.tasks, c.executors) = (c.tasks.min(2), c.executors.min(2)),
            |c| c.side = false,
            |c| c.hooked = false,
            |c| c.ticks = None,
            |c| c.pads = Pads { small_max: 0, ..c.pads },
            |c| c.pads = Pads { large_percent: 0, large_max: 0, ..c.pads },
            |c| c.burst_bytes = None,
        ];
        for edit in edits {
            all.extend(change(s, |s| edit(&mut s.components[at])));
        }
        let edits: [fn(&mut SpoutScript); 7] = [
            |p| p.break_permille = 0,
            |p| p.id_percent = 0,
            |p| p.slow_percent = 0,
            |p| p.tuples = p.tuples.map(|n| n / 2),
            |p| p.tuples = p.tuples.map(|n| n.saturating_sub(1)),
            |p| (p.idle_percent, p.sleep_percent, p.park_percent) = (0, 0, 0),
            |p| (p.per_call_max, p.emits_at_end) = (1, false),
        ];
        for edit in edits {
            all.extend(change(s, |s| {
                if let Role::Spout(spout) = &mut s.components[at].role {
                    edit(spout);
                }
            }));
        }
        let edits: [fn(&mut BoltScript); 9] = [
            |b| b.break_permille = 0,
            |b| b.slow_percent = 0,
            |b| b.keep_percent = 0,
            |b| b.fail_percent = 0,
            |b| b.burst_percent = 0,
            |b| b.none_percent = 100,
            |b| b.forward_percent = 0,
            |b| (b.finish_tuples, b.finish_pauses) = (0, 0),
            |b| b.batch_end_percent = 0,
        ];
        for edit in edits {
            all.extend(change(s, |s| {
                if let Role::Bolt(bolt) = &mut s.components[at].role {
                    edit(bolt);
                }
            }));
        }
    }
    let edits: [fn(&mut Scenario); 12] = [
        |s| s.sizes.breaks = 0,
        |s| s.sizes.breaks /= 2,
        |s| s.sizes.acking = Acking::PATIENT,
        |s| s.sizes.workers = 1,
        |s| s.sizes.reactors = 1,
        |s| s.sizes.budget /= 2,
        |s| s.sizes.keys = 1,
        |s| s.sizes.link_batches = 64,
        |s| s.schedule.policy = Policy::Uniform,
        |s| s.schedule.drift_permille = 0,
        |s| s.schedule.flush_percent = 100,
        |s| s.schedule.stop_at = None,
    ];
    for edit in edits {
        all.extend(change(s, edit));
    }
    all
}

fn change(s: &Scenario, edit: impl FnOnce(&mut Scenario)) -> Option<Scenario> {
    let mut smaller = s.clone();
    edit(&mut smaller);
    smaller.settle_limits(false);
    let endless = |c: &ComponentScript| matches!(&c.role, Role::Spout(p) if p.tuples.is_none());
    let ends = smaller.schedule.stop_at.is_some() || !smaller.components.iter().any(endless);
    (format!("{smaller:?}") != format!("{s:?}") && ends).then_some(smaller)
}

/// Leaves a component out, and whatever then has no input.
fn without(s: &Scenario, component: usize) -> Option<Scenario> {
    let mut gone = vec![false; s.components.len()];
    gone[component] = true;
    loop {
        let fed = |c: usize| {
            matches!(s.components[c].role, Role::Spout(_))
                || s.subscriptions.iter().any(|u| u.to == c && !u.feedback && !gone[u.from])
        };
        let Some(next) = (0..s.components.len()).find(|c| !gone[*c] && !fed(*c)) else { break };
        gone[next] = true;
    }
    let place: Vec<usize> = (0..gone.len()).map(|c| gone[..c].iter().filter(|g| !**g).count()).collect();
    let mut smaller = s.clone();
    smaller.components = s.components.iter().zip(&gone).filter(|(_, g)| !**g).map(|(c, _)| c.clone()).collect();
    let kept = s.subscriptions.iter().filter(|u| !gone[u.from] && !gone[u.to]);
    smaller.subscriptions = kept.map(|u| SubScript { from: place[u.from], to: place[u.to], ..*u }).collect();
    let spouts = smaller.components.iter().any(|c| matches!(c.role, Role::Spout(_)));
    if spouts {
        smaller.settle_limits(false);
    }
    spouts.then_some(smaller)
}
