//! All tasks of one spout on one reactor.

use std::rc::Rc;
use std::sync::Arc;

use squall_engine::{BatchEnd, Cohort, CohortEnv, Ended, Fault, Finish, Outbox, Outcome, Port, SpoutTurn};
use squall_tuple::ids::TaskId;
use squall_tuple::{Batch, Cursor, MarkRecord};

use crate::cohort::{Factory, Signal, TaskIndex, context, source_ended};
use crate::{Failure, Next, Outputs, OutputsBuilder, Spout, SpoutError};

/// The clock is read so often that the origin time of a tuple is at most about this old (design §4, Clocks).
const ORIGIN_AGE_NS: u64 = 2_000;
/// A turn ends after about this long, so that links and bolts of the reactor get theirs.
const TURN_NS_MAX: u64 = 50_000;
/// Emits between two readings, at most.
const EMITS_PER_READING_MAX: u32 = 64;

/// When a task has something again.
enum State {
    Ready,
    Sleeping { until_ns: u64 },
    Parked,
    Ended,
}

struct SpoutTask<S> {
    id: TaskId,
    spout: S,
    state: State,
    signal: Arc<Signal>,
    /// It has failed: nobody calls it until it is made anew, which one that has ended is not.
    lost: bool,
}

pub(crate) struct SpoutCohort<S: Spout> {
    env: Rc<CohortEnv>,
    outbox: Rc<Outbox>,
    index: TaskIndex,
    tasks: Vec<SpoutTask<S>>,
    out: S::Out,
    origin: OriginClock,
    /// First reading of the clock in this turn: what other cohorts took before is not this one's time.
    turn_began_ns: Option<u64>,
    /// The turn goes on: every task had its call.
    goes_on: bool,
    /// Task whose turn it is.
    first: usize,
    ended: Vec<TaskId>,
    restarts: u32,
    /// Makes new instances.
    factory: Factory<S>,
}

/// Reads the clock every k emits, with k such that the last k took about [`ORIGIN_AGE_NS`] at most.
struct OriginClock {
    every: u32,
    left: u32,
    read_ns: u64,
}

impl OriginClock {
    /// A turn began at `now_ns`. Says nothing about the time of the emits before it.
    fn begin(&mut self, now_ns: u64) -> u64 {
        self.left = self.every;
        self.read_ns = now_ns;
        now_ns
    }

    #[cold]
    fn read(&mut self, now_ns: u64) -> u64 {
        let took = now_ns - self.read_ns;
        if took > ORIGIN_AGE_NS {
            self.every = (self.every / 2).max(1);
        } else if took < ORIGIN_AGE_NS / 2 {
            self.every = (self.every * 2).min(EMITS_PER_READING_MAX);
        }
        self.left = self.every;
        self.read_ns = now_ns;
        now_ns
    }
}

/// Calls `next` while it emits and no batch is full, `most` times (1 or more). Gives the number of calls and what the last
/// one answered.
#[inline(never)]
fn emit_run<S: Spout>(spout: &mut S, out: &mut S::Out, outbox: &Outbox, most: u32) -> (u32, Result<Next, SpoutError>) {
    let mut made = 0;
    loop {
        made += 1;
        match spout.next(out) {
            Ok(Next::Emitted) if made != most && !outbox.attention() => {}
            last => return (made, last),
        }
    }
}

impl<S: Spout> SpoutCohort<S> {
    pub(crate) fn new(env: CohortEnv, factory: Factory<S>) -> Self {
        let task = |id: &TaskId| SpoutTask {
            id: *id,
            spout: factory(),
            state: State::Ready,
            signal: Arc::default(),
            lost: false,
        };
        let tasks = env.tasks.iter().map(task).collect();
        let out = S::Out::build(&mut OutputsBuilder { env: &env });
        SpoutCohort {
            outbox: env.outbox.clone(),
            index: TaskIndex::new(&env.tasks),
            env: Rc::new(env),
            tasks,
            out,
            origin: OriginClock { every: 1, left: 0, read_ns: 0 },
            turn_began_ns: None,
            goes_on: false,
            first: 0,
            ended: Vec::new(),
            restarts: 0,
            factory,
        }
    }

