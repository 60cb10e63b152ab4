//! A captured topology (storm-loadgen's `GenLoad`) in this process. Its spouts' tuples come from the generator and come back when their trees are
//! complete; its bolts take the captured times and emit in the captured proportions. Verified at the end: what each bolt was given is what was
//! emitted to it, each key went to one task where the grouping says so.
//!
//! A bolt that takes time has threads of its own, as Storm's executors are threads: it sleeps from a millisecond on and spins below. What is
//! acknowledged later than a millisecond after its execution is kept meanwhile, and looked after every millisecond.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use squall::{
    Anchor, ArchivedValue, Bolt, BoltError, Context, Finish, Input, MessageId, Row, RowRef, RowStream, RowStreams,
    SpoutError, Stream, StreamHandle, Sub, Topology, ValueRef,
};
use squall_engine::WaitStrategy;
use squall_load::{IngestRooted, LocalEnds, local};
use squall_machine::now_ns;

use super::running::Running;
use super::wire::Wire;
use super::{Finished, Replay, Session};
use crate::measure::drive::Outcome;
use crate::model::capture::{Capture, Component, Edge, Grouping, KEYS, Normal, draw_key, stream_and_key};
use crate::model::rng::Rng;

/// What is acknowledged so much after its execution is not waited for on the thread, as in GenLoad.
const DEFER_NS: u64 = 1_000_000;
/// Threads of a played capture, at most: each pair of them has a ring.
const THREADS_MAX: u32 = 64;
/// Name of the component that the spouts have become.
const SPOUTS: &str = "spouts";

static KEY_TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| (0..KEYS).map(|n| format!("k{n}")).collect());

/// Whether the bolt takes time, and so has threads of its own.
fn takes_time(capture: &Capture, bolt: &Component) -> bool {
    bolt.slow.is_some()
        || capture.edges.iter().any(|e| e.to == bolt.id && (e.exec_ms.high() > 0.0 || e.process_ms.high() > 0.0))
}

/// Whether some of what comes along this edge is acknowledged later than a millisecond after its execution.
fn defers(edge: &Edge) -> bool {
    edge.process_ms.high() > edge.exec_ms.low() + 1.0
}

/// Whether a capture can be played in one process.
///
/// # Errors
/// When it has too many executors, with what to do.
pub fn playable(capture: &Capture) -> Result<(), String> {
    let timed = capture.bolts.iter().filter(|b| takes_time(capture, b));
    let threads: u64 = timed.map(|b| u64::from(b.parallelism)).sum();
    if threads > u64::from(THREADS_MAX) {
        return Err(format!(
            "{} has {threads} executors that take time and so threads of their own, and at most {THREADS_MAX} are played in one \
             process: lower --parallel, to {:.2} or less",
            capture.name,
            f64::from(THREADS_MAX) / threads as f64
        ));
    }
    Ok(())
}

/// What the tasks counted; given at their end.
#[derive(Default)]
struct Flows {
    /// By edge: for each task how many it was given, and which keys.
    given: BTreeMap<usize, Vec<(u64, Vec<u64>)>>,
    /// By bolt and stream.
    emitted: BTreeMap<(usize, usize), u64>,
}

/// A bolt of a capture, as its tasks need it.
struct BoltSpec {
    /// Its place among the bolts.
    at: usize,
    id: String,
    /// What it reads: place among the edges, component and stream in the played topology, times.
    edges: Vec<(usize, String, String, Normal, Normal)>,
    /// Tuples emitted for each that is given, and whether keys are skewed.
    outputs: Vec<(f64, bool)>,
    slow: Option<(f64, u32)>,
}

/// A tuple that is acknowledged later.
struct Kept {
    due_ns: u64,
    anchor: Anchor,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.due_ns == other.due_ns
    }
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Kept) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Kept) -> std::cmp::Ordering {
        self.due_ns.cmp(&other.due_ns)
    }
}

struct LoadBolt {
    spec: Arc<BoltSpec>,
    flows: Arc<Mutex<Flows>>,
    rng: Rng,
    slow_ns: u64,
    /// For each stream of the plan the place in `spec.edges`.
    inputs: Vec<Option<usize>>,
    /// Given along each of `spec.edges`, with the keys seen as bits.
    given: Vec<(u64, Vec<u64>)>,
    /// Tuples for which something was emitted already.
    done: u64,
    emitted: Vec<u64>,
    kept: BinaryHeap<Reverse<Kept>>,
}

