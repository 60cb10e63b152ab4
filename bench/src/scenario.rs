//! The scenarios and their rows: the one table.
//!
//! To add a scenario: a variant of [`Scenario`] with its entry in [`TABLE`]; its topology, in a file of `squall_side`
//! and a line of `Job::topology`; its floor, in a file of `floor` and a line of `floor::run`; and a test in
//! `tests/rows.rs`. The compiler asks for the first three.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use squall_engine::WaitStrategy;

/// How tuples travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Link {
    /// Within one reactor.
    Local,
    /// Between two reactors of a worker.
    Ring,
    /// Between two workers over shared memory.
    Shm,
    /// Between two workers over a Unix socket pair.
    Uds,
    /// Between two workers over TCP loopback.
    Tcp,
}

impl Link {
    pub(crate) const ALL: [Link; 5] = [Link::Local, Link::Ring, Link::Shm, Link::Uds, Link::Tcp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Link::Local => "local",
            Link::Ring => "ring",
            Link::Shm => "shm",
            Link::Uds => "uds",
            Link::Tcp => "tcp",
        }
    }

    /// Whether the two ends are two processes.
    pub(crate) fn crosses_processes(self) -> bool {
        matches!(self, Link::Shm | Link::Uds | Link::Tcp)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = Link::ALL.into_iter().find(|l| l.name() == s);
        found.ok_or_else(|| format!("unknown link {s:?}: use local, ring, shm, uds or tcp"))
    }
}

/// Whether the tuple's type is known to the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TupleKind {
    /// A `#[derive(Tuple)]` struct.
    Typed,
    /// A `Row` of values.
    Dynamic,
}

impl TupleKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            TupleKind::Typed => "typed",
            TupleKind::Dynamic => "dynamic",
        }
    }
}

impl fmt::Display for TupleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TupleKind {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = [TupleKind::Typed, TupleKind::Dynamic].into_iter().find(|t| t.name() == s);
        found.ok_or_else(|| format!("unknown tuple kind {s:?}: use typed or dynamic"))
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scenario {
    Rtt(Link),
    ConstNull,
    ConstIdNull,
    SmallBatches,
    FanoutAll,
    Idle,
    LowRate,
    Oversubscribed,
    WordCount,
    Filter,
    ConstNullAcked,
    ConstIdNullAcked,
    RttAcked,
    WordCountAcked,
    WordCount50kAcked,
    Recovery(Fault),
}

/// What is done to a running topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// `kill -9` of a worker.
    Kill,
    /// The same, with a process that waits with the program loaded.
    Standby,
    /// SIGSTOP of a worker.
    Stop,
    /// A bolt panics.
    Panic,
    /// The link between the workers is cut.
    Cut,
}

/// What a row's main figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Latency.
    Ns,
    /// Throughput.
    TuplesPerSecond,
    /// Throughput of wordcount.
    WordsPerSecond,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Ns => "ns",
            Unit::TuplesPerSecond => "tuples/s",
            Unit::WordsPerSecond => "words/s",
        }
    }
}

/// What there is to know about a scenario but its programs.
struct Entry {
    scenario: Scenario,
    name: &'static str,
    unit: Unit,
    /// Wait strategy of the reactors unless the command line says otherwise: spinning where a figure is about the path
    /// itself, the engine's default where it is about waiting.
    wait: WaitStrategy,
    /// Links and payload sizes of its typed rows: every link with every size.
    links: &'static [Link],
    sizes: &'static [usize],
    /// What runs, and beside what.
    about: &'static str,
}

use Unit::{Ns, TuplesPerSecond, WordsPerSecond};
use WaitStrategy::{Hybrid, Spin};

const RTT_SIZES: &[usize] = &[64, 1024, 16384];
const CONST_LINKS: &[Link] = &[Link::Local, Link::Ring, Link::Shm, Link::Tcp];
const CONST_SIZES: &[usize] = &[32, 128, 1024];
const ACKED_SIZES: &[usize] = &[32];

