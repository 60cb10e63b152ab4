//! The parent and real worker processes over an engine that acts out a scenario.
//!
//! A worker process is this test binary again, running [`worker_process`] only. The scenario travels in the environment.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use squall_engine::{Board, BoardLayout, Pulse};

use super::control::{RESULT_CREDIT_BYTES, ResultRow};
use super::course::Phase;
use super::engine::{Engine, Event, Events, Join, Outline, Program, Role, SocketEnd, SocketPair};
use super::error::RunError;
use super::live::{Screen, Show};
use super::parent::{Launch, Parent, Policy};
use super::stats::{ComponentStats, WorkerStats};
use super::watch::{Progress, Watch};
use super::worker;

const SCENARIO: &str = "SQUALL_TEST_SCENARIO";
const FLOOD_ROWS: usize = 400;
const FLOOD_ROW_BYTES: usize = 32 << 10;

fn outline() -> Outline {
    Outline {
        name: "fake".into(),
        workers: 2,
        canonical: "the plan".into(),
        hash: 7,
        cores: vec![0],
        socket_pairs: vec![SocketPair { reactors: (0, 1), workers: (0, 1) }],
        board: BoardLayout::new(2, vec![(0, false), (1, false)], vec![]),
        ..Outline::default()
    }
}

struct FakeProgram {
    scenario: String,
    outline: Outline,
}

impl Program for FakeProgram {
    fn outline(&self) -> &Outline {
        &self.outline
    }

    fn first_difference(&self, canonical: &str) -> Option<String> {
        (canonical != self.outline.canonical).then(|| format!("`{canonical}` is `{}`", self.outline.canonical))
    }

    fn start(self: Box<Self>, role: Role, sockets: Vec<SocketEnd>) -> Result<Box<dyn Engine>, String> {
        let Role { worker, epochs, board, .. } = role;
        let pulse = Board::open(self.outline.board, board).expect("it is large enough").main(worker);
        let life = epochs[worker as usize];
        if self.scenario == "unprepared" && worker == 1 {
            return Err("component `x` cannot be prepared; mend it".into());
        }
        let (tell, events) = channel();
        let events = Arc::new(Mutex::new(Some(events)));
        Ok(Box::new(FakeEngine {
            scenario: self.scenario,
            worker,
            life,
            sockets: Mutex::new(sockets),
            pulse: (pulse, 0.into()),
            tell,
            events,
        }))
    }
}

struct FakeEngine {
    scenario: String,
    worker: u32,
    life: u32,
    sockets: Mutex<Vec<SocketEnd>>,
    pulse: (Pulse, AtomicU64),
    tell: Sender<Event>,
    events: Arc<Mutex<Option<Receiver<Event>>>>,
}

impl FakeEngine {
    fn tell(&self, event: Event) {
        self.tell.send(event).expect("the event thread listens");
    }

    fn row(&self, bytes: Vec<u8>) {
        self.tell(Event::Result { key: "row".into(), task: self.worker, bytes });
    }
}

impl Engine for FakeEngine {
    fn events(&self) -> Box<dyn Events> {
        let events = self.events.lock().expect("no panics here").take().expect("asked for once");
        Box::new(FakeEvents { events, held: None })
    }

    fn begin(&self) {
        match (self.scenario.as_str(), self.worker) {
            ("endless", _) => return,
            ("heals", 0) => return,
            ("heals", 1) if self.life < 2 => {
                kill_process(rustix::process::getpid(), Signal::KILL).expect("we may kill ourselves");
            }
            ("fails", 1) => return self.tell(Event::Failed("bolt `x` broke; mend it".into())),
            ("fails" | "dies" | "leaves", 0) => return,
            ("dies", _) => kill_process(rustix::process::getpid(), Signal::KILL).expect("we may kill ourselves"),
            ("leaves", _) => exit(7),
            ("flood", _) => (0..FLOOD_ROWS).for_each(|at| self.row(vec![at as u8; FLOOD_ROW_BYTES])),
            ("sockets", _) => {
                for SocketEnd { reactors, fd } in self.sockets.lock().expect("no panics here").drain(..) {
                    let mut stream = UnixStream::from(fd);
                    stream.write_all(&[self.worker as u8]).expect("the peer is there");
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("the peer writes");
                    self.row(vec![reactors.0 as u8, reactors.1 as u8, byte[0]]);
                }
            }
            _ => {
                self.tell(Event::Warning("odd".into()));
                (0..3).for_each(|at| self.row(vec![at]));
            }
        }
        self.tell(Event::Finished);
    }

    fn pause_spouts(&self) {
        unreachable!("a run stops its spouts for good");
    }

    fn stop_spouts(&self) {
        self.tell(Event::Finished);
    }

    fn lose(&self, worker: u32) {
        self.row(vec![b'l', worker as u8]);
    }

