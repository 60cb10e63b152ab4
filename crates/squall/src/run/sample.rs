//! `--sample COMPONENT`: a bounded sample of the tuples that pass a component.
//!
//! A hook on that component's tasks takes the first tuples of each second, per reactor and direction, and hands their text to
//! the worker's main thread. Nothing waits for it: a sample that finds no room is left out. Without the flag there is no
//! hook, and the component's tuples go the way they always go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use squall_engine::{HookFactory, Registry, TaskHook, Way};
use squall_metrics::format;
use squall_topology::Plan;

use super::engine::Event;

/// Samples of one direction on one reactor in a second.
const SAMPLES_MAX: u32 = 10;
const EVERY: Duration = Duration::from_secs(1);
/// Samples that may wait for the main thread.
const WAITING_MAX: usize = 256;
/// The level that sampled tuples have among log lines.
pub(crate) const LEVEL: &str = "sample";

/// Watches a component of the plan; its samples come out of the channel as log lines.
pub(crate) fn attach(component: u32, plan: &Arc<Plan>, registry: &mut Arc<Registry>) -> Receiver<Event> {
    let (send, receive) = bounded(WAITING_MAX);
    let plan = plan.clone();
    let hook: HookFactory = Box::new(move || {
        Box::new(Sampler { plan: plan.clone(), component, send: send.clone(), ways: Default::default() })
    });
    let registry = Arc::get_mut(registry).expect("the registry has not been handed on yet");
    registry.hooks[component as usize].push(hook);
    receive
}

struct Sampler {
    plan: Arc<Plan>,
    component: u32,
    send: Sender<Event>,
    /// In and out.
    ways: [Budget; 2],
}

/// What one direction may show in the current second.
#[derive(Default)]
struct Budget {
    began: Option<Instant>,
    taken: u32,
    /// Tuples that passed unseen since the last that was shown.
    unseen: u64,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.duration_since(began) >= EVERY) {
            self.began = Some(now);
            self.taken = 0;
        }
        let take = self.taken < SAMPLES_MAX;
        self.taken += u32::from(take);
        self.unseen += u64::from(!take);
        take
    }
}

impl Sampler {
    fn budget(&mut self, way: Way) -> &mut Budget {
        &mut self.ways[usize::from(way == Way::Out)]
    }

    /// `in from lines: `, `out: `, with the stream where it is not the usual one.
    fn label(&self, stream: u32, way: Way) -> String {
        let spec = &self.plan.spec;
        let of = &spec.streams[stream as usize];
        let name = if of.name == "default" { String::new() } else { format!(" {}", of.name) };
        match way {
            Way::In => format!("in from {}{name}", spec.components[of.component as usize].name),
            Way::Out => format!("out{name}"),
        }
    }
}

impl TaskHook for Sampler {
    fn samples(&mut self, way: Way) -> bool {
        self.budget(way).take(Instant::now())
    }

    fn on_sample(&mut self, task: u32, stream: u32, way: Way, text: String) {
        let label = self.label(stream, way);
        let text = match std::mem::take(&mut self.budget(way).unseen) {
            0 => format!("{label}: {text}"),
            unseen => format!("{label}: {text} ({} not shown before it)", format::count(unseen)),
        };
        let component = self.plan.spec.components[self.component as usize].name.clone();
        // No room: who reads them is behind, and has enough to read.
        let _ = self.send.try_send(Event::Log { level: LEVEL.to_owned(), component, task, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_shows_its_first_tuples_and_counts_the_others() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let shown = (0..1000).filter(|_| budget.take(start)).count();
        assert_eq!((shown, budget.unseen), (SAMPLES_MAX as usize, 1000 - u64::from(SAMPLES_MAX)));
        assert!(!budget.take(start + EVERY - Duration::from_nanos(1)));
        assert!(budget.take(start + EVERY));
    }
}
