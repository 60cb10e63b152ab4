//! What the components of one run saw and did, and what they may not see.
//!
//! The components of the simulator tell the world each emit and each execution. What can be judged at once is judged
//! at once (an unknown or repeated tuple, order per D1, an execution after `finish`); what only the end can tell (a
//! tuple that never came) is judged by module `check`. The first violation is kept: it is the cause of the others.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use squall::{TaskId, Waker};
use squall_engine::{Clock, VirtualClock};
use squall_topology::{ComponentKind, Plan};
use squall_tuple::ids::StreamIx;

use crate::dice::Dice;
use crate::scenario::{ComponentScript, Pads, Scenario};
use crate::tuples::{Arrived, Draft};

/// Whose allowance an emit uses up: one kind of component cannot starve the others of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purse {
    Spouts,
    Bolts,
    Finish,
}

/// One emit.
pub(crate) struct Emission {
    pub(crate) draft: Draft,
    /// Origin time its receivers must see, where it is known exactly.
    origin_ns: Option<u64>,
    /// The task it was sent to, on a direct stream.
    pub(crate) direct: Option<TaskId>,
    /// What the component's hook was told.
    pub(crate) hooked: Option<Vec<TaskId>>,
    /// Tasks that executed it, in order.
    pub(crate) delivered: Vec<TaskId>,
}

/// What one task did.
#[derive(Debug, Default, Clone)]
pub(crate) struct TaskLog {
    pub(crate) prepared: u32,
    pub(crate) executed: u64,
    pub(crate) emitted: u64,
    /// Inputs it failed by returning an error.
    pub(crate) failed: u64,
    pub(crate) kept: u64,
    pub(crate) kept_acked: u64,
    pub(crate) kept_failed: u64,
    pub(crate) finish_calls: u64,
    /// A spout task that ended or was stopped; a bolt task whose `finish` was done.
    pub(crate) ended: bool,
    pub(crate) cleaned: u32,
    /// Executed something since its last `batch_end`.
    pub(crate) unflushed: bool,
    pub(crate) hook_executes: u64,
    pub(crate) hook_acks: u64,
    pub(crate) hook_fails: u64,
    pub(crate) hook_prepares: u32,
}

pub(crate) struct Inner {
    /// By stream, by source task (from the first of its component).
    pub(crate) emissions: Vec<Vec<Vec<Emission>>>,
    /// Place of a tuple among the emissions of its source.
    places: HashMap<(StreamIx, TaskId, u64), u32>,
    /// Last place executed, by stream, source and target.
    last: HashMap<(StreamIx, TaskId, TaskId), u32>,
    pub(crate) tasks: Vec<TaskLog>,
    parked: BTreeMap<TaskId, Waker>,
    purses: [u64; 3],
    next_id: u64,
    /// Calls that move a run on; ticks do not.
    activity: u64,
    hash: u64,
    violation: Option<String>,
}

/// See the module.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clock: VirtualClock,
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) inner: RefCell<Inner>,
}

thread_local! {
    /// The run of this thread: factories must be `Send`, so the components find it here when they are made.
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Ends the thread's run when dropped.
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|c| c.take());
    }
}

impl World {
    pub(crate) fn new(plan: Arc<Plan>, clock: VirtualClock, scenario: Rc<Scenario>) -> Rc<Self> {
        let per_stream = |s: StreamIx| plan.source_tasks(s).map(|_| Vec::new()).collect();
        let budget = scenario.sizes.budget;
        let inner = Inner {
            emissions: (0..plan.spec.streams.len() as StreamIx).map(per_stream).collect(),
            places: HashMap::new(),
            last: HashMap::new(),
            tasks: vec![TaskLog::default(); plan.tasks.len()],
            parked: BTreeMap::new(),
            purses: [budget / 2, budget, budget / 2],
            next_id: 0,
            activity: 0,
            hash: 0xCBF2_9CE4_8422_2325,
            violation: None,
        };
        Rc::new(World { plan, clock, scenario, inner: RefCell::new(inner) })
    }