/// Occupies the thread until then: asleep, and the last millisecond awake.
fn wait_until(due_ns: u64) {
    loop {
        let now = now_ns();
        if now >= due_ns {
            return;
        }
        if due_ns - now >= 1_000_000 {
            std::thread::sleep(Duration::from_nanos(due_ns - now - 500_000));
        } else {
            std::hint::spin_loop();
        }
    }
}

impl LoadBolt {
    fn new(spec: &Arc<BoltSpec>, flows: &Arc<Mutex<Flows>>) -> LoadBolt {
        LoadBolt {
            spec: spec.clone(),
            flows: flows.clone(),
            rng: Rng::new(0, 0),
            slow_ns: 0,
            inputs: Vec::new(),
            given: vec![(0, vec![0; KEYS as usize / 64]); spec.edges.len()],
            done: 0,
            emitted: vec![0; spec.outputs.len()],
            kept: BinaryHeap::new(),
        }
    }

    /// Emits what one more tuple makes due on each stream: all together, as many as the proportion says.
    fn emit(&mut self, out: &mut RowStreams, anchor: Option<&Anchor>) {
        self.done += 1;
        for (i, (ratio, skewed)) in self.spec.outputs.iter().enumerate() {
            let due = due(self.done, *ratio);
            for _ in self.emitted[i]..due {
                let key = KEY_TEXTS[draw_key(&mut self.rng, *skewed) as usize].as_str();
                let row = [ValueRef::Str(key), ValueRef::Str("SOME-BOLT-VALUE")];
                match anchor {
                    Some(anchor) => out[i].anchored(&[anchor], RowRef(&row)),
                    None => out[i].emit(RowRef(&row)),
                }
            }
            self.emitted[i] = due;
        }
    }

    /// Finishes what was kept until now; at most so many.
    fn finish_kept(&mut self, now: u64, most: usize, out: &mut RowStreams) {
        for _ in 0..most {
            match self.kept.peek() {
                Some(Reverse(kept)) if kept.due_ns <= now => {}
                _ => return,
            }
            if let Some(Reverse(Kept { anchor, .. })) = self.kept.pop() {
                self.emit(out, Some(&anchor));
                anchor.ack();
            }
        }
    }
}

/// Tuples of a stream that so many inputs make.
fn due(inputs: u64, ratio: f64) -> u64 {
    (inputs as f64 * ratio + 1e-9) as u64
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

impl Bolt for LoadBolt {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        let spec = &ctx.plan().spec;
        let place = |s: &squall_topology::StreamSpec| {
            let component = &spec.components[s.component as usize].name;
            self.spec.edges.iter().position(|e| e.1 == *component && e.2 == s.name)
        };
        self.inputs = spec.streams.iter().map(place).collect();
        self.rng = Rng::new(ctx.task().into(), 60);
        self.slow_ns = self.spec.slow.map_or(0, |(ms, count)| if ctx.task_index() < count { ns(ms) } else { 0 });
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let began = now_ns();
        let at = self.inputs.get(input.stream() as usize).copied().flatten();
        let at = at.ok_or_else(|| BoltError::fatal("a tuple of a stream that this bolt does not read"))?;
        let (_, _, _, exec, process) = &self.spec.edges[at];
        let exec_ns = self.slow_ns + ns(exec.draw(&mut self.rng));
        let process_ns = self.slow_ns + ns(process.draw(&mut self.rng));
        let key = match input.get().first() {
            Some(ArchivedValue::Str(text)) => text.as_str().strip_prefix('k').and_then(|n| n.parse::<usize>().ok()),
            _ => None,
        };
        let key = key.filter(|k| *k < KEYS as usize).ok_or_else(|| BoltError::fatal("a tuple without a key"))?;
        self.given[at].0 += 1;
        self.given[at].1[key / 64] |= 1 << (key % 64);
        if process_ns < exec_ns + DEFER_NS {
            wait_until(began + process_ns);
            self.emit(out, None);
        } else {
            let (_, anchor) = input.keep();
            self.kept.push(Reverse(Kept { due_ns: began + process_ns, anchor }));
        }
        wait_until(began + exec_ns);
        Ok(())
    }

    fn tick(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        self.finish_kept(now_ns(), usize::MAX, out);
        Ok(())
    }

    fn finish(&mut self, out: &mut RowStreams) -> Result<Finish, BoltError> {
        if let Some(Reverse(kept)) = self.kept.peek() {
            let until = kept.due_ns;
            wait_until(until);
            self.finish_kept(until, 256, out);
            return Ok(Finish::More);
        }
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        for ((edge, ..), given) in self.spec.edges.iter().zip(self.given.drain(..)) {
            flows.given.entry(*edge).or_default().push(given);
        }
        for (i, n) in self.emitted.iter().enumerate() {
            *flows.emitted.entry((self.spec.at, i)).or_default() += n;
        }
        Ok(Finish::Done)
    }
}

