//! The verbs that need no target, or none that is measured: jitter, calibrate, preview, record, report, list, schema, validate.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use squall_load::{Tag, local, record};
use squall_machine::noise::watch_core;
use squall_machine::{Machine, pin, round_trip_ns};
use squall_metrics::format::{bytes, count, duration_ns, duration_ns_or_none, rate as shown_rate};

use super::args::LoadArgs;
use super::once::{Format, stop_flag};
use super::{Failure, columns, show};
use crate::measure::clock::Monotonic;
use crate::measure::drive::Pace;
use crate::measure::latency::histogram;
use crate::measure::totals::quantile;
use crate::model::arrival::{Length, Schedule};
use crate::model::body::{Body, Fields};
use crate::model::trace::record_file;
use crate::model::units::{parse_count, parse_duration_ns, parse_number};
use crate::report::run::{Figures, RunReport};
use crate::report::schema::{JITTER_SCHEMA, schema as json_schema, validate as hold};
use crate::report::{html, table, text};
use crate::target::builtin::SCENARIOS;

/// `tuplegen jitter`.
#[derive(Debug, Args)]
pub(super) struct JitterCommand {
    /// How long to watch each core
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = parse_duration_ns)]
    duration: u64,
    /// Cores to watch, one after another [default: all that this process may use]
    #[arg(long, value_name = "CORE,…", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn jitter(command: &JitterCommand) -> Result<u8, Failure> {
    let machine = Machine::look(env!("CARGO_MANIFEST_DIR"));
    let stop = stop_flag()?;
    let cores = if command.cpus.is_empty() { machine.cores.clone() } else { command.cpus.clone() };
    let length = Duration::from_nanos(command.duration);
    let mut seen = Vec::new();
    for core in cores {
        // One after another: what one core does must not look like the noise of its neighbour.
        let watched = std::thread::scope(|s| s.spawn(|| watch_core(core, length, &stop)).join());
        let (gaps, lost_ns) = watched.map_err(|_| Failure::Error("a watching thread failed".to_owned()))?;
        let mut h = histogram();
        if let Ok(d) = hdrhistogram::serialization::Deserializer::new().deserialize::<u64, _>(&mut &gaps.encode()[..]) {
            let _ = h.add(d);
        }
        seen.push((core, Figures::of(&h), lost_ns as f64 / command.duration.max(1) as f64));
    }
    let probe = match machine.cores[..] {
        [a, b, ..] => Some(round_trip_ns([a, b])),
        _ => None,
    };
    match command.format {
        Format::Json => {
            let cores: Vec<Value> =
                seen.iter().map(|(c, f, lost)| json!({ "core": c, "gaps": f, "lost_share": lost })).collect();
            let json = json!({
                "schema": JITTER_SCHEMA, "seconds": command.duration as f64 / 1e9, "cores": cores, "probe_ns": probe, "machine": machine,
            });
            show(&format!("{json:#}\n"))?;
        }
        Format::Csv => {
            let mut text = "core,p50_ns,p99_ns,p999_ns,p9999_ns,max_ns,lost_share\n".to_owned();
            for (core, f, lost) in &seen {
                let cells =
                    [f.p50, f.p99, f.p999, f.p9999, f.max].map(|v| v.map_or_else(String::new, |v| v.to_string()));
                let _ = writeln!(text, "{core},{},{lost:.6}", cells.join(","));
            }
            show(&text)?;
        }
        Format::Text => {
            let mut text = format!(
                "{}\n\ngaps between two readings of the clock, each core watched for {}\n",
                machine.describe(),
                duration_ns(command.duration)
            );
            let _ = writeln!(
                text,
                "{:<8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}  lost in gaps above 1 µs",
                "core", "p50", "p90", "p99", "p99.9", "p99.99", "max"
            );
            for (core, f, lost) in &seen {
                let _ = write!(text, "{core:<8}");
                f.columns().iter().for_each(|(_, v)| _ = write!(text, "{:>10}", duration_ns_or_none(*v)));
                let _ = writeln!(text, "  {:.3} %", lost * 100.0);
            }
            if let Some(ns) = probe {
                let _ = writeln!(text, "a cache line takes {ns} ns between the first two cores and back");
            }
            show(&text)?;
        }
    }
    Ok(0)
}

