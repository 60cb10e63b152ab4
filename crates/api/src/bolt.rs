//! All tasks of one bolt on one reactor, as the monomorphised loop that the engine calls once per batch.

use std::cell::RefCell;
use std::rc::Rc;

use squall_engine::planted::{Bug, is};
use squall_engine::{BatchEnd, Cohort, CohortEnv, Ended, Fault, Finish, Outbox, Port};
use squall_metrics::Histogram;
use squall_topology::DEAD_LETTERS;
use squall_tuple::ids::TaskId;
use squall_tuple::{Batch, Cursor, DestRef, Frame, MarkRecord};

use crate::cohort::{Factory, TaskIndex, context, fatal};
use crate::{Bolt, BoltError, DeadLetter, Input, Inputs, Outputs, OutputsBuilder};

/// A call on a batch hands the reactor back after about this long, so that one slow bolt does not keep links,
/// commands and other bolts waiting for the rest of its batch.
const CALL_NS_MAX: u64 = 1_000_000;
/// Tuples between two looks at the clock, at most.
const STRIDE_MAX: u32 = 256;

pub(crate) struct BoltCohort<B: Bolt> {
    env: Rc<CohortEnv>,
    outbox: Rc<Outbox>,
    index: TaskIndex,
    tasks: Vec<B>,
    out: B::Out,
    pace: Pace,
    /// The last of the usual tuples had an anchor.
    tracked: bool,
    /// By place: its `finish` was done.
    finished: Vec<bool>,
    /// Place whose `finish` is called next.
    finish_next: usize,
    restarts: u32,
    /// Makes new instances.
    factory: Factory<B>,
    /// The stream of dead letters, if it was declared beside those of `out`.
    letters: Option<Port>,
    /// The next tuple was executed by its tasks up to this one.
    resume_behind: Option<TaskId>,
}

/// Decides when a call has taken long enough, with few looks at the clock: none before the first stride is done, so a
/// batch of one tuple costs none.
struct Pace {
    stride: u32,
    left: u32,
    began_ns: Option<u64>,
}

impl Pace {
    fn begin(&mut self) {
        self.began_ns = None;
        self.left = self.stride;
    }

    /// Called when `left` has reached zero. Strides grow while tuples are quick and start over when they are not.
    #[cold]
    fn is_over(&mut self, now_ns: u64) -> bool {
        let over = now_ns - *self.began_ns.get_or_insert(now_ns) >= CALL_NS_MAX;
        self.stride = if over { 1 } else { (self.stride * 2).min(STRIDE_MAX) };
        self.left = self.stride;
        over
    }
}

impl<B: Bolt> BoltCohort<B> {
    pub(crate) fn new(env: CohortEnv, factory: Factory<B>) -> Self {
        let tasks: Vec<B> = env.tasks.iter().map(|_| factory()).collect();
        let out = B::Out::build(&mut OutputsBuilder { env: &env });
        BoltCohort {
            outbox: env.outbox.clone(),
            index: TaskIndex::new(&env.tasks),
            finished: vec![false; tasks.len()],
            finish_next: 0,
            tasks,
            out,
            pace: Pace { stride: 1, left: 1, began_ns: None },
            restarts: 0,
            factory,
            letters: letters(&env),
            resume_behind: None,
            tracked: false,
            env: Rc::new(env),
        }
    }

