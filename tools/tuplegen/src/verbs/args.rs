//! What a load is, as options: shared by every verb that makes one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use squall_engine::WaitStrategy;
use squall_load::Address;
use squall_load::record::HEADER_BYTES;

use super::Failure;
use crate::measure::drive::{Course, Pace};
use crate::measure::slo::Slo;
use crate::measure::verdict::Allowed;
use crate::model::arrival::{Arrival, Length, Schedule};
use crate::model::body::{Body, FieldSpecs, Fields};
use crate::model::capture::{Adjust, Capture, CaptureBody, Times};
use crate::model::dist::Dist;
use crate::model::size::Size;
use crate::model::trace::Trace;
use crate::model::units::{parse_bytes, parse_count, parse_duration_ns, parse_number};
use crate::target::builtin::{BuiltinOptions, Scenario, find};
use crate::target::genload::playable;

/// Longest unpaced or closed load's interval, and every other's.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// Bytes of a ring: some records of the largest size at least.
const RING_BYTES: std::ops::RangeInclusive<u64> = (128 << 10)..=(1 << 30);

/// The load and its target.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// A built-in scenario; `tuplegen list` shows them
    #[arg(long, value_name = "NAME", help_heading = "Target", conflicts_with_all = ["local", "ingest"])]
    pub builtin: Option<String>,
    /// A topology to start for the run: its program, or a YAML file
    #[arg(long, value_name = "FILE", help_heading = "Target", conflicts_with = "ingest")]
    pub local: Option<PathBuf>,
    /// An argument for that topology's `run`; repeatable
    #[arg(long, value_name = "ARG", help_heading = "Target", requires = "local", allow_hyphen_values = true)]
    pub local_arg: Vec<String>,
    /// A topology that storm-loadgen's CaptureLoad wrote down, played back in this process; its tuples come back when their trees are complete
    #[arg(long, value_name = "FILE", help_heading = "Target", conflicts_with_all = ["builtin", "local", "ingest"])]
    pub capture: Option<PathBuf>,
    /// Have each component of the capture so many times its executors; the rates of all of them together stay
    #[arg(long, value_name = "FACTOR", help_heading = "Target", requires = "capture", value_parser = parse_factor)]
    pub parallel: Option<f64>,
    /// Have each stream of the capture so many times its rate
    #[arg(long, value_name = "FACTOR", help_heading = "Target", requires = "capture", conflicts_with = "rate", value_parser = parse_factor)]
    pub throughput: Option<f64>,
    /// Replace the capture's shuffle groupings by local-or-shuffle
    #[arg(long, help_heading = "Target", requires = "capture")]
    pub local_or_shuffle: bool,
    /// Give a started topology its tuples over its Unix sockets instead of shared memory
    #[arg(long, help_heading = "Target", requires = "local")]
    pub no_shm: bool,
    /// Ingest spout of a running topology: shm:PATH, unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "ADDRESS", help_heading = "Target", requires = "egress")]
    pub ingest: Option<Address>,
    /// Its egress sink
    #[arg(long, value_name = "ADDRESS", help_heading = "Target", requires = "ingest")]
    pub egress: Option<Address>,
    /// Tuples a second in total (100k, 2.5M), or `max`: as fast as the target takes them [default: the scenario's or capture's, else 1k]
    #[arg(short = 'R', long, value_name = "RATE", help_heading = "Load")]
    pub rate: Option<String>,
    /// constant, poisson, burst:N or burst:N:GAP, ramp:A..B, step:A..B:STEP:HOLD, sine:MEAN:AMP:PERIOD, onoff:ON:OFF, gamma:CV or trace:FILE; of a
    /// capture also captured [default: constant, of a capture: captured]
    #[arg(long, value_name = "HOW", help_heading = "Load")]
    pub arrival: Option<String>,
    /// Closed loop: so many tuples under way, whatever the rate; says nothing about latency under load
    #[arg(long, value_name = "N", help_heading = "Load", conflicts_with_all = ["rate", "arrival"])]
    pub closed: Option<u64>,
    /// Length of the load, warm-up included [default: 10s]
    #[arg(short, long, value_name = "TIME", help_heading = "Load", value_parser = parse_duration_ns)]
    pub duration: Option<u64>,
    /// Tuples, instead of a length, or at most within it
    #[arg(short = 'n', long, value_name = "N", help_heading = "Load", value_parser = parse_count)]
    pub count: Option<u64>,
    /// Latencies of what is due in this first time do not count [default: a tenth of the length, at most 2s]
    #[arg(long, value_name = "TIME", help_heading = "Load", value_parser = parse_duration_ns)]
    pub warmup: Option<u64>,
    /// How long to wait at the end for what is under way
    #[arg(long, value_name = "TIME", help_heading = "Load", default_value = "3s", value_parser = parse_duration_ns)]
    pub drain: u64,
    /// Seed of every random number
    #[arg(long, help_heading = "Load", default_value_t = 1)]
    pub seed: u64,
    /// Send a recorded stream, times and bytes
    #[arg(long, value_name = "FILE", help_heading = "Load", conflicts_with_all = ["rate", "arrival", "closed", "fields", "size"])]
    pub replay: Option<PathBuf>,
    /// Fields: name:type=distribution, as in id:u64=seq,word:str=zipf(10k,1.1),x:f64=normal(100,5)
    #[arg(long, value_name = "FIELDS", help_heading = "Tuples")]
    pub fields: Option<String>,
    /// Distribution of keys: seq, uniform:N, zipf:N:S, hot:SHARE:PROBABILITY:N, latest:N, churn(zipf(1M,1.1),1%), file:PATH …
    #[arg(long, value_name = "DISTRIBUTION", help_heading = "Tuples")]
    pub keys: Option<String>,
    /// The field that --keys is for [default: the first]
    #[arg(long, value_name = "NAME", help_heading = "Tuples", requires = "keys")]
    pub key: Option<String>,
    /// Bytes of a record, its 32 bytes of stamps included: 128, 64..1k, normal:256:32, exp:300, list:64=50,4k=10
    #[arg(long, value_name = "SIZE", help_heading = "Tuples")]
    pub size: Option<String>,
    /// A condition, such as p99<50us, send.p50<10us, rate>=99.9% or loss==0; repeatable
    #[arg(long, value_name = "CONDITION", help_heading = "Judgement")]
    pub slo: Vec<Slo>,
    /// What may happen to tuples without failing the run: loss, dup, reorder
    #[arg(long, value_name = "WHAT,…", help_heading = "Judgement", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Have steal, ticks, trend and noise invalidate the run, not only lower its grade
    #[arg(long, help_heading = "Judgement")]
    pub strict: bool,
    /// 99 % of the hiccups of each core of the run stay below this, or the grade suffers
    #[arg(long, value_name = "TIME", help_heading = "Judgement", default_value = "1ms", value_parser = parse_duration_ns)]
    pub noise_gate: u64,
    /// Emit with ids, so that each tuple's tree is tracked (built-in scenarios)
    #[arg(long, help_heading = "Built-in scenarios")]
    pub acks: bool,
    /// Time that each tuple takes a bolt
    #[arg(long, value_name = "TIME", help_heading = "Built-in scenarios", value_parser = parse_duration_ns)]
    pub service: Option<u64>,
    /// Stall that bolt once: AFTER:LENGTH, as in 3s:500ms
    #[arg(long, value_name = "AFTER:LENGTH", help_heading = "Built-in scenarios")]
    pub stall: Option<String>,
    /// File that sentences are taken from
    #[arg(long, value_name = "FILE", help_heading = "Built-in scenarios")]
    pub text: Option<PathBuf>,
    /// How idle reactors wait: spin, hybrid or park
    #[arg(long, value_name = "STRATEGY", help_heading = "Built-in scenarios", default_value = "hybrid")]
    pub wait: WaitStrategy,
    /// Reactors of the topology [default: one for each core but the generator's, at most 2]
    #[arg(long, value_name = "N", help_heading = "Built-in scenarios")]
    pub reactors: Option<usize>,
    /// Bytes of the rings between generator and topology
    #[arg(long, value_name = "BYTES", help_heading = "Built-in scenarios", default_value = "4MiB", value_parser = parse_bytes)]
    pub ring: u64,
    /// Follow one tuple in so many through its hops; a power of two
    #[arg(long, value_name = "N", help_heading = "Measuring", default_value_t = 64)]
    pub hop_sample: u64,
    /// Core of the generating thread [default: the first that this process may use]
    #[arg(long, value_name = "CORE", help_heading = "Measuring")]
    pub cpu: Option<usize>,
    /// Let the generating thread sleep where it has time, as it does where cores are too few to spin
    #[arg(long, help_heading = "Measuring")]
    pub no_spin: bool,
}

