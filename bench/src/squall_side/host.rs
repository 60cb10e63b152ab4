//! Runs a topology on the real engine: one worker in this process, and for rows over sockets another in a process of
//! its own, steered line by line over a socket pair.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use squall_engine::{
    IoChoice, IoOptions, LinkTraffic, LogFilter, SocketLink, Worker, WorkerConfig, WorkerEvent, WorkerStats,
};
use squall_topology::Grouping;

use super::{Deployed, Job, Tally};
use crate::clock::{cpu_ns, now_ns};
use crate::error::BenchError;
use crate::measure::Counters;
use crate::peer;
use crate::scenario::Link;

/// How long a topology may take to end once its spouts have, and another process to answer.
const END_MAX: Duration = Duration::from_secs(10);
/// How long fixed work may take.
const WORK_MAX: Duration = Duration::from_secs(300);

/// What the parent asks of the other worker's process.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Here is the plan's hash: start, and say when ready.
    Start { plan: u64 },
    /// Spouts may run.
    Begin,
    /// Both have finished: end, and tell.
    Join,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready,
    Finished,
    Failed(String),
    Joined { stats: Box<WorkerStats>, tally: Box<Tally>, cpu_cores: f64 },
}

/// What a round came to.
pub(super) struct Done {
    pub(super) tally: Tally,
    pub(super) counters: Counters,
}

/// Runs the job's topology: for `measured`, or to its own end.
pub(super) fn run(job: &Job, measured: Option<Duration>) -> Result<Done, BenchError> {
    let deployed = job.deploy()?;
    let mut other = None;
    let mut sockets = Vec::new();
    if job.row.link.crosses_processes() {
        let (mine, theirs) = peer::socket_pair(job.row.link)?;
        sockets.push(SocketLink { a: 0, b: 1, fd: mine });
        other = Some(Other::start(job, &deployed, theirs)?);
    }
    let worker = start(&deployed, job, 0, sockets)?;
    if let Some(other) = &mut other {
        other.expect_ready()?;
        other.ask(&Ask::Begin)?;
    }
    let busy = Busy::begin();
    worker.begin();
    let injector = deployed.alarm.arm(job)?;
    let patience = match measured {
        Some(time) => {
            std::thread::sleep(time);
            drop(injector);
            worker.stop_spouts();
            END_MAX
        }
        None => WORK_MAX,
    };
    finished(&worker, patience)?;
    let mut cpu_cores = busy.cores();
    let mut joined = None;
    if let Some(other) = other {
        let (stats, tally, cores) = other.join()?;
        cpu_cores = cpu_cores.max(cores);
        joined = Some((stats, tally));
    }
    let mut stats = worker.join();
    let mut tally = deployed.tally.take();
    if let Some((other_stats, other_tally)) = joined {
        for (mine, theirs) in stats.components.iter_mut().zip(other_stats.components) {
            mine.emitted += theirs.emitted;
            mine.executed += theirs.executed;
            mine.failed += theirs.failed;
            mine.moved_bytes += theirs.moved_bytes;
        }
        stats.links.add(&other_stats.links);
        stats.by_link.extend(other_stats.by_link);
        stats.peer_links.add(&other_stats.peer_links);
        tally.add(other_tally);
    }
    if job.row.link == Link::Shm && stats.peer_links.shm == 0 {
        return Err(BenchError::NoSharedMemory);
    }
    let counters = counters(&deployed, &stats, cpu_cores)?;
    Ok(Done { tally, counters })
}

fn start(deployed: &Deployed, job: &Job, worker: u32, sockets: Vec<SocketLink>) -> Result<Worker, BenchError> {
    let config = WorkerConfig {
        plan: deployed.plan.clone(),
        worker,
        io: IoChoice::Auto,
        io_options: IoOptions::default(),
        wait: job.wait.0.into(),
        pin: true,
        log: LogFilter::default(),
    };
    Ok(Worker::start(config, deployed.built.registry.clone(), sockets)?)
}