    /// The usual tuples, which go to the cohort's only task without anchors, up to `most` and to the next of another kind, or
    /// until the outputs want to be looked at. Nothing is looked up here, and counts stay in registers until the end.
    #[inline(never)]
    fn run_plain(
        &mut self,
        task: TaskId,
        batch: &Batch<'_>,
        cursor: &mut Cursor,
        port: u16,
        most: u32,
        executed: &mut u64,
    ) -> Result<(), Fault> {
        let stream = batch.stream();
        let outbox = &*self.outbox;
        let (bolt, out) = (&mut self.tasks[0], &mut self.out);
        let mut done = Done { executed, outbox, before: cursor.left(), others: 0, reading: Reading::from(cursor) };
        for _ in 0..most {
            let Some(frame) = batch.next_plain(&mut done.reading.cursor, task) else { break };
            let input = Input { view: B::In::view(port, &frame), frame, outbox, stream };
            match bolt.execute(input, out) {
                Ok(()) if !outbox.attention() => {}
                Ok(()) => {
                    done.others += u64::from(!outbox.end_plain());
                    if outbox.has_sealed() {
                        break;
                    }
                }
                Err(e) => {
                    done.others += 1;
                    failed(outbox, task, e)?;
                    if outbox.has_sealed() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The same for tuples with one anchor: each ends its edge of the tree.
    #[inline(never)]
    fn run_tracked(
        &mut self,
        task: TaskId,
        batch: &Batch<'_>,
        cursor: &mut Cursor,
        port: u16,
        most: u32,
        executed: &mut u64,
    ) -> Result<(), Fault> {
        let stream = batch.stream();
        let outbox = &*self.outbox;
        let (bolt, out) = (&mut self.tasks[0], &mut self.out);
        let mut done = Done { executed, outbox, before: cursor.left(), others: 0, reading: Reading::from(cursor) };
        for _ in 0..most {
            let Some((frame, anchor)) = batch.next_tracked(&mut done.reading.cursor, task) else { break };
            outbox.begin_tracked(task, anchor);
            let input = Input { view: B::In::view(port, &frame), frame, outbox, stream };
            match bolt.execute(input, out) {
                Ok(()) => done.others += u64::from(!outbox.end_tracked()),
                Err(e) => {
                    done.others += 1;
                    failed(outbox, task, e)?;
                }
            }
            if outbox.has_sealed() {
                break;
            }
        }
        Ok(())
    }

    /// One tuple on one task.
    #[inline(always)]
    fn execute(&mut self, at: usize, task: TaskId, port: u16, stream: u32, frame: &Frame<'_>) -> Result<(), Fault> {
        let outbox = &*self.outbox;
        outbox.set_source(task);
        if !frame.anchors().is_empty() || outbox.hooked() {
            outbox.begin_rare(task, stream, frame);
        }
        let input = Input { view: B::In::view(port, frame), frame: *frame, outbox, stream };
        match self.tasks[at].execute(input, &mut self.out) {
            Ok(()) => outbox.end_input(),
            Err(e) => failed(outbox, task, e)?,
        }
        Ok(())
    }

    /// One tuple on all of its tasks that are here.
    #[inline(always)]
    fn deliver(&mut self, port: u16, stream: u32, frame: &Frame<'_>, executed: &mut u64) -> Result<u64, Fault> {
        if let DestRef::Task(task) = frame.dest() {
            let Some(at) = self.index.place(task) else {
                return Ok(0);
            };
            *executed += 1;
            return self.execute(at, task, port, stream, frame).map(|()| 1);
        }
        self.deliver_many(port, stream, frame, executed)
    }

    fn deliver_many(&mut self, port: u16, stream: u32, frame: &Frame<'_>, executed: &mut u64) -> Result<u64, Fault> {
        let before = *executed;
        let mut done = self.resume_behind.take();
        let mut one = |me: &mut Self, task| {
            if done.is_some() {
                done = done.filter(|last| *last != task);
                return Ok(());
            }
            let Some(at) = me.index.place(task) else {
                return Ok(());
            };
            *executed += 1;
            me.outbox.begin_call();
            me.execute(at, task, port, stream, frame)
        };
        match frame.dest() {
            DestRef::Task(task) => one(self, task)?,
            DestRef::List(list) => {
                for task in list {
                    one(self, task)?;
                }
            }
            DestRef::Set(set) => {
                let env = self.env.clone();
                // A set that the plan does not know was refused with its batch; between threads it cannot occur.
                let tasks = env.plan.task_sets.get(set as usize).map_or(&[][..], |s| &s.tasks);
                for task in tasks {
                    one(self, *task)?;
                }
            }
        }
        Ok(*executed - before)
    }

    /// Calls `call` on each task in turn, as the source of what it emits.
    fn each(&mut self, mut call: impl FnMut(&mut B, &mut B::Out) -> Result<(), BoltError>) -> Result<(), Fault> {
        for (at, task) in self.env.tasks.iter().enumerate() {
            self.outbox.set_source(*task);
            self.outbox.begin_call();
            match call(&mut self.tasks[at], &mut self.out) {
                Ok(()) => {}
                // Outside of `execute` there is no tuple to fail, so any error is the executor's.
                Err(e) => return Err(fatal(*task, e.cause())),
            }
        }
        Ok(())
    }
}

/// The port of dead letters, where there is one and somebody reads it.
fn letters(env: &CohortEnv) -> Option<Port> {
    let plan = &env.plan;
    let schema = crate::stream::type_of::<DeadLetter>().schema_id();
    let is = |s: &&u32| {
        let spec = &plan.spec.streams[**s as usize];
        spec.name == DEAD_LETTERS && spec.schema.id == schema && !plan.subscribers_of(**s).is_empty()
    };
    plan.streams_of(env.component).iter().find(is).map(|s| env.port(*s))
}

/// Latencies of a run of tuples with one origin, recorded at once (D10).
struct Runs<'h> {
    histogram: Option<&'h RefCell<Histogram>>,
    origin_ns: u64,
    count: u64,
}

impl Runs<'_> {
    /// Records the run that ends here.
    fn close(&mut self, now_ns: impl FnOnce() -> u64) {
        if let Some(histogram) = self.histogram
            && self.count > 0
        {
            histogram.borrow_mut().record_n(now_ns().saturating_sub(self.origin_ns), self.count);
        }
        self.count = 0;
    }
}

/// Counts of a run of plain tuples: told when it ends, by a panic too.
struct Done<'a> {
    executed: &'a mut u64,
    outbox: &'a Outbox,
    /// Tuples left before the run.
    before: u32,
    /// Tuples that were kept or failed: they are not to be counted as acknowledged.
    others: u64,
    reading: Reading<'a>,
}

impl Drop for Done<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let tuples = u64::from(self.before - self.reading.cursor.left());
        *self.executed += tuples;
        // The tuple whose call panics was executed, but not to its end.
        let broken = u64::from(std::thread::panicking());
        self.outbox.count_acked_plain(tuples - self.others - broken);
    }
}

