//! What a cohort is built from: its place in the plan, its outbox, and the ports of its streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use squall_metrics::Histogram;
use squall_topology::{CustomGrouping, Grouping, Plan, Router};
use squall_tuple::TupleType;
use squall_tuple::ids::{ComponentIx, ReactorIx, StreamIx, TaskId, WorkerIx};

use crate::clock::Clock;
use crate::cohort::Cohort;
use crate::hook::HookFactory;
use crate::ledger::worker_bit;
use crate::outbox::Outbox;
use crate::port::{Lane, LaneTarget, Port, PortSub};
use crate::shared::WorkerShared;

/// Makes the cohort of one component on one reactor, on that reactor's thread.
pub type CohortFactory = Box<dyn Fn(CohortEnv) -> Box<dyn Cohort> + Send + Sync>;
/// Makes a custom grouping for one sending cohort.
pub type GroupingFactory = Box<dyn Fn() -> Box<dyn CustomGrouping> + Send + Sync>;

/// The code behind a plan: what the spec names, as factories and types.
#[derive(Default)]
pub struct Registry {
    /// By component.
    pub cohorts: Vec<CohortFactory>,
    /// Tuple type of each stream.
    pub types: Vec<TupleType>,
    /// By component: its hooks.
    pub hooks: Vec<Vec<HookFactory>>,
    /// Custom groupings by the name in the spec.
    pub groupings: HashMap<String, GroupingFactory>,
}

/// Wakes a reactor from any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Everything a cohort needs to know about its place. Owned by the cohort afterwards.
pub struct CohortEnv {
    /// The whole plan.
    pub plan: Arc<Plan>,
    /// The component.
    pub component: ComponentIx,
    /// The reactor the cohort lives on.
    pub reactor: ReactorIx,
    /// Its worker.
    pub worker: WorkerIx,
    /// The component's tasks here, ascending.
    pub tasks: Vec<TaskId>,
    /// What the cohort's tasks share while they run.
    pub outbox: Rc<Outbox>,
    /// The reactor's clock.
    pub clock: Rc<dyn Clock>,
    /// Where end-to-end latencies are recorded: present only for components without subscribers (sinks).
    pub latency: Option<Rc<RefCell<Histogram>>>,
    /// What the worker's components share.
    pub shared: Arc<WorkerShared>,
    /// Wakes this cohort's reactor.
    pub wake: Wake,
    pub(crate) registry: Arc<Registry>,
}

impl CohortEnv {
    /// Name of the component.
    pub fn component_name(&self) -> &str {
        &self.plan.spec.components[self.component as usize].name
    }

    /// The doorbell of this cohort's reactor, for another process: an eventfd. `None` where no thread sleeps.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn doorbell(&self) -> std::io::Result<Option<OwnedFd>> {
        self.shared.doorbell(self.reactor).map(|bell| bell.as_fd().try_clone_to_owned()).transpose()
    }

    /// The outgoing side of `stream` for this cohort.
    pub fn port(&self, stream: StreamIx) -> Port {
        let plan = &*self.plan;
        let spec = &plan.spec.streams[stream as usize];
        let config = &plan.spec.config;
        let mut lanes: Vec<Lane> = Vec::new();
        let mut subs = Vec::new();
        for sub_ix in plan.subscribers_of(stream) {
            let sub = &plan.spec.subscriptions[*sub_ix as usize];
            let mut targets = Vec::new();
            let route_to = plan.targets(*sub_ix, self.reactor);
            let mut sets = Vec::new();
            for task in plan.tasks_of(sub.to) {
                let to = plan.tasks[task as usize].reactor;
                let lane = self.lane(&mut lanes, to, sub.feedback);
                if let Some(set) = plan.task_set(*sub_ix, to)
                    && !sets.contains(&(lane, set))
                {
                    sets.push((lane, set));
                }
                targets.push(LaneTarget { task, lane });
            }
            let custom = match &sub.grouping {
                Grouping::Custom(name) => Some(self.registry.groupings[name]()),
                _ => None,
            };
            let picks_one = !matches!(sub.grouping, Grouping::All | Grouping::Custom(_) | Grouping::Direct);
            let load_aware = matches!(sub.grouping, Grouping::LoadAwareShuffle);
            let seed = seed(plan.hash(), *sub_ix, self.tasks[0]);
            let router = Router::new(&sub.grouping, &route_to, config.key_groups, seed, custom);
            subs.push(PortSub { router, picks_one, load_aware, targets, sets });
        }
        let max = config.max_tuple_bytes as usize;
        Port::new(stream, spec.schema.id, spec.schema.dynamic, max, self.outbox.clone(), subs, lanes)
    }

    fn lane(&self, lanes: &mut Vec<Lane>, to: ReactorIx, feedback: bool) -> u32 {
        if let Some(at) = lanes.iter().position(|l| l.to == to && l.feedback == feedback) {
            return at as u32;
        }
        let batch_bytes = self.plan.link_batch_bytes(self.reactor, to);
        self.outbox.add_lane(batch_bytes as u64);
        let worker = worker_bit(self.plan.reactors[to as usize].worker);
        lanes.push(Lane { to, worker, feedback, batch_bytes, open: None });
        lanes.len() as u32 - 1
    }
}

/// A seed that differs per plan, subscription and sender, and is the same at each run of the same plan.
fn seed(plan: u64, subscription: u32, first_task: TaskId) -> u64 {
    plan ^ (u64::from(subscription) << 32 | u64::from(first_task)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
