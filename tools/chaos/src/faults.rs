//! The hand that kills.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use serde_json::Value;

use crate::{AS_CHAOS, Checked, Note, Record, WORDS_PER_INPUT, check};

/// No recovery takes longer, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Lines of the input file: few, since a spout that is started again reads all of them before it goes on.
const LINES: u64 = 1_000;
/// A run of less than these percent of its faults shows nothing.
const LEAST_PERCENT: usize = 95;

/// What is to be done to a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of faults.
    pub faults: usize,
    /// Decides which faults, when, and on which worker.
    pub seed: u64,
    /// Sentences of 8 words a second: one tuple each, and one for each word.
    pub rate: u64,
    /// How far apart the sink's groups of acks are, in milliseconds.
    pub group_ms: u64,
    /// Folder for the record, which is there.
    pub dir: PathBuf,
    /// Only these kinds of faults; none: all.
    pub only: Vec<Kind>,
    /// More flags for the run.
    pub run: Vec<String>,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
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
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Kill, Kind::Stop, Kind::Panic, Kind::Cut];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Stop => "stop",
            Kind::Panic => "panic",
            Kind::Cut => "cut",
        }
    }
}

/// What one fault did.
#[derive(Debug, Clone)]
pub struct Done {
    /// Which.
    pub kind: Kind,
    /// To which worker.
    pub worker: u32,
    /// When it was done, as all times in nanoseconds of `CLOCK_MONOTONIC`.
    pub fault_ns: u64,
    /// When the runner knew, for faults of which it tells.
    pub detected_ns: Option<u64>,
    /// When the worker's next life was started and when it was prepared, for those that cost a worker its life.
    pub restarted_ns: Option<(u64, u64)>,
    /// When the executor broke, and when its next instance had executed a tuple, for panics.
    pub executor_ns: Option<(u64, u64)>,
    /// When the first root that was emitted again was acked; where none was under way, the first one that was emitted after.
    pub recovered_ns: u64,
    /// Most roots that were in flight at a time, from the fault until then.
    pub in_flight: u64,
    /// The inputs of which some were in flight then.
    pub inputs: std::ops::Range<u64>,
    /// Executions of them beyond the first.
    pub duplicates: u64,
}

/// What all of it came to.
#[derive(Debug, Clone)]
pub struct Disturbed {
    /// The faults that were done.
    pub done: Vec<Done>,
    /// What the record shows.
    pub checked: Checked,
    /// What must not be; empty where nothing was lost and everything is as it was promised.
    pub wrong: Vec<String>,
}

/// Starts a run as a program of its own (this one, see [`AS_CHAOS`]), does one fault after another to it, and checks its record.
///
/// # Errors
/// The kernel's, and where the run's record cannot be read.
pub fn disturb(plan: &Plan) -> io::Result<Disturbed> {
    // A stopped worker costs a second, the others some tens of milliseconds; and nothing may run dry.
    let inputs = plan.rate * (plan.faults as u64 * 4 + 60);
    let record = Record::open(&plan.dir, inputs)?;
    write_lines(&plan.dir.join("lines"), plan.seed)?;
    let run = Run::start(plan, inputs)?;
    let mut dice = Dice(plan.seed);
    let mut hurt = Hurt { run, record: record.clone() };
    let (mut done, mut wrong) = (Vec::new(), Vec::new());
    for at in 0..plan.faults {
        match hurt.once(&mut dice, plan) {
            Ok(fault) => done.push(fault),
            Err(error) => {
                eprintln!("fault {at} of {}: {error}", plan.faults);
                if hurt.run.ended()? {
                    break;
                }
            }
        }
    }
    record.set(Note::Stop, 1);
    let code = hurt.run.wait()?;
    let checked = check(&record, "sentences")?;
    wrong.extend(checked.violations.iter().cloned());
    if checked.lost + checked.pending > 0 {
        wrong.push(format!("{} inputs are lost, {} roots are pending", checked.lost, checked.pending));
    }
    if code != Some(0) {
        wrong.push(format!("the run ended with exit code {code:?} instead of 0"));
    }
    if done.len() * 100 < plan.faults * LEAST_PERCENT {
        wrong.push(format!("only {} of {} faults were done: this shows nothing", done.len(), plan.faults));
    }
    count_duplicates(&record, &mut done, checked.duplicates, &mut wrong);
    if !wrong.is_empty() {
        eprintln!("seed {}; the end of the run's words:\n{}", plan.seed, last_words(&plan.dir));
    }
    Ok(Disturbed { done, checked, wrong })
}

/// A fault may make duplicates of what was in flight, and of nothing else.
fn count_duplicates(record: &Record, done: &mut [Done], all: u64, wrong: &mut Vec<String>) {
    let mut explained = 0;
    let mut from = 0;
    for fault in done {
        let inputs = fault.inputs.start.max(from)..fault.inputs.end;
        from = inputs.end.max(from);
        fault.duplicates = inputs.map(|input| record.duplicates(input)).sum();
        explained += fault.duplicates;
        if fault.duplicates > fault.in_flight {
            wrong.push(format!("{} duplicates, but {} roots in flight: {fault:?}", fault.duplicates, fault.in_flight));
        }
    }
    if explained < all {
        wrong.push(format!("{} of {all} duplicates belong to no fault", all - explained));
    }
}