    /// Makes this the thread's run until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        CURRENT.with(|c| *c.borrow_mut() = Some(self.clone()));
        Entered
    }

    /// The thread's run. Panics outside of one.
    pub(crate) fn current() -> Rc<World> {
        CURRENT.with(|c| c.borrow().clone()).expect("components of the simulator live within a run")
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The script of a task's component.
    pub(crate) fn script(&self, task: TaskId) -> &ComponentScript {
        &self.scenario.components[self.plan.component_of(task) as usize]
    }

    /// Adds to the trace hash.
    pub(crate) fn trace(&self, words: &[u64]) {
        let mut inner = self.inner.borrow_mut();
        inner.trace(words);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.inner.borrow().hash
    }

    pub(crate) fn activity(&self) -> u64 {
        self.inner.borrow().activity
    }

    /// Keeps the first violation.
    pub(crate) fn violate(&self, what: String) {
        self.inner.borrow_mut().violate(what);
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.inner.borrow().violation.clone()
    }

    /// `name[index]`, as reports show a task.
    pub(crate) fn task_name(&self, task: TaskId) -> String {
        let component = self.plan.component_of(task);
        let name = &self.plan.spec.components[component as usize].name;
        format!("{name}[{}] (task {task})", task - self.plan.tasks_of(component).start)
    }

    /// Whether everything that this task's cohort ever emits has been emitted: its marks are on their way.
    fn closed(&self, inner: &Inner, task: TaskId) -> bool {
        if !inner.tasks[task as usize].ended {
            return false;
        }
        match self.plan.inbox_of_task(task) {
            Some(inbox) => self.plan.inboxes[inbox as usize].tasks.iter().all(|t| inner.tasks[*t as usize].ended),
            None => true,
        }
    }

    // What components tell, in the order of their lives.

    pub(crate) fn prepared(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[1, task.into()]);
        inner.tasks[task as usize].prepared += 1;
        if inner.tasks[task as usize].prepared > 1 {
            inner.violate(format!("{} was prepared twice", self.task_name(task)));
        }
    }

    /// A call that moves the run on but emits nothing by itself.
    pub(crate) fn called(&self, task: TaskId, what: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[2, task.into(), what]);
        if inner.tasks[task as usize].ended {
            inner.violate(format!("{} was called again after its end", self.task_name(task)));
        }
    }

    /// A new tuple, if the purse has something left.
    pub(crate) fn draft(&self, dice: &mut Dice, pads: &Pads, purse: Purse, depth: u32) -> Option<Draft> {
        let mut inner = self.inner.borrow_mut();
        let left = &mut inner.purses[purse as usize];
        *left = left.checked_sub(1)?;
        let id = inner.next_id;
        inner.next_id += 1;
        let pad_max = if dice.percent(pads.large_percent) { pads.large_max } else { pads.small_max };
        let key = dice.between_u64(0, self.scenario.sizes.keys - 1);
        Some(Draft { id, key, depth, pad: dice.between(0, pad_max) })
    }

    /// Whether `task` may pass this tuple on to `stream`: a task emits a tuple once per stream, so that its place is
    /// certain.
    pub(crate) fn may_forward(&self, task: TaskId, stream: StreamIx, id: u64) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.purses[Purse::Bolts as usize] == 0 || inner.places.contains_key(&(stream, task, id)) {
            return false;
        }
        inner.purses[Purse::Bolts as usize] -= 1;
        true
    }

    /// The emit that follows.
    pub(crate) fn emitting(
        &self,
        task: TaskId,
        stream: StreamIx,
        draft: Draft,
        origin_ns: Option<u64>,
        direct: Option<TaskId>,
    ) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[3, task.into(), stream.into(), draft.id]);
        if self.closed(&inner, task) {
            inner.violate(format!("{} emitted after its end-of-stream marks", self.task_name(task)));
        }
        let source = (task - self.plan.source_tasks(stream).start) as usize;
        let place = inner.emissions[stream as usize][source].len() as u32;
        let emission = Emission { draft, origin_ns, direct, hooked: None, delivered: Vec::new() };
        inner.emissions[stream as usize][source].push(emission);
        inner.places.insert((stream, task, draft.id), place);
        inner.tasks[task as usize].emitted += 1;
    }

    pub(crate) fn hook_emit(&self, task: TaskId, stream: StreamIx, targets: Vec<TaskId>) {
        let mut inner = self.inner.borrow_mut();
        let source = (task - self.plan.source_tasks(stream).start) as usize;
        let last = inner.emissions[stream as usize][source].last_mut();
        match last.filter(|e| e.hooked.is_none()) {
            Some(emission) => emission.hooked = Some(targets),
            None => inner.violate(format!("the hook of {} was told an emit too many", self.task_name(task))),
        }
    }

    /// An execution. Returns what arrived, if it is a tuple of ours.
    pub(crate) fn executed(
        &self,
        task: TaskId,
        stream: StreamIx,
        source: TaskId,
        origin_ns: u64,
        arrived: Arrived<'_>,
    ) -> Option<Draft> {
        let mut inner = self.inner.borrow_mut();
        let draft = arrived.draft();
        inner.act(&[4, task.into(), stream.into(), source.into(), draft.map_or(u64::MAX, |d| d.id), origin_ns]);
        inner.tasks[task as usize].executed += 1;
        inner.tasks[task as usize].unflushed = true;
        if let Err(what) = self.judge(&mut inner, task, stream, source, origin_ns, draft) {
            let stream = self.plan.spec.stream_name(stream);
            let (task, source) = (self.task_name(task), self.task_name(source));
            inner.violate(format!("{task} executed a tuple of {stream} from {source} {what}"));
        }
        draft
    }

    fn judge(
        &self,
        inner: &mut Inner,
        task: TaskId,
        stream: StreamIx,
        source: TaskId,
        origin_ns: u64,
        draft: Option<Draft>,
    ) -> Result<(), String> {
        let draft = draft.ok_or("whose contents nobody emitted")?;
        let component = self.plan.component_of(task);
        let sub = self.plan.subscribers_of(stream).iter().map(|s| &self.plan.spec.subscriptions[*s as usize]);
        let sub = sub.filter(|s| s.to == component).next().ok_or("that it does not subscribe to")?;
        let place = inner.places.get(&(stream, source, draft.id)).copied();
        let place = place.ok_or_else(|| format!("that was never emitted there: {draft:?}"))?;
        let at = (source - self.plan.source_tasks(stream).start) as usize;
        let emission = &mut inner.emissions[stream as usize][at][place as usize];
        if emission.draft != draft {
            return Err(format!("with other contents than emitted: {draft:?}, not {:?}", emission.draft));
        }
        if emission.delivered.contains(&task) {
            return Err(format!("twice: number {place} of its source"));
        }
        emission.delivered.push(task);
        if let Some(origin) = emission.origin_ns
            && origin != origin_ns
        {
            return Err(format!("with origin {origin_ns} instead of {origin}"));
        }
        if origin_ns > self.now_ns() {
            return Err(format!("with origin {origin_ns}, which is still to come"));
        }
        // D1.
        let last = inner.last.insert((stream, source, task), place);
        if let Some(last) = last.filter(|l| *l >= place) {
            return Err(format!("out of order: number {place} of its source after number {last}"));
        }
        let log = &inner.tasks[task as usize];
        if log.prepared == 0 || log.cleaned > 0 {
            return Err("outside of its life".into());
        }
        if log.finish_calls > 0 && !sub.feedback {
            return Err("after `finish`".into());
        }
        if sub.feedback && self.closed(inner, task) {
            return Err("of a feedback edge after its end-of-stream marks".into());
        }
        Ok(())
    }

    pub(crate) fn failed(&self, task: TaskId) {
        self.inner.borrow_mut().tasks[task as usize].failed += 1;
    }

    pub(crate) fn kept(&self, task: TaskId) {
        self.inner.borrow_mut().tasks[task as usize].kept += 1;
    }

    pub(crate) fn settled(&self, task: TaskId, acked: bool) {
        let mut inner = self.inner.borrow_mut();
        inner.trace(&[5, task.into(), acked.into()]);
        let log = &mut inner.tasks[task as usize];
        *(if acked { &mut log.kept_acked } else { &mut log.kept_failed }) += 1;
    }

    pub(crate) fn batch_end(&self, task: TaskId) {
        self.inner.borrow_mut().tasks[task as usize].unflushed = false;
    }

    pub(crate) fn tick(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.trace(&[6, task.into()]);
        if self.closed(&inner, task) || inner.tasks[task as usize].cleaned > 0 {
            inner.violate(format!("{} got a tick after its end", self.task_name(task)));
        }
    }

    /// A spout task parks until [`World::wake_one`].
    pub(crate) fn parks(&self, task: TaskId, waker: Waker) {
        self.inner.borrow_mut().parked.insert(task, waker);
    }

    pub(crate) fn is_parked(&self, task: TaskId) -> bool {
        self.inner.borrow().parked.contains_key(&task)
    }

    /// Wakes a parked task; returns it.
    pub(crate) fn wake_one(&self, dice: &mut Dice) -> Option<TaskId> {
        let mut inner = self.inner.borrow_mut();
        let parked: Vec<TaskId> = inner.parked.keys().copied().collect();
        if parked.is_empty() {
            return None;
        }
        let task = dice.pick(&parked);
        inner.trace(&[7, task.into()]);
        inner.parked.remove(&task).expect("it is parked").wake();
        Some(task)
    }

    /// A spout task ended or was stopped, or a bolt task has finished.
    pub(crate) fn ended(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[8, task.into()]);
        inner.parked.remove(&task);
        if std::mem::replace(&mut inner.tasks[task as usize].ended, true) {
            inner.violate(format!("{} ended twice", self.task_name(task)));
        }
    }

    /// `finish` was called: everything before it must have ended.
    pub(crate) fn finishing(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[9, task.into()]);
        inner.tasks[task as usize].finish_calls += 1;
        let me = || self.task_name(task);
        let log = &inner.tasks[task as usize];
        if log.ended {
            inner.violate(format!("`finish` of {} was called again after it was done", me()));
            return;
        }
        if log.unflushed {
            inner.violate(format!("`finish` of {} was called before the `batch_end` of its last batch", me()));
            return;
        }
        for sub in self.plan.inputs_of(self.plan.component_of(task)) {
            let sub = &self.plan.spec.subscriptions[*sub as usize];
            let open = self.plan.source_tasks(sub.stream).find(|t| !sub.feedback && !self.closed(&inner, *t));
            if let Some(open) = open {
                let stream = self.plan.spec.stream_name(sub.stream);
                inner.violate(format!("`finish` of {} was called before {} ended {stream}", me(), self.task_name(open)));
            }
        }
    }

    pub(crate) fn cleaned(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[10, task.into()]);
        inner.tasks[task as usize].cleaned += 1;
        let log = &inner.tasks[task as usize];
        if log.cleaned > 1 || !log.ended {
            inner.violate(format!("`cleanup` of {} is not its one last call", self.task_name(task)));
        }
    }

    /// Notes a call of a hook.
    pub(crate) fn hook(&self, task: TaskId, note: impl FnOnce(&mut TaskLog)) {
        note(&mut self.inner.borrow_mut().tasks[task as usize]);
    }

    /// Tasks that have not ended, for reports.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let inner = self.inner.borrow();
        let open = (0..inner.tasks.len() as TaskId).filter(|t| !inner.tasks[*t as usize].ended);
        open.map(|t| self.task_name(t)).collect()
    }

    /// Whether a component is a spout.
    pub(crate) fn is_spout(&self, component: u32) -> bool {
        self.plan.spec.components[component as usize].kind == ComponentKind::Spout
    }
}

impl Inner {
    fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn trace(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
        }
    }

    fn act(&mut self, words: &[u64]) {
        self.activity += 1;
        self.trace(words);
    }
}