/// Emits a load on the stream that its body names.
fn emit_load(body: &[u8], id: MessageId, out: &mut RowStreams) -> Result<(), SpoutError> {
    let found = stream_and_key(body).filter(|(stream, key)| *stream < out.len() && *key < KEYS);
    let (stream, key) = found.ok_or_else(|| SpoutError::new("a load that is of no stream of this capture"))?;
    let row = [ValueRef::Str(&KEY_TEXTS[key as usize]), ValueRef::Str("JUST_SOME_VALUE")];
    let stream: &mut Stream<Row> = &mut out[stream];
    stream.emit_with_id(id, RowRef(&row));
    Ok(())
}

fn subscription(handle: &StreamHandle<Row>, grouping: Grouping) -> Sub<Row> {
    match grouping {
        Grouping::Shuffle => handle.shuffle(),
        Grouping::Fields => handle.fields_named(["key"]),
        Grouping::All => handle.all(),
        Grouping::Global => handle.global(),
        Grouping::LocalOrShuffle => handle.local_or_shuffle(),
        Grouping::None => handle.none(),
        Grouping::PartialKey => handle.partial_key_named(["key"]),
    }
}

/// Name of a spout's stream where all spouts are one component.
fn spout_stream(spout: &str, stream: &str) -> String {
    format!("{spout}.{stream}")
}

/// Declares the played topology.
fn declare(
    t: &Topology,
    capture: &Capture,
    ends: (squall_load::Source, squall_load::Target),
    flows: &Arc<Mutex<Flows>>,
) {
    let (source, target) = ends;
    let row = |name: &str| RowStream::new(name, ["key", "value"]);
    let of_spouts: Vec<RowStream> = capture.spout_streams().map(|(id, s, _)| row(&spout_stream(id, &s.id))).collect();
    let spouts = t.row_spout(SPOUTS, &of_spouts, move || IngestRooted::new(&source, &target, emit_load)).streams();
    let mut handles: BTreeMap<(&str, &str), StreamHandle<Row>> =
        capture.spout_streams().zip(spouts).map(|((id, s, _), h)| ((id, s.id.as_str()), h)).collect();
    let mut declared = Vec::new();
    for (at, bolt) in capture.bolts.iter().enumerate() {
        let of_bolt: Vec<RowStream> = bolt.streams.iter().map(|s| row(&s.id)).collect();
        let edges = capture.edges.iter().enumerate().filter(|(_, e)| e.to == bolt.id);
        let edge = |(i, e): (usize, &Edge)| {
            let of_spout = capture.spouts.iter().any(|s| s.id == e.from);
            let (component, stream) = if of_spout {
                (SPOUTS.to_owned(), spout_stream(&e.from, &e.stream))
            } else {
                (e.from.clone(), e.stream.clone())
            };
            (i, component, stream, e.exec_ms, e.process_ms)
        };
        let spec = Arc::new(BoltSpec {
            at,
            id: bolt.id.clone(),
            edges: edges.clone().map(edge).collect(),
            outputs: bolt.streams.iter().map(|s| (capture.ratio(bolt, s), s.skewed)).collect(),
            slow: bolt.slow,
        });
        let flows = flows.clone();
        let mut decl =
            t.row_bolt(&spec.id.clone(), &of_bolt, move || LoadBolt::new(&spec, &flows)).tasks(bolt.parallelism);
        if takes_time(capture, bolt) {
            decl = decl.side_thread();
        }
        if edges.clone().any(|(_, e)| defers(e)) {
            decl = decl.tick_every(Duration::from_millis(1));
        }
        for (s, handle) in bolt.streams.iter().zip(decl.iter()) {
            handles.insert((&bolt.id, &s.id), handle.clone());
        }
        declared.push((bolt, decl));
    }
    // All streams are declared now: a bolt may stand before those that it reads from.
    for (bolt, mut decl) in declared {
        for e in capture.edges.iter().filter(|e| e.to == bolt.id) {
            decl = decl.on(subscription(&handles[&(e.from.as_str(), e.stream.as_str())], e.grouping));
        }
    }
}