/// A command line that is a load and nothing else.
#[derive(clap::Parser)]
#[command(name = "tuplegen run")]
struct Line {
    #[command(flatten)]
    load: LoadArgs,
}

/// The load that these arguments of `tuplegen run` describe, not checked against each other yet.
///
/// # Errors
/// What the parser says.
pub fn load_of<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Result<LoadArgs, Failure> {
    let words = std::iter::once("tuplegen run".to_owned()).chain(args.into_iter().map(Into::into));
    let line = <Line as clap::Parser>::try_parse_from(words);
    line.map(|l| l.load).map_err(|e| Failure::Usage(e.to_string().trim_start_matches("error: ").to_owned()))
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many tuples a second.
    PerSecond(f64),
    /// As the arrival has it.
    OfArrival,
    /// As fast as it goes.
    Max,
    /// So many under way.
    Closed(u64),
}

/// A load, checked.
#[derive(Clone)]
pub struct Job {
    /// As it was asked for.
    pub args: LoadArgs,
    /// How fast.
    pub rate: Rate,
    /// How tuples arrive.
    pub arrival: Arrival,
    /// Offset from which nothing is due.
    pub end_ns: u64,
    /// Tuples at most.
    pub count: u64,
    /// Warm-up.
    pub warmup_ns: u64,
    /// The scenario, where it is one.
    pub scenario: Option<&'static Scenario>,
    /// Where a bolt is stalled.
    pub stall: Option<(u64, u64)>,
    /// What may happen.
    pub allowed: Allowed,
    /// The recorded stream.
    pub trace: Option<Trace>,
    /// The captured topology, at its rate times the factor.
    pub capture: Option<Arc<Capture>>,
    fields: FieldSpecs,
    fields_text: String,
    size: Size,
}