/// `tuplegen calibrate`.
#[derive(Debug, Args)]
pub(super) struct CalibrateCommand {
    /// How long to send
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = parse_duration_ns)]
    duration: u64,
    /// Bytes of a record
    #[arg(long, value_name = "BYTES", default_value = "32")]
    size: String,
    /// A second part: the lateness at this rate
    #[arg(short = 'R', long, value_name = "RATE", default_value = "100k", value_parser = parse_number)]
    rate: f64,
}

/// What a calibration came to.
#[derive(Debug)]
pub(super) struct Calibration {
    /// Tuples a second into the ring, as fast as it goes.
    pub ceiling: f64,
    /// Lateness at the rate asked for: p50, p99.
    pub late: [Option<u64>; 2],
}

/// Sends into a ring that another core empties without looking, unpaced and then paced.
///
/// # Errors
/// When a size or a rate is none.
pub(super) fn calibration(size: &str, rate: f64, length: Duration) -> Result<Calibration, String> {
    use crate::measure::drive::{Course, drive};
    use crate::measure::latency::recorder;
    use crate::measure::totals::Totals;

    let machine = Machine::look(env!("CARGO_MANIFEST_DIR"));
    let run = |mut pace: Pace, end_ns: u64| {
        let ends = local(16 << 20);
        let done = AtomicBool::new(false);
        let mut body = Fields::new(Default::default(), size.parse()?, 1);
        let (recorder, intervals) = recorder();
        let mut totals = Totals::new(std::time::UNIX_EPOCH);
        let course = Course {
            warmup_ns: end_ns / 10,
            end_ns,
            count: u64::MAX,
            drain_ns: 0,
            interval_ns: end_ns,
            hop_mask: u64::MAX,
        };
        let spin = machine.cores.len() > 1;
        let outcome = std::thread::scope(|s| {
            let (source, cores, done) = (ends.source, &machine.cores, &done);
            s.spawn(move || {
                if let [_, core, ..] = cores[..] {
                    pin(core);
                }
                source.discard(done);
            });
            let sending = s.spawn(|| {
                if let Some(core) = machine.cores.first().filter(|_| spin) {
                    pin(*core);
                }
                let mut sink = NoReturns(ends.tx);
                let never = AtomicBool::new(false);
                let outcome =
                    drive(&mut pace, &mut body, &course, &mut Monotonic { spin }, &mut sink, recorder, &never);
                // Relaxed: a flag that carries nothing.
                done.store(true, Ordering::Relaxed);
                outcome
            });
            while intervals.next(|i| totals.absorb(i)) {}
            sending.join()
        });
        let outcome = outcome.map_err(|_| "the generating thread failed".to_owned())?;
        Ok::<_, String>((outcome.counts.sent as f64 / (outcome.sending_ns as f64 / 1e9).max(1e-9), totals))
    };
    let ns = length.as_nanos() as u64;
    let (ceiling, _) = run(Pace::Max, ns)?;
    let length = Length { end_ns: ns, count: u64::MAX };
    let schedule = Schedule::new(&"constant".parse()?, rate, length, 1, None)?;
    let (_, totals) = run(Pace::Open(schedule), ns)?;
    Ok(Calibration { ceiling, late: [quantile(&totals.late, 0.5), quantile(&totals.late, 0.99)] })
}

/// A link from which nothing returns.
struct NoReturns(squall_load::Tx);

impl crate::measure::drive::Link for NoReturns {
    #[inline]
    fn try_send(&mut self, chunk: &[u8]) -> Result<bool, squall_load::LinkError> {
        self.0.try_send(Tag::Data, chunk)
    }

    fn end(&mut self) -> Result<bool, squall_load::LinkError> {
        Ok(true)
    }

