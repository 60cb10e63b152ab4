//! The field's standard workloads as topologies in this process, on the ordinary engine, between the ingest spout and the egress sink. A
//! scenario's rate is what its spout emits. Each verifies its own answer: by sequence and checksum, and where it counts, against a plain pass over
//! the same bodies.

use std::path::PathBuf;
use std::sync::Arc;

use ahash::AHashMap;
use squall::Topology;
use squall_engine::WaitStrategy;
use squall_load::{Egress, EgressParts, Ingest, LocalEnds, Reflect, local};
use squall_textgen::{GeneratorOptions, generate_text};

use super::hops::Hops;
use super::running::Running;
use super::wire::Wire;
use super::workloads::{
    Aggregate, Campaigns, Count, Events, Id, Keyed, Match, Split, Tally, Throttle, Views, WORDS_MAX, Word,
    count_matches, count_views, count_words,
};
use super::{Finished, Replay, Session};
use crate::measure::drive::Outcome;
use crate::measure::verdict::Allowed;
use crate::model::body::{Body, Sentences};

/// Bytes of the text that sentences are taken from, unless a file is given.
const TEXT_BYTES: u64 = 1_000_000;

/// What a scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A spout alone.
    Const,
    /// Spout and sink.
    ConstNull,
    /// Spout, a bolt that passes on, sink.
    ConstIdNull,
    /// Sentences, split, counted by word.
    WordCount,
    /// Words, counted.
    SimplifiedWordCount,
    /// A bolt that takes a fixed time.
    BackPressure,
    /// Records given to the consumers that want them, counted by consumer.
    Rekey,
    /// Filter, project, join with a table, count by campaign and 10 s.
    Yahoo,
}

/// A scenario with its names.
#[derive(Debug)]
pub struct Scenario {
    /// What it is.
    pub kind: Kind,
    /// Its name here.
    pub name: &'static str,
    /// Its name in storm-perf or elsewhere.
    pub alias: &'static str,
    /// In one sentence.
    pub about: &'static str,
    /// Tuples a second where none are asked for.
    pub rate: f64,
    /// Bytes of a record where none are asked for.
    pub size: &'static str,
}

const fn scenario(kind: Kind, name: &'static str, alias: &'static str, about: &'static str) -> Scenario {
    Scenario { kind, name, alias, about, rate: 1000.0, size: "32" }
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 12] = [
    scenario(Kind::Const, "const", "ConstSpoutOnly", "a spout alone"),
    scenario(Kind::ConstNull, "const-null", "ConstSpoutNullBolt", "spout → sink"),
    scenario(Kind::ConstIdNull, "const-id-null", "ConstSpoutIdBoltNullBolt", "spout → id → sink"),
    scenario(Kind::WordCount, "wordcount", "WordCount", "sentences → split → count by word → sink"),
    scenario(Kind::WordCount, "file-wordcount", "FileReadWordCount", "the same over the lines of a file (--text)"),
    scenario(Kind::SimplifiedWordCount, "simplified-wordcount", "SimplifiedWordCount", "words → count → sink"),
    scenario(Kind::BackPressure, "back-pressure", "BackPressure", "spout → a bolt of --service a tuple → sink"),
    Scenario {
        rate: 2.0,
        ..scenario(Kind::ConstNull, "low-throughput", "LowThroughput", "spout → sink, two tuples a second")
    },
    Scenario {
        rate: 500.0,
        ..scenario(
            Kind::WordCount,
            "throughput-vs-latency",
            "ThroughputVsLatency",
            "storm-loadgen's word count, for `sweep --vary rate=500..…`",
        )
    },
    Scenario {
        rate: 100_000.0,
        size: "288",
        ..scenario(Kind::ConstNull, "echo", "EchoRoundTrip", "Aeron's echo: 32, 288, 1344 B at 100k, 500k, 1M")
    },
    scenario(Kind::Rekey, "rekey", "ShuffleBench", "records → match with 20 consumers → count by consumer → sink"),
    scenario(
        Kind::Yahoo,
        "yahoo",
        "YahooStreamingBenchmark",
        "events → filter → join → count by campaign and 10 s → sink",
    ),
];

/// The scenario of this name, or of its name elsewhere.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|s| s.name == name || s.alias.eq_ignore_ascii_case(name))
}

/// Counts a body plainly.
type Oracle = fn(&[u8], &mut AHashMap<Vec<u8>, u64>);

