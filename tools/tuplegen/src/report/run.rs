//! A run as it is kept: `run.json`, from which every other form is made again.

use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use squall_machine::Stolen;

use crate::measure::account::Counts;
use crate::measure::slo::Checked;
use crate::measure::totals::{Point, Totals, hgrm, largest, quantile};
use crate::measure::verdict::Verdict;
use crate::target::Hop;

/// Name and version of the form.
pub const RUN_SCHEMA: &str = "squall-tuplegen-run-1";

/// Percentiles of a histogram, in nanoseconds; none where fewer than ten samples lie beyond.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Median.
    pub p50: Option<u64>,
    /// 90 %.
    pub p90: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
    /// 99.9 %.
    pub p999: Option<u64>,
    /// 99.99 %.
    pub p9999: Option<u64>,
    /// The largest.
    pub max: Option<u64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Number of samples.
    pub count: u64,
    /// (percentile, value) along the whole distribution, for plots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spectrum: Vec<(f64, u64)>,
}

impl Figures {
    /// Of a histogram.
    pub fn of(h: &Histogram<u64>) -> Figures {
        let q = |q| quantile(h, q);
        Figures {
            p50: q(0.5),
            p90: q(0.9),
            p99: q(0.99),
            p999: q(0.999),
            p9999: q(0.9999),
            max: largest(h),
            mean: (!h.is_empty()).then(|| h.mean()),
            count: h.len(),
            spectrum: Vec::new(),
        }
    }

    /// With the whole distribution.
    pub fn with_spectrum(h: &Histogram<u64>) -> Figures {
        let points =
            h.iter_quantiles(4).map(|b| (b.quantile_iterated_to(), h.highest_equivalent(b.value_iterated_to())));
        Figures { spectrum: points.take(400).collect(), ..Figures::of(h) }
    }

    /// Each with its name.
    pub fn columns(&self) -> [(&'static str, Option<u64>); 6] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("max", self.max),
        ]
    }
}

/// Hiccups of a core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hiccup {
    /// The core.
    pub core: usize,
    /// How late a sleeping thread woke there.
    pub late: Figures,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// The target, as text.
    pub target: String,
    /// `open`, `closed` or `max`.
    pub loop_kind: String,
    /// Tuples a second that were asked for; none where the arrival has its own, or there is none.
    pub rate: Option<f64>,
    /// How they arrive.
    pub arrival: String,
    /// Tuples under way, of a closed loop.
    pub closed: Option<u64>,
    /// Length of the load in seconds; none: it was of a count.
    pub duration_s: Option<f64>,
    /// Tuples at most; none: it was of a length.
    pub count: Option<u64>,
    /// Warm-up in seconds.
    pub warmup_s: f64,
    /// Drain in seconds.
    pub drain_s: f64,
    /// Seed.
    pub seed: u64,
    /// Fields, or what else the bodies are.
    pub body: String,
    /// Size of the records.
    pub size: String,
    /// Whether the spout emitted with ids.
    pub acks: bool,
    /// Conditions.
    pub slos: Vec<String>,
}

/// The run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// Version of this program.
    pub version: String,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// What was asked for.
    pub job: JobReport,
    /// What it is worth.
    pub verdict: Verdict,
    /// The conditions.
    pub slos: Vec<Checked>,
    /// From the time at which tuples were due.
    pub intended: Figures,
    /// From the time at which they were sent.
    pub actual: Figures,
    /// From due to sent.
    pub late: Figures,
    /// The way, by samples.
    pub hops: Vec<Hop>,
    /// Tuples due.
    pub due: u64,
    /// What became of them.
    pub counts: Counts,
    /// Tuples sent a second, while sending.
    pub sent_rate: f64,
    /// Tuples complete a second, over the whole run.
    pub complete_rate: f64,
    /// Share of the time of sending in which the link had no room.
    pub blocked_share: f64,
    /// Most tuples under way at the end of an interval.
    pub outstanding_max: u64,
    /// Whether it ended because the drain was over.
    pub drain_ran_out: bool,
    /// Whether somebody interrupted it.
    pub interrupted: bool,
    /// From the start to the end, in seconds.
    pub took_s: f64,
    /// CPU time of this process while it ran, in cores.
    pub cpu_cores: f64,
    /// Memory of this process at the end of the load, a target in it included; none where the kernel does not say.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// Interval by interval.
    pub timeline: Vec<Point>,
    /// Hiccups of the run's cores.
    pub hiccups: Vec<Hiccup>,
    /// Gaps of the generating thread above 2 µs.
    pub gaps: Figures,
    /// What the machine took away.
    pub stolen: StolenReport,
    /// Core of the generating thread, and whether it spun there.
    pub generator_core: Option<usize>,
    /// Whether it spun.
    pub generator_spins: bool,
    /// I/O driver of the target.
    pub io: String,
    /// Waiting of the target.
    pub wait: String,
    /// What the target said beside.
    pub notes: Vec<String>,
    /// The machine.
    pub machine: Value,
}

/// [`Stolen`] as it is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StolenReport {
    /// See [`Stolen::steal_ms`].
    pub steal_ms: u64,
    /// See [`Stolen::throttled_periods`].
    pub throttled_periods: u64,
    /// See [`Stolen::throttled_ms`].
    pub throttled_ms: u64,
}

impl From<Stolen> for StolenReport {
    fn from(s: Stolen) -> Self {
        StolenReport { steal_ms: s.steal_ms, throttled_periods: s.throttled_periods, throttled_ms: s.throttled_ms }
    }
}

impl RunReport {
    /// As `run.json`.
    pub fn to_json(&self) -> String {
        // A report is plain data.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Reads `run.json`, or that of a directory.
    ///
    /// # Errors
    /// What is wrong with the file, with its name.
    pub fn read(path: &Path) -> Result<RunReport, String> {
        let file = if path.is_dir() { path.join("run.json") } else { path.to_owned() };
        let told = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
        let text = std::fs::read_to_string(&file).map_err(|e| told(&e))?;
        let report: RunReport =
            serde_json::from_str(&text).map_err(|e| told(&format!("this is no run of tuplegen: {e}")))?;
        if report.schema != RUN_SCHEMA {
            return Err(told(&format!("its form is {:?}, and this program reads {RUN_SCHEMA:?}", report.schema)));
        }
        Ok(report)
    }
}

/// Writes the directory of a run: `run.json`, `latency.hlog`, `*.hgrm`, `timeseries.csv`, `report.html`, and a mark `FAIL` or `INVALID` where
/// that is the word.
///
/// # Errors
/// What the system says, with the file's name.
pub fn write_dir(dir: &Path, report: &RunReport, totals: &Totals) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    put("run.json", &report.to_json())?;
    put("latency.hlog", totals.log())?;
    put("intended.hgrm", &hgrm(&totals.intended))?;
    put("actual.hgrm", &hgrm(&totals.actual))?;
    put("late.hgrm", &hgrm(&totals.late))?;
    put("timeseries.csv", &super::text::timeseries(&report.timeline))?;
    put("report.html", &super::html::page(report))?;
    for mark in ["FAIL", "INVALID", "ERROR"] {
        // That of a run before is not this one's.
        let _ = std::fs::remove_file(dir.join(mark));
    }
    match report.verdict.word.text() {
        "PASS" => Ok(()),
        mark => put(mark, &(report.verdict.reasons.join("\n") + "\n")),
    }
}
