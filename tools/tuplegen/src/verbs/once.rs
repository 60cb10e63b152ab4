//! One run: the generating thread on its core, everything else on this one, which looks after the target, shows progress, and judges at the
//! end.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use squall_machine::noise::Hiccups;
use squall_machine::{Machine, StolenSince, cpu_ns, now_ns, pin, resident_bytes};

use super::args::{Job, LoadArgs, Rate};
use super::{EXIT_INTERRUPTED, Failure, columns, show};
use crate::measure::clock::Monotonic;
use crate::measure::drive::{End, Outcome, Pace, drive};
use crate::measure::knee::Trial;
use crate::measure::latency::{HOPS, histogram, recorder};
use crate::measure::totals::{Totals, quantile};
use crate::measure::verdict::{Facts, judge, sent_share};
pub use crate::report::live::Progress;
use crate::report::live::View;
use crate::report::run::{Figures, Hiccup, JobReport, RUN_SCHEMA, RunReport, write_dir};
use crate::report::text;
use crate::target::builtin::Builtin;
use crate::target::genload::Played;
use crate::target::outside::{Remote, Start, Started};
use crate::target::{Finished, Hop, Session};

/// How often a hiccup thread wakes: some microseconds of the core each time.
const HICCUP_PERIOD: Duration = Duration::from_millis(5);
/// How often this thread looks after the target.
const LOOK: Duration = Duration::from_millis(50);

/// Form of the result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables.
    Text,
    /// `run.json`.
    Json,
    /// A line below the names.
    Csv,
}

/// `tuplegen run`.
#[derive(Debug, Args)]
pub struct RunCommand {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Take options from this file: a YAML map of their long names; the command line wins
    #[arg(long, value_name = "FILE", help_heading = "Job")]
    job: Option<PathBuf>,
    /// Print all options of this run as such a file, and run nothing
    #[arg(long, help_heading = "Job")]
    print_job: bool,
}

/// Where results go.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Directory for run.json, latency.hlog, *.hgrm, timeseries.csv, job.yaml and report.html
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Form of the result on standard output
    #[arg(long, value_enum, default_value_t = Format::Text, help_heading = "Output")]
    pub format: Format,
    /// No live view on standard error, only plain lines
    #[arg(long, help_heading = "Output")]
    pub no_tui: bool,
    /// No progress at all
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
}

impl OutputArgs {
    fn progress(&self) -> Progress {
        match (self.quiet, self.no_tui) {
            (true, _) => Progress::Quiet,
            (_, false) if std::io::stderr().is_terminal() => Progress::Live,
            _ => Progress::Lines,
        }
    }
}

/// Set by Ctrl-C and SIGTERM.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the program at once.
        let set = signal_hook::flag::register_conditional_shutdown(signal, i32::from(EXIT_INTERRUPTED), stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()));
        set.map_err(|e| Failure::Error(format!("cannot listen for signals: {e}")))?;
    }
    Ok(stop)
}

/// `tuplegen run`; `as_job` is its command line as a job file.
///
/// # Errors
/// What kept it from running, or its result from being written.
pub fn run(command: &RunCommand, as_job: &str) -> Result<u8, Failure> {
    let job = command.load.job()?;
    if command.print_job {
        show(as_job)?;
        return Ok(0);
    }
    if let Some(dir) = &command.output.out {
        std::fs::create_dir_all(dir).map_err(|e| Failure::Error(format!("cannot make {}: {e}", dir.display())))?;
    }
    let stop = stop_flag()?;
    let (report, totals) = measure(&job, &stop, command.output.progress())?;
    let written = match &command.output.out {
        Some(dir) => write_dir(dir, &report, &totals).and_then(|()| {
            let path = dir.join("job.yaml");
            std::fs::write(&path, as_job).map_err(|e| format!("cannot write {}: {e}", path.display()))
        }),
        None => Ok(()),
    };
    // What cannot be kept is shown all the same.
    print(&report, command.output.format, command.output.out.as_deref().filter(|_| written.is_ok()))?;
    written.map_err(Failure::Error)?;
    Ok(if report.interrupted { EXIT_INTERRUPTED } else { report.verdict.exit_code })
}

/// Prints a report.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(report: &RunReport, format: Format, dir: Option<&Path>) -> Result<(), Failure> {
    match format {
        Format::Json => show(&report.to_json()),
        Format::Csv => show(&text::csv(&[report])),
        Format::Text => {
            let saved = dir.map_or_else(String::new, |d| format!("saved in {0}; open {0}/report.html\n", d.display()));
            show(&(text::text(report, columns()) + &saved))
        }
    }
}

