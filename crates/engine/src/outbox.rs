//! What the tasks of one cohort share while they run: who emits, since when, anchored to what, and the batches
//! that are full and wait for the reactor.
//!
//! Invariants: one cohort, one thread. Between two calls of a component `input` is empty.
//! `sealed` keeps, per destination, the order of emission (D1). What a single call may add is bounded by the
//! component's burst bytes (D2); the emit that would exceed it ends the executor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use squall_tuple::ids::{ComponentIx, ReactorIx, StreamIx, TaskId};
use squall_tuple::{AckKind, AckRecord, AnchorEdge, BatchBuf, Frame, delivery_edge};

use crate::acks::AckFolds;
use crate::anchor::{AckHome, Anchor, End};
use crate::env::Registry;
use crate::env::Wake;
use crate::fault::{EmitRefused, FaultKind};
use crate::hook::{TaskHook, Way};
use crate::input::{InputRoots, TakenRoots};
use crate::ledger::{Ended, FailReason, Ledger, MessageId, Outcome};
use crate::pool::BatchPool;

/// Text of a sampled tuple is cut at so many bytes.
const SAMPLE_BYTES_MAX: usize = 400;
/// Causes of failed tuples that are kept for the report, per cohort.
const CAUSES_KEPT: usize = 4;

/// A batch that left its port and waits for its link. Two words, which travel in registers: what is stored in pieces and
/// soon loaded as a whole stalls the processor, and this moves several times between an emit and its link.
pub struct Sealed {
    /// The batch; its header's sequence and time are set when the link takes it.
    pub batch: BatchBuf,
    /// The reactor, shifted by one, and the feedback bit.
    towards: u32,
}

impl Sealed {
    /// A batch for the reactor `to`; `feedback`: over a declared feedback edge.
    #[inline(always)]
    pub fn new(to: ReactorIx, feedback: bool, batch: BatchBuf) -> Self {
        Sealed { batch, towards: to << 1 | u32::from(feedback) }
    }

    /// Reactor it goes to.
    #[inline(always)]
    pub fn to(&self) -> ReactorIx {
        self.towards >> 1
    }

    /// Over a declared feedback edge: dropped and failed where there is no credit, instead of waiting.
    #[inline(always)]
    pub fn feedback(&self) -> bool {
        self.towards & 1 == 1
    }
}

/// Counts of one cohort that its reactor publishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Tuples emitted (once per emit, however many tasks receive it).
    pub emitted: u64,
    /// Input tuples acknowledged; of a spout, its roots.
    pub acked: u64,
    /// Input tuples failed; of a spout, its roots.
    pub failed: u64,
}

/// What an outbox is made from.
pub(crate) struct OutboxParts {
    pub(crate) component: ComponentIx,
    pub(crate) reactor: ReactorIx,
    pub(crate) epoch: u32,
    pub(crate) pool: Rc<BatchPool>,
    pub(crate) burst_bytes: u64,
    pub(crate) seed: u64,
    pub(crate) wake: Wake,
    pub(crate) hooks: Vec<Box<dyn TaskHook>>,
    /// For the types of streams, where a hook wants to see tuples.
    pub(crate) registry: Arc<Registry>,
    /// Shared by the reactor's cohorts.
    pub(crate) acks: Rc<AckFolds>,
    /// Spouts only.
    pub(crate) ledger: Option<Ledger>,
    /// Whether roots are tracked, or acknowledged at once.
    pub(crate) acking: bool,
}

/// A call that goes on with a kept tuple. Dropped without an end, it fails the tuple.
#[must_use = "a dropped call fails its tuple"]
pub struct KeptCall<'o> {
    outbox: &'o Outbox,
    /// What the call around it has done: kept its tuple.
    kept: bool,
    origin: u64,
    ended: bool,
}

impl KeptCall<'_> {
    /// The tuple ends well.
    pub fn ack(mut self) {
        self.ended = true;
        self.outbox.end_input();
    }

    /// The tuple fails.
    pub fn fail(mut self, cause: &dyn std::fmt::Display) {
        self.ended = true;
        self.outbox.fail_input(cause);
    }
}

