//! The field's standard loads on the field's standard workloads: the rows of `make perf` and of `squall-bench workloads`, each as the arguments
//! of `tuplegen run`.

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Standard {
    /// Arguments of `tuplegen run`, without those that say how long.
    pub args: &'static str,
}

const fn row(args: &'static str) -> Standard {
    Standard { args }
}

/// The capture that is played back, from the folder of this package.
const CAPTURE: &str = "topologies/capture.yaml";

/// All rows, in the order in which they run: storm-perf's, storm-loadgen's, Aeron's matrix, ShuffleBench, the Yahoo streaming benchmark; each
/// without acks, and with them where a spout's ids change what runs. Rates are those of the originals.
pub const STANDARD: [Standard; 38] = [
    row("--builtin const -R max"),
    row("--builtin const-null -R max"),
    row("--builtin const-null -R max --acks"),
    row("--builtin const-id-null -R max"),
    row("--builtin const-id-null -R max --acks"),
    row("--builtin simplified-wordcount -R max"),
    row("--builtin simplified-wordcount -R max --acks"),
    row("--builtin file-wordcount -R max"),
    row("--builtin file-wordcount -R max --acks"),
    row("--builtin low-throughput -R 10"),
    row("--builtin low-throughput -R 1k"),
    row("--builtin back-pressure -R 500"),
    row("--builtin back-pressure -R 500 --acks"),
    row("--builtin throughput-vs-latency -R 500"),
    row("--builtin throughput-vs-latency -R 500 --acks"),
    row("--builtin throughput-vs-latency -R 5k"),
    row("--builtin throughput-vs-latency -R 5k --acks"),
    row("--builtin throughput-vs-latency -R 50k"),
    row("--builtin throughput-vs-latency -R 50k --acks"),
    row("--builtin throughput-vs-latency -R 85k"),
    row("--builtin throughput-vs-latency -R 85k --acks"),
    row("--builtin throughput-vs-latency -R max"),
    row("--builtin throughput-vs-latency -R max --acks"),
    row("--capture @capture"),
    row("--capture @capture --throughput 10"),
    row("--builtin echo --size 32 -R 100k"),
    row("--builtin echo --size 32 -R 500k"),
    row("--builtin echo --size 32 -R 1M"),
    row("--builtin echo --size 288 -R 100k"),
    row("--builtin echo --size 288 -R 500k"),
    row("--builtin echo --size 288 -R 1M"),
    row("--builtin echo --size 1344 -R 100k"),
    row("--builtin echo --size 1344 -R 500k"),
    row("--builtin echo --size 1344 -R 1M"),
    row("--builtin rekey -R 50k"),
    row("--builtin rekey -R 50k --acks"),
    row("--builtin yahoo -R 100k"),
    row("--builtin yahoo -R 100k --acks"),
];

impl Standard {
    /// Its workload: the name of the scenario, or `genload`.
    pub fn workload(&self) -> &'static str {
        let mut words = self.args.split_whitespace();
        match (words.next(), words.next()) {
            (Some("--builtin"), Some(name)) => name,
            _ => "genload",
        }
    }

    /// The arguments as words; the capture is that of this package.
    pub fn words(&self) -> Vec<String> {
        let capture = format!("{}/{CAPTURE}", env!("CARGO_MANIFEST_DIR"));
        let words = self.args.split_whitespace();
        words.map(|w| if w == "@capture" { capture.clone() } else { w.to_owned() }).collect()
    }

    /// The arguments as a reader of the repository types them.
    pub fn shown(&self) -> String {
        self.args.replace("@capture", &format!("tools/tuplegen/{CAPTURE}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin::{SCENARIOS, find};
    use super::*;
    use crate::verbs::args::load_of;

    #[test]
    fn every_row_is_a_load_and_every_workload_has_a_row() {
        for row in &STANDARD {
            let load = load_of(row.words()).unwrap_or_else(|e| panic!("{}: {e}", row.args));
            assert!(load.job().is_ok(), "{}", row.args);
            assert!(row.workload() == "genload" || find(row.workload()).is_some(), "{}", row.args);
        }
        for s in SCENARIOS.iter().filter(|s| s.name != "wordcount") {
            assert!(STANDARD.iter().any(|r| r.workload() == s.name), "{} has no row", s.name);
        }
        assert_eq!(STANDARD[23].shown(), "--capture tools/tuplegen/topologies/capture.yaml");
    }
}
