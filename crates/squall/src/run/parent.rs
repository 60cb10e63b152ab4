//! The parent of a run: starts the worker processes, watches them, and carries what they say.
//!
//! One thread, one poll over control sockets, process descriptors and signals. What an event means is decided by
//! [`Course`]; this module only brings events and does what is asked. It never waits for a worker without a deadline
//! and never blocks in a write to one.
//!
//! It also owns what outlives a worker: the sockets between them ([`Sockets`]), and the memory in which they count and show that they live
//! ([`Board`]). So it can start a dead worker again, hand it and its peers new sockets, and stop one that hangs ([`Watchdog`]). With a standby, a
//! process that has the program loaded waits to become whichever worker dies next.
//!
//! Result rows wait here, within the credit given to each worker, until the app takes them.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use squall_engine::{Board, ComponentStats};

use super::channel::{Reader, Received, Writer, socket_pair, split};
use super::control::{Frame, FromWorker, Hello, RESULT_CREDIT_BYTES, ResultRow, ToWorker, encode_message};
use super::course::{Action, Course, Exit, Phase};
use super::engine::Outline;
use super::error::RunError;
use super::record::Record;
use super::sockets::{self, Ends, Family, Sockets};
use super::system;
use super::watch::Watch;
use super::watchdog::{Finding, Watchdog};

/// Credit is returned in pieces of this size, so that small rows do not cost a message each.
const CREDIT_PIECE_BYTES: u64 = RESULT_CREDIT_BYTES / 4;
/// How often a process without a process descriptor is looked at.
const LOOK_EVERY_NS: u64 = 50_000_000;
/// When a slow preparation is mentioned.
const PREPARING_NOTE_NS: u64 = 5_000_000_000;
/// Exit code after Ctrl-C, as shells have it.
pub(crate) const EXIT_INTERRUPTED: i32 = 130;

/// How worker processes are started: the program again, with arguments that make it a worker.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub program: OsString,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
}

/// What a run does about workers that die, and what it writes down.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// Times that each worker is replaced within a minute; 0: the first death ends the run.
    pub restarts: u32,
    /// Keep a process ready to become a worker.
    pub standby: bool,
    pub family: Family,
    pub record: Record,
}

/// What messages call the process that stands by.
const STANDBY: &str = "the standby";
/// How long after a worker is prepared the next standby is started: while it begins and replays, it needs its cores itself.
const STANDBY_AFTER_NS: u64 = 50_000_000;