/// The lines of a file.
fn lines(path: &str) -> Result<Arc<[String]>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

impl LoadArgs {
    /// Checks the options against each other.
    ///
    /// # Errors
    /// What makes no sense, with what to do.
    pub fn job(&self) -> Result<Job, Failure> {
        self.checked().map_err(Failure::Usage)
    }

    fn checked(&self) -> Result<Job, String> {
        let scenario = match &self.builtin {
            Some(name) => {
                Some(find(name).ok_or_else(|| format!("no scenario is named `{name}`; `tuplegen list` shows them"))?)
            }
            None if self.local.is_none() && self.ingest.is_none() && self.capture.is_none() => {
                return Err(
                    "there is no target: give --builtin, --local, --capture, or --ingest and --egress".to_owned()
                );
            }
            None => None,
        };
        if scenario.is_none() && (self.acks || self.service.is_some() || self.stall.is_some() || self.text.is_some()) {
            return Err("--acks, --service, --stall and --text are for built-in scenarios".to_owned());
        }
        // The parser asks for `--local` and `--capture` only where no other target forbids them.
        if self.local.is_none() && (self.no_shm || !self.local_arg.is_empty()) {
            return Err("--no-shm and --local-arg are for topologies started with --local".to_owned());
        }
        if self.capture.is_none() && (self.parallel.is_some() || self.throughput.is_some() || self.local_or_shuffle) {
            return Err("--parallel, --throughput and --local-or-shuffle change a capture: give --capture".to_owned());
        }
        let capture = self.captured()?;
        let arrival: Arrival = match (&self.replay, &self.arrival) {
            (Some(file), _) => Arrival::Trace(file.display().to_string()),
            (None, Some(text)) => text.parse()?,
            (None, None) if capture.is_some() => Arrival::Captured,
            (None, None) => Arrival::Constant,
        };
        if arrival == Arrival::Captured && capture.is_none() {
            return Err("only a capture arrives as captured: give --capture, or another --arrival".to_owned());
        }
        let trace = match &arrival {
            Arrival::Trace(file) => Some(Trace::read(Path::new(file))?),
            _ => None,
        };
        let rate = match (&self.rate, self.closed) {
            (_, Some(0)) => return Err("a closed loop has at least one tuple under way".to_owned()),
            (_, Some(n)) => Rate::Closed(n),
            (Some(_), _) if arrival.has_rate() => return Err(format!("{arrival} has its own rate: leave --rate out")),
            (None, _) if arrival.has_rate() => Rate::OfArrival,
            (Some(text), _) if text == "max" => Rate::Max,
            (Some(text), _) => Rate::PerSecond(parse_number(text)?),
            (None, _) => Rate::PerSecond(match (scenario, &capture) {
                (Some(s), _) => s.rate,
                (_, Some(c)) => c.spout_rate(),
                _ => 1000.0,
            }),
        };
        if rate == Rate::Max && !matches!(arrival, Arrival::Constant | Arrival::Captured) {
            return Err("--rate max has no arrivals: leave --arrival out".to_owned());
        }
        let counted = self.count.is_some() || trace.is_some();
        let end_ns = self.duration.unwrap_or(if counted { u64::MAX } else { 10_000_000_000 });
        if self.reactors == Some(0) {
            return Err("--reactors is 0: a topology has at least one".to_owned());
        }
        if !RING_BYTES.contains(&self.ring) {
            return Err(format!("--ring is {}: give 128KiB to 1G", self.ring));
        }
        let usual_warmup = if end_ns == u64::MAX { 0 } else { (end_ns / 10).min(2_000_000_000) };
        let warmup_ns = self.warmup.unwrap_or(usual_warmup);
        if end_ns == 0 || self.count == Some(0) {
            return Err("a load of no length sends nothing: give --duration or --count more than 0".to_owned());
        }
        if warmup_ns >= end_ns {
            return Err("the warm-up is as long as the load: nothing would be measured; lower --warmup".to_owned());
        }
        if !self.hop_sample.is_power_of_two() {
            return Err(format!("--hop-sample is {}: give a power of two", self.hop_sample));
        }
        let fields_text = match (&self.fields, scenario) {
            (Some(text), _) => text.clone(),
            (None, Some(s)) if s.kind == crate::target::builtin::Kind::Rekey => "key:u64=uniform(1M)".to_owned(),
            _ => String::new(),
        };
        let mut fields = FieldSpecs::parse(&fields_text, &lines)?;
        if let Some(keys) = &self.keys {
            fields.set_keys(self.key.as_deref(), Dist::parse(keys, &lines)?)?;
        }
        let size = self.size.as_deref().unwrap_or(scenario.map_or("32", |s| s.size)).parse()?;
        let mut allowed = Allowed { reorder: scenario.is_none(), ..Allowed::default() };
        for what in &self.allow {
            match what.as_str() {
                "loss" => allowed.loss = true,
                "dup" => allowed.duplicates = true,
                "reorder" => allowed.reorder = true,
                other => return Err(format!("`{other}` cannot be allowed: write loss, dup or reorder")),
            }
        }
        let stall = match &self.stall {
            None => None,
            Some(text) => {
                let (after, length) =
                    text.split_once(':').ok_or_else(|| format!("`{text}`: write AFTER:LENGTH, as in 3s:500ms"))?;
                Some((parse_duration_ns(after)?, parse_duration_ns(length)?))
            }
        };
        let job = Job {
            args: self.clone(),
            rate,
            arrival,
            end_ns,
            count: self.count.unwrap_or(u64::MAX),
            warmup_ns,
            scenario,
            stall,
            allowed,
            trace,
            capture,
            fields,
            fields_text,
            size,
        };
        // Whether it can be scheduled is a question of usage, too.
        job.pace()?;
        job.body()?;
        Ok(job)
    }
}