/// How a scenario runs.
#[derive(Debug, Clone)]
pub struct BuiltinOptions {
    /// Which.
    pub scenario: &'static Scenario,
    /// Time that each tuple takes in `back-pressure`; with any other than 0 every scenario of one bolt gets that bolt.
    pub service_ns: u64,
    /// Offset and length of a stall of that bolt.
    pub stall: Option<(u64, u64)>,
    /// Whether the spout emits with ids.
    pub acks: bool,
    /// Cores of the topology's reactors; empty: not pinned, one reactor.
    pub cores: Vec<usize>,
    /// How they wait.
    pub wait: WaitStrategy,
    /// Where sentences come from.
    pub text: Option<PathBuf>,
    /// Mask of sampled tuples.
    pub hop_mask: u64,
    /// Bytes of the two rings.
    pub ring_bytes: usize,
}

impl BuiltinOptions {
    fn throttled(&self) -> bool {
        self.scenario.kind == Kind::BackPressure || self.service_ns > 0 || self.stall.is_some()
    }

    /// What may happen to its tuples: where several tasks work, they overtake each other.
    pub fn allowed(&self) -> Allowed {
        let one_way =
            matches!(self.scenario.kind, Kind::Const | Kind::ConstNull | Kind::ConstIdNull | Kind::BackPressure);
        Allowed { reorder: !one_way, ..Allowed::default() }
    }

    /// The bodies of the scenario, where they are its own.
    ///
    /// # Errors
    /// When the text cannot be read.
    pub fn body(&self, seed: u64) -> Result<Option<Box<dyn Body>>, String> {
        Ok(match self.scenario.kind {
            Kind::WordCount => Some(Box::new(Sentences::new(self.lines(seed, false)?))),
            Kind::SimplifiedWordCount => Some(Box::new(Sentences::new(self.lines(seed, true)?))),
            Kind::Yahoo => Some(Box::new(Events::new(seed))),
            _ => None,
        })
    }

    /// Lines with words; each word a line of its own where `words` says so.
    fn lines(&self, seed: u64, words: bool) -> Result<Arc<[String]>, String> {
        let text = match &self.text {
            Some(path) => std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?,
            None => {
                let options = GeneratorOptions { bytes: TEXT_BYTES, seed, ..GeneratorOptions::default() };
                generate_text(&options).map_err(|e| e.to_string())?
            }
        };
        let lines: Arc<[String]> = if words {
            text.split_ascii_whitespace().take(100_000).map(str::to_owned).collect()
        } else {
            let cut = |line: &str| line.split_ascii_whitespace().take(WORDS_MAX).collect::<Vec<_>>().join(" ");
            text.lines().map(cut).filter(|line| !line.is_empty() && line.len() < 60_000).collect()
        };
        if lines.is_empty() { Err("the text has no words; give another with --text".to_owned()) } else { Ok(lines) }
    }

    /// Whether the scenario has bodies of its own.
    pub fn has_body(&self) -> bool {
        matches!(self.scenario.kind, Kind::WordCount | Kind::SimplifiedWordCount | Kind::Yahoo)
    }