/// A worker process as the parent holds it. Dropped while alive, it is killed: nothing outlives the run.
struct Process {
    child: Child,
    /// `None` where the kernel or a filter has no process descriptors: the child is looked at now and then.
    pidfd: Option<OwnedFd>,
    reader: Reader,
    writer: Writer,
    open: bool,
    exited: bool,
    /// The program is loaded.
    loaded: bool,
    /// By other worker: how often it was told that the links to it are made anew.
    joins: BTreeMap<u32, u32>,
    owed_credit: u64,
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.exited {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// See the module.
pub(crate) struct Parent {
    outline: Outline,
    launch: Launch,
    policy: Policy,
    course: Course,
    /// By worker.
    processes: Vec<Process>,
    standby: Option<Process>,
    /// When the next one is to be started.
    standby_due_ns: Option<u64>,
    sockets: Sockets,
    board: Board,
    board_fd: OwnedFd,
    watchdog: Watchdog,
    signals: Signals,
    rows: VecDeque<(u32, ResultRow)>,
    watch: Watch,
    started_ns: u64,
    preparing_noted: bool,
}

impl Parent {
    /// Starts the workers; they prepare while this returns.
    pub(crate) fn start(
        outline: &Outline,
        launch: &Launch,
        watch: Watch,
        mut policy: Policy,
    ) -> Result<Parent, RunError> {
        let no_sockets = |source| RunError::System {
            what: "the sockets between the workers cannot be made; raise `ulimit -n` or use fewer reactors",
            source,
        };
        let no_signals = |source| RunError::System { what: "signals cannot be caught", source };
        let signals = Signals::catch().map_err(no_signals)?;
        let no_board =
            |source| RunError::System { what: "the memory for counts and pulses cannot be had; free some", source };
        let mut sockets = Sockets::new(&outline.socket_pairs, policy.family).map_err(no_sockets)?;
        let (board, board_fd) = Board::create(outline.board.clone()).map_err(no_board)?;
        let started_ns = system::now_ns();
        let heals = policy.restarts > 0;
        let mut processes = Vec::new();
        let epochs = vec![0; outline.workers as usize];
        for worker in 0..outline.workers {
            let (own, _) = sockets.begin(worker, |_| false).map_err(no_sockets)?;
            let spawned = Process::spawn(outline, launch, &board_fd, heals);
            let mut process = spawned.map_err(|source| RunError::Spawn { worker, source })?;
            policy.record.started(worker, 0, process.child.id(), &sockets::inodes(&own));
            process.become_worker(worker, &epochs, own);
            processes.push(process);
        }
        let course = Course::new(processes.iter().map(|p| p.child.id())).healing(policy.restarts);
        let timeouts_ms = outline.components.iter().map(|c| c.execute_timeout_ms).collect();
        let watchdog = Watchdog::new(&outline.board, outline.workers, timeouts_ms, started_ns);
        Ok(Parent {
            outline: outline.clone(),
            launch: launch.clone(),
            policy,
            course,
            processes,
            standby: None,
            standby_due_ns: None,
            sockets,
            board,
            board_fd,
            watchdog,
            signals,
            rows: VecDeque::new(),
            watch,
            started_ns,
            preparing_noted: false,
        })
    }

    /// Where the run is.
    pub(crate) fn course(&self) -> &Course {
        &self.course
    }

    /// What has been seen so far.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Waits until a result row is here or the workers have settled.
    pub(crate) fn wait_for_rows(&mut self) {
        while self.rows.is_empty() && !self.course.is_settled() {
            self.pump();
        }
    }

    /// The next result row; `None` when all workers have done their part or never will.
    pub(crate) fn next_row(&mut self) -> Option<ResultRow> {
        self.wait_for_rows();
        let (worker, row) = self.rows.pop_front()?;
        self.owe(worker, row.frame_bytes());
        Some(row)
    }

    /// Says something about the progress of the app's own work.
    pub(crate) fn note(&mut self, text: &str) {
        self.watch.screen.note(text);
    }

    /// Drops the rows that are left and waits until every worker process is gone.
    pub(crate) fn finish(&mut self) {
        while self.next_row().is_some() {}
        while self.course.phase() != Phase::Over {
            self.pump();
        }
        self.standby = None;
        self.watch.screen.clear();
        let failure = self.course.failure().map(ToString::to_string);
        let total = self.watch.total();
        let cut_short = crate::report::is_cut_short(&self.course, &self.watch);
        let uneven = if cut_short { Vec::new() } else { crate::report::uneven(&self.outline, &total) };
        self.policy.record.over(failure, &total.stats.components, &uneven);
    }

    #[cfg(test)]
    pub(crate) fn waiting_row_bytes(&self) -> u64 {
        self.rows.iter().map(|(_, row)| row.frame_bytes()).sum()
    }

    #[cfg(test)]
    pub(crate) fn worker_pid(&self, worker: u32) -> u32 {
        self.processes[worker as usize].child.id()
    }

    #[cfg(test)]
    pub(crate) fn pump_until(&mut self, done: impl Fn(&Parent) -> bool) {
        while !done(self) {
            self.pump();
        }
    }

    /// Returns credit for a row that was taken.
    fn owe(&mut self, worker: u32, bytes: u64) {
        let process = &mut self.processes[worker as usize];
        process.owed_credit += bytes;
        if process.owed_credit >= CREDIT_PIECE_BYTES {
            let bytes = std::mem::take(&mut process.owed_credit);
            self.perform(vec![Action::Send(worker, ToWorker::ResultCredit(bytes))]);
        }
    }

    /// One turn: waits for something to happen or to be due, and handles it.
    fn pump(&mut self) {
        let ready = match self.poll() {
            Ok(ready) => ready,
            Err(source) => {
                let error = RunError::System { what: "waiting for the workers failed", source };
                let actions = self.course.on_failure(error, system::now_ns());
                self.perform(actions);
                // Without poll there is no orderly end; the processes are killed as they are dropped.
                self.course.on_lost_sight();
                return;
            }
        };
        let now_ns = system::now_ns();
        let before = self.course.phase();
        for _ in 0..self.signals.take() {
            let actions = self.course.on_signal(now_ns);
            self.perform(actions);
        }
        for Ready { worker, control, process } in ready {
            if worker as usize == self.processes.len() {
                self.serve_standby();
                continue;
            }
            if control {
                self.serve(worker, now_ns);
            }
            if process {
                self.reap(worker, now_ns);
            }
        }
        let actions = self.course.on_tick(now_ns);
        self.perform(actions);
        if self.standby_due_ns.take_if(|due_ns| *due_ns <= now_ns).is_some() {
            self.engage_standby();
        }
        self.look(now_ns);
        self.note_stopping(before);
        self.show(now_ns);
        self.watch.settle(&self.course, now_ns);
        if self.course.is_settled() {
            // From here on nobody may be listening: the app works on the results, and Ctrl-C just ends the program.
            self.signals.end_at_once();
        }
    }

    fn poll(&self) -> io::Result<Vec<Ready>> {
        let mut fds = self.signals.poll_fds();
        let mut owners = Vec::new();
        let mut blind = false;
        for (worker, process) in (0..).zip(self.processes.iter().chain(&self.standby)).filter(|(_, p)| !p.exited) {
            if process.open {
                let mut events = PollFlags::IN;
                events.set(PollFlags::OUT, process.writer.is_pending());
                fds.push(PollFd::new(&process.reader, events));
                owners.push((worker, false));
            }
            match &process.pidfd {
                Some(pidfd) => {
                    fds.push(PollFd::new(pidfd, PollFlags::IN));
                    owners.push((worker, true));
                }
                None => blind = true,
            }
        }
        let now_ns = system::now_ns();
        let due = [
            self.course.deadline_ns(),
            Some(self.watch.screen.due_ns()),
            self.standby_due_ns,
            blind.then_some(now_ns + LOOK_EVERY_NS),
            self.is_watching().then(|| self.watchdog.due_ns()),
        ];
        let due_ns = due.into_iter().flatten().min().unwrap_or(u64::MAX);
        let wait_ns = due_ns.saturating_sub(now_ns).min(3600 * 1_000_000_000);
        let timeout = Timespec { tv_sec: (wait_ns / 1_000_000_000) as i64, tv_nsec: (wait_ns % 1_000_000_000) as i64 };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready: Vec<Ready> = Vec::new();
        for (fd, (worker, is_process)) in fds[Signals::COUNT..].iter().zip(owners) {
            if fd.revents().is_empty() {
                continue;
            }
            if ready.last().is_none_or(|last| last.worker != worker) {
                ready.push(Ready { worker, control: false, process: false });
            }
            let last = ready.last_mut().expect("pushed above");
            *(if is_process { &mut last.process } else { &mut last.control }) = true;
        }
        let unseen = (0..).zip(&self.processes).filter(|(_, p)| !p.exited && p.pidfd.is_none());
        ready.extend(unseen.map(|(worker, _)| Ready { worker, control: false, process: true }));
        Ok(ready)
    }

    /// Sends what waits for a worker and takes what came from it. False when nothing came.
    fn serve(&mut self, worker: u32, now_ns: u64) -> bool {
        let process = &mut self.processes[worker as usize];
        // A broken pipe is told by the read below, or by the process's end.
        let _ = process.writer.flush_some();
        match process.reader.receive(false) {
            Ok(Received::Some) => {}
            Ok(Received::Nothing) => return false,
            Ok(Received::Closed) => process.open = false,
            Err(error) => {
                process.open = false;
                self.fail(RunError::Control { worker, cause: error.to_string() }, now_ns);
            }
        }
        loop {
            match self.processes[worker as usize].reader.next() {
                Ok(Some(Frame::Result(row))) => {
                    self.watch.on_row(now_ns);
                    self.rows.push_back((worker, row));
                }
                Ok(Some(Frame::Message(message))) => self.on_message(worker, message, now_ns),
                Ok(None) => return true,
                Err(error) => {
                    self.processes[worker as usize].open = false;
                    self.fail(RunError::Control { worker, cause: error.to_string() }, now_ns);
                    return false;
                }
            }
        }
    }

    fn on_message(&mut self, worker: u32, message: FromWorker, now_ns: u64) {
        let actions = match message {
            FromWorker::Loaded => {
                self.processes[worker as usize].loaded = true;
                Vec::new()
            }
            FromWorker::LinkLost { worker: peer, joins } => {
                // Of a link that has been made anew since, it is no news.
                if joins == self.processes[worker as usize].joins.get(&peer).copied().unwrap_or(0) {
                    self.course.on_link_lost(worker, peer, now_ns);
                }
                Vec::new()
            }
            FromWorker::Prepared => {
                self.policy.record.up(worker, self.course.epochs()[worker as usize]);
                self.standby_due_ns = Some(now_ns + STANDBY_AFTER_NS);
                let actions = self.course.on_prepared(worker, now_ns);
                self.watch.on_begin(&self.course, now_ns);
                actions
            }
            FromWorker::Stats(counts) => {
                self.watch.on_stats(worker, *counts);
                Vec::new()
            }
            FromWorker::Finished(counts) => {
                self.watch.on_finished(worker, *counts);
                self.course.on_finished(worker, now_ns)
            }
            FromWorker::Report(counts, usage) => {
                self.watch.on_report(worker, *counts, usage);
                self.course.on_report(worker);
                Vec::new()
            }
            FromWorker::Log { level, component, task, text } => {
                self.watch.on_log(&level, &component, task, &text, now_ns);
                Vec::new()
            }
            FromWorker::Warning(text) => {
                self.watch.on_warning(text);
                Vec::new()
            }
            FromWorker::Failed(cause) => self.course.on_worker_failed(worker, cause, now_ns),
            FromWorker::Signalled => self.course.on_signal_seen_by_worker(now_ns),
        };
        self.perform(actions);
    }

    fn fail(&mut self, error: RunError, now_ns: u64) {
        let actions = self.course.on_failure(error, now_ns);
        self.perform(actions);
    }

    /// A process may have ended: takes its last words first, since they say why.
    fn reap(&mut self, worker: u32, now_ns: u64) {
        let process = &mut self.processes[worker as usize];
        let status = match process.child.try_wait() {
            Ok(Some(status)) => status,
            Ok(None) => return,
            Err(source) => {
                process.exited = true;
                self.fail(RunError::System { what: "the end of a worker cannot be read", source }, now_ns);
                let actions = self.course.on_exit(worker, Exit::Code(-1), now_ns);
                return self.perform(actions);
            }
        };
        process.exited = true;
        while self.processes[worker as usize].open && self.serve(worker, now_ns) {}
        let exit = match status.signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(status.code().unwrap_or(-1)),
        };
        let actions = self.course.on_exit(worker, exit, now_ns);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(worker, message) => self.processes[worker as usize].tell(&message, Vec::new()),
                Action::Kill(worker) => {
                    let process = &mut self.processes[worker as usize];
                    if !process.exited {
                        // It fails only for a process that has just ended.
                        let _ = process.child.kill();
                    }
                }
                Action::Lose { worker, why, wait_ns } => self.lose(worker, &why, wait_ns),
                Action::Start(worker) => self.start_again(worker),
                Action::Relink(one, other) => self.relink(one, other),
            }
        }
    }

    /// A worker is dead and will be replaced: its peers hear of it, and what it has counted is kept.
    fn lose(&mut self, worker: u32, why: &str, wait_ns: u64) {
        self.sockets.end(worker);
        for peer in (0..self.outline.workers).filter(|peer| self.course.is_alive(*peer)) {
            self.processes[peer as usize].tell(&ToWorker::Lost(worker), Vec::new());
        }
        let spout_lost = self.board.bury(worker);
        let named = |c: &super::engine::ComponentOutline| ComponentStats { name: c.name.clone(), ..Default::default() };
        let mut counts: Vec<_> = self.outline.components.iter().map(named).collect();
        self.board.add_worker(worker, &mut counts);
        self.watch.on_lost(worker, counts);
        self.policy.record.lost(worker, self.course.epochs()[worker as usize], why, spout_lost);
        let when = if wait_ns == 0 { String::new() } else { format!(" in {} ms", wait_ns / 1_000_000) };
        let roots =
            if spout_lost == 0 { String::new() } else { format!("; {spout_lost} roots of its spouts are lost") };
        self.watch.on_warning(format!("{why}; it is started again{when}, without the state of its components{roots}"));
    }

    /// A dead worker gets another life, and its peers learn where to find it.
    fn start_again(&mut self, worker: u32) {
        let now_ns = system::now_ns();
        let (own, others) = match self.sockets.begin(worker, |peer| self.course.is_alive(peer)) {
            Ok(ends) => ends,
            Err(source) => {
                let what = "a worker's sockets cannot be made again; raise `ulimit -n`";
                return self.fail(RunError::System { what, source }, now_ns);
            }
        };
        let ready = self.standby.take_if(|standby| standby.loaded && !standby.exited);
        let spawned = match ready {
            Some(standby) => Ok(standby),
            None => Process::spawn(&self.outline, &self.launch, &self.board_fd, true),
        };
        let mut process = match spawned {
            Ok(process) => process,
            Err(source) => return self.fail(RunError::Spawn { worker, source }, now_ns),
        };
        self.course.on_started(worker, process.child.id());
        let epochs = self.course.epochs();
        let epoch = epochs[worker as usize];
        self.policy.record.started(worker, epoch, process.child.id(), &sockets::inodes(&own));
        process.become_worker(worker, &epochs, own);
        self.processes[worker as usize] = process;
        for (peer, ends) in others {
            self.processes[peer as usize].rejoin(worker, epoch, ends);
        }
    }

    /// The link between two workers that live broke: both forget what was on it, and begin anew.
    fn relink(&mut self, one: u32, other: u32) {
        let epochs = self.course.epochs();
        let (ones, others) = match self.sockets.between(one, other) {
            Ok(ends) => ends,
            Err(source) => {
                let what = "a link's sockets cannot be made again; raise `ulimit -n`";
                return self.fail(RunError::System { what, source }, system::now_ns());
            }
        };
        self.policy.record.relinked((one, other), [&sockets::inodes(&ones), &sockets::inodes(&others)]);
        for (worker, peer, ends) in [(one, other, ones), (other, one, others)] {
            let process = &mut self.processes[worker as usize];
            process.tell(&ToWorker::Lost(peer), Vec::new());
            process.rejoin(peer, epochs[peer as usize], ends);
        }
        self.watch.on_relinked();
        self.watch.on_warning(format!("the link between workers {one} and {other} broke and was made anew"));
    }

    /// Keeps a process ready, once there is nothing more urgent.
    fn engage_standby(&mut self) {
        if self.policy.standby && self.policy.restarts > 0 && self.standby.is_none() && !self.course.is_settled() {
            match Process::spawn(&self.outline, &self.launch, &self.board_fd, true) {
                Ok(process) => self.standby = Some(process),
                Err(error) => self.watch.on_warning(format!("no process stands by: {error}")),
            }
        }
    }

    fn serve_standby(&mut self) {
        let Some(standby) = &mut self.standby else { return };
        let _ = standby.writer.flush_some();
        let mut ended = matches!(standby.child.try_wait(), Ok(Some(_)));
        standby.exited = ended;
        ended |= !matches!(standby.reader.receive(false), Ok(Received::Some | Received::Nothing));
        while let Ok(Some(frame)) = standby.reader.next::<FromWorker>() {
            match frame {
                Frame::Message(FromWorker::Loaded) => standby.loaded = true,
                Frame::Message(FromWorker::Failed(cause)) => {
                    self.watch.on_warning(format!("{STANDBY} ended: {cause}"));
                    ended = true;
                }
                _ => {}
            }
        }
        if ended {
            // The next worker that is prepared brings another one.
            self.standby = None;
        }
    }

    fn is_watching(&self) -> bool {
        matches!(self.course.phase(), Phase::Running | Phase::Draining { .. })
    }

    /// Looks for workers that stand still.
    fn look(&mut self, now_ns: u64) {
        if !self.is_watching() || now_ns < self.watchdog.due_ns() {
            return;
        }
        let findings = self.watchdog.look(&self.board, |worker| self.course.is_up(worker), now_ns);
        for finding in findings {
            let name = |component: u32| self.outline.components[component as usize].name.clone();
            let actions = match finding {
                // Where nothing heals, whoever stopped it may want to go on.
                Finding::Stopped { .. } if self.policy.restarts == 0 => Vec::new(),
                Finding::Stopped { worker } => {
                    let cause = "no thread of it has moved for a second: it is stopped, or is given no processor";
                    self.course.condemn(worker, cause.to_owned())
                }
                Finding::Slow { worker, reactor, component } => {
                    self.watch.on_warning(format!(
                        "a call of {} on reactor {reactor} of worker {worker} has not returned for a second: what blocks belongs on a side \
                         thread (`side_thread`), since everything on that reactor waits",
                        name(component)
                    ));
                    Vec::new()
                }
                Finding::Overdue { worker, reactor, component, timeout_ms } => {
                    let seconds = timeout_ms as f64 / 1e3;
                    let cause = format!(
                        "a call of {} on reactor {reactor} has not returned for {seconds} s; mend it, or raise its execute_timeout (0: never)",
                        name(component)
                    );
                    self.course.condemn(worker, cause)
                }
            };
            self.perform(actions);
        }
    }

    /// Says once that the run is stopping, and how to have it stop faster.
    fn note_stopping(&mut self, before: Phase) {
        match (before, self.course.phase()) {
            (Phase::Running, Phase::Draining { .. }) => self.watch.screen.note(
                "stopping: the spouts end and what is on its way is finished, 10 s at most (Ctrl-C again: at once)",
            ),
            (Phase::Draining { .. }, Phase::Aborting { .. }) if self.course.drain_cut() => {
                self.watch.screen.note("the drain is not finished after 10 s: ending the workers");
            }
            _ => {}
        }
    }

    fn show(&mut self, now_ns: u64) {
        if now_ns < self.watch.screen.due_ns() {
            return;
        }
        match self.course.phase() {
            Phase::Preparing => {
                let waited_ns = now_ns - self.started_ns;
                self.watch.screen.skip(now_ns);
                if waited_ns >= PREPARING_NOTE_NS && !std::mem::replace(&mut self.preparing_noted, true) {
                    let missing: Vec<_> = self.course.unprepared().iter().map(u32::to_string).collect();
                    self.watch.screen.note(&format!("waiting for worker {} to prepare", missing.join(", ")));
                }
            }
            Phase::Running => self.watch.show(false, now_ns),
            Phase::Draining { .. } => self.watch.show(true, now_ns),
            Phase::Closing { .. } | Phase::Aborting { .. } | Phase::Over => self.watch.screen.skip(now_ns),
        }
    }
}