    fn end(&mut self, at: usize) {
        let task = &mut self.tasks[at];
        task.state = State::Ended;
        self.ended.push(task.id);
    }

    /// Calls one task until it has nothing, a batch is full, or its calls are used up.
    fn run_task(&mut self, at: usize, calls: u32, turn: &mut SpoutTurn) -> Result<(), Fault> {
        let task = &mut self.tasks[at];
        self.outbox.set_source(task.id);
        let mut calls_left = calls;
        // A look per run of calls: what takes the last room asks for one, too, as a full batch does.
        while calls_left > 0 && self.outbox.admits(task.id) {
            if self.origin.left == 0 {
                let now_ns = self.env.clock.now_ns();
                // Each task gets a call, however slow the others are.
                if (self.goes_on || calls_left < calls)
                    && now_ns - *self.turn_began_ns.get_or_insert(now_ns) > TURN_NS_MAX
                {
                    return Ok(());
                }
                self.outbox.set_origin(self.origin.read(now_ns));
            }
            // Up to the next reading of the clock; what is not called counts for the next turn.
            let most = self.origin.left.min(calls_left);
            let (made, next) = emit_run(&mut task.spout, &mut self.out, &self.outbox, most);
            self.origin.left -= made;
            calls_left -= made;
            turn.calls += made;
            turn.progress |= made > 1;
            match next.map_err(|e| source_ended(task.id, e.cause()))? {
                Next::Emitted => turn.progress = true,
                Next::Idle => {
                    turn.idle = true;
                    return Ok(());
                }
                Next::WakeAt(time) => {
                    task.state = State::Sleeping { until_ns: time.as_nanos() };
                    return Ok(());
                }
                Next::Parked => {
                    task.state = State::Parked;
                    // Woken while it decided to park: there is something to do at once.
                    turn.progress |= task.signal.is_woken();
                    return Ok(());
                }
                Next::End => {
                    turn.progress = true;
                    self.end(at);
                    return Ok(());
                }
            }
            if self.outbox.has_sealed() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl<S: Spout> Cohort for SpoutCohort<S> {
    fn prepare(&mut self) -> Result<(), Fault> {
        for task in &mut self.tasks {
            self.outbox.set_source(task.id);
            let (ctx, signal) = context(&self.env, task.id, 0);
            task.signal = signal;
            task.spout.prepare(&ctx).map_err(|e| source_ended(task.id, e.cause()))?;
        }
        Ok(())
    }

    fn run_batch(&mut self, _: &Batch<'_>, _: &mut Cursor, _: u16, _: &mut u64) -> Result<BatchEnd, Fault> {
        unreachable!("a spout has no input")
    }

    fn run_spout(&mut self, budget: u32, began_ns: Option<u64>) -> Result<SpoutTurn, Fault> {
        let mut turn = SpoutTurn::default();
        let count = self.tasks.len();
        let calls = (budget / count as u32).max(1);
        self.goes_on = began_ns.is_none();
        let now_ns = began_ns.unwrap_or(self.origin.read_ns);
        if !self.goes_on {
            // The first emit of a turn has the turn's time: no reading of its own, idle or not.
            self.outbox.set_origin(self.origin.begin(now_ns));
            self.turn_began_ns = None;
        }
        for i in 0..count {
            let at = (self.first + i) % count;
            let now_ns = if i == 0 { now_ns } else { self.env.clock.now_ns() };
            let task = &mut self.tasks[at];
            match task.state {
                State::Ended => continue,
                _ if task.lost => continue,
                State::Sleeping { until_ns } if now_ns < until_ns => {}
                State::Parked if !task.signal.take() => {}
                State::Ready | State::Sleeping { .. } | State::Parked => {
                    task.state = State::Ready;
                    self.run_task(at, calls, &mut turn)?;
                }
            }
            if let State::Sleeping { until_ns } = self.tasks[at].state {
                turn.wake_at_ns = Some(turn.wake_at_ns.map_or(until_ns, |w| w.min(until_ns)));
            }
            if self.outbox.has_sealed() {
                self.first = (at + 1) % count;
                break;
            }
        }
        turn.some_ended = !self.ended.is_empty();
        turn.ended = self.tasks.iter().all(|t| matches!(t.state, State::Ended));
        Ok(turn)
    }

    fn stop_spout(&mut self) {
        for at in 0..self.tasks.len() {
            if !matches!(self.tasks[at].state, State::Ended) {
                if !self.tasks[at].lost {
                    self.tasks[at].spout.deactivate();
                }
                self.end(at);
            }
        }
    }

    fn take_ended(&mut self, into: &mut Vec<TaskId>) {
        into.append(&mut self.ended);
    }

    fn settle(&mut self, ended: &[Ended], told: &mut usize) -> Result<(), Fault> {
        for Ended { task: id, message, outcome } in ended {
            *told += 1;
            let at = self.index.place(*id).expect("a root of a task of this cohort");
            let task = &mut self.tasks[at];
            if task.lost {
                continue;
            }
            self.outbox.set_source(*id);
            let heard = match *outcome {
                Outcome::Acked => task.spout.ack(*message),
                Outcome::Failed(reason) => task.spout.fail(*message, Failure { reason, plan: &self.env.plan }),
            };
            heard.map_err(|e| source_ended(*id, e.cause()))?;
            // As its waker would: one that was used meanwhile is the same wake.
            if matches!(task.state, State::Parked) {
                task.signal.wake();
            }
        }
        Ok(())
    }

    fn on_mark(&mut self, _: &MarkRecord) -> Result<(), Fault> {
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Fault> {
        // A task that has ended has sent its marks: nothing may follow them.
        for task in self.tasks.iter_mut().filter(|t| !t.lost && !matches!(t.state, State::Ended)) {
            self.outbox.set_source(task.id);
            self.outbox.begin_call();
            task.spout.tick(&mut self.out).map_err(|e| source_ended(task.id, e.cause()))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Finish, Fault> {
        Ok(Finish::Done)
    }

    fn ports(&mut self, f: &mut dyn FnMut(&mut Port)) {
        self.out.visit(f);
    }

    fn cleanup(&mut self) {
        for task in self.tasks.iter_mut().filter(|t| !t.lost) {
            task.spout.cleanup();
        }
        self.outbox.cleanup_hooks();
    }

    fn retire(&mut self, tasks: &[TaskId]) {
        self.tasks.iter_mut().filter(|t| tasks.contains(&t.id)).for_each(|t| t.lost = true);
    }

    fn restart(&mut self, tasks: &[TaskId]) -> Result<(), Fault> {
        self.restarts += 1;
        let again = |t: &&mut SpoutTask<S>| tasks.contains(&t.id) && !matches!(t.state, State::Ended);
        for task in self.tasks.iter_mut().filter(again) {
            self.outbox.set_source(task.id);
            task.spout = (self.factory)();
            let (ctx, signal) = context(&self.env, task.id, self.restarts);
            task.signal = signal;
            task.spout.prepare(&ctx).map_err(|e| source_ended(task.id, e.cause()))?;
            task.state = State::Ready;
            task.lost = false;
        }
        Ok(())
    }

    fn resume_behind(&mut self, _: TaskId) {
        unreachable!("a spout has no input")
    }

    fn dead_letter(&mut self, _: &squall_engine::DeadLetter<'_>) -> Result<bool, Fault> {
        unreachable!("a spout has no input")
    }

    fn woken(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
