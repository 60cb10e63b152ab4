//! Nothing is done to a run but that others want all cores: no worker may be taken for one that stands still.
//!
//! Processes that spin are pinned to each core this process may use, and a tracked word count runs beside them. What shows that the load was
//! there is the kernel's own account of the cores: a time in which they were idle shows nothing, and says so.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::faults::{Run, last_words, write_lines};
use crate::{Checked, Note, Plan, Record, check};

/// A run whose cores had less to do than these percent shows nothing.
const LEAST_BUSY_PERCENT: f64 = 95.0;

/// A run under load.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// How long.
    pub time: Duration,
    /// Processes that spin, per core.
    pub spinners: usize,
    /// Sentences of 8 words a second.
    pub rate: u64,
    /// Folder for the record, which is there.
    pub dir: PathBuf,
    /// More flags for the run.
    pub run: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Cores that were loaded.
    pub cores: usize,
    /// How busy they were.
    pub busy_percent: f64,
    /// How long, from the moment at which the run was at work.
    pub time: Duration,
    /// Workers that were taken for dead or standing still, and replaced.
    pub replaced: u64,
    /// Links between living workers that were made anew.
    pub relinked: u64,
    /// What the record shows.
    pub checked: Checked,
    /// What must not be; empty where no worker was replaced and nothing was lost.
    pub wrong: Vec<String>,
}

/// Runs a topology beside processes that spin on all cores.
///
/// # Errors
/// The kernel's, where the run does not get to work, and where its record cannot be read.
pub fn load(plan: &LoadPlan) -> io::Result<Loaded> {
    let LoadPlan { time, spinners, rate, dir, run } = plan.clone();
    let inputs = rate * (time.as_secs() + 60);
    let record = Record::open(&dir, inputs)?;
    write_lines(&dir.join("lines"), 1)?;
    let cores = cores()?;
    let spinning = Spinning::start(&cores, spinners)?;
    let plan = Plan { faults: 0, seed: 1, rate, group_ms: 5, dir: dir.clone(), only: Vec::new(), run };
    let mut run = Run::start(&plan, inputs)?;
    run.until_at_work(&record)?;
    let (began, idle_before) = (Instant::now(), CoreTime::of(&cores)?);
    let mut ended = false;
    while began.elapsed() < time && !ended {
        std::thread::sleep(Duration::from_millis(100));
        run.look()?;
        ended = run.ended()?;
    }
    let (time, busy_percent) = (began.elapsed(), CoreTime::of(&cores)?.busy_percent_since(&idle_before));
    record.set(Note::Stop, 1);
    // The load goes on until the run is over: its end is a time like any other.
    let code = run.wait()?;
    run.look()?;
    drop(spinning);
    let checked = check(&record, "sentences")?;
    let mut wrong = checked.violations.clone();
    if run.losses > 0 {
        wrong.push(format!("{} workers were replaced, though nothing was done to them", run.losses));
    }
    if run.relinks > 0 {
        wrong.push(format!("{} links were made anew, though nothing was done to them", run.relinks));
    }
    if checked.lost + checked.pending > 0 {
        wrong.push(format!("{} inputs are lost, {} roots are pending", checked.lost, checked.pending));
    }
    if ended || code != Some(0) {
        wrong.push(format!("the run ended after {} s with exit code {code:?}", time.as_secs()));
    }
    if busy_percent < LEAST_BUSY_PERCENT {
        wrong.push(format!("the cores were busy for {busy_percent:.1} % of the time only: this shows nothing"));
    }
    if !wrong.is_empty() {
        eprintln!("the end of the run's words:\n{}", last_words(&dir));
    }
    let (replaced, relinked) = (run.losses, run.relinks);
    Ok(Loaded { cores: cores.len(), busy_percent, time, replaced, relinked, checked, wrong })
}

impl Loaded {
    /// The line that `chaos load` ends with.
    pub fn summary(&self) -> Value {
        let Loaded { cores, busy_percent, time, replaced, relinked, checked, .. } = self;
        json!({
            "secs": time.as_secs(), "cores": cores, "busy_percent": (busy_percent * 10.0).round() / 10.0,
            "replaced": replaced, "relinked": relinked, "emitted": checked.emitted, "acked": checked.acked,
            "failed": checked.failed, "pending": checked.pending, "lost": checked.lost, "duplicates": checked.duplicates,
        })
    }
}

/// The cores this process may use.
fn cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
}

/// Spins on one core, until whoever started it closes its standard input or ends.
///
/// # Errors
/// The kernel's, where the core is none that it may use.
pub fn spin(core: usize) -> io::Result<()> {
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one)?;
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// Processes that spin; ended when dropped.
struct Spinning(Vec<Child>);

impl Spinning {
    fn start(cores: &[usize], each: usize) -> io::Result<Spinning> {
        let mut all = Spinning(Vec::new());
        for core in cores.iter().flat_map(|core| std::iter::repeat_n(core, each)) {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("spin").arg(core.to_string()).stdin(Stdio::piped());
            all.0.push(command.spawn()?);
        }
        Ok(all)
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the kernel counts of some cores, in its ticks.
struct CoreTime {
    idle: u64,
    all: u64,
}

impl CoreTime {
    fn of(cores: &[usize]) -> io::Result<CoreTime> {
        Ok(CoreTime::read(&std::fs::read_to_string("/proc/stat")?, cores))
    }

    /// A core's line: user, nice, system, idle, iowait, irq, softirq, steal; the rest is in them already.
    fn read(stat: &str, cores: &[usize]) -> CoreTime {
        let mut sum = CoreTime { idle: 0, all: 0 };
        for line in stat.lines() {
            let mut words = line.split_ascii_whitespace();
            let core = words.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
            if core.is_some_and(|core: usize| cores.contains(&core)) {
                let ticks: Vec<u64> = words.take(8).map(|n| n.parse().unwrap_or(0)).collect();
                sum.idle += ticks.iter().skip(3).take(2).sum::<u64>();
                sum.all += ticks.iter().sum::<u64>();
            }
        }
        sum
    }

    fn busy_percent_since(&self, before: &CoreTime) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle);
        if all == 0 { 0.0 } else { 100.0 * (all - idle.min(all)) as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_given_cores_count_and_waiting_for_a_disk_is_idle() {
        let before =
            "cpu 0 0 0 0\ncpu0 100 0 0 100 0 0 0 0 0 0\ncpu1 5 0 0 5 0 0 0 0\ncpu12 0 0 0 0 0 0 0 0\nintr 1 2\n";
        let after = "cpu 0 0 0 0\ncpu0 160 10 10 110 10 0 0 0 7 7\ncpu1 5 0 0 900 0 0 0 0\ncpu12 100 0 0 0 0 0 0 0\n";
        let read = |text, cores: &[usize]| CoreTime::read(text, cores);
        assert_eq!(read(after, &[0]).busy_percent_since(&read(before, &[0])), 80.0);
        assert_eq!(read(after, &[0, 12]).busy_percent_since(&read(before, &[0, 12])), 90.0);
        assert_eq!(read(after, &[3]).busy_percent_since(&read(before, &[3])), 0.0, "of no core nothing is known");
    }
}