impl Process {
    fn spawn(outline: &Outline, launch: &Launch, board: &OwnedFd, heals: bool) -> io::Result<Process> {
        let (ours, theirs) = socket_pair()?;
        // The worker finds its control socket where its standard input belongs and gets that back with the hello.
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let mut command = Command::new(&launch.program);
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        command.args(&launch.args).envs(launch.env.iter().cloned()).stdin(Stdio::from(theirs));
        let child = command.spawn()?;
        // The command holds the child's end; with it open, the end of the worker would not close the socket.
        drop(command);
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        let (reader, writer) = split(ours);
        let mut process = Process {
            child,
            pidfd,
            reader,
            writer,
            open: true,
            exited: false,
            loaded: false,
            joins: BTreeMap::new(),
            owed_credit: 0,
        };
        let hello = Hello {
            parent: rustix::process::getpid().as_raw_pid(),
            cores: outline.cores.clone(),
            plan_hash: outline.hash,
            plan: outline.canonical.clone(),
            heals,
        };
        let hello = encode_message(&ToWorker::Hello(Box::new(hello))).map_err(io::Error::other)?;
        process.send(hello, vec![stdin, board.try_clone()?]);
        Ok(process)
    }

    /// Says which worker the process is, and hands it its ends of the links.
    fn become_worker(&mut self, worker: u32, epochs: &[u32], own: Ends) {
        let sockets = own.len() as u32;
        self.tell(&ToWorker::Become { worker, epochs: epochs.to_vec(), sockets }, Vec::new());
        for (reactors, fds) in sockets::parts(own) {
            self.tell(&ToWorker::Sockets(reactors), fds);
        }
    }