impl Drop for KeptCall<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.outbox.fail_input(&"its call broke off");
        }
        self.outbox.kept.set(self.kept);
        self.outbox.origin_ns.set(self.origin);
    }
}

/// See the module. Shared by `Rc` between the cohort's ports and its loop.
pub struct Outbox {
    component: ComponentIx,
    pub(crate) reactor: ReactorIx,
    pub(crate) epoch: u32,
    pub(crate) pool: Rc<BatchPool>,
    source: Cell<TaskId>,
    origin_ns: Cell<u64>,
    kept: Cell<bool>,
    /// After a call on a plain tuple something is to be looked at: it was kept, or a batch is sealed. One flag to test.
    attention: Cell<bool>,
    pub(crate) input: InputRoots,
    sealed: RefCell<VecDeque<Sealed>>,
    sealed_bytes: Cell<u64>,
    /// Of those: sealed before the running call began.
    call_base: Cell<u64>,
    burst_bytes: u64,
    /// Bytes of the batches that may be open when a call begins: they are no burst of it.
    open_bytes: Cell<u64>,
    emitted: Cell<u64>,
    acked: Cell<u64>,
    failed: Cell<u64>,
    /// Of those: without roots, so that nobody emits them again.
    lost: Cell<u64>,
    /// A tuple is being executed, so that a panic is its.
    in_tuple: Cell<bool>,
    /// A waker of a bolt's task was used.
    woken: Cell<bool>,
    acks: Rc<AckFolds>,
    ledger: Option<RefCell<Ledger>>,
    /// A root has begun in the ledger.
    has_roots: Cell<bool>,
    acking: bool,
    causes: RefCell<Vec<String>>,
    causes_kept: Cell<usize>,
    hooks: RefCell<Vec<Box<dyn TaskHook>>>,
    hooked: bool,
    registry: Arc<Registry>,
    random: Cell<u64>,
    home: RefCell<Option<Arc<AckHome>>>,
    /// There are anchors that may end elsewhere.
    has_home: Cell<bool>,
    wake: Wake,
}

impl Outbox {
    pub(crate) fn new(parts: OutboxParts) -> Self {
        let OutboxParts { component, reactor, epoch, pool, burst_bytes, seed, wake, .. } = parts;
        let OutboxParts { hooks, registry, acks, ledger, acking, .. } = parts;
        Outbox {
            component,
            reactor,
            epoch,
            pool,
            source: Cell::new(0),
            origin_ns: Cell::new(0),
            kept: Cell::new(false),
            attention: Cell::new(false),
            input: InputRoots::default(),
            sealed: RefCell::default(),
            sealed_bytes: Cell::new(0),
            call_base: Cell::new(0),
            burst_bytes,
            open_bytes: Cell::new(0),
            emitted: Cell::new(0),
            acked: Cell::new(0),
            failed: Cell::new(0),
            lost: Cell::new(0),
            in_tuple: Cell::new(false),
            woken: Cell::new(false),
            acks,
            ledger: ledger.map(RefCell::new),
            has_roots: Cell::new(false),
            acking,
            causes: RefCell::default(),
            causes_kept: Cell::new(0),
            hooked: !hooks.is_empty(),
            hooks: RefCell::new(hooks),
            registry,
            random: Cell::new(seed | 1),
            home: RefCell::default(),
            has_home: Cell::new(false),
            wake,
        }
    }

    /// Whether trees have been worked on here: acks leave at the end of a turn.
    #[inline]
    pub fn tracks(&self) -> bool {
        self.acks.is_live()
    }

    /// Incarnation of the worker.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Task whose emits follow.
    #[inline]
    pub fn set_source(&self, task: TaskId) {
        self.source.set(task);
    }

    /// Task that is running.
    #[inline]
    pub fn source(&self) -> TaskId {
        self.source.get()
    }

    /// Origin time of the emits that follow.
    #[inline]
    pub fn set_origin(&self, ns: u64) {
        self.origin_ns.set(ns);
    }

    /// Origin time of the running call's emits.
    #[inline]
    pub fn origin(&self) -> u64 {
        self.origin_ns.get()
    }