impl LoadArgs {
    /// The capture with its adjustments.
    fn captured(&self) -> Result<Option<Arc<Capture>>, String> {
        let Some(file) = &self.capture else { return Ok(None) };
        if self.fields.is_some() || self.keys.is_some() || self.size.is_some() || self.replay.is_some() {
            return Err("a capture has its own tuples: leave --fields, --keys, --size and --replay out".to_owned());
        }
        let by = Adjust {
            parallel: self.parallel.unwrap_or(1.0),
            throughput: self.throughput.unwrap_or(1.0),
            local_or_shuffle: self.local_or_shuffle,
        };
        let capture = Capture::read(file)?.adjusted(&by);
        playable(&capture)?;
        Ok(Some(Arc::new(capture)))
    }
}

/// A factor above 0.
fn parse_factor(text: &str) -> Result<f64, String> {
    match parse_number(text)? {
        n if n > 0.0 && n <= 1e6 => Ok(n),
        n => Err(format!("{n} is no factor: give more than 0 and at most 1M")),
    }
}

impl Job {
    /// At another rate.
    pub fn at_rate(&self, rate: f64) -> Job {
        Job { rate: Rate::PerSecond(rate), ..self.clone() }
    }

    /// When tuples are due.
    ///
    /// # Errors
    /// What cannot be scheduled.
    pub fn pace(&self) -> Result<Pace, String> {
        let rate = match self.rate {
            Rate::Max => return Ok(Pace::Max),
            Rate::Closed(n) => return Ok(Pace::Closed(n)),
            Rate::OfArrival => 0.0,
            Rate::PerSecond(rate) => rate,
        };
        self.schedule(rate).map(Pace::Open)
    }