    /// Another worker begins the life `epoch` at the other end of these sockets.
    fn rejoin(&mut self, worker: u32, epoch: u32, ends: Ends) {
        let joins = self.joins.entry(worker).or_default();
        *joins += 1;
        let joins = *joins;
        let mut parts = sockets::parts(ends).into_iter().peekable();
        while let Some((sockets, fds)) = parts.next() {
            self.tell(&ToWorker::Rejoin { worker, epoch, joins, sockets, more: parts.peek().is_some() }, fds);
        }
    }

    fn tell(&mut self, message: &ToWorker, fds: Vec<OwnedFd>) {
        let frame = encode_message(message).expect("all messages but the hello are a few hundred bytes");
        self.send(frame, fds);
    }

    /// Sends now what the socket takes, the rest when it has room. A dead worker is noticed by its end, not here.
    fn send(&mut self, frame: Bytes, fds: Vec<OwnedFd>) {
        self.writer.queue(frame, fds);
        let _ = self.writer.flush_some();
    }
}

/// What poll found of one worker.
struct Ready {
    worker: u32,
    control: bool,
    process: bool,
}

/// SIGINT and SIGTERM as bytes in sockets.
struct Signals {
    interrupt: UnixStream,
    terminate: UnixStream,
    end_at_once: Arc<AtomicBool>,
    /// A Ctrl-C that nobody has taken yet: the app is busy between two rows.
    unheard: Arc<AtomicBool>,
    registered: Vec<SigId>,
}