#[rustfmt::skip]
const TABLE: &[Entry] = &[
    Entry { scenario: Scenario::Rtt(Link::Local), name: "rtt-local", unit: Ns, wait: Spin, links: &[Link::Local], sizes: RTT_SIZES,
        about: "round trip spout → bolt → bolt on one reactor; floor: a call that copies the message in and out" },
    Entry { scenario: Scenario::Rtt(Link::Ring), name: "rtt-ring", unit: Ns, wait: Spin, links: &[Link::Ring], sizes: RTT_SIZES,
        about: "round trip to a reactor of the same worker; floor: two rtrb rings between two spinning threads" },
    Entry { scenario: Scenario::Rtt(Link::Shm), name: "rtt-shm", unit: Ns, wait: Spin, links: &[Link::Shm], sizes: RTT_SIZES,
        about: "round trip to another worker over shared memory; floor: one memfd, a position per direction, the message \
                copied in and out, two spinning processes" },
    Entry { scenario: Scenario::Rtt(Link::Uds), name: "rtt-uds", unit: Ns, wait: Spin, links: &[Link::Uds], sizes: RTT_SIZES,
        about: "round trip to another worker over a Unix socket; floor: io_uring (single issuer, deferred), spinning" },
    Entry { scenario: Scenario::Rtt(Link::Tcp), name: "rtt-tcp", unit: Ns, wait: Spin, links: &[Link::Tcp], sizes: RTT_SIZES,
        about: "round trip to another worker over TCP loopback; floor: io_uring (single issuer, deferred), spinning" },
    Entry { scenario: Scenario::ConstNull, name: "const-null", unit: TuplesPerSecond, wait: Spin, links: CONST_LINKS, sizes: CONST_SIZES,
        about: "a spout of constant tuples into a bolt that reads them (storm-perf's ConstSpoutNullBolt, no acks); floors: \
                copy loop, rtrb in chunks of 64, a ring of shared memory between two processes, io_uring with 64 KiB writes" },
    Entry { scenario: Scenario::ConstIdNull, name: "const-id-null", unit: TuplesPerSecond, wait: Spin, links: CONST_LINKS, sizes: CONST_SIZES,
        about: "the same through a bolt that passes each tuple on (ConstSpoutIdBoltNullBolt): there over the link and back \
                over it; floors: those of const-null, there and back" },
    Entry { scenario: Scenario::SmallBatches, name: "small-batches", unit: TuplesPerSecond, wait: Spin, links: &[Link::Tcp], sizes: &[32],
        about: "const-null with batches of at most 1 and 8 tuples; floor: one io_uring send for each batch" },
    Entry { scenario: Scenario::FanoutAll, name: "fanout-all", unit: TuplesPerSecond, wait: Spin, links: &[Link::Ring], sizes: &[32, 1024],
        about: "all-grouping to 8 tasks on another reactor; floor: rtrb in chunks of 64, each message copied once and read \
                8 times" },
    Entry { scenario: Scenario::Idle, name: "idle", unit: Ns, wait: Hybrid, links: &[Link::Local, Link::Shm, Link::Tcp], sizes: &[32],
        about: "CPU of an idle topology, and the first tuple after 100 ms of silence: another process stamps shared memory \
                and rings the reactor's doorbell (local: one wake-up; else a second one, of the other worker); floor: a \
                thread that waits on a futex" },
    Entry { scenario: Scenario::LowRate, name: "lowrate", unit: Ns, wait: Spin, links: &[Link::Local], sizes: &[32],
        about: "one tuple a millisecond through three bolts on one reactor, from emission (and lowrate-due: from the time \
                it was due); floor: one spinning thread and three calls" },
    Entry { scenario: Scenario::Oversubscribed, name: "oversubscribed", unit: TuplesPerSecond, wait: Hybrid, links: &[Link::Ring], sizes: &[32],
        about: "a chain of four components on 4 reactors of 2 cores; \"floor\": the same chain on 2 reactors" },
    Entry { scenario: Scenario::WordCount, name: "wordcount", unit: WordsPerSecond, wait: Spin, links: &[Link::Ring], sizes: &[0],
        about: "200 MB of text in memory: spout → split → count with two executors each, one per reactor, words as tuple \
                strings; dynamic: the same as a topology in YAML, of the stock split and count; floor: one thread, ahash map" },
    Entry { scenario: Scenario::Filter, name: "filter", unit: TuplesPerSecond, wait: Spin, links: &[Link::Local], sizes: &[32],
        about: "a topology in YAML on one reactor: rows of an integer and a text through a filter whose expression is lowered \
                and lets all of them pass; floor: the copy loop of const-null" },
    Entry { scenario: Scenario::ConstNullAcked, name: "const-null-acked", unit: TuplesPerSecond, wait: Spin, links: CONST_LINKS, sizes: ACKED_SIZES,
        about: "const-null with a message id for every tuple, counted when its ack has come back; \"floor\": const-null" },
    Entry { scenario: Scenario::ConstIdNullAcked, name: "const-id-null-acked", unit: TuplesPerSecond, wait: Spin, links: CONST_LINKS, sizes: ACKED_SIZES,
        about: "const-id-null with a message id for every tuple, counted when its ack has come back; \"floor\": const-id-null" },
    Entry { scenario: Scenario::RttAcked, name: "rtt-acked", unit: Ns, wait: Spin, links: CONST_LINKS, sizes: &[64],
        about: "one tuple in flight, from its emit to the spout's ack callback; \"floor\": rtt over the same link, where a bolt \
                sends the tuple back" },
    Entry { scenario: Scenario::WordCountAcked, name: "wordcount-acked", unit: WordsPerSecond, wait: Spin, links: &[Link::Ring], sizes: &[0],
        about: "wordcount with a message id for every piece of text: each word is a tuple of its piece's tree; \"floor\": \
                wordcount" },
    Entry { scenario: Scenario::WordCount50kAcked, name: "wordcount-50k-acked", unit: Ns, wait: Spin, links: &[Link::Ring], sizes: &[0],
        about: "word count of 50,000 sentences of 8 words a second (open loop), from the time a sentence was due to its ack; \
                \"floor\": the same without message ids, to the count of each word" },
    Entry { scenario: Scenario::Recovery(Fault::Kill), name: "recovery-kill", unit: Ns, wait: Hybrid, links: &[Link::Shm], sizes: &[0],
        about: "a word count of 198,000 tuples a second over two workers, of which one is killed (kill -9): until the first root \
                that was emitted again is acked; floor: a process killed, and another one that says it is up. More --secs, more faults" },
    Entry { scenario: Scenario::Recovery(Fault::Standby), name: "recovery-standby", unit: Ns, wait: Hybrid, links: &[Link::Shm], sizes: &[0],
        about: "the same with a process that waits with the program loaded (--standby)" },
    Entry { scenario: Scenario::Recovery(Fault::Stop), name: "recovery-stop", unit: Ns, wait: Hybrid, links: &[Link::Shm], sizes: &[0],
        about: "the same with a worker that is stopped (SIGSTOP), from its detection, which takes a second" },
    Entry { scenario: Scenario::Recovery(Fault::Panic), name: "recovery-panic", unit: Ns, wait: Hybrid, links: &[Link::Shm], sizes: &[0],
        about: "the same with a bolt that panics: until its executor has executed the next tuple; floor: a panic caught" },
    Entry { scenario: Scenario::Recovery(Fault::Cut), name: "recovery-cut", unit: Ns, wait: Hybrid, links: &[Link::Shm], sizes: &[0],
        about: "the same with the link between the workers cut; floor: a socket shut down, and a byte over another one" },
];