    /// The capture as its spouts emit at this rate, where the load has their schedule.
    fn captured_at(&self, rate: f64) -> Option<Capture> {
        let capture = self.capture.as_ref().filter(|_| self.arrival == Arrival::Captured)?;
        Some(capture.adjusted(&Adjust { throughput: rate / capture.spout_rate(), ..Adjust::default() }))
    }

    fn schedule(&self, rate: f64) -> Result<Schedule, String> {
        let length = Length { end_ns: self.end_ns, count: self.count };
        if let Some(capture) = self.captured_at(rate) {
            // The same bounds as of every other schedule.
            Schedule::new(&Arrival::Constant, rate, length, 0, None)?;
            return Ok(Schedule::captured(Times::new(&capture, self.args.seed), length));
        }
        Schedule::new(&self.arrival, rate, length, self.args.seed, self.trace.as_ref().map(|t| t.offsets.clone()))
    }

    /// What is sent.
    ///
    /// # Errors
    /// When a text cannot be read.
    pub fn body(&self) -> Result<Box<dyn Body>, String> {
        if let Some(trace) = &self.trace {
            return Ok(Box::new(trace.clone()));
        }
        if let Some(capture) = &self.capture {
            let timed = match self.rate {
                Rate::PerSecond(rate) => self.captured_at(rate),
                _ => None,
            };
            let timed_by = timed.as_ref().unwrap_or(capture);
            return Ok(Box::new(CaptureBody::new(timed_by, self.args.seed, timed.is_some())));
        }
        if let Some(builtin) = self.builtin_options(Vec::new())
            && let Some(body) = builtin.body(self.args.seed)?
        {
            return Ok(body);
        }
        Ok(Box::new(Fields::new(self.fields.clone(), self.size.clone(), self.args.seed)))
    }

    /// The bodies in words.
    pub fn body_text(&self) -> String {
        match (&self.trace, self.scenario) {
            (Some(_), _) => "of the trace".to_owned(),
            _ if self.capture.is_some() => "of the capture".to_owned(),
            (None, Some(s)) if self.builtin_options(Vec::new()).is_some_and(|b| b.has_body()) => {
                format!("of {}", s.name)
            }
            _ => match &self.args.keys {
                Some(keys) => format!("{} keys {keys}", self.fields_text).trim().to_owned(),
                None => self.fields_text.clone(),
            },
        }
    }

    /// Sizes in words.
    pub fn size_text(&self) -> String {
        match self.builtin_options(Vec::new()) {
            Some(b) if b.has_body() => "text".to_owned(),
            _ if self.trace.is_some() => "trace".to_owned(),
            _ if self.capture.is_some() => (HEADER_BYTES + 16).to_string(),
            _ => self.size.to_string(),
        }
    }

    /// The scenario on these cores.
    pub fn builtin_options(&self, cores: Vec<usize>) -> Option<BuiltinOptions> {
        let default_service =
            if self.scenario?.kind == crate::target::builtin::Kind::BackPressure { 1_000_000 } else { 0 };
        Some(BuiltinOptions {
            scenario: self.scenario?,
            service_ns: self.args.service.unwrap_or(default_service),
            stall: self.stall,
            acks: self.args.acks,
            cores,
            wait: self.args.wait,
            text: self.args.text.clone(),
            hop_mask: self.args.hop_sample - 1,
            ring_bytes: self.args.ring as usize,
        })
    }

    /// How it is laid out in time.
    pub fn course(&self) -> Course {
        Course {
            warmup_ns: self.warmup_ns,
            end_ns: self.end_ns,
            count: self.count,
            drain_ns: self.args.drain,
            interval_ns: INTERVAL_NS.min((self.end_ns / 10).max(100_000_000)),
            hop_mask: self.args.hop_sample - 1,
        }
    }