/// Waits until every component of the worker has finished.
fn finished(worker: &Worker, patience: Duration) -> Result<(), BenchError> {
    let deadline = Instant::now() + patience;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match worker.next_event(left) {
            Some(WorkerEvent::Finished) => return Ok(()),
            Some(WorkerEvent::Failed(cause)) => return Err(BenchError::Failed(cause)),
            Some(WorkerEvent::Warning(text)) => eprintln!("squall-bench: {text}"),
            Some(WorkerEvent::Log { component, text, .. }) => eprintln!("squall-bench: {component}: {text}"),
            Some(WorkerEvent::Result { .. } | WorkerEvent::LinkLost { .. }) | None => {}
        }
    }
    Err(BenchError::Stuck("the topology", patience.as_secs()))
}

/// Derives the row's counters, and checks the engine's own counts: what a component emitted, its subscriber executed.
fn counters(deployed: &Deployed, stats: &WorkerStats, cpu_cores: f64) -> Result<Counters, BenchError> {
    let plan = &deployed.plan;
    let mut tuples = 0;
    let mut emitted_by_spouts = 0;
    for (stream, spec) in plan.spec.streams.iter().enumerate() {
        let emitted = stats.components[spec.component as usize].emitted;
        tuples += emitted;
        if plan.inputs_of(spec.component).is_empty() {
            emitted_by_spouts += emitted;
        }
        for sub in plan.subscribers_of(stream as u32) {
            let sub = &plan.spec.subscriptions[*sub as usize];
            let copies = if sub.grouping == Grouping::All { plan.tasks_of(sub.to).len() as u64 } else { 1 };
            let (emitted, executed) = (emitted * copies, stats.components[sub.to as usize].executed);
            if emitted != executed {
                return Err(BenchError::Counts { emitted, executed });
            }
        }
    }
    let links = &stats.links;
    // Local batches change hands where they lie: they say nothing about links.
    let mut leaving = LinkTraffic::default();
    let between_reactors = stats.by_link.iter().filter(|l| l.from != l.to);
    between_reactors.for_each(|l| leaving.add(&l.traffic));
    let per = |n: u64, of: u64| (of > 0).then(|| n as f64 / of as f64);
    Ok(Counters {
        copies_per_tuple: per(leaving.copies_send + leaving.copies_receive, leaving.tuples),
        serializations_per_tuple: per(links.serializations, tuples),
        tuples_per_batch: per(leaving.tuples, leaving.batches),
        syscalls_per_tuple: per(links.syscalls, emitted_by_spouts).unwrap_or(0.0),
        wakeups: links.wakeups_sent,
        zc_sent: links.zc_sent,
        zc_copied: links.zc_copied,
        credit_stalls: links.credit_stalls,
        cpu_cores_per_worker: (cpu_cores * 1e4).round() / 1e4,
        moved_bytes: stats.components.iter().map(|c| c.moved_bytes).sum(),
    })
}

/// CPU time against time.
struct Busy {
    cpu_ns: u64,
    at_ns: u64,
}

impl Busy {
    fn begin() -> Busy {
        Busy { cpu_ns: cpu_ns(), at_ns: now_ns() }
    }

    fn cores(&self) -> f64 {
        (cpu_ns() - self.cpu_ns) as f64 / (now_ns() - self.at_ns).max(1) as f64
    }
}

/// The parent's view of the other process.
struct Other {
    child: Child,
    lines: BufReader<UnixStream>,
}

impl Other {
    fn start(job: &Job, deployed: &Deployed, socket: OwnedFd) -> Result<Other, BenchError> {
        let (mine, theirs) = UnixStream::pair().map_err(BenchError::io("a control socket"))?;
        mine.set_read_timeout(Some(WORK_MAX)).map_err(BenchError::io("a control socket"))?;
        let child = peer::spawn("worker", job, socket, Stdio::from(OwnedFd::from(theirs)))?;
        let mut other = Other { child, lines: BufReader::new(mine) };
        other.ask(&Ask::Start { plan: deployed.plan.hash() })?;
        Ok(other)
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), BenchError> {
        write_line(self.lines.get_mut(), ask)
    }