/// Who gets which core.
struct Cores {
    generator: Option<usize>,
    reactors: Vec<usize>,
    spin: bool,
}

impl Cores {
    /// The generator has one, the topology what is left of as many as it wants; with one core they share it, and nobody spins.
    fn deal(job: &Job, machine: &Machine) -> Cores {
        let all = &machine.cores;
        let generator = job.args.cpu.or(all.first().copied());
        let rest: Vec<usize> = all.iter().copied().filter(|c| Some(*c) != generator).collect();
        let wanted = job.args.reactors.unwrap_or(2).max(1);
        let reactors = if rest.is_empty() { Vec::new() } else { rest.into_iter().take(wanted).collect() };
        Cores { generator, spin: all.len() > 1 && !job.args.no_spin, reactors }
    }

    fn used(&self) -> Vec<usize> {
        self.generator.iter().chain(&self.reactors).copied().collect()
    }
}

fn start(job: &Job, cores: &Cores) -> Result<Box<dyn Session>, Failure> {
    let schema = job.body().map_err(Failure::Error)?.schema();
    if let Some(options) = job.builtin_options(cores.reactors.clone()) {
        return Ok(Box::new(Builtin::start(&options).map_err(Failure::Error)?));
    }
    if let Some(capture) = &job.capture {
        let played = Played::start(capture, &cores.reactors, job.args.wait, job.args.ring as usize);
        return Ok(Box::new(played.map_err(Failure::Error)?));
    }
    if let Some(file) = &job.args.local {
        let start = Start { file: file.clone(), args: job.args.local_arg.clone(), shm: !job.args.no_shm };
        return Ok(Box::new(Started::start(&start, &schema).map_err(Failure::Error)?));
    }
    match (&job.args.ingest, &job.args.egress) {
        (Some(ingest), Some(egress)) => {
            let remote = Remote::connect(ingest, egress, &schema).map_err(|e| Failure::Error(e.to_string()))?;
            Ok(Box::new(remote))
        }
        _ => Err(Failure::Usage("there is no target".to_owned())),
    }
}

/// Runs a load once and judges it.
///
/// # Errors
/// When it could not begin. What happens later is in the report.
pub fn measure(job: &Job, stop: &Arc<AtomicBool>, progress: Progress) -> Result<(RunReport, Totals), Failure> {
    let machine = Machine::look(env!("CARGO_MANIFEST_DIR"));
    if let Some(core) = job.args.cpu.filter(|c| !machine.cores.contains(c)) {
        return Err(Failure::Usage(format!("--cpu is {core}, and this process may use the cores {:?}", machine.cores)));
    }
    let cores = Cores::deal(job, &machine);
    let mut session = start(job, &cores)?;
    let mut wire = session.wire().ok_or_else(|| Failure::Error("the target has no link".to_owned()))?;
    let mut pace = job.pace().map_err(Failure::Usage)?;
    let open_loop = matches!(pace, Pace::Open(_));
    let mut body = job.body().map_err(Failure::Error)?;
    let course = job.course();
    let (recorder, intervals) = recorder();
    let began = SystemTime::now();
    let mut totals = Totals::new(began);
    let hiccups = Hiccups::start(&cores.used(), HICCUP_PERIOD)
        .map_err(|e| Failure::Error(format!("cannot start the hiccup threads: {e}")))?;
    let (stolen, cpu_began, wall_began) = (StolenSince::now(), cpu_ns(), now_ns());
    // Of this run only: the target's failure ends it as an interrupt does, but is none.
    let halt = Arc::new(AtomicBool::new(false));
    let mut target_failed = None;
    let mut interrupted = false;
    let mut view = View::new(progress, &job.target_text());
    let outcome = std::thread::scope(|s| {
        let (halt_there, core, spin) = (halt.clone(), cores.generator, cores.spin);
        let (pace, body, wire, course) = (&mut pace, &mut *body, &mut wire, &course);
        let generating = std::thread::Builder::new().name("generator".to_owned()).spawn_scoped(s, move || {
            if let Some(core) = core.filter(|_| spin) {
                pin(core);
            }
            drive(pace, body, course, &mut Monotonic { spin }, wire, recorder, &halt_there)
        });
        let generating = generating.map_err(|e| Failure::Error(format!("cannot start the generating thread: {e}")))?;
        loop {
            let more = intervals.next_within(LOOK, |i| totals.absorb(i));
            if more == Some(false) {
                break;
            }
            if more == Some(true) {
                view.show(&totals);
            }
            // Relaxed: flags that carry nothing.
            interrupted |= stop.load(Ordering::Relaxed);
            if !interrupted {
                target_failed = target_failed.take().or_else(|| session.look());
            }
            if interrupted || target_failed.is_some() {
                halt.store(true, Ordering::Relaxed);
            }
        }
        generating.join().map_err(|_| Failure::Error("the generating thread failed; see its message above".to_owned()))
    })?;
    view.end();
    let cpu_cores = (cpu_ns() - cpu_began) as f64 / (now_ns() - wall_began).max(1) as f64;
    let (stolen, resident) = (stolen.so_far(), resident_bytes());
    let hiccups = hiccups.stop();
    let replay = |sent: u64, each: &mut dyn FnMut(&[u8])| replay(job, sent, each);
    let finished = session.finish(&outcome, &replay);
    drop(wire);
    let began_ms = began.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let ended = Ended {
        outcome,
        finished: Finished { error: target_failed.or(finished.error.clone()), ..finished },
        interrupted,
        open_loop,
        cpu_cores,
        resident,
        stolen,
        hiccups,
        began_ms,
    };
    let report = ended.report(job, &machine, &cores, &mut totals);
    Ok((report, totals))
}