    /// Whether emits carry anchors.
    #[inline]
    pub(crate) fn anchored(&self) -> bool {
        self.input.any()
    }

    /// Whether a full batch waits for the reactor.
    #[inline]
    pub fn has_sealed(&self) -> bool {
        self.sealed_bytes.get() != 0
    }

    /// Bytes of the batches that wait for the reactor.
    #[inline]
    pub(crate) fn sealed_bytes(&self) -> u64 {
        self.sealed_bytes.get()
    }

    #[inline]
    pub(crate) fn count_emitted(&self) {
        self.emitted.set(self.emitted.get() + 1);
    }

    /// Whether hooks listen, so that every emit, ack and fail must be told.
    #[inline]
    pub fn hooked(&self) -> bool {
        self.hooked
    }

    /// Begins a call on an input tuple that has anchors, or that hooks want to know of.
    #[cold]
    pub fn begin_rare(&self, task: TaskId, stream: StreamIx, frame: &Frame<'_>) {
        for hook in self.hooks.borrow_mut().iter_mut() {
            hook.on_execute(task, stream, frame.source());
            if hook.samples(Way::In) {
                hook.on_sample(task, stream, Way::In, self.text(stream, frame.payload()));
            }
        }
        debug_assert!(!self.input.any(), "the tuple before was not ended");
        self.input.begin(frame.anchors().map(|a| AnchorEdge { root: a.root, edge: delivery_edge(a.edge, task) }));
    }

    /// Begins a call on an input tuple of `task` with one root, where no hook listens.
    #[inline(always)]
    pub fn begin_tracked(&self, task: TaskId, anchor: AnchorEdge) {
        self.input.begin_one(AnchorEdge { root: anchor.root, edge: delivery_edge(anchor.edge, task) });
    }

    /// Ends a call that went well, on a tuple that [`Outbox::begin_tracked`] began. As [`Outbox::end_plain`].
    #[inline(always)]
    pub fn end_tracked(&self) -> bool {
        if self.attention.get() {
            return self.end_tracked_rare();
        }
        self.settle_input();
        true
    }

    #[cold]
    fn end_tracked_rare(&self) -> bool {
        self.settle_input();
        self.end_plain()
    }

    /// The call on the current input tuple went well: acknowledges it, unless it was kept.
    #[inline]
    pub fn end_input(&self) {
        if self.kept.get() || self.input.any() || self.hooked {
            return self.end_input_rare();
        }
        self.acked.set(self.acked.get() + 1);
    }

    /// Whether, after a call on a tuple without anchors where no hook listens, [`Outbox::end_plain`] and
    /// [`Outbox::has_sealed`] must be asked. Otherwise the tuple is to be counted as acknowledged, and nothing is sealed.
    #[inline(always)]
    pub fn attention(&self) -> bool {
        self.attention.get()
    }

    /// Ends calls that went well: a call on a tuple without anchors, where no hook listens. `false`: it was kept, and its
    /// anchor ends and counts it; `true`: count it with [`Outbox::count_acked_plain`].
    #[inline]
    pub fn end_plain(&self) -> bool {
        let kept = self.kept.replace(false);
        self.attention.set(self.has_sealed());
        !kept
    }

    /// Counts tuples that [`Outbox::end_plain`] ended.
    #[inline]
    pub fn count_acked_plain(&self, tuples: u64) {
        self.acked.set(self.acked.get() + tuples);
    }

    #[cold]
    fn end_input_rare(&self) {
        // A kept tuple is ended, and counted, by its anchor, which has its roots.
        if self.kept.replace(false) {
            return;
        }
        self.count_acked();
        self.settle_input();
    }

    /// Acknowledges the input tuple's roots.
    #[inline(always)]
    fn settle_input(&self) {
        self.input.end(|r, workers| {
            self.acks.add(&AckRecord { root: r.root, xor: r.edge, kind: AckKind::Ack, detail: workers });
        });
    }

    /// The call on the current input tuple failed: fails it, unless it was kept (then its anchor decides).
    #[cold]
    pub fn fail_input(&self, cause: &dyn std::fmt::Display) {
        if self.kept.replace(false) {
            return;
        }
        let input = self.taken();
        self.fail_taken(&input, cause);
    }