/// A captured topology that is played.
pub struct Played {
    capture: Arc<Capture>,
    wire: Option<Wire>,
    running: Running,
    flows: Arc<Mutex<Flows>>,
}

impl Played {
    /// Starts it.
    ///
    /// # Errors
    /// What the engine cannot, such as a cycle.
    pub fn start(
        capture: &Arc<Capture>,
        cores: &[usize],
        wait: WaitStrategy,
        ring_bytes: usize,
    ) -> Result<Played, String> {
        playable(capture)?;
        let LocalEnds { tx, rx, source, target } = local(ring_bytes);
        let flows: Arc<Mutex<Flows>> = Arc::default();
        let t = Topology::new(&capture.name);
        t.configure(|c| {
            c.max_spout_pending = capture.config.max_spout_pending.filter(|n| *n > 0);
            if let Some(secs) = capture.config.message_timeout_secs.filter(|s| *s > 0) {
                c.message_timeout_ms = u64::from(secs) * 1000;
            }
            // Many threads, small rings: four batches each.
            c.ring_bytes = 4 * u64::from(c.batch_bytes);
            c.credit_bytes = c.credit_bytes.min(c.ring_bytes);
        });
        declare(&t, capture, (source, target), &flows);
        let running = Running::start(t, cores, wait).map_err(|e| format!("{}: {e}", capture.name))?;
        Ok(Played { capture: capture.clone(), wire: Some(Wire::new(tx, rx)), running, flows })
    }
}

impl Session for Played {
    fn wire(&mut self) -> Option<Wire> {
        self.wire.take()
    }

    fn look(&mut self) -> Option<String> {
        self.running.look()
    }

    fn finish(self: Box<Self>, outcome: &Outcome, replay: &Replay<'_>) -> Finished {
        let mut done = self.running.end();
        done.notes.extend(self.capture.notes.iter().cloned());
        if done.error.is_some() || outcome.counts.lost > 0 {
            return done;
        }
        let mut roots = vec![0; self.capture.spout_streams().count()];
        let counted = replay(outcome.counts.sent, &mut |body| {
            if let Some((stream, _)) = stream_and_key(body) {
                roots[stream] += 1;
            }
        });
        if counted {
            let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
            done.wrong = verify(&self.capture, &roots, &flows).err();
            done.notes.push(format!("what bolts were given compared with what {} roots make", outcome.counts.sent));
        }
        done
    }
}

