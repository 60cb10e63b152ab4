//! What the components of one run saw and did, and what they may not see.
//!
//! The components of the simulator tell the world each emit and each execution. What can be judged at once is judged
//! at once (an unknown or repeated tuple, order per D1, an execution after `finish`); what only the end can tell (a
//! tuple that never came) is judged by module `check`. The first violation is kept: it is the cause of the others.

mod breaks;
mod roots;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use squall::{Anchor, TaskId, Waker};
use squall_engine::{Clock, VirtualClock};
use squall_topology::{ComponentKind, Plan};
use squall_tuple::ids::StreamIx;

use crate::dice::Dice;
use crate::scenario::{ComponentScript, GroupScript, Pads, Role, Scenario};
use crate::tuples::{Arrived, Draft};

pub use roots::RootCounts;
pub(crate) use roots::RootIx;
use roots::Tree;

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
    /// Trees it belongs to.
    roots: Vec<RootIx>,
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
    ticked_ns: Option<u64>,
    /// A spout task that sleeps or is parked.
    resting: bool,
    /// Step of the run in which it was last called.
    called_at: u64,
    /// Steps since then in which another task of its cohort was called, though it could have been.
    passed_over: u32,
    /// Executed something since its last `batch_end`.
    pub(crate) unflushed: bool,
    pub(crate) hook_executes: u64,
    pub(crate) hook_acks: u64,
    pub(crate) hook_fails: u64,
    pub(crate) hook_prepares: u32,
    /// Of a spout: roots it was not told of.
    pending: u32,
    pub(crate) roots_acked: u64,
    pub(crate) roots_failed: u64,
    /// How often its executor was broken.
    pub(crate) broken: u32,
    /// It is broken, and not prepared again.
    pub(crate) down: bool,
    /// A spout task that had ended when its executor broke: it gets no further call.
    pub(crate) abandoned: bool,
    /// Roots of which nobody was left to be told.
    pub(crate) roots_lost: u64,
    /// Tuples that are on their way to the dead letters.
    pub(crate) letters_due: u64,
}

