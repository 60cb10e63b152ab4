//! Captures of storm-loadgen: what `CaptureLoad` writes about a running topology, and `GenLoad` plays back.
//!
//! A capture holds spouts and bolts with the rates of their streams (of one executor, a second), and who reads which stream by which grouping, with
//! the times (in milliseconds) that a tuple occupies the reader (`execTime`) and takes until it is acknowledged (`processTime`). Rates and times
//! are normal distributions within bounds.
//!
//! Played back here: spouts' tuples become the load, each task of a spout with a rate of its own that is drawn anew every 2 s, as GenLoad does
//! it. Bolts differ on purpose: GenLoad lets them emit by the clock, whatever they are given; here a bolt emits in the captured proportion of what
//! it is given, so that every count can be verified, and another rate remains the same topology.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use squall_load::{FieldType, Schema};

use super::body::Body;
use super::rng::Rng;
use super::yaml;

/// Different keys of a stream, as many as GenLoad has.
pub const KEYS: u64 = 2048;
/// GenLoad draws a rate anew after so long.
const REDRAW_NS: f64 = 2e9;
/// A rate of nothing is one tuple in ten seconds, as in GenLoad.
const RATE_MIN: f64 = 0.1;
/// Executors of a component, at most.
const PARALLELISM_MAX: u32 = 10_000;

/// A normal distribution within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Normal {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub stddev: f64,
    /// Nothing below is drawn.
    pub min: f64,
    /// Nothing above is drawn.
    pub max: f64,
}

impl Normal {
    /// The next value.
    pub fn draw(&self, rng: &mut Rng) -> f64 {
        (rng.normal() * self.stddev + self.mean).min(self.max).max(self.min)
    }

    /// So many times the mean; deviation and the distance of the bounds stay, as in GenLoad.
    fn scaled(&self, by: f64) -> Normal {
        let shift = self.mean * by - self.mean;
        let moved = |v: f64| (v + shift).max(0.0);
        Normal { mean: moved(self.mean), stddev: self.stddev, min: moved(self.min), max: moved(self.max) }
    }

    /// The largest value that is to be expected.
    pub fn high(&self) -> f64 {
        (self.mean + 6.0 * self.stddev).min(self.max).max(self.min)
    }

    /// The smallest.
    pub fn low(&self) -> f64 {
        (self.mean - 6.0 * self.stddev).max(self.min).min(self.max)
    }
}

/// A stream that a component emits.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name.
    pub id: String,
    /// Tuples a second of each executor.
    pub rate: Normal,
    /// Whether some keys are more frequent than others.
    pub skewed: bool,
}

/// A spout or a bolt.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Its name.
    pub id: String,
    /// Executors, of one task each.
    pub parallelism: u32,
    /// What it emits.
    pub streams: Vec<Output>,
    /// The first so many of its tasks take so many milliseconds longer.
    pub slow: Option<(f64, u32)>,
}

/// Rule from tuple to task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Storm's names")]
pub enum Grouping {
    Shuffle,
    Fields,
    All,
    Global,
    LocalOrShuffle,
    None,
    PartialKey,
}

/// That a bolt reads a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// The component that emits it.
    pub from: String,
    /// The stream.
    pub stream: String,
    /// The bolt.
    pub to: String,
    /// Rule from tuple to task.
    pub grouping: Grouping,
    /// Milliseconds that a tuple occupies the bolt.
    pub exec_ms: Normal,
    /// Milliseconds until it is acknowledged, and what becomes of it emitted.
    pub process_ms: Normal,
}

/// What of the topology's configuration is played back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    /// `topology.max.spout.pending`.
    pub max_spout_pending: Option<u32>,
    /// `topology.message.timeout.secs`.
    pub message_timeout_secs: Option<u32>,
}

/// How a capture is changed before it is played, as by GenLoad's options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adjust {
    /// Executors of each component times this, rounded up; the rates of all together stay.
    pub parallel: f64,
    /// Rates times this.
    pub throughput: f64,
    /// Shuffle becomes local-or-shuffle.
    pub local_or_shuffle: bool,
}

impl Default for Adjust {
    fn default() -> Adjust {
        Adjust { parallel: 1.0, throughput: 1.0, local_or_shuffle: false }
    }
}