/// Holds what the bolts counted against what so many roots of each spout's stream make.
fn verify(capture: &Capture, roots: &[u64], flows: &Flows) -> Result<(), String> {
    for (i, e) in capture.edges.iter().enumerate() {
        let of_spout = capture.spout_streams().position(|(id, s, _)| id == e.from && s.id == e.stream);
        let emitted = match of_spout {
            Some(stream) => roots[stream],
            None => {
                let bolt = capture.bolts.iter().position(|b| b.id == e.from).unwrap_or_default();
                let stream = capture.bolts[bolt].streams.iter().position(|s| s.id == e.stream).unwrap_or_default();
                flows.emitted.get(&(bolt, stream)).copied().unwrap_or(0)
            }
        };
        let tasks = capture.bolts.iter().find(|b| b.id == e.to).map_or(1, |b| u64::from(b.parallelism));
        let copies = if e.grouping == Grouping::All { tasks } else { 1 };
        let none = Vec::new();
        let given = flows.given.get(&i).unwrap_or(&none);
        let sum: u64 = given.iter().map(|g| g.0).sum();
        let what = format!("`{}` of `{}` to `{}`", e.stream, e.from, e.to);
        if sum != emitted * copies {
            return Err(format!("{what}: {sum} tuples arrived where {} are due", emitted * copies));
        }
        let working = given.iter().filter(|g| g.0 > 0).count();
        if e.grouping == Grouping::Global && working > 1 {
            return Err(format!("{what}: {working} tasks were given tuples where one is due"));
        }
        if e.grouping == Grouping::Fields {
            let all = given
                .iter()
                .fold(vec![0_u64; KEYS as usize / 64], |all, g| all.iter().zip(&g.1).map(|(a, b)| a | b).collect());
            let ones = |bits: &[u64]| bits.iter().map(|b| b.count_ones()).sum::<u32>();
            if given.iter().map(|g| ones(&g.1)).sum::<u32>() != ones(&all) {
                return Err(format!("{what}: a key went to several tasks"));
            }
        }
    }
    for (at, bolt) in capture.bolts.iter().enumerate() {
        let inputs: u64 = capture
            .edges
            .iter()
            .enumerate()
            .filter(|(_, e)| e.to == bolt.id)
            .flat_map(|(i, _)| flows.given.get(&i).into_iter().flatten())
            .map(|g| g.0)
            .sum();
        for (i, s) in bolt.streams.iter().enumerate() {
            let (emitted, wanted) =
                (flows.emitted.get(&(at, i)).copied().unwrap_or(0), due(inputs, capture.ratio(bolt, s)));
            // Each task rounds down for itself.
            if emitted > wanted || emitted + u64::from(bolt.parallelism) < wanted {
                return Err(format!("`{}` emitted {emitted} tuples on `{}` where {wanted} are due", bolt.id, s.id));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capture::tests::{SAMPLE, capture};

    /// Flows as the sample's topology has them after 30 orders and 10 clicks.
    fn flows() -> Flows {
        let bits = |of: &[usize]| {
            let mut bits = vec![0; KEYS as usize / 64];
            of.iter().for_each(|k| bits[k / 64] |= 1 << (k % 64));
            bits
        };
        let mut flows = Flows::default();
        flows.given.insert(0, vec![(15, bits(&[1])), (15, bits(&[1, 2]))]);
        flows.given.insert(1, vec![(50, bits(&[1, 3])), (40, bits(&[2]))]);
        flows.given.insert(2, vec![(9, bits(&[5]))]);
        flows.given.insert(3, vec![(10, bits(&[6]))]);
        flows.emitted.insert((0, 0), 90);
        flows.emitted.insert((1, 0), 9);
        flows
    }

    #[test]
    fn what_bolts_were_given_is_what_was_emitted_to_them() {
        let c = capture(SAMPLE).unwrap();
        assert_eq!(verify(&c, &[30, 10], &flows()), Ok(()));
        let wrong = |change: &dyn Fn(&mut Flows), what: &str| {
            let mut f = flows();
            change(&mut f);
            let told = verify(&c, &[30, 10], &f).unwrap_err();
            assert!(told.contains(what), "{told}");
        };
        wrong(&|f| f.given.get_mut(&0).unwrap()[0].0 = 14, "29 tuples arrived where 30 are due");
        wrong(&|f| f.given.get_mut(&1).unwrap()[1].1[0] |= 2, "a key went to several tasks");
        wrong(&|f| f.given.get_mut(&2).unwrap()[0].0 = 8, "8 tuples arrived where 9");
        wrong(
            &|f| {
                f.emitted.insert((1, 0), 20);
                f.given.get_mut(&2).unwrap()[0].0 = 20;
            },
            "emitted 20 tuples on `default` where 9 are due",
        );
    }

    #[test]
    fn a_capture_of_too_many_threads_is_refused_with_a_remedy() {
        let mut c = capture(SAMPLE).unwrap();
        assert_eq!(playable(&c), Ok(()));
        c.bolts[0].parallelism = 200;
        assert!(playable(&c).unwrap_err().contains("--parallel, to 0.3"), "{:?}", playable(&c));
    }
}