    #[inline]
    fn poll(
        &mut self,
        _: &mut dyn FnMut(&record::Return<'_>),
    ) -> Result<crate::measure::drive::Polled, squall_load::LinkError> {
        Ok(crate::measure::drive::Polled::Nothing)
    }
}

pub(super) fn calibrate(command: &CalibrateCommand) -> Result<u8, Failure> {
    let length = Duration::from_nanos(command.duration);
    let c = calibration(&command.size, command.rate, length).map_err(Failure::Usage)?;
    let machine = Machine::look(env!("CARGO_MANIFEST_DIR"));
    show(&format!(
        "{}\ninto a ring, one core: {} records of {} B a second\nlateness at {}: p50 {}, p99 {}\n",
        machine.describe(),
        shown_rate(c.ceiling).trim_end_matches("/s"),
        command.size,
        shown_rate(command.rate),
        duration_ns_or_none(c.late[0]),
        duration_ns_or_none(c.late[1])
    ))?;
    Ok(0)
}

/// `tuplegen preview`.
#[derive(Debug, Args)]
pub(super) struct PreviewCommand {
    #[command(flatten)]
    load: LoadArgs,
    /// Tuples to look at
    #[arg(long, value_name = "N", default_value = "100k", value_parser = parse_count)]
    tuples: u64,
}

/// A load without a target has a scenario's form, so that it can be checked.
fn job_of(load: &LoadArgs) -> Result<super::args::Job, Failure> {
    let mut load = load.clone();
    if load.builtin.is_none() && load.local.is_none() && load.ingest.is_none() && load.capture.is_none() {
        load.builtin = Some("const-null".to_owned());
    }
    load.job()
}

pub(super) fn preview(command: &PreviewCommand) -> Result<u8, Failure> {
    let job = job_of(&command.load)?;
    let Pace::Open(mut schedule) = job.pace().map_err(Failure::Usage)? else {
        return Err(Failure::Usage("a closed loop and --rate max have no schedule to look at".to_owned()));
    };
    let mut body = job.body().map_err(Failure::Error)?;
    let (mut gaps, mut sizes) = (histogram(), histogram());
    let (mut n, mut last, mut bytes_sent, mut record) = (0_u64, 0, 0_u64, Vec::new());
    let mut first = Vec::new();
    while n < command.tuples {
        let Some(offset) = schedule.next_ns() else { break };
        record.clear();
        body.write(n, offset, &mut record);
        let size = (record.len() + record::HEADER_BYTES) as u64;
        if n > 0 {
            gaps.saturating_record((offset - last).max(1));
        }
        if n < 5 {
            let mut fields = Vec::new();
            let read = body.schema().read(&record, |v| fields.push(format!("{v:?}")));
            first.push(format!(
                "  {:>12}  {size:>6} B  {}",
                duration_ns(offset),
                if read.is_ok() { fields.join(" ") } else { String::new() }
            ));
        }
        sizes.saturating_record(size);
        (last, bytes_sent, n) = (offset, bytes_sent + size, n + 1);
    }
    let mut text = format!("{} over {}: {}\n", job.arrival, duration_ns(last), count(n));
    let _ = writeln!(
        text,
        "rate      {}, {} a second",
        shown_rate(n as f64 / (last as f64 / 1e9).max(1e-9)),
        bytes((bytes_sent as f64 / (last as f64 / 1e9).max(1e-9)) as u64)
    );
    let show_h = |h: &hdrhistogram::Histogram<u64>, f: &dyn Fn(u64) -> String| {
        [0.01, 0.5, 0.9, 0.99, 1.0].map(|q| f(h.value_at_quantile(q))).join("  ")
    };
    let _ = writeln!(text, "           1 %  50 %  90 %  99 %  max");
    let _ = writeln!(
        text,
        "gaps      {}, coefficient of variation {:.3}",
        show_h(&gaps, &duration_ns),
        gaps.stdev() / gaps.mean().max(1.0)
    );
    let _ = writeln!(text, "sizes     {}", show_h(&sizes, &|v| format!("{v} B")));
    for (name, dist) in job.fields().iter() {
        let mut rng = crate::model::rng::Rng::new(job.args.seed, 100);
        let mut seen: ahash::AHashMap<u64, u64> = ahash::AHashMap::new();
        for i in 0..n.min(1_000_000) {
            if let crate::model::dist::Sample::Int(v) = dist.draw(i, i * 1000, &mut rng) {
                *seen.entry(v).or_default() += 1;
            }
        }
        let mut top: Vec<(u64, u64)> = seen.iter().map(|(k, n)| (*k, *n)).collect();
        top.sort_by_key(|(k, n)| (std::cmp::Reverse(*n), *k));
        let total: u64 = top.iter().map(|t| t.1).sum::<u64>().max(1);
        let shares: Vec<String> =
            top.iter().take(5).map(|(k, n)| format!("{k}: {:.2} %", *n as f64 / total as f64 * 100.0)).collect();
        let _ = writeln!(
            text,
            "{name:<9} {} distinct values, most frequent {}",
            count(top.len() as u64),
            shares.join("  ")
        );
    }
    let _ = writeln!(text, "first:\n{}", first.join("\n"));
    show(&text)?;
    Ok(0)
}

/// `tuplegen record`.
#[derive(Debug, Args)]
pub(super) struct RecordCommand {
    #[command(flatten)]
    load: LoadArgs,
    /// The trace to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn record(command: &RecordCommand) -> Result<u8, Failure> {
    let job = job_of(&command.load)?;
    let Pace::Open(mut schedule) = job.pace().map_err(Failure::Usage)? else {
        return Err(Failure::Usage("a closed loop and --rate max have no times to record".to_owned()));
    };
    let mut body: Box<dyn Body> = job.body().map_err(Failure::Error)?;
    let written = record_file(&mut schedule, &mut *body, &command.out);
    let n = written.map_err(|e| Failure::Error(format!("cannot write {}: {e}", command.out.display())))?;
    show(&format!("{} tuples in {}\n", count(n), command.out.display()))?;
    Ok(0)
}

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// Tables.
    Text,
    /// `run.json`.
    Json,
    /// A line of JSON each, without what the plots need.
    Jsonl,
    /// A line each below the names.
    Csv,
    /// The page.
    Html,
    /// The columns of storm-loadgen's ThroughputVsLatency, separated by tabs.
    Storm,
}

