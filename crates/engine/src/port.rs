//! The outgoing side of one stream of one cohort: route, then archive straight into the open batch of the
//! destination reactor.
//!
//! The common case (one subscriber, one task picked, no anchors) is [`Port::emit`] alone: pick, write, return. All
//! other shapes (several subscribers, all-grouping, anchors, a batch that is full, a tuple larger than a batch) go
//! through [`Port::emit_general`], which serializes once per destination reactor whatever the number of tasks.
//! Nothing here blocks and nothing is refused: what the links cannot take yet waits in the cohort's outbox, and the
//! reactor pauses the cohort (design §4).

use std::marker::PhantomData;
use std::rc::Rc;

use squall_io::planted::{Bug, is};
use squall_topology::{Pick, RouteKey, Router};
use squall_tuple::ids::{ReactorIx, StreamIx, TaskId};
use squall_tuple::{
    AnchorEdge, BatchBuf, BatchKind, BatchTemplate, Dest, Emit, Key, MarkRecord, OpenBatch, Tuple, TupleHead,
    delivery_edge, hash_key, hash_keys,
};

use crate::anchor::Anchor;
use crate::fault::{EmitRefused, FaultKind};
use crate::ledger::MessageId;
use crate::outbox::{Outbox, Sealed};

/// Bytes of the header at the start of every batch.
const BATCH_HEADER_BYTES: usize = 64;

/// One open batch: towards one reactor, over normal or feedback edges.
pub(crate) struct Lane {
    pub(crate) to: ReactorIx,
    /// The bit of its worker.
    pub(crate) worker: u32,
    pub(crate) feedback: bool,
    /// Capacity of its batches.
    pub(crate) batch_bytes: usize,
    pub(crate) open: Option<BatchBuf>,
}

/// A task that a subscription can pick, and the lane towards it.
#[derive(Clone, Copy)]
pub(crate) struct LaneTarget {
    pub(crate) task: TaskId,
    pub(crate) lane: u32,
}

/// One subscriber of the stream.
pub(crate) struct PortSub {
    pub(crate) router: Router,
    /// The grouping picks exactly one task each time (not all-grouping, custom or direct).
    pub(crate) picks_one: bool,
    /// The grouping wants to know the targets' load.
    pub(crate) load_aware: bool,
    pub(crate) targets: Vec<LaneTarget>,
    /// For all-grouping: the task set of each lane.
    pub(crate) sets: Vec<(u32, u32)>,
}

/// See the module.
pub struct Port {
    pub(crate) stream: StreamIx,
    data: BatchTemplate,
    marks: BatchTemplate,
    pub(crate) max_tuple_bytes: usize,
    pub(crate) outbox: Rc<Outbox>,
    pub(crate) subs: Vec<PortSub>,
    pub(crate) lanes: Vec<Lane>,
    route: Route,
    /// Scratch of `emit_general`: lane, task, and the task set when the whole lane was picked.
    picked: Vec<Picked>,
    edges: Vec<AnchorEdge>,
    tasks: Vec<TaskId>,
}

/// What an emit without anchors has to do to find its way.
#[derive(Clone, Copy)]
enum Route {
    /// Nothing: there is one way.
    One(LaneTarget),
    /// Ask the only subscriber's grouping, which need not read the tuple.
    Unread,
    /// The same, and it reads the tuple.
    Keyed,
    /// Gather the deliveries: several subscribers, groupings that pick several tasks, or a hook that listens.
    General,
}

impl Route {
    fn of(subs: &[PortSub], hooked: bool) -> Route {
        match subs {
            [one] if one.picks_one && !hooked => match (one.router.reads_tuples(), &one.targets[..]) {
                (true, _) => Route::Keyed,
                (false, [target]) => Route::One(*target),
                (false, _) => Route::Unread,
            },
            _ => Route::General,
        }
    }
}

/// A value that leaves the common case. A type of its own: with it the move is a copy in the rare branch, and a small
/// tuple needs no place in memory before.
struct Leaving<E>(E);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Picked {
    lane: u32,
    task: TaskId,
    set: Option<u32>,
}