/// Sentences of eight words each, of a vocabulary of some thousands.
pub(crate) fn write_lines(path: &Path, seed: u64) -> io::Result<()> {
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

pub(crate) fn last_words(dir: &Path) -> String {
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
pub(crate) struct Run {
    child: Child,
    log: PathBuf,
    /// By worker: epoch, process, whether it is up.
    workers: [(u64, u32, bool); 2],
    /// The last sockets that were made between the workers: who holds these ends, and their inodes.
    sockets: (u32, Vec<u64>),
    /// When a worker was last lost, or the link made anew.
    lost_ns: u64,
    /// When a worker was last started, and when one was last up.
    started_ns: u64,
    up_ns: u64,
    /// Workers that were lost, and links that were made anew.
    pub(crate) losses: u64,
    pub(crate) relinks: u64,
    lines_seen: usize,
}

impl Run {
    pub(crate) fn start(plan: &Plan, inputs: u64) -> io::Result<Run> {
        let Plan { dir, rate, group_ms, .. } = plan;
        let log = dir.join("run.jsonl");
        let mut command = Command::new(std::env::current_exe()?);
        command.env(AS_CHAOS, "1");
        command.arg("run").arg("--dir").arg(dir).arg("--record").arg(&log);
        command.args(["--inputs", &inputs.to_string(), "--rate", &rate.to_string()]);
        command.args(["--group-ms", &group_ms.to_string()]);
        command.args(["--restarts", "1000000", "--quiet"]).args(&plan.run).stdin(Stdio::null());
        command.stdout(File::create(dir.join("stdout"))?).stderr(File::create(dir.join("stderr"))?);
        let child = command.spawn()?;
        Ok(Run {
            child,
            log,
            workers: Default::default(),
            sockets: (0, Vec::new()),
            lost_ns: 0,
            started_ns: 0,
            up_ns: 0,
            losses: 0,
            relinks: 0,
            lines_seen: 0,
        })
    }

    /// Takes in what the run has written since the last look.
    pub(crate) fn look(&mut self) -> io::Result<()> {
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
                    self.started_ns = number("t_ns");
                }
                Some("up") => {
                    self.workers[worker].2 = true;
                    self.up_ns = number("t_ns");
                }
                Some("lost") => {
                    self.workers[worker].2 = false;
                    self.losses += 1;
                    self.lost_ns = number("t_ns");
                }
                Some("relinked") => {
                    self.sockets = (number_at(&event["workers"], 0) as u32, inodes(&event["sockets"][0]));
                    self.relinks += 1;
                    self.lost_ns = number("t_ns");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until both workers are up, and inputs are acked.
    pub(crate) fn until_at_work(&mut self, record: &Record) -> io::Result<()> {
        let until = Instant::now() + 3 * PATIENCE;
        loop {
            self.look()?;
            if record.note(Note::AckedBelow) > 0 && self.workers.iter().all(|(_, _, up)| *up) {
                return Ok(());
            }
            if self.ended()? || Instant::now() >= until {
                let said = last_words(self.log.parent().unwrap_or(Path::new(".")));
                return Err(io::Error::other(format!("the run does not get to work; the end of its words:\n{said}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) fn wait(&mut self) -> io::Result<Option<i32>> {
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
    fn once(&mut self, dice: &mut Dice, plan: &Plan) -> io::Result<Done> {
        let kinds = if plan.only.is_empty() { &Kind::ALL[..] } else { &plan.only };
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
        for note in [Note::ReplayAckedNs, Note::FreshAckedNs, Note::BrokeNs, Note::BackNs] {
            self.record.set(note, 0);
        }
        let first = self.record.note(Note::AckedBelow);
        let fault_ns = now_ns();
        self.record.set(Note::FaultNs, fault_ns);
        self.hurt(kind, victim)?;
        // What was emitted again is the measure; where nothing was under way, what comes after the runner knew.
        let patience = Instant::now() + Duration::from_millis(300);
        let mut in_flight = 0;
        self.until("recovery", |hurt| {
            in_flight = in_flight.max(hurt.record.in_flight());
            let told = kind == Kind::Panic || hurt.run.lost_ns != before_lost_ns;
            let replayed = hurt.record.note(Note::ReplayAckedNs) != 0;
            let up = hurt.run.workers.iter().all(|(_, _, up)| *up);
            let back = kind != Kind::Panic || hurt.record.note(Note::BackNs) != 0;
            told && up
                && back
                && (replayed || Instant::now() > patience && hurt.record.note(Note::FreshAckedNs) > hurt.run.lost_ns)
        })?;
        let detected_ns = (self.run.lost_ns != before_lost_ns).then_some(self.run.lost_ns);
        let replayed_ns = self.record.note(Note::ReplayAckedNs);
        let recovered_ns = if replayed_ns == 0 { self.record.note(Note::FreshAckedNs) } else { replayed_ns };
        self.record.set(Note::FaultNs, 0);
        let Run { started_ns, up_ns, .. } = self.run;
        Ok(Done {
            kind,
            worker: victim,
            fault_ns,
            detected_ns,
            restarted_ns: (matches!(kind, Kind::Kill | Kind::Stop) && up_ns > fault_ns).then_some((started_ns, up_ns)),
            executor_ns: (kind == Kind::Panic)
                .then(|| (self.record.note(Note::BrokeNs), self.record.note(Note::BackNs))),
            recovered_ns,
            in_flight,
            inputs: first..self.record.note(Note::Emitted),
            duplicates: 0,
        })
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

    fn until(&mut self, what: &str, mut done: impl FnMut(&Hurt) -> bool) -> io::Result<()> {
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