    /// Fails a tuple whose roots were taken.
    pub(crate) fn fail_taken(&self, input: &TakenRoots, cause: &dyn std::fmt::Display) {
        self.count_failed(cause);
        self.count_lost(&input.roots);
        let detail = self.failed_here();
        input.roots.iter().for_each(|r| self.settle(*r, AckKind::Fail, detail));
    }

    /// The call on the current tuple broke off: takes its roots, with what its emits added to them. `None`: it was kept, and
    /// its anchor ends it.
    #[cold]
    pub(crate) fn take_input(&self) -> Option<TakenRoots> {
        let input = self.taken();
        (!self.kept.replace(false)).then_some(input)
    }

    fn taken(&self) -> TakenRoots {
        let mut taken = TakenRoots::default();
        self.input.end(|r, workers| {
            taken.roots.push(r);
            taken.workers = workers;
        });
        taken
    }

    /// Makes a tuple that broke off the current one again.
    #[cold]
    pub(crate) fn restore_input(&self, input: TakenRoots) {
        self.input.begin_again(&input);
    }

    /// Whether what is called is on a tuple, or on none (`batch_end` …): said by the cohort, once per batch.
    #[inline]
    pub fn set_in_tuple(&self, is: bool) {
        self.in_tuple.set(is);
    }

    pub(crate) fn take_in_tuple(&self) -> bool {
        self.in_tuple.replace(false)
    }

    fn count_lost(&self, roots: &[AnchorEdge]) {
        if roots.is_empty() {
            self.lost.set(self.lost.get() + 1);
        }
    }