    /// Names of the components that note when they see a tuple, along the way.
    fn stages(&self) -> &'static [&'static str] {
        match self.scenario.kind {
            _ if self.throttled() => &["throttle"],
            Kind::Const | Kind::ConstNull | Kind::BackPressure => &[],
            Kind::ConstIdNull => &["id"],
            Kind::WordCount | Kind::SimplifiedWordCount => &["split", "count"],
            Kind::Rekey => &["match", "count"],
            Kind::Yahoo => &["filter", "join", "count"],
        }
    }

    fn declare(&self, t: &Topology, ends: (squall_load::Source, squall_load::Target), tally: &Tally, hops: &Hops) {
        let (source, target) = ends;
        let (back, parts_back) = (target.clone(), target.clone());
        let (h, tl) = (hops.clone(), tally.clone());
        if self.scenario.kind == Kind::Const && !self.throttled() {
            let _ = t.spout("spout", move || Reflect::new(&source, &target));
            return;
        }
        let acks = self.acks;
        let ingest = t.spout("ingest", move || if acks { Ingest::acked(&source) } else { Ingest::from(&source) });
        let many = self.cores.len().max(1) as u32;
        match self.scenario.kind {
            _ if self.throttled() => {
                let (service_ns, stall) = (self.service_ns, self.stall);
                let make = move || Throttle { service_ns, stall, first_ns: None, hops: h.clone() };
                let throttle = t.bolt("throttle", make).on(ingest.shuffle());
                let _ = t.bolt("egress", move || Egress::to(&back)).on(throttle.shuffle());
            }
            Kind::Const | Kind::ConstNull | Kind::BackPressure => {
                let _ = t.bolt("egress", move || Egress::to(&back)).on(ingest.shuffle());
            }
            Kind::ConstIdNull => {
                let id = t.bolt("id", move || Id(h.clone())).on(ingest.shuffle());
                let _ = t.bolt("egress", move || Egress::to(&back)).on(id.shuffle());
            }
            Kind::WordCount | Kind::SimplifiedWordCount => {
                let hs = hops.clone();
                let split = t.bolt("split", move || Split { hops: hs.clone() }).on(ingest.shuffle());
                let count = t.bolt("count", move || Count::new(&tl, &h)).tasks(many).on(split.fields([Word::WORD]));
                let _ = t.bolt("egress", move || EgressParts::to(&parts_back)).on(count.shuffle());
            }
            Kind::Rekey => {
                let hs = hops.clone();
                let matched = t.bolt("match", move || Match(hs.clone())).on(ingest.shuffle());
                let count = move || Aggregate::new(&tl, &h, 2);
                let count = t.bolt("count", count).tasks(many).on(matched.on.fields([Keyed::KEY]));
                let _ = t
                    .bolt("egress", move || EgressParts::to(&parts_back))
                    .on(count.shuffle())
                    .on(matched.done.shuffle());
            }
            Kind::Yahoo => {
                let (hs, hj) = (hops.clone(), hops.clone());
                let views = t.bolt("filter", move || Views(hs.clone())).on(ingest.shuffle());
                let joined = t.bolt("join", move || Campaigns::new(&hj)).on(views.on.shuffle());
                let count = move || Aggregate::new(&tl, &h, 3);
                let count = t.bolt("count", count).tasks(many).on(joined.fields([Keyed::KEY]));
                let _ =
                    t.bolt("egress", move || EgressParts::to(&parts_back)).on(count.shuffle()).on(views.done.shuffle());
            }
        }
    }

    /// What the scenario's oracle does with a body.
    fn oracle(&self) -> Option<Oracle> {
        match self.scenario.kind {
            _ if self.throttled() => None,
            Kind::WordCount | Kind::SimplifiedWordCount => Some(count_words),
            Kind::Rekey => Some(count_matches),
            Kind::Yahoo => Some(count_views),
            _ => None,
        }
    }
}

/// A scenario that runs.
pub struct Builtin {
    options: BuiltinOptions,
    wire: Option<Wire>,
    running: Running,
    tally: Tally,
    hops: Hops,
}

impl Builtin {
    /// Starts a scenario.
    ///
    /// # Errors
    /// When the engine cannot.
    pub fn start(options: &BuiltinOptions) -> Result<Builtin, String> {
        let LocalEnds { tx, rx, source, target } = local(options.ring_bytes);
        let (tally, hops) = (Tally::default(), Hops::new(options.hop_mask));
        let t = Topology::new(options.scenario.name);
        t.configure(|c| c.ackers = if options.acks { None } else { Some(0) });
        options.declare(&t, (source, target), &tally, &hops);
        let running = Running::start(t, &options.cores, options.wait)?;
        Ok(Builtin { options: options.clone(), wire: Some(Wire::new(tx, rx)), running, tally, hops })
    }
}

impl Session for Builtin {
    fn wire(&mut self) -> Option<Wire> {
        self.wire.take()
    }

    fn look(&mut self) -> Option<String> {
        self.running.look()
    }

    fn finish(self: Box<Self>, outcome: &Outcome, replay: &Replay<'_>) -> Finished {
        let mut done = self.running.end();
        done.hops = self.hops.hops(self.options.stages());
        // Where tuples are missing the counts differ, of course: that is told already.
        if let Some(oracle) = self.options.oracle().filter(|_| done.error.is_none() && outcome.counts.lost == 0) {
            let mut expected = AHashMap::new();
            if replay(outcome.counts.sent, &mut |body| oracle(body, &mut expected)) {
                done.wrong = self.tally.differs(&expected);
                done.notes.push(format!("counts compared with a plain pass over {} tuples", outcome.counts.sent));
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_their_names_here_and_elsewhere() {
        for s in &SCENARIOS {
            assert_eq!(find(s.name).map(|f| f.name), Some(s.name));
            assert_eq!(find(&s.alias.to_lowercase()).map(|f| f.name), Some(s.name));
        }
        assert!(find("no-such").is_none());
    }
}