impl Scenario {
    pub(crate) fn all() -> impl Iterator<Item = Scenario> {
        TABLE.iter().map(|e| e.scenario)
    }

    /// The scenario of this name, or those whose names begin with it and a dash: `recovery` is five. Of none there is none.
    pub(crate) fn named(name: &str) -> Vec<Scenario> {
        let exactly: Vec<Scenario> = TABLE.iter().filter(|e| e.name == name).map(|e| e.scenario).collect();
        let begins = |e: &&Entry| e.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        if exactly.is_empty() { TABLE.iter().filter(begins).map(|e| e.scenario).collect() } else { exactly }
    }

    /// Whether it is a topology of this program's; faults are done to one of `tools/chaos`.
    #[cfg(test)]
    pub(crate) fn is_ours(self) -> bool {
        !matches!(self, Scenario::Recovery(_))
    }

    fn entry(self) -> &'static Entry {
        TABLE.iter().find(|e| e.scenario == self).expect("every scenario has an entry, a test says")
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().name
    }

    pub(crate) fn about(self) -> &'static str {
        self.entry().about
    }

    pub(crate) fn unit(self) -> Unit {
        self.entry().unit
    }

    /// See [`Entry::wait`].
    pub(crate) fn wait(self) -> WaitStrategy {
        self.entry().wait
    }

    /// A pass over a fixed amount of work is a round, however long it takes.
    pub(crate) fn fixed_work(self) -> bool {
        matches!(self, Scenario::WordCount | Scenario::WordCountAcked)
    }

    /// Whether tuples have message ids.
    pub(crate) fn acked(self) -> bool {
        matches!(self, Scenario::WordCount50kAcked | Scenario::Recovery(_)) || self.unacked(Link::Ring).is_some()
    }

    /// Of a scenario whose tuples have message ids: the one without, which is its floor.
    pub(crate) fn unacked(self, link: Link) -> Option<Scenario> {
        match self {
            Scenario::ConstNullAcked => Some(Scenario::ConstNull),
            Scenario::ConstIdNullAcked => Some(Scenario::ConstIdNull),
            Scenario::RttAcked => Some(Scenario::Rtt(link)),
            Scenario::WordCountAcked => Some(Scenario::WordCount),
            _ => None,
        }
    }

    /// Every row, in the order in which they run.
    pub(crate) fn rows(self) -> Vec<Row> {
        let Entry { links, sizes, .. } = self.entry();
        let typed = |link, size| Row { scenario: self, link, size, tuple: TupleKind::Typed, cap: None };
        let mut rows: Vec<Row> = links.iter().flat_map(|l| sizes.iter().map(move |s| typed(*l, *s))).collect();
        match self {
            Scenario::ConstNull => rows.push(Row { tuple: TupleKind::Dynamic, ..typed(Link::Ring, 32) }),
            Scenario::WordCount => rows.push(Row { tuple: TupleKind::Dynamic, ..typed(Link::Ring, 0) }),
            Scenario::Filter => rows.iter_mut().for_each(|row| row.tuple = TupleKind::Dynamic),
            Scenario::SmallBatches => {
                rows = rows.iter().flat_map(|r| [1, 8].map(|cap| Row { cap: Some(cap), ..r.clone() })).collect();
            }
            _ => {}
        }
        rows
    }
}