    /// Failed tuples without roots, so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Whether a waker of a bolt's task was used since the last call.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.replace(false)
    }

    /// A waker for the tasks of a bolt here: the cohort's `woken` is called after it was used, from any thread.
    pub fn bolt_waker(&self) -> impl Fn() + Send + Sync + use<> {
        let home = self.ack_home();
        move || home.wake_cohort()
    }

    /// The clocks of the current input tuple's roots start anew.
    pub fn reset_input(&self) {
        self.input.each(|root| self.settle(AnchorEdge { root, edge: 0 }, AckKind::Reset, 0));
    }

    fn failed_here(&self) -> u32 {
        FailReason::Failed(self.component).detail()
    }

    fn settle(&self, root: AnchorEdge, kind: AckKind, detail: u32) {
        let xor = if kind == AckKind::Ack { root.edge } else { 0 };
        self.acks.add(&AckRecord { root: root.root, xor, kind, detail });
    }

    fn count_acked(&self) {
        self.acked.set(self.acked.get() + 1);
        for hook in self.hooks.borrow_mut().iter_mut() {
            hook.on_ack(self.source.get());
        }
    }

    pub(crate) fn count_failed(&self, cause: &dyn std::fmt::Display) {
        self.failed.set(self.failed.get() + 1);
        let mut causes = self.causes.borrow_mut();
        let mut kept = self.causes_kept.get();
        if kept < CAUSES_KEPT {
            kept += 1;
            self.causes_kept.set(kept);
            causes.push(cause.to_string());
        }
        for hook in self.hooks.borrow_mut().iter_mut() {
            hook.on_fail(self.source.get(), &cause.to_string());
        }
    }

    /// Takes the current tuple out of automatic acknowledgement: the anchor ends it instead.
    pub fn keep(&self) -> Anchor {
        self.kept.set(true);
        self.attention.set(true);
        let (mut roots, mut workers) = (Vec::new(), 0);
        self.input.end(|r, to| {
            roots.push(r);
            workers = to;
        });
        Anchor::new(roots, workers, self.ack_home())
    }

    /// Where anchors of this cohort report to, from any thread.
    pub(crate) fn ack_home(&self) -> Arc<AckHome> {
        self.has_home.set(true);
        self.home.borrow_mut().get_or_insert_with(|| Arc::new(AckHome::new(self.wake.clone()))).clone()
    }

    /// Goes back to a tuple that was kept: until the end of what this gives, emits are anchored to it as those of its call were.
    /// Also within the call on another one, which has been kept.
    pub fn begin_kept(&self, mut anchor: Anchor, origin_ns: u64) -> KeptCall<'_> {
        let (kept, origin) = (self.kept.replace(false), self.origin_ns.replace(origin_ns));
        let roots = anchor.disarm();
        let (edges, workers) = roots.unwrap_or_default();
        self.restore_input(TakenRoots { roots: edges, workers });
        KeptCall { outbox: self, kept, origin, ended: false }
    }

    /// Takes in what kept anchors reported since the last call.
    pub(crate) fn drain_home(&self) -> usize {
        let Some(home) = self.home.borrow().clone() else {
            return 0;
        };
        let mut n = 0;
        while let Some(report) = home.pop() {
            n += 1;
            let (kind, detail) = match &report.end {
                End::Failed(cause) => {
                    self.count_failed(cause);
                    self.count_lost(&report.roots);
                    (AckKind::Fail, self.failed_here())
                }
                End::Acked => {
                    self.count_acked();
                    (AckKind::Ack, report.workers)
                }
                End::NotYet => (AckKind::Reset, 0),
                End::Woken => {
                    self.woken.set(true);
                    continue;
                }
            };
            report.roots.iter().for_each(|r| self.settle(*r, kind, detail));
        }
        n
    }

    /// Begins a call of a component where the one before may have sealed something: its burst counts from here.
    pub fn begin_call(&self) {
        self.call_base.set(self.sealed_bytes.get());
    }

    /// A lane of this many bytes was added.
    pub(crate) fn add_lane(&self, batch_bytes: u64) {
        self.open_bytes.set(self.open_bytes.get() + batch_bytes);
    }

    /// Queues a batch for its link because an emit needs room; ends the executor when the burst memory is spent.
    pub(crate) fn seal(&self, sealed: Sealed) {
        let over = self.is_over_burst(sealed.batch.len());
        // Also then: it holds tuples of the calls before, too.
        self.seal_own(sealed);
        if over {
            self.refuse_burst();
        }
    }

    /// Whether a batch of so many bytes would be more than the running call may emit.
    pub(crate) fn is_over_burst(&self, len: usize) -> bool {
        // One tuple larger than the burst memory passes, as it passes the credit of a link.
        let first = self.sealed_bytes.get() == self.call_base.get();
        let bytes = self.sealed_bytes.get() - self.call_base.get() + len as u64;
        bytes > self.burst_bytes + self.open_bytes.get() && !first
    }

    #[cold]
    pub(crate) fn refuse_burst(&self) -> ! {
        EmitRefused::throw(
            FaultKind::Burst,
            format!("emitted more than its burst memory of {} bytes in one call", self.burst_bytes),
        )
    }

    /// Queues a batch that the reactor seals between calls: at most the open one of each lane, and marks.
    #[inline(always)]
    pub(crate) fn seal_own(&self, sealed: Sealed) {
        self.sealed_bytes.set(self.sealed_bytes.get() + sealed.batch.len() as u64);
        self.attention.set(true);
        self.sealed.borrow_mut().push_back(sealed);
    }

    /// The oldest sealed batch. With `None` everything has gone to the reactor's side.
    #[inline]
    pub(crate) fn pop_sealed(&self) -> Option<Sealed> {
        let oldest = self.sealed.borrow_mut().pop_front();
        if oldest.is_none() {
            self.nothing_sealed();
        }
        oldest
    }

    /// Moves what is sealed to the reactor's side.
    pub(crate) fn drain_sealed(&self, into: &mut VecDeque<Sealed>) {
        into.append(&mut self.sealed.borrow_mut());
        self.nothing_sealed();
    }

    fn nothing_sealed(&self) {
        self.sealed_bytes.set(0);
        self.attention.set(self.kept.get());
        self.call_base.set(0);
    }

    /// A pseudo-random edge (SplitMix64); unique enough for XOR trees, and repeatable from the cohort's seed.
    pub(crate) fn next_edge(&self) -> u64 {
        let s = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(s);
        let z = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn prepare_hooks(&self, component: &str, tasks: &[TaskId]) {
        for hook in self.hooks.borrow_mut().iter_mut() {
            for task in tasks {
                hook.prepare(component, *task);
            }
        }
    }

    pub(crate) fn hook_emit(&self, stream: StreamIx, targets: impl Iterator<Item = TaskId> + Clone) {
        for hook in self.hooks.borrow_mut().iter_mut() {
            hook.on_emit(self.source.get(), stream, &mut targets.clone());
        }
    }

    /// Shows a tuple that is being emitted to the hooks that want to see it; `write` makes the batch that it alone is in.
    pub(crate) fn hook_samples(&self, stream: StreamIx, mut write: impl FnMut() -> Option<BatchBuf>) {
        for hook in self.hooks.borrow_mut().iter_mut() {
            if !hook.samples(Way::Out) {
                continue;
            }
            let text = match write().as_ref().and_then(|batch| batch.view().iter().next()) {
                Some(frame) => self.text(stream, frame.payload()),
                None => "a tuple larger than a batch".to_owned(),
            };
            hook.on_sample(self.source.get(), stream, Way::Out, text);
        }
    }

    fn text(&self, stream: StreamIx, archive: &[u8]) -> String {
        let text = self.registry.types[stream as usize].text(archive, SAMPLE_BYTES_MAX);
        text.unwrap_or_else(|invalid| invalid.to_string())
    }

    /// Tells the hooks that the cohort has ended.
    pub fn cleanup_hooks(&self) {
        for hook in self.hooks.borrow_mut().iter_mut() {
            hook.cleanup();
        }
    }

    /// Counts so far.
    #[inline]
    pub fn counts(&self) -> OutboxCounts {
        OutboxCounts { emitted: self.emitted.get(), acked: self.acked.get(), failed: self.failed.get() }
    }

    /// Whether anchors of this cohort may report from elsewhere.
    #[inline]
    pub(crate) fn has_home(&self) -> bool {
        self.has_home.get()
    }

    /// The ledger of a spout's roots.
    pub(crate) fn ledger(&self) -> Option<&RefCell<Ledger>> {
        self.ledger.as_ref()
    }

    /// Whether a root ever began here: only then there is something to look after.
    #[inline]
    pub(crate) fn has_roots(&self) -> bool {
        self.has_roots.get()
    }

    /// Whether this task of a spout may be called: it has less roots pending than it may. A call that takes the last room
    /// asks for attention.
    pub fn admits(&self, task: TaskId) -> bool {
        if !self.has_roots.get() {
            return true;
        }
        let admits = self.ledger.as_ref().is_none_or(|l| l.borrow().has_room(task));
        self.attention.set(self.has_sealed());
        admits
    }

    /// Enters a root of the running spout task, delivered along edges with this XOR to these workers (by bit). What is to be
    /// carried by the tuple; `None` where roots are not tracked.
    #[inline]
    pub(crate) fn begin_root(&self, message: MessageId, edge: u64, xor: u64, workers: u32) -> Option<AnchorEdge> {
        let Some(ledger) = &self.ledger else {
            EmitRefused::throw(FaultKind::Fatal, "a bolt emitted with a message id; only spouts have messages".into());
        };
        let task = self.source.get();
        self.has_roots.set(true);
        let mut ledger = ledger.borrow_mut();
        let xor = if self.acking { xor } else { 0 };
        let root = ledger.begin(task, message, xor, workers, self.origin_ns.get());
        if !ledger.has_room(task) {
            self.attention.set(true);
        }
        (xor != 0).then_some(AnchorEdge { root: root.as_u64(), edge })
    }

    /// Roots of this spout ended.
    pub(crate) fn count_roots(&self, ended: &[Ended], cause: impl Fn(FailReason) -> String) {
        for root in ended {
            match root.outcome {
                Outcome::Acked if !self.hooked => self.acked.set(self.acked.get() + 1),
                Outcome::Acked => {
                    self.source.set(root.task);
                    self.count_acked();
                }
                Outcome::Failed(reason) => {
                    self.source.set(root.task);
                    self.count_failed(&cause(reason));
                }
            }
        }
    }

    pub(crate) fn take_causes(&self) -> Vec<String> {
        self.causes.take()
    }
}