impl Signals {
    const COUNT: usize = 2;

    fn catch() -> io::Result<Signals> {
        use signal_hook::flag::{register, register_conditional_shutdown};
        let mut registered = Vec::new();
        let end_at_once = Arc::new(AtomicBool::new(false));
        let unheard = Arc::new(AtomicBool::new(false));
        let mut catch = |signal| -> io::Result<UnixStream> {
            let (ours, handler) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            registered.push(register_conditional_shutdown(signal, EXIT_INTERRUPTED, end_at_once.clone())?);
            registered.push(signal_hook::low_level::pipe::register(signal, handler)?);
            Ok(ours)
        };
        let (interrupt, terminate) = (catch(SIGINT)?, catch(SIGTERM)?);
        // In this order: the second of two unheard ones finds the flag of the first. Not so for SIGTERM, which `timeout`
        // sends twice for one request.
        registered.push(register_conditional_shutdown(SIGINT, EXIT_INTERRUPTED, unheard.clone())?);
        registered.push(register(SIGINT, unheard.clone())?);
        // A report beyond `ulimit -f` is an error of its write, not the end of the process.
        registered.push(register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?);
        Ok(Signals { interrupt, terminate, end_at_once, unheard, registered })
    }

    fn poll_fds(&self) -> Vec<PollFd<'_>> {
        vec![PollFd::new(&self.interrupt, PollFlags::IN), PollFd::new(&self.terminate, PollFlags::IN)]
    }

    /// Number of signals since the last call.
    fn take(&mut self) -> usize {
        self.unheard.store(false, Ordering::Relaxed);
        let mut bytes = [0; 64];
        [&mut self.interrupt, &mut self.terminate].map(|pipe| pipe.read(&mut bytes).unwrap_or(0)).iter().sum()
    }

    /// From now on a signal ends the program.
    fn end_at_once(&self) {
        self.end_at_once.store(true, Ordering::Relaxed);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