/// The first bodies of the job once more, with the times at which they were due.
fn replay(job: &Job, sent: u64, each: &mut dyn FnMut(&[u8])) -> bool {
    let timed = job.scenario.is_some_and(|s| s.kind == crate::target::builtin::Kind::Yahoo);
    let (Ok(mut pace), Ok(mut body)) = (job.pace(), job.body()) else { return false };
    let mut bytes = Vec::new();
    for seq in 0..sent {
        let offset = match &mut pace {
            Pace::Open(schedule) => schedule.next_ns().unwrap_or(0),
            _ if timed => return false,
            _ => 0,
        };
        bytes.clear();
        body.write(seq, offset, &mut bytes);
        each(&bytes);
    }
    true
}

/// What is known at the end.
struct Ended {
    outcome: Outcome,
    finished: Finished,
    interrupted: bool,
    open_loop: bool,
    cpu_cores: f64,
    resident: Option<u64>,
    stolen: squall_machine::Stolen,
    hiccups: Vec<(usize, squall_metrics::Histogram)>,
    began_ms: u64,
}

impl Ended {
    fn report(self, job: &Job, machine: &Machine, cores: &Cores, totals: &mut Totals) -> RunReport {
        let Ended { outcome, finished, interrupted, open_loop, cpu_cores, resident, stolen, hiccups, began_ms } = self;
        // Where the target's failure ended the load, the rest was due all the same; an interrupt ends what is due.
        let error = finished.error.clone().or_else(|| match &outcome.end {
            End::Failed(e) => Some(format!("the target is gone: {e}")),
            _ => None,
        });
        let share = sent_share(outcome.due, outcome.counts.sent);
        let slos: Vec<_> = job.args.slo.iter().map(|s| s.check(totals, &outcome.counts, share)).collect();
        let took_s = outcome.took_ns as f64 / 1e9;
        let hiccups: Vec<Hiccup> = hiccups.iter().map(|(core, h)| hiccup(*core, h, totals, took_s)).collect();
        let fallbacks: Vec<String> =
            if finished.io == "epoll" { vec!["io_uring was not to be had: epoll".to_owned()] } else { Vec::new() };
        let noise: Vec<(usize, Option<u64>)> = hiccups.iter().map(|h| (h.core, h.late.p99)).collect();
        let mut allowed = job.builtin_options(Vec::new()).map_or(job.allowed, |b| b.allowed());
        allowed.loss |= job.allowed.loss;
        allowed.duplicates |= job.allowed.duplicates;
        allowed.reorder |= job.allowed.reorder;
        let length_ns = outcome.sending_ns.max(1);
        let verdict = judge(&Facts {
            error,
            due: outcome.due,
            counts: outcome.counts,
            open_loop,
            totals,
            stolen,
            slos: &slos,
            allowed,
            wrong: finished.wrong.clone(),
            length_ns: outcome.took_ns.max(1),
            machine,
            threads: 1 + cores.reactors.len().max(1),
            fallbacks: &fallbacks,
            hiccups: &noise,
            noise_gate_ns: job.args.noise_gate,
            strict: job.args.strict,
        });
        RunReport {
            schema: RUN_SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: began_ms,
            job: job_report(job),
            verdict,
            slos,
            intended: Figures::with_spectrum(&totals.intended),
            actual: Figures::with_spectrum(&totals.actual),
            late: Figures::with_spectrum(&totals.late),
            hops: hops(totals, &finished.hops),
            due: outcome.due,
            counts: outcome.counts,
            sent_rate: outcome.counts.sent as f64 / (length_ns as f64 / 1e9),
            complete_rate: outcome.counts.complete as f64 / took_s.max(1e-9),
            blocked_share: outcome.blocked_ns as f64 / length_ns as f64,
            outstanding_max: outcome.outstanding_max,
            drain_ran_out: matches!(outcome.end, End::Deadline),
            interrupted,
            took_s,
            cpu_cores,
            resident_bytes: resident,
            timeline: totals.timeline.clone(),
            hiccups,
            gaps: Figures::of(&totals.gaps),
            stolen: stolen.into(),
            generator_core: cores.generator.filter(|_| cores.spin),
            generator_spins: cores.spin,
            io: finished.io,
            wait: finished.wait,
            notes: finished.notes,
            machine: serde_json::to_value(machine).unwrap_or_default(),
        }
    }
}