    fn leave(&self, worker: u32) {
        self.row(vec![b'g', worker as u8]);
    }

    fn rejoin(&self, worker: u32, epoch: u32, _: u32, sockets: Vec<SocketEnd>) -> Join {
        self.row(vec![b'r', worker as u8, epoch as u8, sockets.len() as u8]);
        if self.scenario == "heals" && epoch == 2 {
            self.tell(Event::Finished);
        }
        Box::new(|| Ok(()))
    }

    fn beat(&self) {
        self.pulse.0.beat(self.pulse.1.fetch_add(1, Ordering::Relaxed));
    }

    fn snapshot(&self) -> WorkerStats {
        let count = ComponentStats { name: "count".into(), executed: 10, ..ComponentStats::default() };
        WorkerStats { components: vec![count], io: "epoll".into(), ..WorkerStats::default() }
    }

    fn join(self: Box<Self>) -> WorkerStats {
        self.snapshot()
    }
}

struct FakeEvents {
    events: Receiver<Event>,
    held: Option<Event>,
}

impl Events for FakeEvents {
    fn next(&mut self, timeout: Duration, results: bool) -> Option<Event> {
        let event = self.held.take().or_else(|| self.events.recv_timeout(timeout).ok())?;
        if matches!(event, Event::Result { .. }) && !results {
            self.held = Some(event);
            std::thread::sleep(timeout);
            return None;
        }
        Some(event)
    }
}

/// Not a test: the life of a worker process when this binary is started as one.
#[test]
fn worker_process() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let mut outline = outline();
    if scenario == "differs" {
        outline.hash = 8;
        outline.canonical = "another plan".into();
    }
    let load = |cores: &[usize]| {
        assert_eq!(cores, [0], "the plan is made for the parent's machine");
        let (scenario, outline) = (scenario.clone(), outline.clone());
        Ok(Box::new(FakeProgram { scenario, outline }) as Box<dyn Program>)
    };
    let code = worker::main(&load);
    exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

fn start(scenario: &str) -> Parent {
    start_with(scenario, Policy::default())
}

fn start_with(scenario: &str, policy: Policy) -> Parent {
    let args = ["run::tests::worker_process", "--exact", "--nocapture", "--quiet"];
    let launch = Launch {
        program: "/proc/self/exe".into(),
        args: args.map(Into::into).into(),
        env: vec![(SCENARIO.into(), scenario.into())],
    };
    let watch = Watch::new(2, Progress::default(), Screen::new(Show::Quiet, 0));
    Parent::start(&outline(), &launch, watch, policy).expect("the workers start")
}

fn rows(parent: &mut Parent) -> Vec<ResultRow> {
    std::iter::from_fn(|| parent.next_row()).collect()
}

fn failure(mut parent: Parent) -> String {
    parent.finish();
    assert_eq!(parent.course().phase(), Phase::Over);
    parent.course().failure().expect("the run failed").to_string()
}

#[test]
fn a_run_delivers_every_row_and_the_counts_of_both_workers() {
    let mut parent = start("normal");
    let mut seen: Vec<_> = rows(&mut parent).into_iter().map(|row| (row.task, row.bytes[0])).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    parent.finish();
    assert!(parent.course().failure().is_none() && !parent.course().interrupted());
    let total = parent.watch().total();
    assert_eq!((total.executed(), total.stats.io.as_str()), (20, "epoll"));
    assert_eq!(parent.watch().warnings(&total), ["odd"]);
    assert!(parent.watch().usage().iter().all(|usage| usage.is_some_and(|u| u.rss_max_bytes > 0)));
}

#[test]
fn rows_that_nobody_reads_do_not_keep_a_run_from_ending() {
    let mut parent = start("flood");
    parent.finish();
    assert!(parent.course().failure().is_none());
}

#[test]
fn workers_hold_rows_back_until_they_are_read() {
    let mut parent = start("flood");
    let row_bytes = FLOOD_ROW_BYTES as u64 + 64;
    let bound = 2 * (RESULT_CREDIT_BYTES + row_bytes);
    parent.pump_until(|parent| parent.waiting_row_bytes() > 2 * RESULT_CREDIT_BYTES - row_bytes);
    // Nobody reads. Counts keep coming, so the workers are at it, and would send more if they did.
    let looks = parent.watch().looks();
    parent.pump_until(|parent| parent.watch().looks() >= looks + 6 || parent.course().is_settled());
    assert!(parent.waiting_row_bytes() <= bound, "{} > {bound}", parent.waiting_row_bytes());
    let mut next = [0_usize; 2];
    while let Some(row) = parent.next_row() {
        let at = &mut next[row.task as usize];
        assert_eq!((row.bytes.len(), row.bytes[0]), (FLOOD_ROW_BYTES, *at as u8), "in order per task");
        *at += 1;
        assert!(parent.waiting_row_bytes() <= bound, "{} > {bound}", parent.waiting_row_bytes());
    }
    assert_eq!(next, [FLOOD_ROWS; 2]);
}