/// A batch's cursor while its tuples are executed: in registers, and back in its place whatever ends the loop.
struct Reading<'c> {
    place: &'c mut Cursor,
    cursor: Cursor,
}

impl<'c> Reading<'c> {
    fn from(place: &'c mut Cursor) -> Self {
        Reading { cursor: place.clone(), place }
    }
}

impl Drop for Reading<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.place.clone_from(&self.cursor);
    }
}

/// A call that returned an error: fails the tuple, or ends the executor.
#[cold]
fn failed(outbox: &Outbox, task: TaskId, e: BoltError) -> Result<(), Fault> {
    match e {
        BoltError::Fail(cause) => outbox.fail_input(&cause),
        // The engine fails the tuple, or makes a dead letter of it.
        BoltError::Fatal(cause) => return Err(fatal(task, &cause)),
    }
    Ok(())
}

impl<B: Bolt> Cohort for BoltCohort<B> {
    fn prepare(&mut self) -> Result<(), Fault> {
        for (at, task) in self.env.tasks.iter().enumerate() {
            self.outbox.set_source(*task);
            let (ctx, _) = context(&self.env, *task, 0);
            self.tasks[at].prepare(&ctx).map_err(|e| fatal(*task, e.cause()))?;
        }
        Ok(())
    }

    fn run_batch(
        &mut self,
        batch: &Batch<'_>,
        cursor: &mut Cursor,
        port: u16,
        executed: &mut u64,
    ) -> Result<BatchEnd, Fault> {
        let stream = batch.stream();
        let env = self.env.clone();
        let (clock, outbox) = (&*env.clock, &*env.outbox);
        let mut runs = Runs { histogram: env.latency.as_deref(), origin_ns: cursor.origin_ns(), count: 0 };
        self.pace.begin();
        outbox.set_origin(cursor.origin_ns());
        outbox.set_in_tuple(true);
        // The usual cohort has one task and no hook.
        let only = self.index.only().filter(|_| !outbox.hooked());
        let mut end = BatchEnd::Done;
        while cursor.left() > 0 {
            let before = cursor.left();
            if let Some(task) = only {
                outbox.set_source(task);
                let most = self.pace.left.min(before);
                // Tuples of a kind come together: first those of the kind that came last.
                for _ in 0..2 {
                    match self.tracked {
                        false => self.run_plain(task, batch, cursor, port, most, executed)?,
                        true => self.run_tracked(task, batch, cursor, port, most, executed)?,
                    }
                    if cursor.left() != before {
                        break;
                    }
                    self.tracked = !self.tracked;
                }
            }
            let mut passed = before - cursor.left();
            runs.count += u64::from(passed);
            if passed == 0 {
                let Some(frame) = batch.next(cursor) else { break };
                if frame.origin_ns() != runs.origin_ns {
                    runs.close(|| clock.now_ns());
                    runs.origin_ns = frame.origin_ns();
                    outbox.set_origin(runs.origin_ns);
                }
                runs.count += self.deliver(port, stream, &frame, executed)?;
                passed = 1;
            }
            self.pace.left -= passed;
            let over = self.pace.left == 0 && self.pace.is_over(clock.now_ns());
            if (over || outbox.has_sealed()) && cursor.left() > 0 {
                end = BatchEnd::Yield;
                break;
            }
        }
        runs.close(|| clock.now_ns());
        outbox.set_in_tuple(false);
        // Also where it stops for a while: acks of what was executed leave before it goes on, and may not before what a sink
        // flushes here (D4).
        if end == BatchEnd::Done || outbox.tracks() && !is(Bug::AckBeforeWrite) {
            self.each(|bolt, out| bolt.batch_end(out))?;
        }
        Ok(end)
    }