/// One line of results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) link: Link,
    /// Payload bytes of a tuple; 0 where they vary.
    pub(crate) size: usize,
    pub(crate) tuple: TupleKind,
    /// Tuples of a batch, at most, where that is what is measured.
    pub(crate) cap: Option<usize>,
}

impl Row {
    /// Its link, size and tuple, for people.
    pub(crate) fn what(&self) -> String {
        let size = if self.size == 0 { String::new() } else { format!(" {} B", self.size) };
        let cap = self.cap.map_or_else(String::new, |n| format!(", batches of {n}"));
        format!("{}{size} {}{cap}", self.link, self.tuple)
    }

    /// The same row without message ids, of a scenario that has them.
    pub(crate) fn unacked(&self) -> Option<Row> {
        self.scenario.unacked(self.link).map(|scenario| Row { scenario, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_one_entry_and_rows_and_is_found_by_its_name() {
        let rtt = Link::ALL.map(Scenario::Rtt);
        use Scenario::*;
        let others =
            [ConstNull, ConstIdNull, SmallBatches, FanoutAll, Idle, LowRate, Oversubscribed, WordCount, Filter];
        let acked = [ConstNullAcked, ConstIdNullAcked, RttAcked, WordCountAcked, WordCount50kAcked];
        let faults = [Fault::Kill, Fault::Standby, Fault::Stop, Fault::Panic, Fault::Cut].map(Recovery);
        for scenario in rtt.into_iter().chain(others).chain(acked).chain(faults) {
            assert_eq!(TABLE.iter().filter(|e| e.scenario == scenario).count(), 1, "{scenario:?}");
            assert_eq!(Scenario::named(scenario.name()), [scenario]);
            assert!(!scenario.rows().is_empty());
        }
        assert_eq!(TABLE.len(), rtt.len() + others.len() + acked.len() + faults.len());
        assert_eq!(Scenario::named("recovery"), faults);
        assert_eq!(Scenario::named("recover"), []);
    }

    #[test]
    fn links_and_tuples_are_read_as_they_are_written() {
        for link in Link::ALL {
            assert_eq!(link.to_string().parse(), Ok(link));
        }
        assert_eq!("dynamic".parse(), Ok(TupleKind::Dynamic));
        assert!("shared".parse::<TupleKind>().is_err());
    }
}