fn hiccup(core: usize, late: &squall_metrics::Histogram, totals: &mut Totals, took_s: f64) -> Hiccup {
    let mut h = histogram();
    // The same samples, in the form that the log has.
    if let Ok(decoded) = hdrhistogram::serialization::Deserializer::new().deserialize::<u64, _>(&mut &late.encode()[..])
    {
        let _ = h.add(decoded);
    }
    totals.log_line(&format!("hiccup:cpu{core}"), 0.0, took_s, &h);
    Hiccup { core, late: Figures::of(&h) }
}

/// The way of a tuple: lateness, link in, the topology (in its parts, where they are known), link out.
fn hops(totals: &Totals, inner: &[Hop]) -> Vec<Hop> {
    let hop = |name: &str, h: &hdrhistogram::Histogram<u64>| Hop {
        name: name.to_owned(),
        p50_ns: quantile(h, 0.5),
        p99_ns: quantile(h, 0.99),
        count: h.len(),
    };
    let mut all = vec![hop("lateness", &totals.late)];
    for (name, h) in HOPS.iter().zip(&totals.hops) {
        if *name == "topology" && !inner.is_empty() {
            all.extend(inner.iter().cloned());
            let within: u64 = inner.iter().filter_map(|i| i.p50_ns).sum();
            // What is left is the last component's way to the sink.
            let rest = quantile(h, 0.5).map(|t| t.saturating_sub(within));
            let last = inner.last().map_or("", |i| i.name.rsplit(' ').next().unwrap_or(""));
            all.push(Hop { name: format!("{last} → egress"), p50_ns: rest, p99_ns: None, count: h.len() });
        } else {
            all.push(hop(name, h));
        }
    }
    all.retain(|h| h.count > 0);
    all
}

fn job_report(job: &Job) -> JobReport {
    let (kind, rate, closed) = match job.rate {
        Rate::PerSecond(r) => ("open", Some(r), None),
        Rate::OfArrival => ("open", None, None),
        Rate::Max => ("max", None, None),
        Rate::Closed(n) => ("closed", None, Some(n)),
    };
    JobReport {
        target: job.target_text(),
        loop_kind: kind.to_owned(),
        rate,
        arrival: job.arrival.to_string(),
        closed,
        duration_s: (job.end_ns != u64::MAX).then(|| job.end_ns as f64 / 1e9),
        count: (job.count != u64::MAX).then_some(job.count),
        warmup_s: job.warmup_ns as f64 / 1e9,
        drain_s: job.args.drain as f64 / 1e9,
        seed: job.args.seed,
        body: job.body_text(),
        size: job.size_text(),
        acks: job.args.acks || job.capture.is_some(),
        slos: job.args.slo.iter().map(ToString::to_string).collect(),
    }
}

/// What the search for a knee asks of a run.
pub fn trial(r: &RunReport) -> Trial {
    let c = &r.counts;
    Trial {
        exit_code: r.verdict.exit_code,
        reason: r.verdict.reasons.first().cloned().unwrap_or_default(),
        sent_share: sent_share(r.due, c.sent),
        blocked_share: r.blocked_share,
        backlog_share: r.outstanding_max as f64 / c.sent.max(1) as f64,
        deadline: r.drain_ran_out,
        faults: c.lost + c.duplicates + c.corrupt + c.unknown,
    }
}