#[test]
fn both_workers_hold_the_ends_of_the_sockets_between_them() {
    let mut parent = start("sockets");
    let mut seen: Vec<_> = rows(&mut parent).into_iter().map(|row| (row.task, row.bytes.to_vec())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, vec![0, 1, 1]), (1, vec![0, 1, 0])]);
}

#[test]
fn a_killed_worker_ends_the_run_with_its_name_and_signal() {
    let text = failure(start("dies"));
    assert!(text.starts_with("worker 1 (pid ") && text.contains("was killed by SIGKILL"), "{text}");
}

#[test]
fn a_worker_that_dies_is_replaced_and_the_run_ends_as_if_it_had_not() {
    for standby in [false, true] {
        let mut parent = start_with("heals", Policy { restarts: 5, standby, ..Policy::default() });
        let rows: Vec<_> = rows(&mut parent).into_iter().map(|row| (row.task, row.bytes.to_vec())).collect();
        let of = |task| rows.iter().filter(|(t, _)| *t == task).map(|(_, row)| row.clone()).collect::<Vec<_>>();
        // The other one hears of each death, and where to find who comes.
        assert_eq!(of(0), [vec![b'l', 1], vec![b'r', 1, 1, 1], vec![b'l', 1], vec![b'r', 1, 2, 1]]);
        assert_eq!(of(1), [[0], [1], [2]]);
        parent.finish();
        assert!(parent.course().failure().is_none(), "{:?}", parent.course().failure());
        let warnings = parent.watch().warnings(&parent.watch().total());
        assert!(warnings.iter().filter(|w| w.contains("SIGKILL")).count() == 2, "{warnings:?}");
    }
}

#[test]
fn a_worker_that_always_dies_is_given_up() {
    let text = failure(start_with("dies", Policy { restarts: 2, ..Policy::default() }));
    assert!(text.contains("was killed by SIGKILL") && text.contains("after 2 restarts"), "{text}");
}

#[test]
fn a_worker_that_leaves_ends_the_run_with_its_exit_code() {
    let text = failure(start("leaves"));
    assert!(text.contains("worker 1 (pid ") && text.contains("exit code 7"), "{text}");
}

#[test]
fn a_failed_component_ends_the_run_with_its_words() {
    assert_eq!(failure(start("fails")), "worker 1: bolt `x` broke; mend it");
}

#[test]
fn a_worker_that_cannot_prepare_ends_the_run_before_it_begins() {
    let parent = start("unprepared");
    assert_eq!(failure(parent), "worker 1: component `x` cannot be prepared; mend it");
}

#[test]
fn a_worker_with_another_plan_refuses_and_names_the_first_difference() {
    let text = failure(start("differs"));
    assert!(text.contains("its plan differs from the parent's: `the plan` is `another plan`"), "{text}");
}

#[test]
fn sigterm_to_a_worker_stops_the_run_as_ctrl_c_does() {
    let mut parent = start("endless");
    parent.pump_until(|parent| parent.course().phase() != Phase::Preparing);
    let pid = Pid::from_raw(parent.worker_pid(0) as i32).expect("it has a pid");
    kill_process(pid, Signal::TERM).expect("it is our child");
    parent.finish();
    assert!(parent.course().interrupted());
    assert!(parent.course().failure().is_none(), "{:?}", parent.course().failure());
}

#[test]
fn a_worker_killed_while_it_is_stopped_by_the_kernel_does_not_hang_the_run() {
    let mut parent = start("endless");
    parent.pump_until(|parent| parent.course().phase() != Phase::Preparing);
    let pid = Pid::from_raw(parent.worker_pid(1) as i32).expect("it has a pid");
    // A stopped worker hears nothing; the failure of the other one must still end the run.
    kill_process(pid, Signal::STOP).expect("it is our child");
    let other = Pid::from_raw(parent.worker_pid(0) as i32).expect("it has a pid");
    kill_process(other, Signal::KILL).expect("it is our child");
    parent.finish();
    assert!(matches!(parent.course().failure(), Some(RunError::Killed { worker: 0, .. })));
}

#[test]
fn workers_do_not_outlive_a_parent_that_is_dropped() {
    let mut parent = start("endless");
    parent.pump_until(|parent| parent.course().phase() != Phase::Preparing);
    let pids = [0, 1].map(|worker| Pid::from_raw(parent.worker_pid(worker) as i32).expect("it has a pid"));
    drop(parent);
    for pid in pids {
        assert!(rustix::process::test_kill_process(pid).is_err(), "{pid:?} is gone and reaped");
    }
}