pub(crate) struct Inner {
    /// By stream, by source task (from the first of its component).
    pub(crate) emissions: Vec<Vec<Vec<Emission>>>,
    /// Place of a tuple among the emissions of its source.
    places: HashMap<(StreamIx, TaskId, u64), u32>,
    /// Last place executed, by stream, source and target.
    last: HashMap<(StreamIx, TaskId, TaskId), u32>,
    pub(crate) tasks: Vec<TaskLog>,
    /// By component: bytes emitted for it and not yet executed, over edges whose tuples go to one task each.
    waiting: Vec<u64>,
    parked: BTreeMap<TaskId, Waker>,
    /// Kept tuples that are ended outside of any call.
    adrift: Vec<(TaskId, Anchor, Vec<RootIx>)>,
    /// By reactor: somebody used a wake of the engine's. For rigs that cannot see it.
    told: Vec<bool>,
    /// By reactor: its spouts were stopped.
    stopped: Vec<bool>,
    purses: [u64; 3],
    /// Executors that may still be broken.
    breaks: u32,
    /// By component and reactor: whether the end of the last batch was called, and the trees of what was executed of it.
    batches: HashMap<(u32, u32), (bool, Vec<RootIx>)>,
    /// Whose `batch_end` is being called.
    ending: Option<(u32, u32)>,
    trees: Vec<Tree>,
    roots: RootCounts,
    next_id: u64,
    /// Steps that the run has taken.
    step: u64,
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
    /// By component: what `waiting` may come to (D2).
    waiting_max: Vec<u64>,
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
            waiting: vec![0; plan.spec.components.len()],
            parked: BTreeMap::new(),
            adrift: Vec::new(),
            told: vec![false; plan.reactors.len()],
            stopped: vec![false; plan.reactors.len()],
            purses: [budget / 2, budget, budget / 2],
            breaks: scenario.sizes.breaks,
            batches: HashMap::new(),
            ending: None,
            trees: Vec::new(),
            roots: RootCounts::default(),
            next_id: 0,
            step: 0,
            activity: 0,
            hash: 0xCBF2_9CE4_8422_2325,
            violation: None,
        };
        let waiting_max = (0..plan.spec.components.len()).map(|c| waiting_max(&plan, &scenario, c as u32)).collect();
        Rc::new(World { plan, clock, scenario, waiting_max, inner: RefCell::new(inner) })
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
        let log = &mut inner.tasks[task as usize];
        log.prepared += 1;
        (log.resting, log.passed_over) = (false, 0);
        if log.prepared > 1 && !std::mem::take(&mut log.down) {
            inner.violate(format!("{} was prepared twice", self.task_name(task)));
        }
    }

    /// The next step of the run begins.
    pub(crate) fn begin_step(&self) {
        self.inner.borrow_mut().step += 1;
    }

    /// A call of a spout's `next`.
    pub(crate) fn called(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.act(&[2, task.into()]);
        self.pass_over(&mut inner, task);
        if inner.tasks[task as usize].ended || inner.stopped[self.reactor(task)] {
            inner.violate(format!("{} was called again after its end", self.task_name(task)));
        }
        if self.is_full(&inner, task) {
            inner.violate(format!("{} was called with as many roots pending as it may have", self.task_name(task)));
        }
    }

    /// Tasks of a spout on one reactor take turns: none that could emit is passed over again and again.
    fn pass_over(&self, inner: &mut Inner, task: TaskId) {
        let step = inner.step;
        let log = &mut inner.tasks[task as usize];
        (log.resting, log.passed_over) = (false, 0);
        if std::mem::replace(&mut log.called_at, step) == step {
            return;
        }
        let tasks = self.plan.tasks_of(self.plan.component_of(task));
        let cohort: Vec<TaskId> = tasks.filter(|t| self.reactor(*t) == self.reactor(task)).collect();
        for other in &cohort {
            let full = self.is_full(inner, *other);
            let log = &mut inner.tasks[*other as usize];
            if full || *other == task || log.ended || log.resting || log.called_at == step {
                continue;
            }
            log.passed_over += 1;
            if log.passed_over > 2 * cohort.len() as u32 {
                inner.violate(format!("{} is passed over by the other tasks of its cohort", self.task_name(*other)));
            }
        }
    }

    /// A spout task sleeps or is parked.
    pub(crate) fn rests(&self, task: TaskId) {
        self.inner.borrow_mut().tasks[task as usize].resting = true;
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
        let emission = Emission { draft, origin_ns, direct, hooked: None, delivered: Vec::new(), roots: Vec::new() };
        inner.emissions[stream as usize][source].push(emission);
        inner.places.insert((stream, task, draft.id), place);
        inner.tasks[task as usize].emitted += 1;
        for sub in self.plan.subscribers_of(stream) {
            let to = self.plan.spec.subscriptions[*sub as usize].to;
            let named = direct.is_none_or(|t| self.plan.component_of(t) == to);
            if named && self.is_counted(*sub) {
                let waiting = &mut inner.waiting[to as usize];
                *waiting += least_bytes(&draft);
                if *waiting > self.waiting_max[to as usize] {
                    let (now, name) = (*waiting, &self.plan.spec.components[to as usize].name);
                    let most = self.waiting_max[to as usize];
                    inner.violate(format!("{now} bytes wait for {name}, credit and bursts allow {most} (D2)"));
                }
            }
        }
    }

    /// Whether what waits over this subscription is counted: each tuple goes to one task, and none is dropped.
    fn is_counted(&self, sub: u32) -> bool {
        let script = &self.scenario.subscriptions[sub as usize];
        !script.feedback && !matches!(script.grouping, GroupScript::All | GroupScript::Custom(_))
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
        let mut subs = self.plan.subscribers_of(stream).iter();
        let sub_ix = subs.find(|s| self.plan.spec.subscriptions[**s as usize].to == component);
        let sub_ix = *sub_ix.ok_or("that it does not subscribe to")?;
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
        if self.is_counted(sub_ix) {
            // A tuple that wrongly went to two tasks shows at the end; here it must only not underflow.
            let waiting = &mut inner.waiting[component as usize];
            *waiting = waiting.saturating_sub(least_bytes(&draft));
        }
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
        if log.finish_calls > 0 {
            return Err("after `finish`".into());
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
        let mut inner = self.inner.borrow_mut();
        inner.tasks[task as usize].unflushed = false;
        inner.ending = None;
    }

    pub(crate) fn tick(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.trace(&[6, task.into()]);
        if self.closed(&inner, task) || inner.tasks[task as usize].cleaned > 0 {
            inner.violate(format!("{} got a tick after its end", self.task_name(task)));
        }
        inner.tasks[task as usize].ticked_ns = Some(self.now_ns());
    }

    /// A spout task parks until [`World::wake_one`].
    pub(crate) fn parks(&self, task: TaskId, waker: Waker) {
        self.inner.borrow_mut().parked.insert(task, waker);
    }

    /// A parked task will be called again: one of its roots ended.
    pub(crate) fn unparks(&self, task: TaskId) {
        let mut inner = self.inner.borrow_mut();
        inner.parked.remove(&task);
        inner.tasks[task as usize].resting = false;
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
        inner.told[self.reactor(task)] = true;
        inner.parked.remove(&task).expect("it is parked").wake();
        Some(task)
    }

    fn reactor(&self, task: TaskId) -> usize {
        self.plan.tasks[task as usize].reactor as usize
    }

    /// A wake of the engine's is being used for this task's reactor.
    pub(crate) fn tell(&self, task: TaskId) {
        self.inner.borrow_mut().told[self.reactor(task)] = true;
    }

    /// Whether a reactor was told since the last call.
    pub(crate) fn take_told(&self, reactor: usize) -> bool {
        std::mem::take(&mut self.inner.borrow_mut().told[reactor])
    }

    /// The spouts of a reactor are being stopped: `next` is not called again.
    pub(crate) fn stopped(&self, reactor: usize) {
        let mut inner = self.inner.borrow_mut();
        inner.stopped[reactor] = true;
        for task in 0..inner.tasks.len() {
            // Of a spout that is down nobody is left to be told.
            let here = self.reactor(task as TaskId) == reactor && self.is_spout(self.plan.component_of(task as TaskId));
            let log = &mut inner.tasks[task];
            if here && std::mem::take(&mut log.down) {
                (log.ended, log.abandoned) = (true, true);
            }
        }
    }

    pub(crate) fn set_adrift(&self, task: TaskId, anchor: Anchor, roots: Vec<RootIx>) {
        self.inner.borrow_mut().adrift.push((task, anchor, roots));
    }

    pub(crate) fn has_adrift(&self, task: TaskId) -> bool {
        self.inner.borrow().adrift.iter().any(|(t, ..)| *t == task)
    }

    /// Ends a tuple that was set adrift, as another thread would.
    pub(crate) fn settle_adrift(&self, dice: &mut Dice) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.adrift.is_empty() {
            return false;
        }
        let at = dice.below(inner.adrift.len() as u32) as usize;
        let (task, anchor, roots) = inner.adrift.swap_remove(at);
        inner.told[self.reactor(task)] = true;
        drop(inner);
        let fails = matches!(self.script(task).role, Role::Bolt(b) if dice.percent(b.fail_percent));
        self.settled(task, !fails);
        self.end_delivery(&roots, !fails);
        if fails {
            anchor.fail("the script says so");
        } else {
            anchor.ack();
        }
        true
    }

    /// The clock went from `before_ns` to now because nothing else could happen: a tick that was due in between was
    /// slept through.
    pub(crate) fn check_ticks(&self, before_ns: u64) {
        // Who waits for room at one that is down gets its tick when there is some.
        if self.any_down() {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        for task in 0..inner.tasks.len() as TaskId {
            let log = &inner.tasks[task as usize];
            let (Some(last), Some((ms, _))) = (log.ticked_ns, self.script(task).ticks) else { continue };
            let due = last + ms * 1_000_000;
            if !log.ended && due > before_ns && due < self.now_ns() {
                let now_ns = self.now_ns();
                inner.violate(format!(
                    "the reactor of {} slept until {now_ns}, a tick was due at {due}",
                    self.task_name(task)
                ));
            }
        }
    }

    /// Executions so far by the tasks that components of these names have on a reactor.
    pub(crate) fn executions(&self, reactor: u32, components: &[String]) -> u64 {
        let inner = self.inner.borrow();
        let here =
            |t: &&squall_topology::Cohort| components.contains(&self.plan.spec.components[t.component as usize].name);
        let cohorts = self.plan.cohorts_of(reactor).iter().filter(here);
        cohorts.flat_map(|c| &c.tasks).map(|t| inner.tasks[*t as usize].executed).sum()
    }

    /// Components that have something waiting though nothing happens any more: an idle link sends at once, so at such a
    /// moment everything emitted has been executed.
    pub(crate) fn left_waiting(&self) -> Vec<String> {
        // What waits for a restart, waits for time.
        if self.any_down() {
            return Vec::new();
        }
        let inner = self.inner.borrow();
        let waiting = inner.waiting.iter().enumerate().filter(|(_, bytes)| **bytes > 0);
        waiting.map(|(c, bytes)| format!("{bytes} bytes for {}", self.plan.spec.components[c].name)).collect()
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
                inner.violate(format!(
                    "`finish` of {} was called before {} ended {stream}",
                    me(),
                    self.task_name(open)
                ));
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
        if inner.tasks[task as usize].pending > 0 {
            inner.violate(format!("`cleanup` of {} came before the end of its roots", self.task_name(task)));
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

/// What a tuple takes at least, wherever it waits.
fn least_bytes(draft: &Draft) -> u64 {
    16 + u64::from(draft.pad)
}

/// What may wait for a component at most: over each link that leads to one of its inboxes the window, or a quarter of it
/// and one batch; and at the senders, their open batches and what their last calls emitted before they were paused.
fn waiting_max(plan: &Plan, scenario: &Scenario, component: u32) -> u64 {
    let config = &plan.spec.config;
    let batch = u64::from(config.batch_bytes.max(config.socket_batch_bytes));
    let link = config.credit_bytes.max(config.credit_bytes / 4 + batch.max(scenario.tuple_bytes_max()));
    let inputs = plan.inputs_of(component).iter().map(|s| plan.spec.subscriptions[*s as usize].stream);
    let sources: Vec<u32> = inputs.map(|s| plan.spec.streams[s as usize].component).collect();
    let mut senders: Vec<u32> = sources.iter().flat_map(|c| plan.reactors_of(*c)).copied().collect();
    senders.sort_unstable();
    senders.dedup();
    let here = plan.reactors_of(component).len() as u64;
    let links = here * senders.len() as u64 * link;
    let open: u64 = sources.iter().map(|c| plan.reactors_of(*c).len() as u64 * here * batch).sum();
    let mut each = sources;
    each.sort_unstable();
    each.dedup();
    let calls = |c: &u32| {
        let script = &scenario.components[*c as usize];
        // A call of each task (ticks, `batch_end`) and one on a tuple may follow each other before a look at the room.
        let calls = u64::from(script.tasks) + plan.reactors_of(*c).len() as u64;
        calls * u64::from(script.emits_max()) * scenario.tuple_bytes_max()
    };
    links + open + each.iter().map(calls).sum::<u64>()
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

#[cfg(test)]
mod tests;
