//! The hand that kills.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use serde_json::{Value, json};
use squall_chaos::{Note, Record, WORDS_PER_INPUT, check};

/// No recovery takes longer, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Lines of the input file.
const LINES: u64 = 20_000;
/// A run of less than these percent of its faults shows nothing.
const LEAST_PERCENT: usize = 95;

/// Disturbs a running topology, and proves that nothing was lost
#[derive(Parser)]
#[command(name = "chaos break", bin_name = "chaos break")]
struct Options {
    /// Number of faults
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// Decides which faults, when, and on which worker
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sentences of 8 words a second: one tuple each, and one for each word
    #[arg(long, default_value_t = 22_000)]
    rate: u64,
    /// Folder for the record, kept [default: a temporary one]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only these kinds of faults
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// More flags for the run, such as --shm off or --standby
    #[arg(last = true)]
    run: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Kind {
    /// `kill -9` of a worker
    Kill,
    /// SIGSTOP of a worker
    Stop,
    /// A bolt panics
    Panic,
    /// The socket between the workers is shut down
    Cut,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Kill, Kind::Stop, Kind::Panic, Kind::Cut];

    fn word(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Stop => "stop",
            Kind::Panic => "panic",
            Kind::Cut => "cut",
        }
    }
}

pub(crate) fn main() -> ExitCode {
    let options = Options::parse_from(std::iter::once("chaos break".into()).chain(std::env::args_os().skip(2)));
    match disturb(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What one fault did.
struct Done {
    kind: Kind,
    worker: u32,
    /// When the runner knew, for faults of which it tells.
    detected_ns: Option<u64>,
    /// Until the first root that was emitted again was acked, or where none was under way, the first one that was emitted after.
    recovered_ns: u64,
    fault_ns: u64,
}

fn disturb(options: &Options) -> io::Result<bool> {
    let temporary = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    // A stopped worker costs a second, the others some tens of milliseconds; and nothing may run dry.
    let inputs = options.rate * (options.faults as u64 * 4 + 60);
    let record = Record::open(&dir, inputs)?;
    write_lines(&dir.join("lines"), options.seed)?;
    let run = Run::start(options, &dir, inputs)?;
    let mut dice = Dice(options.seed);
    let mut hurt = Hurt { run, record: record.clone() };
    let mut done = Vec::new();
    for at in 0..options.faults {
        match hurt.once(&mut dice, options) {
            Ok(fault) => done.push(fault),
            Err(error) => {
                eprintln!("fault {at} of {}: {error}", options.faults);
                if hurt.run.ended()? {
                    break;
                }
            }
        }
    }
    record.set(Note::Stop, 1);
    let code = hurt.run.wait()?;
    let checked = check(&record, "sentences")?;
    checked.violations.iter().for_each(|what| eprintln!("wrong: {what}"));
    println!("{}", summary(&done, &checked));
    let enough = done.len() * 100 >= options.faults * LEAST_PERCENT;
    if !enough {
        eprintln!("only {} of {} faults were done: this shows nothing", done.len(), options.faults);
    }
    // Failed roots, which were emitted again, are reported as such by the run: exit code 1. A failure of the run itself is in its record.
    let good = checked.violations.is_empty() && checked.lost == 0 && checked.pending == 0 && enough && code.is_some();
    if !good {
        eprintln!("seed {}; the end of the run's words:\n{}", options.seed, last_words(&dir));
    }
    Ok(good)
}

fn summary(done: &[Done], checked: &squall_chaos::Checked) -> Value {
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    let mut victims: BTreeMap<String, usize> = BTreeMap::new();
    let mut detect_ms: BTreeMap<&str, f64> = BTreeMap::new();
    let mut by_kind: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for fault in done {
        *faults.entry(fault.kind.word()).or_default() += 1;
        *victims.entry(fault.worker.to_string()).or_default() += 1;
        let from_ns = match (fault.kind, fault.detected_ns) {
            (Kind::Stop, Some(detected_ns)) => detected_ns,
            _ => fault.fault_ns,
        };
        by_kind.entry(fault.kind.word()).or_default().push(ms(fault.recovered_ns.saturating_sub(from_ns)));
        if let Some(detected_ns) = fault.detected_ns {
            let took = ms(detected_ns.saturating_sub(fault.fault_ns));
            let most = detect_ms.entry(fault.kind.word()).or_default();
            *most = most.max(took);
        }
    }
    let all: Vec<f64> = by_kind.values().flatten().copied().collect();
    let kinds: BTreeMap<&str, Value> = by_kind.into_iter().map(|(kind, took)| (kind, percentiles(took))).collect();
    json!({
        "faults": faults, "victims": victims, "emitted": checked.emitted, "acked": checked.acked, "failed": checked.failed,
        "pending": checked.pending, "lost": checked.lost, "duplicates": checked.duplicates,
        "recovery_ms": percentiles(all), "detect_ms": detect_ms, "recovery_ms_by_kind": kinds,
        // None of N: with 95 % certainty less than 3 / N are.
        "lost_at_most_95": if done.is_empty() { 1.0 } else { 3.0 / done.len() as f64 },
    })
}

fn ms(ns: u64) -> f64 {
    (ns as f64 / 1e4).round() / 1e2
}

fn percentiles(mut took: Vec<f64>) -> Value {
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get(((took.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    json!({ "p50": at(0.5), "p99": at(0.99), "max": took.last() })
}

/// Sentences of eight words each, of a vocabulary of some thousands.
fn write_lines(path: &Path, seed: u64) -> io::Result<()> {
    let mut dice = Dice(seed ^ 0xA5A5);
    let mut text = String::new();
    for _ in 0..LINES {
        for word in 0..WORDS_PER_INPUT {
            text.push_str(if word == 0 { "" } else { " " });
            text.push_str(&format!("w{}", dice.below(5_000)));
        }
        text.push('\n');
    }
    std::fs::write(path, text)
}

fn last_words(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("stderr")).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ z >> 31) % n
    }
}

/// The run that is disturbed, as its record shows it.
struct Run {
    child: Child,
    log: PathBuf,
    /// By worker: epoch, process, whether it is up.
    workers: [(u64, u32, bool); 2],
    /// The last sockets that were made between the workers: who holds these ends, and their inodes.
    sockets: (u32, Vec<u64>),
    /// When a worker was last lost, or the link made anew.
    lost_ns: u64,
    lines_seen: usize,
}

impl Run {
    fn start(options: &Options, dir: &Path, inputs: u64) -> io::Result<Run> {
        let log = dir.join("run.jsonl");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg("--dir").arg(dir).arg("--record").arg(&log);
        command.args(["--inputs", &inputs.to_string(), "--rate", &options.rate.to_string()]);
        command.args(["--restarts", "1000000", "--quiet"]).args(&options.run).stdin(Stdio::null());
        command.stdout(File::create(dir.join("stdout"))?).stderr(File::create(dir.join("stderr"))?);
        let child = command.spawn()?;
        Ok(Run { child, log, workers: Default::default(), sockets: (0, Vec::new()), lost_ns: 0, lines_seen: 0 })
    }

    /// Takes in what the run has written since the last look.
    fn look(&mut self) -> io::Result<()> {
        let text = match std::fs::read_to_string(&self.log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text?,
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines: Vec<_> = whole.lines().skip(self.lines_seen).collect();
        self.lines_seen += lines.len();
        for line in lines {
            let event: Value = serde_json::from_str(line).map_err(io::Error::other)?;
            let number = |name: &str| event[name].as_u64().unwrap_or(0);
            let inodes = |list: &Value| list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            let worker = number("worker") as usize;
            match event["event"].as_str() {
                Some("started") => {
                    self.workers[worker] = (number("epoch"), number("pid") as u32, false);
                    self.sockets = (worker as u32, inodes(&event["sockets"]));
                }
                Some("up") => self.workers[worker].2 = true,
                Some("lost") => {
                    self.workers[worker].2 = false;
                    self.lost_ns = number("t_ns");
                }
                Some("relinked") => {
                    self.sockets = (number_at(&event["workers"], 0) as u32, inodes(&event["sockets"][0]));
                    self.lost_ns = number("t_ns");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn wait(&mut self) -> io::Result<Option<i32>> {
        let until = Instant::now() + 2 * PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() >= until {
                eprintln!("the run does not drain: it is killed");
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number_at(list: &Value, at: usize) -> u64 {
    list[at].as_u64().unwrap_or(0)
}

struct Hurt {
    run: Run,
    record: Record,
}

impl Hurt {
    fn once(&mut self, dice: &mut Dice, options: &Options) -> io::Result<Done> {
        let kinds = if options.only.is_empty() { &Kind::ALL[..] } else { &options.only };
        let kind = kinds[dice.below(kinds.len() as u64) as usize];
        let victim = dice.below(2) as u32;
        // A worker that dies within its first second waits longer each time (back-off): that is not what is measured.
        let pause = Duration::from_micros(1_050_000 + dice.below(200_000));
        self.until("both workers are up and at work", |hurt| {
            let at_work = hurt.record.note(Note::AckedBelow) > 0;
            at_work && hurt.run.workers.iter().all(|(_, _, up)| *up)
        })?;
        // Something new gets through: the last fault is over.
        let acked = self.record.note(Note::AckedBelow);
        self.until("inputs are acked", |hurt| hurt.record.note(Note::AckedBelow) > acked + 100)?;
        std::thread::sleep(pause);
        self.run.look()?;
        let (before_lost_ns, victim) = (self.run.lost_ns, if kind == Kind::Cut { self.run.sockets.0 } else { victim });
        self.record.set(Note::ReplayAckedNs, 0);
        self.record.set(Note::FreshAckedNs, 0);
        let fault_ns = now_ns();
        self.record.set(Note::FaultNs, fault_ns);
        self.hurt(kind, victim)?;
        // What was emitted again is the measure; where nothing was under way, what comes after the runner knew.
        let patience = Instant::now() + Duration::from_millis(300);
        self.until("recovery", |hurt| {
            let told = kind == Kind::Panic || hurt.run.lost_ns != before_lost_ns;
            let replayed = hurt.record.note(Note::ReplayAckedNs) != 0;
            let up = hurt.run.workers.iter().all(|(_, _, up)| *up);
            told && (replayed
                || up && Instant::now() > patience && hurt.record.note(Note::FreshAckedNs) > hurt.run.lost_ns)
        })?;
        let detected_ns = (self.run.lost_ns != before_lost_ns).then_some(self.run.lost_ns);
        let replayed_ns = self.record.note(Note::ReplayAckedNs);
        let recovered_ns = if replayed_ns == 0 { self.record.note(Note::FreshAckedNs) } else { replayed_ns };
        self.record.set(Note::FaultNs, 0);
        Ok(Done { kind, worker: victim, detected_ns, recovered_ns, fault_ns })
    }

    fn hurt(&mut self, kind: Kind, victim: u32) -> io::Result<()> {
        let (_, raw, _) = self.run.workers[victim as usize];
        let pid = Pid::from_raw(raw as i32).ok_or(io::ErrorKind::NotFound)?;
        match kind {
            Kind::Kill => rustix::process::kill_process(pid, Signal::KILL)?,
            Kind::Stop => rustix::process::kill_process(pid, Signal::STOP)?,
            Kind::Panic => self.record.set(Note::Panic, u64::from(victim) + 1),
            Kind::Cut => {
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
                let fd = socket_of(raw, &self.run.sockets.1)?;
                let socket = rustix::process::pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty())?;
                rustix::net::shutdown(&socket, rustix::net::Shutdown::Both)?;
            }
        }
        Ok(())
    }

    fn until(&mut self, what: &str, done: impl Fn(&Hurt) -> bool) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.run.look()?;
            if done(self) {
                return Ok(());
            }
            if self.run.ended()? || Instant::now() >= until {
                return Err(io::Error::other(format!("{what}: not within {} s", PATIENCE.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The descriptor of a process that is one of these sockets.
fn socket_of(pid: u32, inodes: &[u64]) -> io::Result<i32> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        if inode.and_then(|i| i.parse().ok()).is_some_and(|inode: u64| inodes.contains(&inode))
            && let Ok(fd) = entry.file_name().to_string_lossy().parse()
        {
            return Ok(fd);
        }
    }
    Err(io::Error::other("the link between the workers has no socket"))
}

/// `CLOCK_MONOTONIC`, as the topology's clock has it.
fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