    fn run_spout(&mut self, _: u32, _: Option<u64>) -> Result<squall_engine::SpoutTurn, Fault> {
        unreachable!("a bolt has no spout turn")
    }

    fn stop_spout(&mut self) {}

    fn take_ended(&mut self, _: &mut Vec<TaskId>) {}

    fn settle(&mut self, _: &[Ended], _: &mut usize) -> Result<(), Fault> {
        unreachable!("a bolt has no roots")
    }

    fn retire(&mut self, _: &[TaskId]) {}

    fn restart(&mut self, tasks: &[TaskId]) -> Result<(), Fault> {
        self.restarts += 1;
        for task in tasks {
            let at = self.index.place(*task).expect("a task of this cohort");
            self.outbox.set_source(*task);
            self.tasks[at] = (self.factory)();
            let (ctx, _) = context(&self.env, *task, self.restarts);
            self.tasks[at].prepare(&ctx).map_err(|e| fatal(*task, e.cause()))?;
        }
        Ok(())
    }

    fn resume_behind(&mut self, task: TaskId) {
        self.resume_behind = Some(task);
    }

    fn dead_letter(&mut self, letter: &squall_engine::DeadLetter<'_>) -> Result<bool, Fault> {
        let frame = letter.batch.iter().next().expect("a letter begins with its tuple");
        let outbox = &*self.outbox;
        let at = self.index.place(letter.task).expect("a task of this cohort");
        let view = B::In::view(letter.port, &frame);
        let input = Input { view, frame, outbox, stream: letter.batch.stream() };
        let taken = match self.tasks[at].dead_letter(input, letter.cause, &mut self.out) {
            Ok(taken) => taken,
            Err(BoltError::Fail(_)) => return Ok(false),
            Err(BoltError::Fatal(cause)) => return Err(fatal(letter.task, &cause)),
        };
        if !taken {
            let Some(port) = &mut self.letters else { return Ok(false) };
            port.emit(DeadLetter::new(&self.env, letter));
        }
        outbox.end_input();
        Ok(true)
    }

    fn woken(&mut self) -> Result<(), Fault> {
        self.each(|bolt, out| bolt.woken(out))
    }

    fn on_mark(&mut self, mark: &MarkRecord) -> Result<(), Fault> {
        self.each(|bolt, out| bolt.on_mark(mark, out))
    }

    fn tick(&mut self) -> Result<(), Fault> {
        self.each(|bolt, out| bolt.tick(out))
    }

    fn finish(&mut self) -> Result<Finish, Fault> {
        let count = self.tasks.len();
        for i in 0..count {
            let at = (self.finish_next + i) % count;
            if self.finished[at] {
                continue;
            }
            let task = self.env.tasks[at];
            self.outbox.set_source(task);
            match self.tasks[at].finish(&mut self.out) {
                Ok(end) => self.finished[at] = end == Finish::Done,
                Err(e) => return Err(fatal(task, e.cause())),
            }
            // The outputs may have no room now: the other tasks go on when they do.
            if self.outbox.has_sealed() {
                self.finish_next = at + 1;
                break;
            }
        }
        Ok(if self.finished.iter().all(|f| *f) { Finish::Done } else { Finish::More })
    }

    fn ports(&mut self, f: &mut dyn FnMut(&mut Port)) {
        self.out.visit(f);
        if let Some(port) = &mut self.letters {
            f(port);
        }
    }

    fn cleanup(&mut self) {
        for bolt in &mut self.tasks {
            bolt.cleanup();
        }
        self.outbox.cleanup_hooks();
    }
}