/// XOR of the edges of these deliveries of one archive.
fn xor_of(picked: &[Picked], edge: u64) -> u64 {
    picked.iter().fold(0, |x, p| x ^ delivery_edge(edge, p.task))
}

/// Reads the key fields of a value that is about to be emitted.
struct Keyed<'e, T, E: ?Sized>(&'e E, PhantomData<fn() -> T>);

impl<T: Tuple, E: Emit<T> + ?Sized> RouteKey for Keyed<'_, T, E> {
    #[inline]
    fn key_hash(&self, fields: &[u16]) -> u64 {
        match fields {
            [one] => hash_key(self.0.key(*one)),
            many => hash_keys(many.iter().map(|f| self.0.key(*f))),
        }
    }

    fn key(&self, field: u16) -> Key<'_> {
        self.0.key(field)
    }
}

impl Port {
    pub(crate) fn new(
        stream: StreamIx,
        schema_id: u64,
        dynamic: bool,
        max_tuple_bytes: usize,
        outbox: Rc<Outbox>,
        subs: Vec<PortSub>,
        lanes: Vec<Lane>,
    ) -> Self {
        let route = Route::of(&subs, outbox.hooked());
        let (source_reactor, epoch) = (outbox.reactor, outbox.epoch);
        let template = |kind| OpenBatch { kind, stream, schema_id, dynamic, source_reactor, epoch }.template();
        Port {
            stream,
            data: template(BatchKind::Data),
            marks: template(BatchKind::Mark),
            max_tuple_bytes,
            outbox,
            subs,
            lanes,
            route,
            picked: Vec::new(),
            edges: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Emits a tuple anchored to the input being executed (spouts: to nothing).
    ///
    /// Inlined always, and every way out of the common case takes the value itself (`Leaving`), not a reference to it:
    /// only then does the compiler keep a small tuple in registers until its bytes lie in the batch. A value in memory is
    /// stored word by word and loaded in vectors, which stalls the processor for longer than the whole push takes.
    #[inline(always)]
    pub fn emit<T: Tuple, E: Emit<T>>(&mut self, value: E) {
        self.outbox.count_emitted();
        if self.outbox.anchored() {
            return self.emit_tracked::<T, E>(Leaving(value));
        }
        let LaneTarget { task, lane } = if let Route::One(target) = self.route {
            target
        } else if let Route::Unread = self.route
            && let Some(i) = self.subs[0].router.pick_unread()
        {
            self.subs[0].targets[i as usize]
        } else {
            return self.emit_read::<T, E>(Leaving(value));
        };
        if let Some(open) = &mut self.lanes[lane as usize].open
            && open.push_steady::<T, E>(self.outbox.source(), task, self.outbox.origin(), &value).is_ok()
        {
            return;
        }
        self.write_unanchored::<T, E>(lane, task, Leaving(value));
    }

    /// The same where the grouping has to read the tuple, or picks several tasks.
    #[inline(never)]
    fn emit_read<T: Tuple, E: Emit<T>>(&mut self, Leaving(value): Leaving<E>) {
        if let Route::General = self.route {
            return self.emit_general::<T, E>(&value, Anchoring::Input);
        }
        let sub = &mut self.subs[0];
        if let Pick::One(i) = sub.router.pick(&Keyed(&value, PhantomData::<fn() -> T>)) {
            let LaneTarget { task, lane } = sub.targets[i as usize];
            if let Some(open) = &mut self.lanes[lane as usize].open
                && open.push_steady::<T, E>(self.outbox.source(), task, self.outbox.origin(), &value).is_ok()
            {
                return;
            }
            return self.write_unanchored::<T, E>(lane, task, Leaving(value));
        }
        unreachable!("a router that picks one task picked several");
    }

    /// The same for a tuple of the input's trees.
    #[inline(never)]
    fn emit_tracked<T: Tuple, E: Emit<T>>(&mut self, Leaving(value): Leaving<E>) {
        // Asked in this order: a pick counts.
        let one = self.outbox.input.one();
        let Some((root, to)) = one.and_then(|root| Some((root, self.pick_one::<T, E>(&value)?))) else {
            return self.emit_general::<T, E>(&value, Anchoring::Input);
        };
        let edge = self.outbox.next_edge();
        self.write_tracked::<T, E>(to, AnchorEdge { root, edge }, &value);
        // After the write: what is refused there leaves no edge that nobody will ever end.
        self.outbox.input.add_to_one(delivery_edge(edge, to.task), self.lanes[to.lane as usize].worker);
    }

    /// Where the tuple goes if that is one task; `None` where the deliveries are to be gathered.
    #[inline(always)]
    fn pick_one<T: Tuple, E: Emit<T>>(&mut self, value: &E) -> Option<LaneTarget> {
        match self.route {
            Route::One(target) => Some(target),
            Route::General => None,
            Route::Unread | Route::Keyed => {
                let sub = &mut self.subs[0];
                match sub.router.pick(&Keyed(value, PhantomData::<fn() -> T>)) {
                    Pick::One(i) if is(Bug::KeyMoved) => {
                        Some(sub.targets[(i + self.outbox.epoch) as usize % sub.targets.len()])
                    }
                    Pick::One(i) => Some(sub.targets[i as usize]),
                    _ => unreachable!("a router that picks one task picked several"),
                }
            }
        }
    }

    /// Writes a tuple of one tree for one task.
    #[inline(always)]
    fn write_tracked<T: Tuple, E: Emit<T>>(&mut self, to: LaneTarget, anchor: AnchorEdge, value: &E) {
        let LaneTarget { task, lane } = to;
        if let Some(open) = &mut self.lanes[lane as usize].open
            && open.push_tracked::<T, E>(self.outbox.source(), task, self.outbox.origin(), anchor, value).is_ok()
        {
            return;
        }
        self.write::<T, E>(lane, Dest::Task(task), &[anchor], value);
    }

    /// Emits without anchors: what happens to it does not matter to the input tuple.
    pub fn emit_unanchored<T: Tuple, E: Emit<T> + ?Sized>(&mut self, value: &E) {
        self.outbox.count_emitted();
        self.emit_general::<T, E>(value, Anchoring::Nothing);
    }

    /// Emits anchored to kept tuples: the new tuple belongs to the trees of all of them.
    pub fn emit_anchored<T: Tuple, E: Emit<T> + ?Sized>(&mut self, anchors: &[&Anchor], value: &E) {
        self.outbox.count_emitted();
        self.emit_general::<T, E>(value, Anchoring::Kept(anchors));
    }

    /// Emits to one task of a direct stream. `false`, and nothing emitted, when `task` does not subscribe to it.
    #[must_use = "false: the task does not subscribe to this stream and nothing was emitted"]
    pub fn emit_direct<T: Tuple, E: Emit<T> + ?Sized>(&mut self, task: TaskId, value: &E) -> bool {
        self.direct::<T, E>(task, value, Anchoring::Input)
    }

    fn direct<T: Tuple, E: Emit<T> + ?Sized>(&mut self, task: TaskId, value: &E, anchoring: Anchoring<'_>) -> bool {
        self.picked.clear();
        for sub in &self.subs {
            if let Some(t) = sub.targets.iter().find(|t| t.task == task) {
                self.picked.push(Picked { lane: t.lane, task, set: None });
            }
        }
        if self.picked.is_empty() {
            return false;
        }
        self.outbox.count_emitted();
        self.write_picked::<T, E>(value, anchoring);
        true
    }

    /// Emits a tuple of a spout that is tracked under an id of the spout's: it is told when the whole tree that grows from
    /// it has been executed, or has failed.
    ///
    /// Ends the executor if the emitter is a bolt.
    #[inline]
    pub fn emit_with_id<T: Tuple, E: Emit<T>>(&mut self, message: MessageId, value: E) {
        self.outbox.count_emitted();
        let Some(to) = self.pick_one::<T, E>(&value) else {
            return self.emit_general::<T, E>(&value, Anchoring::Root(message));
        };
        let LaneTarget { task, lane } = to;
        let edge = self.outbox.next_edge();
        let worker = self.lanes[lane as usize].worker;
        match self.outbox.begin_root(message, edge, delivery_edge(edge, task), worker) {
            Some(anchor) => self.write_tracked::<T, E>(to, anchor, &value),
            // Acknowledged at once.
            None => self.write::<T, E>(lane, Dest::Task(task), &[], &value),
        }
    }

    /// As [`Port::emit_with_id`], to one task of a direct stream. `false`, and nothing emitted, when `task` does not
    /// subscribe to it.
    #[must_use = "false: the task does not subscribe to this stream and nothing was emitted"]
    pub fn emit_direct_with_id<T: Tuple, E: Emit<T>>(&mut self, task: TaskId, message: MessageId, value: &E) -> bool {
        self.direct::<T, E>(task, value, Anchoring::Root(message))
    }

    /// Any number of subscribers and picks: gathers the deliveries, then writes one archive per lane.
    #[inline(never)]
    fn emit_general<T: Tuple, E: Emit<T> + ?Sized>(&mut self, value: &E, anchoring: Anchoring<'_>) {
        self.picked.clear();
        for sub in &mut self.subs {
            match sub.router.pick(&Keyed(value, PhantomData::<fn() -> T>)) {
                Pick::One(i) => {
                    let t = &sub.targets[i as usize];
                    self.picked.push(Picked { lane: t.lane, task: t.task, set: None });
                }
                Pick::Many(list) => {
                    let targets = list.iter().map(|i| &sub.targets[*i as usize]);
                    self.picked.extend(targets.map(|t| Picked { lane: t.lane, task: t.task, set: None }));
                }
                Pick::All => {
                    let set_of = |lane| sub.sets.iter().find(|(l, _)| *l == lane).map(|(_, set)| *set);
                    let targets = sub.targets.iter();
                    self.picked.extend(targets.map(|t| Picked { lane: t.lane, task: t.task, set: set_of(t.lane) }));
                }
            }
        }
        self.write_picked::<T, E>(value, anchoring);
    }

    fn write_picked<T: Tuple, E: Emit<T> + ?Sized>(&mut self, value: &E, anchoring: Anchoring<'_>) {
        if self.outbox.hooked() {
            self.outbox.hook_emit(self.stream, self.picked.iter().map(|p| p.task));
            self.outbox.hook_samples(self.stream, || self.alone::<T, E>(value));
        }
        self.picked.sort_unstable();
        let mut edges = std::mem::take(&mut self.edges);
        edges.clear();
        match anchoring {
            Anchoring::Nothing => {}
            Anchoring::Input => {
                self.outbox.input.each(|root| edges.push(AnchorEdge { root, edge: self.outbox.next_edge() }));
            }
            Anchoring::Kept(anchors) => {
                for anchor in anchors {
                    anchor.extend(&mut edges, || self.outbox.next_edge());
                }
            }
            Anchoring::Root(message) => {
                let edge = self.outbox.next_edge();
                let workers = self.picked.iter().fold(0, |w, p| w | self.lanes[p.lane as usize].worker);
                edges.extend(self.outbox.begin_root(message, edge, xor_of(&self.picked, edge), workers));
            }
        }
        let mut at = 0;
        while at < self.picked.len() {
            let lane = self.picked[at].lane;
            let end = at + self.picked[at..].iter().take_while(|p| p.lane == lane).count();
            self.write_lane::<T, E>(lane, at..end, &edges, value);
            // After the write: what is refused there leaves no edge that nobody will ever end.
            self.note_edges(&self.picked[at..end], &edges, anchoring);
            at = end;
        }
        self.edges = edges;
    }

    /// The tuple in a batch of its own, for a hook that wants to see it; `None` if it is larger than a batch.
    #[cold]
    fn alone<T: Tuple, E: Emit<T> + ?Sized>(&self, value: &E) -> Option<BatchBuf> {
        // A stream that nobody reads has no lanes.
        let bytes = self.lanes.iter().map(|l| l.batch_bytes).max().unwrap_or(self.max_tuple_bytes.min(1 << 16));
        let mut batch = BatchBuf::with_capacity(bytes);
        batch.open_as(&self.data);
        batch.push::<T, E>(&TupleHead::plain(self.outbox.source(), 0, 0), value).ok()?;
        Some(batch)
    }

    /// Adds the edges of these deliveries, all of one lane, to what ends the input (or the kept tuples).
    fn note_edges(&self, picked: &[Picked], edges: &[AnchorEdge], anchoring: Anchoring<'_>) {
        let workers = self.lanes[picked[0].lane as usize].worker;
        for e in edges {
            let xor = xor_of(picked, e.edge);
            match anchoring {
                Anchoring::Nothing | Anchoring::Root(_) => {}
                Anchoring::Input => self.outbox.input.add(e.root, xor, workers),
                // Two kept tuples of one root: the edge was made for both, it must count in one of them only.
                Anchoring::Kept(anchors) => {
                    if let Some(a) = anchors.iter().find(|a| a.has_root(e.root)) {
                        a.note(e.root, xor, workers);
                    }
                }
            }
        }
    }

    fn write_lane<T: Tuple, E: Emit<T> + ?Sized>(
        &mut self,
        lane: u32,
        range: std::ops::Range<usize>,
        edges: &[AnchorEdge],
        value: &E,
    ) {
        let picked = &self.picked[range];
        let mut tasks = std::mem::take(&mut self.tasks);
        tasks.clear();
        tasks.extend(picked.iter().map(|p| p.task));
        // A set stands for all tasks of one subscriber on that reactor, so it can replace the list only when
        // nothing else was picked there.
        let set = picked[0].set.filter(|s| picked.iter().all(|p| p.set == Some(*s)));
        let dest = match (tasks.as_slice(), set) {
            ([one], _) => Dest::Task(*one),
            (_, Some(set)) => Dest::Set(set),
            (list, None) => Dest::List(list),
        };
        self.write::<T, E>(lane, dest, edges, value);
        self.tasks = tasks;
    }

    #[cold]
    #[inline(never)]
    fn write_unanchored<T: Tuple, E: Emit<T>>(&mut self, lane: u32, task: TaskId, Leaving(value): Leaving<E>) {
        if self.lanes[lane as usize].open.is_none() {
            let (source, origin_ns) = (self.outbox.source(), self.outbox.origin());
            if self.open(lane).push_steady::<T, E>(source, task, origin_ns, &value).is_ok() {
                return;
            }
        }
        self.write::<T, E>(lane, Dest::Task(task), &[], &value);
    }

    fn write<T: Tuple, E: Emit<T> + ?Sized>(&mut self, lane: u32, dest: Dest<'_>, anchors: &[AnchorEdge], value: &E) {
        let head = TupleHead {
            source: self.outbox.source(),
            dest,
            origin_ns: self.outbox.origin(),
            anchors,
            event_time: None,
            key_group: None,
            trace: None,
        };
        for _ in 0..2 {
            if self.open(lane).push::<T, E>(&head, value).is_ok() {
                return;
            }
            self.seal(lane);
        }
        self.write_large::<T, E>(lane, &head, value);
    }

    /// A tuple that no batch of the normal size holds travels alone.
    #[cold]
    fn write_large<T: Tuple, E: Emit<T> + ?Sized>(&mut self, lane: u32, head: &TupleHead<'_>, value: &E) {
        let limit = self.max_tuple_bytes + BATCH_HEADER_BYTES;
        let mut bytes = self.lanes[lane as usize].batch_bytes;
        while bytes < limit {
            bytes = (bytes * 2).min(limit);
            let mut buf = self.outbox.pool.take_exactly(bytes.next_multiple_of(64));
            buf.open_as(&self.data);
            if buf.push::<T, E>(head, value).is_ok() {
                // Asked before it is anybody's: a refused tuple goes nowhere.
                if self.outbox.is_over_burst(buf.len()) {
                    self.outbox.refuse_burst();
                }
                if let Some(empty) = self.lanes[lane as usize].open.replace(buf) {
                    self.outbox.pool.give(empty);
                }
                return self.seal(lane);
            }
        }
        EmitRefused::throw(
            FaultKind::TupleTooLarge,
            format!("emitted a {} tuple above the limit of {} bytes", T::NAME, self.max_tuple_bytes),
        );
    }

    fn open(&mut self, lane: u32) -> &mut BatchBuf {
        let l = &self.lanes[lane as usize];
        if l.open.is_none() {
            let mut buf = self.outbox.pool.take_exactly(l.batch_bytes.next_multiple_of(64));
            buf.open_as(&self.data);
            buf.limit_to(l.batch_bytes);
            self.lanes[lane as usize].open = Some(buf);
        }
        self.lanes[lane as usize].open.as_mut().expect("opened above")
    }

    fn seal(&mut self, lane: u32) {
        if let Some(sealed) = self.close(lane) {
            self.outbox.seal(sealed);
        }
    }

    /// Takes the open batch of a lane, if it holds anything.
    fn close(&mut self, lane: u32) -> Option<Sealed> {
        let l = &mut self.lanes[lane as usize];
        let batch = l.open.take_if(|b| !b.is_empty())?;
        Some(Sealed::new(l.to, l.feedback, batch))
    }

    /// Seals the open batches whose reactor `ready` accepts. Returns whether tuples stay behind.
    pub(crate) fn flush(&mut self, mut ready: impl FnMut(ReactorIx) -> bool) -> bool {
        let mut left = false;
        for lane in &mut self.lanes {
            if lane.open.as_ref().is_none_or(BatchBuf::is_empty) {
                continue;
            }
            if !ready(lane.to) {
                left = true;
            } else if let Some(batch) = lane.open.take() {
                self.outbox.seal_own(Sealed::new(lane.to, lane.feedback, batch));
            }
        }
        left
    }

    /// Sends marks behind everything emitted so far, once per reactor that hosts a subscriber.
    pub(crate) fn send_marks(&mut self, marks: &[MarkRecord]) {
        self.flush(|_| true);
        for lane in 0..self.lanes.len() {
            // Feedback edges do not take part in the end of a run, nor in watermarks: they would wait for themselves.
            if self.lanes[lane].feedback {
                continue;
            }
            let mut buf = self.outbox.pool.take_exactly(self.lanes[lane].batch_bytes);
            buf.open_as(&self.marks);
            for mark in marks {
                if buf.push_mark(mark).is_err() {
                    let full = std::mem::replace(&mut buf, self.outbox.pool.take_exactly(self.lanes[lane].batch_bytes));
                    self.outbox.seal_own(Sealed::new(self.lanes[lane].to, false, full));
                    buf.open_as(&self.marks);
                    buf.push_mark(mark).expect("an empty batch holds a mark");
                }
            }
            self.outbox.seal_own(Sealed::new(self.lanes[lane].to, false, buf));
        }
    }

    /// Refreshes what load-aware groupings know: `load(task)` is 0..=100.
    pub(crate) fn set_load(&mut self, mut load: impl FnMut(TaskId) -> u8) {
        for sub in self.subs.iter_mut().filter(|s| s.load_aware) {
            let loads: Vec<u8> = sub.targets.iter().map(|t| load(t.task)).collect();
            sub.router.set_load(&loads);
        }
    }

    /// Index of the stream in the topology.
    pub fn stream(&self) -> StreamIx {
        self.stream
    }

    /// Tasks that subscribe to this stream.
    pub fn subscriber_tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.subs.iter().flat_map(|s| s.targets.iter().map(|t| t.task))
    }
}

/// Which roots an emit belongs to.
#[derive(Clone, Copy)]
enum Anchoring<'a> {
    Nothing,
    Input,
    Kept(&'a [&'a Anchor]),
    /// A new root, of the running spout task, under this id.
    Root(MessageId),
}