/// `tuplegen report`.
#[derive(Debug, Args)]
pub(super) struct ReportCommand {
    /// Directories of runs, or their run.json
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Form
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

pub(super) fn report(command: &ReportCommand) -> Result<u8, Failure> {
    let reports =
        command.runs.iter().map(|r| RunReport::read(r)).collect::<Result<Vec<_>, _>>().map_err(Failure::Error)?;
    let all: Vec<&RunReport> = reports.iter().collect();
    match command.format {
        ReportFormat::Csv => show(&text::csv(&all))?,
        ReportFormat::Storm => show(&text::storm(&all))?,
        _ => {}
    }
    for report in &reports {
        match command.format {
            ReportFormat::Text => show(&text::text(report, columns()))?,
            ReportFormat::Json => show(&report.to_json())?,
            ReportFormat::Jsonl => show(&table::json_line(report))?,
            ReportFormat::Html => show(&html::page(report))?,
            ReportFormat::Csv | ReportFormat::Storm => {}
        }
    }
    Ok(0)
}

/// `tuplegen table`.
#[derive(Debug, Args)]
pub(super) struct TableCommand {
    /// Put it into this page, between its marks, instead of printing it
    #[arg(long, value_name = "PAGE")]
    into: Option<PathBuf>,
}

pub(super) fn table(command: &TableCommand) -> Result<u8, Failure> {
    let lines = std::io::read_to_string(std::io::stdin())
        .map_err(|e| Failure::Error(format!("reading standard input: {e}")))?;
    let table = table::markdown(&lines).map_err(Failure::Error)?;
    let Some(page) = &command.into else {
        show(&table)?;
        return Ok(0);
    };
    let told = |e: &dyn std::fmt::Display| Failure::Error(format!("{}: {e}", page.display()));
    let text = std::fs::read_to_string(page).map_err(|e| told(&e))?;
    let text =
        table::into_page(&text, &table).ok_or_else(|| told(&"it has no marks between which the table belongs"))?;
    std::fs::write(page, text).map_err(|e| told(&e))?;
    Ok(0)
}

pub(super) fn list() -> Result<u8, Failure> {
    let mut text = String::new();
    for s in &SCENARIOS {
        let _ = writeln!(text, "{:<24}{:<28}{}", s.name, s.alias, s.about);
    }
    let _ =
        writeln!(text, "{:<24}{:<28}a topology that storm-loadgen captured, played back", "--capture FILE", "GenLoad");
    show(&text)?;
    Ok(0)
}

pub(super) fn schema() -> Result<u8, Failure> {
    show(&format!("{:#}\n", json_schema()))?;
    Ok(0)
}

/// `tuplegen validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateCommand {
    /// JSON files that tuplegen wrote, or files of JSON lines
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn validate(command: &ValidateCommand) -> Result<u8, Failure> {
    let mut wrong = 0;
    for file in &command.files {
        let told = |e: &dyn std::fmt::Display| Failure::Error(format!("{}: {e}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|e| told(&e))?;
        // One value, or a line each.
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let values = values.collect::<Result<Vec<_>, _>>().map_err(|e| told(&e))?;
        if values.is_empty() {
            return Err(told(&"it holds no JSON"));
        }
        for fault in values.iter().flat_map(hold) {
            wrong += 1;
            eprintln!("{}: {fault}", file.display());
        }
    }
    if wrong > 0 {
        return Err(Failure::Error(format!("{wrong} differences from the schema, see above")));
    }
    show(&format!("{} files fit the schema\n", command.files.len()))?;
    Ok(0)
}
