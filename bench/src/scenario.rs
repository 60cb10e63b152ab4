//! The scenarios and their rows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How tuples travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Link {
    /// Within one reactor.
    Local,
    /// Between two reactors of a worker.
    Ring,
    /// Between two workers over a Unix socket pair.
    Uds,
    /// Between two workers over TCP loopback.
    Tcp,
}

impl Link {
    const ALL: [Link; 4] = [Link::Local, Link::Ring, Link::Uds, Link::Tcp];

    fn name(self) -> &'static str {
        match self {
            Link::Local => "local",
            Link::Ring => "ring",
            Link::Uds => "uds",
            Link::Tcp => "tcp",
        }
    }

    /// Whether the two ends are two processes.
    pub(crate) fn is_socket(self) -> bool {
        matches!(self, Link::Uds | Link::Tcp)
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
        found.ok_or_else(|| format!("unknown link {s:?}: use local, ring, uds or tcp"))
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
    fn name(self) -> &'static str {
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
    /// A round trip with one tuple in flight.
    Rtt(Link),
    /// As many tuples as go, one way.
    ConstNull,
    /// Counting words.
    WordCount,
}

impl Scenario {
    pub(crate) fn all() -> Vec<Scenario> {
        let rtt = Link::ALL.into_iter().map(Scenario::Rtt);
        rtt.chain([Scenario::ConstNull, Scenario::WordCount]).collect()
    }

    pub(crate) fn named(name: &str) -> Option<Scenario> {
        Scenario::all().into_iter().find(|s| s.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Rtt(Link::Local) => "rtt-local",
            Scenario::Rtt(Link::Ring) => "rtt-ring",
            Scenario::Rtt(Link::Uds) => "rtt-uds",
            Scenario::Rtt(Link::Tcp) => "rtt-tcp",
            Scenario::ConstNull => "const-null",
            Scenario::WordCount => "wordcount",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Scenario::Rtt(Link::Local) => {
                "round trip spout → bolt → bolt on one reactor; floor: a call that copies the message in and out"
            }
            Scenario::Rtt(Link::Ring) => {
                "round trip to a reactor of the same worker; floor: two rtrb rings between two spinning threads"
            }
            Scenario::Rtt(Link::Uds) => {
                "round trip to another worker over a Unix socket; floor: io_uring (single issuer, deferred), spinning"
            }
            Scenario::Rtt(Link::Tcp) => {
                "round trip to another worker over TCP loopback; floor: io_uring (single issuer, deferred), spinning"
            }
            Scenario::ConstNull => {
                "a spout of constant tuples into a bolt that reads them; floors: copy loop, rtrb in chunks of 64, \
                 io_uring with 64 KiB writes"
            }
            Scenario::WordCount => {
                "200 MB of text in memory: spout → split → count with two executors each; floor: one thread, ahash map"
            }
        }
    }

    /// Every row, in the order in which they run.
    pub(crate) fn rows(self) -> Vec<Row> {
        let typed = |link, size| Row { scenario: self, link, size, tuple: TupleKind::Typed };
        match self {
            Scenario::Rtt(link) => [64, 1024, 16384].map(|size| typed(link, size)).into(),
            Scenario::ConstNull => {
                let links = [Link::Local, Link::Ring, Link::Tcp];
                let sizes = |link| [32, 128, 1024].map(|size| typed(link, size));
                let dynamic = Row { tuple: TupleKind::Dynamic, ..typed(Link::Ring, 32) };
                links.into_iter().flat_map(sizes).chain([dynamic]).collect()
            }
            Scenario::WordCount => vec![typed(Link::Ring, 0)],
        }
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
}

impl Row {
    /// Its link, size and tuple, for people.
    pub(crate) fn what(&self) -> String {
        if self.size == 0 {
            return format!("{} {}", self.link, self.tuple);
        }
        format!("{} {} B {}", self.link, self.size, self.tuple)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_has_rows() {
        for scenario in Scenario::all() {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
            assert!(!scenario.rows().is_empty());
        }
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