    /// The target in words.
    pub fn target_text(&self) -> String {
        match (self.scenario, &self.args.local, &self.args.ingest) {
            (Some(s), ..) => s.name.to_owned(),
            (_, Some(file), _) => file.display().to_string(),
            (_, _, Some(ingest)) => ingest.to_string(),
            _ if self.capture.is_some() => {
                self.capture.as_ref().map_or_else(String::new, |c| format!("genload {}", c.name))
            }
            _ => String::new(),
        }
    }

    /// Each field with its distribution, for a preview.
    pub fn fields(&self) -> &FieldSpecs {
        &self.fields
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn job(line: &str) -> Result<Job, Failure> {
        load_of(line.split_whitespace())?.job()
    }

    #[test]
    fn a_load_has_sensible_defaults() {
        let j = job("--builtin const-null").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (j.rate, j.end_ns, j.warmup_ns, j.count),
            (Rate::PerSecond(1000.0), 10_000_000_000, 1_000_000_000, u64::MAX)
        );
        let counted = job("--builtin const-null -n 5k").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((counted.end_ns, counted.warmup_ns, counted.count), (u64::MAX, 0, 5000));
        let alias = job("--builtin ConstSpoutIdBoltNullBolt -R 50k --size 128").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((alias.scenario.unwrap().name, alias.size_text().as_str()), ("const-id-null", "128"));
    }

    #[test]
    fn a_capture_has_its_rate_and_its_way_of_arriving_or_those_asked_for() {
        let j = job("--capture topologies/capture.yaml --throughput 3").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((j.rate, j.arrival.to_string().as_str()), (Rate::PerSecond(3000.0), "captured"));
        let due = |j: &Job| match j.pace() {
            Ok(Pace::Open(mut s)) => std::iter::from_fn(|| s.next_ns()).count(),
            _ => panic!("a schedule"),
        };
        assert!((29_000..31_000).contains(&due(&j)), "{}", due(&j));
        let faster = job("--capture topologies/capture.yaml -R 5k").unwrap_or_else(|e| panic!("{e}"));
        assert!((48_000..52_000).contains(&due(&faster)), "{}", due(&faster));
        let other = job("--capture topologies/capture.yaml --arrival constant").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(due(&other), 10_000);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_remedy() {
        for (line, word) in [
            ("", "no target"),
            ("--builtin nothing", "tuplegen list"),
            ("--builtin echo --arrival ramp:1..2 -R 5", "its own rate"),
            ("--builtin echo --closed 5 -R 5", "cannot be used"),
            ("--builtin echo --closed 0", "at least one"),
            ("--builtin echo -R 0", "cannot be scheduled"),
            ("--builtin echo -d 1s --warmup 1s", "lower --warmup"),
            ("--builtin echo --slo p99", "p99<50us"),
            ("--builtin echo --allow corrupt", "loss, dup or reorder"),
            ("--builtin echo --stall 5s", "AFTER:LENGTH"),
            ("--builtin echo --hop-sample 3", "power of two"),
            ("--builtin echo -n 0", "sends nothing"),
            ("--builtin echo -d 0s", "sends nothing"),
            ("--builtin echo --reactors 0", "at least one"),
            ("--builtin echo --ring 1", "128KiB"),
            ("--builtin echo --fields a:u64=nope", "no distribution"),
            ("--builtin echo --keys zipf:10", "no distribution"),
            ("--builtin echo --local x", "cannot be used"),
            ("--local x --acks", "built-in"),
            ("--ingest unix:/x", "--egress"),
            ("--builtin echo --replay /no/such/file", "/no/such/file"),
            ("--capture /no/such/file", "/no/such/file"),
            ("--capture topologies/capture.yaml --size 64", "its own tuples"),
            ("--capture topologies/capture.yaml --parallel 0", "no factor"),
            ("--capture topologies/capture.yaml --parallel 100", "lower --parallel"),
            ("--capture topologies/capture.yaml --throughput 2 -R 5k", "cannot be used"),
            ("--capture topologies/capture.yaml --acks", "built-in"),
            ("--builtin echo --throughput 2", "--capture"),
            ("--builtin echo --no-shm", "--local"),
            ("--builtin echo --arrival captured", "give --capture"),
        ] {
            match job(line) {
                Err(Failure::Usage(text)) => assert!(text.contains(word), "{line}: {text}"),
                Err(Failure::Error(text)) => panic!("{line}: {text}"),
                Ok(_) => panic!("{line}: it was taken"),
            }
        }
    }
}