    fn answer(&mut self) -> Result<Answer, BenchError> {
        let answer = read_line(&mut self.lines)?;
        match answer {
            Some(Answer::Failed(cause)) => Err(BenchError::Failed(cause)),
            Some(answer) => Ok(answer),
            None => Err(BenchError::Peer("ended without an answer, see its message above".to_owned())),
        }
    }

    fn expect_ready(&mut self) -> Result<(), BenchError> {
        match self.answer()? {
            Answer::Ready => Ok(()),
            other => Err(BenchError::Peer(format!("answered {other:?} instead of Ready"))),
        }
    }

    /// Ends it once it has finished too.
    fn join(mut self) -> Result<(WorkerStats, Tally, f64), BenchError> {
        match self.answer()? {
            Answer::Finished => {}
            other => return Err(BenchError::Peer(format!("answered {other:?} instead of Finished"))),
        }
        self.ask(&Ask::Join)?;
        match self.answer()? {
            Answer::Joined { stats, tally, cpu_cores } => {
                peer::wait(&mut self.child)?;
                Ok((*stats, *tally, cpu_cores))
            }
            other => Err(BenchError::Peer(format!("answered {other:?} instead of Joined"))),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // After a failure here it would wait for ever; after `join` it has ended.
        peer::kill(&mut self.child);
    }
}

fn write_line(to: &mut UnixStream, message: &impl Serialize) -> Result<(), BenchError> {
    let mut line = serde_json::to_string(message).map_err(|e| BenchError::Peer(e.to_string()))?;
    line.push('\n');
    to.write_all(line.as_bytes()).map_err(BenchError::io("writing to the other process"))
}

fn read_line<T: for<'de> Deserialize<'de>>(from: &mut BufReader<UnixStream>) -> Result<Option<T>, BenchError> {
    let mut line = String::new();
    if from.read_line(&mut line).map_err(BenchError::io("reading from the other process"))? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(|e| BenchError::Peer(e.to_string()))
}

/// The other process: worker 1. Its end of the data socket is stdin, its control socket stdout.
pub(crate) fn worker_main(job: &str) -> Result<(), BenchError> {
    let job: Job = serde_json::from_str(job).map_err(|e| BenchError::Peer(e.to_string()))?;
    let mut control = BufReader::new(peer::inherited_control()?);
    let served = serve(&job, &mut control);
    if let Err(e) = &served {
        // If the parent is gone there is nobody to tell.
        let _ = write_line(control.get_mut(), &Answer::Failed(e.to_string()));
    }
    served
}

fn serve(job: &Job, control: &mut BufReader<UnixStream>) -> Result<(), BenchError> {
    let parent_gone = || BenchError::Peer("the parent is gone".to_owned());
    let deployed = job.deploy()?;
    let Ask::Start { plan } = read_line(control)?.ok_or_else(parent_gone)? else {
        return Err(BenchError::Peer("was not told to start".to_owned()));
    };
    if plan != deployed.plan.hash() {
        return Err(BenchError::Peer("has another plan: was the program replaced while it ran?".to_owned()));
    }
    let socket = SocketLink { a: 0, b: 1, fd: peer::inherited()? };
    let worker = start(&deployed, job, 1, vec![socket])?;
    write_line(control.get_mut(), &Answer::Ready)?;
    match read_line(control)?.ok_or_else(parent_gone)? {
        Ask::Begin => worker.begin(),
        other => return Err(BenchError::Peer(format!("was told {other:?} instead of Begin"))),
    }
    let busy = Busy::begin();
    // Its spouts, if it had any, would end by themselves: rows over sockets have theirs in the parent.
    finished(&worker, WORK_MAX)?;
    let cpu_cores = busy.cores();
    write_line(control.get_mut(), &Answer::Finished)?;
    match read_line(control)?.ok_or_else(parent_gone)? {
        Ask::Join => {}
        other => return Err(BenchError::Peer(format!("was told {other:?} instead of Join"))),
    }
    let stats = Box::new(worker.join());
    let tally = Box::new(deployed.tally.take());
    write_line(control.get_mut(), &Answer::Joined { stats, tally, cpu_cores })
}