/// A captured topology.
#[derive(Debug, Clone, PartialEq)]
pub struct Capture {
    /// Its name, or that of its file.
    pub name: String,
    /// Spouts.
    pub spouts: Vec<Component>,
    /// Bolts.
    pub bolts: Vec<Component>,
    /// Who reads what.
    pub edges: Vec<Edge>,
    /// Configuration that is played back.
    pub config: Config,
    /// What the file says and the playback leaves out.
    pub notes: Vec<String>,
}

type Rest = BTreeMap<String, Value>;

#[derive(Deserialize)]
struct FileCapture {
    name: Option<String>,
    config: Option<Map<String, Value>>,
    spouts: Option<Vec<Value>>,
    bolts: Option<Vec<Value>>,
    streams: Option<Vec<Value>>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileComponent {
    id: String,
    parallelism: Option<u32>,
    streams: Option<Vec<FileOutput>>,
    slow_executor_pattern: Option<FileSlow>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileSlow {
    slowness_ms: f64,
    count: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileOutput {
    stream_id: Option<String>,
    rate: FileNormal,
    are_keys_skewed: Option<bool>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct FileNormal {
    mean: f64,
    stddev: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileEdge {
    from: String,
    to: String,
    grouping: Option<FileGrouping>,
    exec_time: Option<FileNormal>,
    process_time: Option<FileNormal>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileGrouping {
    #[serde(rename = "type")]
    kind: Option<Grouping>,
    stream_id: Option<String>,
}

impl FileNormal {
    /// Checked; the deviation is a quarter of the mean where none is given, as in GenLoad.
    fn checked(&self, place: &str) -> Result<Normal, String> {
        let FileNormal { mean, stddev, min, max } = *self;
        let n = Normal {
            mean,
            stddev: stddev.unwrap_or(mean / 4.0),
            min: min.unwrap_or(0.0),
            max: max.unwrap_or(f64::MAX),
        };
        if n.mean < 0.0 || n.stddev < 0.0 || n.min < 0.0 {
            return Err(format!("{place}: mean, stddev and min are not below 0"));
        }
        if n.min > n.max {
            return Err(format!("{place}: min is {}, above max, which is {}; swap them", n.min, n.max));
        }
        Ok(n)
    }
}

fn of_value<T: DeserializeOwned>(value: &Value, place: &str) -> Result<T, String> {
    T::deserialize(value).map_err(|e| format!("{place}: {e}"))
}

impl Capture {
    /// Reads a capture.
    ///
    /// # Errors
    /// What is wrong with the file, with its name and the place.
    pub fn read(path: &Path) -> Result<Capture, String> {
        let base = path.file_stem().unwrap_or_default().to_string_lossy();
        Capture::parse(&yaml::read(path)?, &base).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Of a file's value; `base` is the name of a topology that has none.
    ///
    /// # Errors
    /// What is wrong, with the place.
    pub fn parse(value: &Value, base: &str) -> Result<Capture, String> {
        let file: FileCapture = match value {
            Value::Object(_) => of_value(value, "the capture")?,
            _ => return Err("this is no capture: it has neither spouts nor bolts".to_owned()),
        };
        let mut notes = Vec::new();
        left_out("the capture", &file.rest, &mut notes);
        let spouts = components("spouts", file.spouts.as_deref().unwrap_or_default(), &mut notes)?;
        let bolts = components("bolts", file.bolts.as_deref().unwrap_or_default(), &mut notes)?;
        let mut edges = Vec::new();
        for (i, value) in file.streams.iter().flatten().enumerate() {
            edges.push(edge(&format!("streams[{i}]"), value, &mut notes)?);
        }
        let config = config(&file.config.unwrap_or_default(), &mut notes)?;
        let name = file.name.unwrap_or_else(|| base.to_owned());
        let capture = Capture { name, spouts, bolts, edges, config, notes };
        capture.check()?;
        Ok(capture)
    }

    fn check(&self) -> Result<(), String> {
        if self.spouts.iter().all(|s| s.streams.is_empty()) {
            return Err("no spout emits anything: give `spouts` one with `streams`".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        for c in self.spouts.iter().chain(&self.bolts) {
            if !seen.insert(&c.id) {
                return Err(format!("two components are named `{}`; rename one", c.id));
            }
        }
        for (i, e) in self.edges.iter().enumerate() {
            let place = format!("streams[{i}]");
            if !self.bolts.iter().any(|b| b.id == e.to) {
                return Err(format!("{place}: no bolt is named `{}`", e.to));
            }
            let Some(from) = self.spouts.iter().chain(&self.bolts).find(|c| c.id == e.from) else {
                return Err(format!("{place}: no component is named `{}`", e.from));
            };
            if !from.streams.iter().any(|s| s.id == e.stream) {
                return Err(format!("{place}: `{}` has no stream `{}`; declare it there", e.from, e.stream));
            }
            let same = |o: &&Edge| (&o.from, &o.stream, &o.to) == (&e.from, &e.stream, &e.to);
            if self.edges[..i].iter().any(|o| same(&o)) {
                return Err(format!("{place}: `{}` reads `{}` of `{}` twice; keep one", e.to, e.stream, e.from));
            }
        }
        Ok(())
    }

    /// The capture as these options have it.
    #[must_use]
    pub fn adjusted(&self, by: &Adjust) -> Capture {
        let mut changed = self.clone();
        for c in changed.spouts.iter_mut().chain(&mut changed.bolts) {
            let before = f64::from(c.parallelism);
            c.parallelism = (before * by.parallel).ceil().clamp(1.0, f64::from(PARALLELISM_MAX)) as u32;
            let factor = before / f64::from(c.parallelism) * by.throughput;
            c.streams.iter_mut().for_each(|s| s.rate = s.rate.scaled(factor));
        }
        if by.local_or_shuffle {
            let shuffles = changed.edges.iter_mut().filter(|e| e.grouping == Grouping::Shuffle);
            shuffles.for_each(|e| e.grouping = Grouping::LocalOrShuffle);
        }
        changed
    }

    /// Tuples a second of a component's stream, all executors together.
    pub fn stream_rate(&self, from: &str, stream: &str) -> f64 {
        let component = self.spouts.iter().chain(&self.bolts).find(|c| c.id == from);
        let rate = component.and_then(|c| {
            let output = c.streams.iter().find(|s| s.id == stream)?;
            Some(mean_rate(&output.rate) * f64::from(c.parallelism))
        });
        rate.unwrap_or(0.0)
    }

    /// Tuples a second of all spouts.
    pub fn spout_rate(&self) -> f64 {
        self.spout_streams().map(|(_, s, parallelism)| mean_rate(&s.rate) * f64::from(parallelism)).sum()
    }

    /// The streams of all spouts, in the order in which bodies number them, with their spout and its executors.
    pub fn spout_streams(&self) -> impl Iterator<Item = (&str, &Output, u32)> {
        self.spouts.iter().flat_map(|c| c.streams.iter().map(move |s| (c.id.as_str(), s, c.parallelism)))
    }

    /// Tuples that a bolt emits on a stream for each tuple that it is given.
    pub fn ratio(&self, bolt: &Component, output: &Output) -> f64 {
        let of_edge = |e: &Edge| {
            let copies = if e.grouping == Grouping::All { f64::from(bolt.parallelism) } else { 1.0 };
            self.stream_rate(&e.from, &e.stream) * copies
        };
        let given: f64 = self.edges.iter().filter(|e| e.to == bolt.id).map(of_edge).sum();
        if given > 0.0 { mean_rate(&output.rate) * f64::from(bolt.parallelism) / given } else { 0.0 }
    }
}

fn mean_rate(rate: &Normal) -> f64 {
    if rate.mean > 0.0 { rate.mean } else { RATE_MIN }
}

fn left_out(place: &str, rest: &Rest, notes: &mut Vec<String>) {
    for key in rest.keys() {
        notes.push(format!("{place}: `{key}` is not played back"));
    }
}

fn components(list: &str, values: &[Value], notes: &mut Vec<String>) -> Result<Vec<Component>, String> {
    let mut all = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let place = format!("{list}[{i}]");
        let file: FileComponent = of_value(value, &place)?;
        let place = format!("{place} (`{}`)", file.id);
        left_out(&place, &file.rest, notes);
        let parallelism = file.parallelism.unwrap_or(1);
        if !(1..=PARALLELISM_MAX).contains(&parallelism) {
            return Err(format!("{place}: parallelism is {parallelism}; give 1 to {PARALLELISM_MAX}"));
        }
        let mut streams: Vec<Output> = Vec::new();
        for s in file.streams.unwrap_or_default() {
            let id = s.stream_id.unwrap_or_else(|| "default".to_owned());
            left_out(&format!("{place}, stream `{id}`"), &s.rest, notes);
            if streams.iter().any(|o| o.id == id) {
                return Err(format!("{place}: two streams are named `{id}`; rename one"));
            }
            let rate = s.rate.checked(&format!("{place}, rate of stream `{id}`"))?;
            streams.push(Output { id, rate, skewed: s.are_keys_skewed.unwrap_or(false) });
        }
        let slow = file.slow_executor_pattern.map(|s| (s.slowness_ms, s.count.unwrap_or(1)));
        if slow.is_some_and(|(ms, _)| !(0.0..=3_600_000.0).contains(&ms)) {
            return Err(format!("{place}: slownessMs is 0 to 3600000"));
        }
        all.push(Component { id: file.id, parallelism, streams, slow });
    }
    Ok(all)
}

fn edge(place: &str, value: &Value, notes: &mut Vec<String>) -> Result<Edge, String> {
    let file: FileEdge = of_value(value, place)?;
    left_out(place, &file.rest, notes);
    let time = |n: Option<FileNormal>, what: &str| match n {
        Some(n) => n.checked(&format!("{place}, {what}")),
        None => Ok(Normal::default()),
    };
    let grouping = file.grouping.unwrap_or(FileGrouping { kind: None, stream_id: None });
    Ok(Edge {
        from: file.from,
        to: file.to,
        stream: grouping.stream_id.unwrap_or_else(|| "default".to_owned()),
        grouping: grouping.kind.unwrap_or(Grouping::Shuffle),
        exec_ms: time(file.exec_time, "execTime")?,
        process_ms: time(file.process_time, "processTime")?,
    })
}

fn config(map: &Map<String, Value>, notes: &mut Vec<String>) -> Result<Config, String> {
    let mut config = Config::default();
    let mut left = Vec::new();
    for (key, value) in map {
        let number = || match value {
            Value::Null => Ok(None),
            _ => of_value::<u32>(value, &format!("config, {key}")).map(Some),
        };
        match key.as_str() {
            "topology.max.spout.pending" => config.max_spout_pending = number()?,
            "topology.message.timeout.secs" => config.message_timeout_secs = number()?,
            _ => left.push(key.as_str()),
        }
    }
    if !left.is_empty() {
        notes.push(format!("of the configuration, not played back: {}", left.join(", ")));
    }
    Ok(config)
}

/// When the spouts of a capture emit, and on which stream: each task of each stream by itself, with a rate that is drawn anew every 2 s.
#[derive(Debug, Clone)]
pub struct Times {
    tasks: Vec<TaskTimes>,
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

#[derive(Debug, Clone)]
struct TaskTimes {
    stream: usize,
    rate: Normal,
    at: f64,
    period: f64,
    redraw: f64,
    rng: Rng,
}

impl TaskTimes {
    fn redraw(&mut self) {
        let rate = self.rate.draw(&mut self.rng);
        self.period = 1e9 / if rate > 0.0 { rate } else { RATE_MIN };
    }
}

impl Times {
    /// Of this seed.
    pub fn new(capture: &Capture, seed: u64) -> Times {
        let mut times = Times { tasks: Vec::new(), next: BinaryHeap::new() };
        for (stream, (_, output, parallelism)) in capture.spout_streams().enumerate() {
            for task in 0..parallelism {
                let rng = Rng::new(seed, 1000 + times.tasks.len() as u64);
                let mut t = TaskTimes { stream, rate: output.rate, at: 0.0, period: 0.0, redraw: REDRAW_NS, rng };
                t.redraw();
                // Its tasks take turns, where GenLoad leaves to chance how they lie.
                t.at = t.period * f64::from(task) / f64::from(parallelism);
                times.next.push(Reverse((t.at as u64, times.tasks.len())));
                times.tasks.push(t);
            }
        }
        times
    }
}

/// Offsets of the tuples, each with the number of its stream; without an end.
impl Iterator for Times {
    type Item = (u64, usize);

    #[inline]
    fn next(&mut self) -> Option<(u64, usize)> {
        let Reverse((at, task)) = self.next.pop()?;
        let t = &mut self.tasks[task];
        if t.at >= t.redraw {
            t.redraw = t.at + REDRAW_NS;
            t.redraw();
        }
        t.at += t.period;
        self.next.push(Reverse((t.at as u64, task)));
        Some((at, t.stream))
    }
}

/// Bodies of a capture's load: the number of a spout's stream, and a key.
#[derive(Debug, Clone)]
pub struct CaptureBody {
    pick: Pick,
    keys: Rng,
    skewed: Arc<[bool]>,
}

#[derive(Debug, Clone)]
enum Pick {
    /// As the schedule has it that draws the same.
    Times(Times),
    /// By the rates of the streams, where the load has another schedule or none: sums of their shares.
    Shares(Arc<[f64]>, Rng),
}

impl CaptureBody {
    /// Of a capture and a seed; `timed` says that tuples are due as by [`Times`] of the same seed.
    pub fn new(capture: &Capture, seed: u64, timed: bool) -> CaptureBody {
        let pick = if timed {
            Pick::Times(Times::new(capture, seed))
        } else {
            let total = capture.spout_rate();
            let mut sum = 0.0;
            let share = |(_, s, parallelism): (&str, &Output, u32)| {
                sum += mean_rate(&s.rate) * f64::from(parallelism) / total;
                sum
            };
            Pick::Shares(capture.spout_streams().map(share).collect(), Rng::new(seed, 3))
        };
        let skewed = capture.spout_streams().map(|(_, s, _)| s.skewed).collect();
        CaptureBody { pick, keys: Rng::new(seed, 4), skewed }
    }
}

/// A key of a stream: all alike, or the low ones more often, as GenLoad draws them.
pub fn draw_key(rng: &mut Rng, skewed: bool) -> u64 {
    if skewed { ((rng.normal() * KEYS as f64 / 5.0).abs() as u64).min(KEYS - 1) } else { rng.below(KEYS) }
}

/// Stream and key of a body.
pub fn stream_and_key(body: &[u8]) -> Option<(usize, u64)> {
    let word = |at: usize| body.get(at..at + 8).and_then(|b| b.first_chunk()).map(|b| u64::from_le_bytes(*b));
    Some((usize::try_from(word(0)?).ok()?, word(8)?))
}

impl Body for CaptureBody {
    fn write(&mut self, _: u64, _: u64, to: &mut Vec<u8>) {
        let stream = match &mut self.pick {
            Pick::Times(times) => times.next().map_or(0, |(_, stream)| stream),
            Pick::Shares(sums, rng) => {
                let at = rng.unit();
                sums.iter().position(|sum| at < *sum).unwrap_or(sums.len() - 1)
            }
        };
        let key = draw_key(&mut self.keys, self.skewed[stream]);
        to.extend_from_slice(&(stream as u64).to_le_bytes());
        to.extend_from_slice(&key.to_le_bytes());
    }

    fn schema(&self) -> Schema {
        Schema(["stream", "key"].map(|n| (n.to_owned(), FieldType::U64)).into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// In the form in which CaptureLoad writes it.
    pub(crate) const SAMPLE: &str = include_str!("../../topologies/capture.yaml");

    pub(crate) fn capture(text: &str) -> Result<Capture, String> {
        Capture::parse(&yaml::parse(text).unwrap(), "base")
    }

    #[test]
    fn a_capture_is_read_as_storm_writes_it() {
        let c = capture(SAMPLE).unwrap();
        let names = |list: &[Component]| list.iter().map(|c| (c.id.clone(), c.parallelism)).collect::<Vec<_>>();
        assert_eq!(c.name, "orders");
        assert_eq!(names(&c.spouts), [("orders".to_owned(), 2), ("clicks".to_owned(), 1)]);
        assert_eq!(names(&c.bolts).len(), 3);
        assert_eq!(c.spouts[0].streams[0].rate, Normal { mean: 400.0, stddev: 20.0, min: 300.0, max: 500.0 });
        assert_eq!((c.edges[1].grouping, c.edges[1].stream.as_str()), (Grouping::Fields, "lines"));
        assert_eq!(c.config, Config { max_spout_pending: Some(5000), message_timeout_secs: Some(60) });
        assert!(c.notes.iter().any(|n| n.contains("topology.workers")), "{:?}", c.notes);
        assert!(c.notes.iter().any(|n| n.contains("memoryLoad")), "{:?}", c.notes);
        assert_eq!(c.spout_rate(), 1000.0);
        // 2400 lines a second of 800 orders.
        assert!((c.ratio(&c.bolts[0], &c.bolts[0].streams[0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_capture_is_refused_with_its_place() {
        let spout = "spouts: [{id: s, streams: [{rate: {mean: 1}}]}]\n";
        for (text, what) in [
            ("", "neither spouts nor bolts"),
            ("[1]", "neither spouts nor bolts"),
            ("bolts: []", "no spout emits"),
            ("spouts: [{streams: []}]", "spouts[0]: missing field `id`"),
            ("spouts: [{id: s, parallelism: 0, streams: [{rate: {mean: 1}}]}]", "parallelism is 0"),
            ("spouts: [{id: s, streams: [{rate: {}}]}]", "missing field `mean`"),
            ("spouts: [{id: s, streams: [{rate: {mean: -1}}]}]", "not below 0"),
            ("spouts: [{id: s, streams: [{rate: {mean: 1, min: 5, max: 2}}]}]", "swap them"),
            ("spouts: [{id: s, streams: [{rate: {mean: 1}}, {rate: {mean: 1}}]}]", "two streams"),
            (&format!("{spout}bolts: [{{id: s}}]"), "two components are named `s`"),
            (&format!("{spout}streams: [{{from: s, to: b}}]"), "no bolt is named `b`"),
            (&format!("{spout}bolts: [{{id: b}}]\nstreams: [{{from: x, to: b}}]"), "no component is named `x`"),
            (
                &format!("{spout}bolts: [{{id: b}}]\nstreams: [{{from: s, to: b, grouping: {{streamId: y}}}}]"),
                "no stream `y`",
            ),
            (
                &format!("{spout}bolts: [{{id: b}}]\nstreams: [{{from: s, to: b, grouping: {{type: ROUND}}}}]"),
                "unknown variant `ROUND`",
            ),
            (&format!("{spout}bolts: [{{id: b}}]\nstreams: [{{from: s, to: b}}, {{from: s, to: b}}]"), "twice"),
        ] {
            let told = capture(text).unwrap_err();
            assert!(told.contains(what), "{text}: {told}");
        }
    }

    #[test]
    fn more_executors_keep_the_rate_and_more_throughput_does_not() {
        let c = capture(SAMPLE).unwrap();
        let wide = c.adjusted(&Adjust { parallel: 1.5, ..Adjust::default() });
        assert_eq!((wide.spouts[0].parallelism, wide.spouts[1].parallelism), (3, 2));
        assert!((wide.spout_rate() - c.spout_rate()).abs() < 1e-6);
        let fast = c.adjusted(&Adjust { throughput: 2.0, local_or_shuffle: true, ..Adjust::default() });
        assert!((fast.spout_rate() - 2000.0).abs() < 1e-6);
        assert_eq!(fast.edges[0].grouping, Grouping::LocalOrShuffle);
        assert!((fast.ratio(&fast.bolts[0], &fast.bolts[0].streams[0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn tuples_are_due_at_the_rates_of_their_streams_and_the_bodies_name_the_same_streams() {
        let c = capture(SAMPLE).unwrap();
        let mut times = Times::new(&c, 7);
        let mut body = CaptureBody::new(&c, 7, true);
        let (mut seen, mut last) = ([0_u32; 2], 0);
        loop {
            let (at, stream) = times.next().unwrap();
            if at >= 10_000_000_000 {
                break;
            }
            assert!(at >= last);
            last = at;
            seen[stream] += 1;
            let mut bytes = Vec::new();
            body.write(0, at, &mut bytes);
            let (named, key) = stream_and_key(&bytes).unwrap();
            assert_eq!(named, stream);
            assert!(key < KEYS);
        }
        // Two tasks of 400 a second with a deviation of 20, drawn every 2 s; one of 200 without.
        assert!((7_600..8_400).contains(&seen[0]) && (1_999..2_001).contains(&seen[1]), "{seen:?}");
        let mut shares = CaptureBody::new(&c, 7, false);
        let mut first = 0;
        for _ in 0..10_000 {
            let mut bytes = Vec::new();
            shares.write(0, 0, &mut bytes);
            first += u32::from(stream_and_key(&bytes).unwrap().0 == 0);
        }
        assert!((7_800..8_200).contains(&first), "{first}");
    }
}
