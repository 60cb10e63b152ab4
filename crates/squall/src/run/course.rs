//! The course of a run as the parent decides it: a value that takes what happened and the time, and answers what to do.
//!
//! A worker that dies while the run is under way is replaced, as long as its [`Budget`] lasts: the others are told that it is lost, it is started
//! again, and begins when it is prepared. A link that breaks between two workers that live is made anew.
//!
//! Preparing → Running → Closing → Over is the good way: Closing begins when the last worker has finished, since a worker
//! that left earlier would close its links under the others. A signal leads through Draining (spouts stopped, ten
//! seconds at most), a failure straight to Aborting. Who is still there when Closing or Aborting has taken too long is
//! killed. Over means that every worker process is gone: each phase has a deadline, except Preparing and Running, which
//! take as long as the topology does.
//!
//! Invariants: the first failure is the one that is told; no worker is told anything after it has exited.

use super::budget::Budget;
use super::control::ToWorker;
use super::error::RunError;

/// How long a drain may take after the first signal.
pub(crate) const DRAIN_NS: u64 = 10_000_000_000;
/// How long workers may take to end once told to abort.
pub(crate) const GRACE_NS: u64 = 2_000_000_000;
/// How long components may take for their cleanup.
pub(crate) const CLOSE_NS: u64 = 10_000_000_000;
/// A broken link is usually the first news of a death: so long is waited for the second.
pub(crate) const LINK_NEWS_NS: u64 = 50_000_000;
/// Signals closer than this are one request: `timeout` and service managers signal process and group.
const SAME_SIGNAL_NS: u64 = 100_000_000;

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Workers start and prepare their components.
    Preparing,
    /// Spouts may run.
    Running,
    /// Interrupted: spouts stopped, the rest is finishing.
    Draining { until_ns: u64 },
    /// All work is done: components clean up and workers leave.
    Closing { until_ns: u64 },
    /// Everybody ends at once, and is killed if still there by then.
    Aborting { until_ns: u64 },
    /// All processes are gone.
    Over,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// What the parent must do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Send(u32, ToWorker),
    Kill(u32),
    /// A worker is dead and will be replaced: why, and how long that waits.
    Lose {
        worker: u32,
        why: String,
        wait_ns: u64,
    },
    /// Start a worker again.
    Start(u32),
    /// Make the link between two workers anew.
    Relink(u32, u32),
}

#[derive(Debug, Clone, Default)]
struct Member {
    pid: u32,
    prepared: bool,
    finished: bool,
    reported: bool,
    exited: bool,
    /// By this parent.
    killed: bool,
    /// Why it was killed, if that is no secret of ours.
    cause: Option<String>,
    /// Since when it is prepared.
    up_ns: Option<u64>,
    /// When it is to be started again; until it is.
    due_ns: Option<u64>,
    /// It is being started.
    starting: bool,
    epoch: u32,
    budget: Budget,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Course {
    phase: Phase,
    members: Vec<Member>,
    failure: Option<RunError>,
    signalled_ns: Option<u64>,
    begun_ns: Option<u64>,
    drain_cut: bool,
    heals: bool,
    /// Links that broke between two workers: their lives then, and when to believe that both live on.
    broken: Vec<([(u32, u32); 2], u64)>,
}

impl Course {
    /// A run of workers with these process ids, all just started.
    pub(crate) fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        let members = pids.into_iter().map(|pid| Member { pid, ..Member::default() }).collect();
        Course {
            phase: Phase::Preparing,
            members,
            failure: None,
            signalled_ns: None,
            begun_ns: None,
            drain_cut: false,
            heals: false,
            broken: Vec::new(),
        }
    }

    /// A run that replaces each worker so many times within a minute; 0: never.
    pub(crate) fn healing(mut self, restarts: u32) -> Self {
        self.heals = restarts > 0;
        self.members.iter_mut().for_each(|m| m.budget = Budget::new(restarts));
        self
    }

    /// Where the run is.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// When spouts were allowed to run.
    pub(crate) fn begun_ns(&self) -> Option<u64> {
        self.begun_ns
    }

    /// Ended by a signal, whatever else happened.
    pub(crate) fn interrupted(&self) -> bool {
        self.signalled_ns.is_some()
    }

    /// The drain after a signal did not end in time.
    pub(crate) fn drain_cut(&self) -> bool {
        self.drain_cut
    }

    /// Why the run failed.
    pub(crate) fn failure(&self) -> Option<&RunError> {
        self.failure.as_ref()
    }

    /// Every worker has done its part, or never will: no more rows will come.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Aborting { .. } | Phase::Over)
    }

    /// Workers that are not prepared yet.
    pub(crate) fn unprepared(&self) -> Vec<u32> {
        self.indices(|m| !m.prepared)
    }

    /// When [`Course::on_tick`] has something to do, if time alone brings it about.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Draining { until_ns } | Phase::Closing { until_ns } | Phase::Aborting { until_ns } => Some(until_ns),
            _ => None,
        };
        let starts = self.members.iter().filter(|m| !m.starting).filter_map(|m| m.due_ns);
        phase.into_iter().chain(starts).chain(self.broken.iter().map(|(_, at)| *at)).min()
    }

    /// A worker does its part: it is prepared, lives, and is not about to be killed.
    pub(crate) fn is_up(&self, worker: u32) -> bool {
        let m = &self.members[worker as usize];
        self.is_open() && m.prepared && !m.exited && !m.finished && m.cause.is_none()
    }

    /// Whether a worker's process is there to be told something.
    pub(crate) fn is_alive(&self, worker: u32) -> bool {
        !self.members[worker as usize].exited
    }

    /// How often each worker was started before.
    pub(crate) fn epochs(&self) -> Vec<u32> {
        self.members.iter().map(|m| m.epoch).collect()
    }

    /// Spouts run, or finish what they have begun.
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Draining { .. })
    }

    /// A worker is prepared; the last one starts the spouts.
    pub(crate) fn on_prepared(&mut self, worker: u32, now_ns: u64) -> Vec<Action> {
        let member = &mut self.members[worker as usize];
        member.prepared = true;
        member.up_ns = Some(now_ns);
        if member.epoch > 0 && self.is_open() {
            let mut actions = vec![Action::Send(worker, ToWorker::Begin)];
            if matches!(self.phase, Phase::Draining { .. }) {
                actions.push(Action::Send(worker, ToWorker::StopSpouts));
            }
            return actions;
        }
        if self.phase != Phase::Preparing || !self.members.iter().all(|m| m.prepared) {
            return Vec::new();
        }
        self.phase = Phase::Running;
        self.begun_ns = Some(now_ns);
        self.tell_all(&ToWorker::Begin)
    }

    /// A worker's components have finished; the last one's end lets all of them leave.
    pub(crate) fn on_finished(&mut self, worker: u32, now_ns: u64) -> Vec<Action> {
        self.members[worker as usize].finished = true;
        if !self.is_open() || !self.members.iter().all(|m| m.finished) {
            return Vec::new();
        }
        self.phase = Phase::Closing { until_ns: now_ns + CLOSE_NS };
        self.tell_all(&ToWorker::Exit)
    }

    /// A worker has said its last word and exits by itself; so has one that said why the run failed.
    pub(crate) fn on_report(&mut self, worker: u32) {
        self.members[worker as usize].reported = true;
    }

    /// A worker is started again, as this process.
    pub(crate) fn on_started(&mut self, worker: u32, pid: u32) {
        let member = &mut self.members[worker as usize];
        let (epoch, budget) = (member.epoch + 1, std::mem::take(&mut member.budget));
        *member = Member { pid, epoch, budget, ..Member::default() };
    }

    /// A worker says that it cannot go on: it is replaced if that can be.
    pub(crate) fn on_worker_failed(&mut self, worker: u32, cause: String, now_ns: u64) -> Vec<Action> {
        if !self.heals || !self.is_open() {
            return self.on_failure(RunError::Worker { worker, cause }, now_ns);
        }
        self.condemn(worker, cause)
    }

    /// A worker must go, for this reason.
    pub(crate) fn condemn(&mut self, worker: u32, cause: String) -> Vec<Action> {
        let member = &mut self.members[worker as usize];
        if member.exited || member.cause.is_some() {
            return Vec::new();
        }
        member.cause = Some(cause);
        vec![Action::Kill(worker)]
    }

    /// A worker lost its link to another one. Most often that one is dead, which is told soon.
    pub(crate) fn on_link_lost(&mut self, worker: u32, peer: u32, now_ns: u64) {
        let pair = [worker.min(peer), worker.max(peer)];
        let lives = pair.map(|w| (w, self.members[w as usize].epoch));
        let known = self.broken.iter().any(|(known, _)| *known == lives);
        if self.heals && self.is_open() && !known && pair.iter().all(|w| self.is_up(*w)) {
            self.broken.push((lives, now_ns + LINK_NEWS_NS));
        }
    }

    /// The run cannot go on.
    pub(crate) fn on_failure(&mut self, error: RunError, now_ns: u64) -> Vec<Action> {
        if let RunError::Worker { worker, .. } = error {
            self.members[worker as usize].reported = true;
        }
        self.failure.get_or_insert(error);
        self.abort(now_ns)
    }

    /// A process is gone.
    pub(crate) fn on_exit(&mut self, worker: u32, exit: Exit, now_ns: u64) -> Vec<Action> {
        let member = &mut self.members[worker as usize];
        member.exited = true;
        member.due_ns = None;
        let (pid, cause) = (member.pid, member.cause.clone());
        let by_itself = !member.reported && !member.killed && self.phase != Phase::Over;
        let aborting = matches!(self.phase, Phase::Aborting { .. });
        let error = match exit {
            Exit::Signal(signal) => RunError::Killed { worker, pid, signal },
            Exit::Code(code) => RunError::Exited { worker, pid, code },
        };
        let error = cause.map_or(error, |cause| RunError::Worker { worker, cause });
        let mut actions = Vec::new();
        match &self.failure {
            _ if !by_itself => {}
            // All that it was to do is done, and what it sent has left: the others go on without it.
            _ if self.heals && self.is_open() && self.members[worker as usize].finished => {
                actions = self.tell_all(&ToWorker::Left(worker));
            }
            // Ctrl-C reaches the whole group: this worker was not listening yet.
            _ if exit == Exit::Signal(signal_hook::consts::SIGINT) => {
                self.signalled_ns.get_or_insert(now_ns);
                actions = self.abort(now_ns);
            }
            // The others see a worker's death at their links, often before its process is gone: the death is the news.
            Some(RunError::Worker { worker: witness, .. }) if *witness != worker => self.failure = Some(error),
            _ if aborting => {}
            _ if self.heals && self.is_open() => actions = self.replace(worker, error, now_ns),
            _ => actions = self.on_failure(error, now_ns),
        }
        self.settle();
        actions
    }

    /// A worker is dead, and its place is filled if the budget allows.
    fn replace(&mut self, worker: u32, error: RunError, now_ns: u64) -> Vec<Action> {
        let member = &mut self.members[worker as usize];
        let lived_ns = member.up_ns.map_or(0, |up| now_ns.saturating_sub(up));
        let Some(wait_ns) = member.budget.spend(lived_ns, now_ns) else {
            let restarts = member.budget.spent();
            return self.on_failure(RunError::GivenUp { restarts, cause: Box::new(error) }, now_ns);
        };
        member.due_ns = Some(now_ns + wait_ns);
        let mut actions = vec![Action::Lose { worker, why: error.to_string(), wait_ns }];
        actions.extend(self.start_due(now_ns));
        actions
    }

    fn start_due(&mut self, now_ns: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        for (worker, member) in (0..).zip(&mut self.members) {
            if !member.starting && member.due_ns.is_some_and(|at| at <= now_ns) {
                member.starting = true;
                actions.push(Action::Start(worker));
            }
        }
        actions
    }

    /// Links that broke while both their workers live on are made anew; that costs one of them a life of its budget.
    fn relink_due(&mut self, now_ns: u64) -> Vec<Action> {
        let due: Vec<_> = self.broken.extract_if(.., |(_, at)| *at <= now_ns).collect();
        let mut actions = Vec::new();
        for (lives, _) in due {
            if !lives.iter().all(|(w, epoch)| self.is_up(*w) && self.members[*w as usize].epoch == *epoch) {
                continue;
            }
            let [(a, _), (b, _)] = lives;
            if self.members[a as usize].budget.spend(u64::MAX, now_ns).is_some() {
                actions.push(Action::Relink(a, b));
            } else {
                let cause = format!("the link to worker {b} breaks again and again");
                actions.extend(self.on_failure(RunError::Worker { worker: a, cause }, now_ns));
            }
        }
        actions
    }

    /// Nobody is left, and nobody will come.
    fn settle(&mut self) {
        if self.members.iter().all(|m| m.exited && m.due_ns.is_none()) {
            self.phase = Phase::Over;
        }
    }

    /// Ctrl-C or SIGTERM: the first drains, the second ends at once.
    pub(crate) fn on_signal(&mut self, now_ns: u64) -> Vec<Action> {
        if self.signalled_ns.is_some_and(|first| now_ns < first + SAME_SIGNAL_NS) {
            return Vec::new();
        }
        self.signalled_ns.get_or_insert(now_ns);
        match self.phase {
            Phase::Over => Vec::new(),
            Phase::Running => {
                self.phase = Phase::Draining { until_ns: now_ns + DRAIN_NS };
                self.tell_all(&ToWorker::StopSpouts)
            }
            Phase::Preparing => self.abort(now_ns),
            _ => {
                self.phase = Phase::Aborting { until_ns: now_ns };
                self.members.iter_mut().for_each(|m| m.due_ns = None);
                self.kill_all()
            }
        }
    }

    /// A worker was signalled. With a process group both hear it, so this alone never ends a run at once.
    pub(crate) fn on_signal_seen_by_worker(&mut self, now_ns: u64) -> Vec<Action> {
        if self.interrupted() { Vec::new() } else { self.on_signal(now_ns) }
    }

    /// The parent can no longer watch its workers: it ends, and they end with it.
    pub(crate) fn on_lost_sight(&mut self) {
        self.phase = Phase::Over;
    }

    /// Time passed.
    pub(crate) fn on_tick(&mut self, now_ns: u64) -> Vec<Action> {
        let mut actions = self.relink_due(now_ns);
        if self.is_open() {
            actions.extend(self.start_due(now_ns));
        }
        actions.extend(self.on_deadline(now_ns));
        self.settle();
        actions
    }

    fn on_deadline(&mut self, now_ns: u64) -> Vec<Action> {
        match self.phase {
            Phase::Draining { until_ns } if now_ns >= until_ns => {
                self.drain_cut = true;
                self.abort(now_ns)
            }
            Phase::Closing { until_ns } if now_ns >= until_ns => {
                let mut stuck = (0..).zip(&self.members).filter(|(_, m)| !m.exited);
                match stuck.next() {
                    Some((worker, _)) => self.on_failure(RunError::Stuck { worker }, now_ns),
                    None => Vec::new(),
                }
            }
            Phase::Aborting { until_ns } if now_ns >= until_ns => {
                self.phase = Phase::Aborting { until_ns: now_ns + GRACE_NS };
                self.kill_all()
            }
            _ => Vec::new(),
        }
    }

    fn abort(&mut self, now_ns: u64) -> Vec<Action> {
        if matches!(self.phase, Phase::Aborting { .. } | Phase::Over) {
            return Vec::new();
        }
        self.phase = Phase::Aborting { until_ns: now_ns + GRACE_NS };
        self.members.iter_mut().for_each(|m| m.due_ns = None);
        self.tell_all(&ToWorker::Abort)
    }

    fn tell_all(&self, message: &ToWorker) -> Vec<Action> {
        self.alive().into_iter().map(|worker| Action::Send(worker, message.clone())).collect()
    }

    fn kill_all(&mut self) -> Vec<Action> {
        self.members.iter_mut().for_each(|m| m.killed |= !m.exited);
        self.alive().into_iter().map(Action::Kill).collect()
    }

    fn alive(&self) -> Vec<u32> {
        self.indices(|m| !m.exited)
    }

    fn indices(&self, wanted: impl Fn(&Member) -> bool) -> Vec<u32> {
        (0..).zip(&self.members).filter(|(_, m)| wanted(m)).map(|(worker, _)| worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: u64 = 1_000_000_000;

    fn two() -> Course {
        Course::new([100, 101])
    }

    fn running() -> Course {
        let mut course = two();
        course.on_prepared(0, 1);
        course.on_prepared(1, 2);
        course
    }

    fn to_both(message: ToWorker) -> Vec<Action> {
        vec![Action::Send(0, message.clone()), Action::Send(1, message)]
    }

    #[test]
    fn spouts_begin_when_the_last_worker_is_prepared() {
        let mut course = two();
        assert_eq!(course.on_prepared(1, 5), []);
        assert_eq!((course.phase(), course.unprepared()), (Phase::Preparing, vec![0]));
        assert_eq!(course.on_prepared(0, 7), to_both(ToWorker::Begin));
        assert_eq!((course.phase(), course.begun_ns()), (Phase::Running, Some(7)));
    }

    /// Both workers finish and leave.
    fn leave(course: &mut Course, now_ns: u64) {
        course.on_finished(0, now_ns);
        course.on_finished(1, now_ns);
        for worker in [0, 1] {
            course.on_report(worker);
            course.on_exit(worker, Exit::Code(0), now_ns);
        }
    }

    #[test]
    fn workers_leave_when_the_last_one_has_finished_and_not_before() {
        let mut course = running();
        assert_eq!(course.on_finished(1, 5), [], "its links are still needed");
        assert!(!course.is_settled());
        assert_eq!(course.on_finished(0, SEC), to_both(ToWorker::Exit));
        assert!(course.is_settled());
        course.on_report(0);
        assert_eq!(course.on_exit(0, Exit::Code(0), SEC), []);
        course.on_report(1);
        course.on_exit(1, Exit::Code(0), SEC);
        assert_eq!(course.phase(), Phase::Over);
        assert!(course.failure().is_none() && !course.interrupted());
    }

    #[test]
    fn a_cleanup_that_hangs_or_dies_is_a_failure() {
        let closing = || {
            let mut course = running();
            course.on_finished(0, SEC);
            course.on_finished(1, SEC);
            course.on_report(0);
            course.on_exit(0, Exit::Code(0), SEC);
            course
        };
        let mut hangs = closing();
        assert_eq!(hangs.on_tick(SEC + CLOSE_NS - 1), []);
        assert_eq!(hangs.on_tick(SEC + CLOSE_NS), [Action::Send(1, ToWorker::Abort)]);
        assert!(matches!(hangs.failure(), Some(RunError::Stuck { worker: 1 })));
        assert_eq!(hangs.on_tick(SEC + CLOSE_NS + GRACE_NS), [Action::Kill(1)]);
        let mut dies = closing();
        dies.on_exit(1, Exit::Signal(11), 2 * SEC);
        assert!(matches!(dies.failure(), Some(RunError::Killed { worker: 1, signal: 11, .. })));
        assert_eq!(dies.phase(), Phase::Over);
    }

    #[test]
    fn a_killed_worker_ends_the_others_and_the_run_names_it() {
        let mut course = running();
        assert_eq!(course.on_exit(1, Exit::Signal(9), SEC), [Action::Send(0, ToWorker::Abort)]);
        assert!(matches!(course.failure(), Some(RunError::Killed { worker: 1, pid: 101, signal: 9 })));
        assert!(course.is_settled());
        // The other one does not listen: it is killed when the grace is over.
        assert_eq!(course.on_tick(SEC + GRACE_NS - 1), []);
        assert_eq!(course.on_tick(SEC + GRACE_NS), [Action::Kill(0)]);
        course.on_exit(0, Exit::Signal(9), 4 * SEC);
        assert_eq!(course.phase(), Phase::Over);
        assert!(matches!(course.failure(), Some(RunError::Killed { worker: 1, .. })));
    }

    fn healing(restarts: u32) -> Course {
        let mut course = two().healing(restarts);
        course.on_prepared(0, 1);
        course.on_prepared(1, 2);
        course
    }

    #[test]
    fn a_killed_worker_is_started_again_and_begins_when_it_is_prepared() {
        let mut course = healing(3);
        let actions = course.on_exit(1, Exit::Signal(9), 5 * SEC);
        let [Action::Lose { worker: 1, why, wait_ns: 0 }, Action::Start(1)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert!(why.contains("SIGKILL"), "{why}");
        assert_eq!((course.phase(), course.is_up(1), course.epochs()), (Phase::Running, false, vec![0, 0]));
        course.on_started(1, 102);
        assert_eq!(course.epochs(), [0, 1]);
        assert_eq!(course.on_prepared(1, 6 * SEC), [Action::Send(1, ToWorker::Begin)]);
        assert!(course.is_up(1));
        // It has finished nothing in this life, whatever it had in the one before.
        assert_eq!(course.on_finished(0, 7 * SEC), []);
        assert_eq!(course.on_finished(1, 7 * SEC), to_both(ToWorker::Exit));
    }

    #[test]
    fn a_worker_that_keeps_dying_waits_and_is_given_up_with_the_cause() {
        let mut course = healing(2);
        let failed = |course: &mut Course, at| {
            assert_eq!(course.on_worker_failed(1, "bolt `x` broke".into(), at), [Action::Kill(1)]);
            course.on_exit(1, Exit::Signal(9), at)
        };
        assert_eq!(failed(&mut course, SEC).len(), 2);
        course.on_started(1, 102);
        course.on_prepared(1, SEC);
        let waits = failed(&mut course, SEC + 1);
        assert!(matches!(waits[..], [Action::Lose { wait_ns: 100_000_000, .. }]), "{waits:?}");
        let due = course.deadline_ns().expect("it is to be started");
        assert_eq!((course.on_tick(due - 1), course.on_tick(due)), (vec![], vec![Action::Start(1)]));
        course.on_started(1, 103);
        assert_eq!(failed(&mut course, due), [Action::Send(0, ToWorker::Abort)], "it is not even prepared");
        let text = course.failure().expect("it is given up").to_string();
        assert!(text.contains("worker 1: bolt `x` broke") && text.contains("2 restarts"), "{text}");
    }

    #[test]
    fn a_worker_that_has_done_its_part_is_not_missed() {
        let mut course = healing(2);
        course.on_finished(1, SEC);
        assert_eq!(course.on_exit(1, Exit::Signal(9), SEC), [Action::Send(0, ToWorker::Left(1))]);
        assert_eq!(course.on_finished(0, SEC), [Action::Send(0, ToWorker::Exit)]);
        course.on_report(0);
        course.on_exit(0, Exit::Code(0), SEC);
        assert!(course.phase() == Phase::Over && course.failure().is_none());
    }

    #[test]
    fn a_link_that_breaks_between_living_workers_is_made_anew_and_one_to_a_dead_worker_is_not() {
        let mut course = healing(2);
        course.on_link_lost(1, 0, SEC);
        course.on_link_lost(0, 1, SEC + 1);
        assert_eq!(course.on_tick(SEC + LINK_NEWS_NS - 1), []);
        assert_eq!(course.on_tick(SEC + LINK_NEWS_NS), [Action::Relink(0, 1)], "once, though both have told");
        course.on_link_lost(0, 1, 2 * SEC);
        course.on_exit(1, Exit::Signal(9), 2 * SEC + 1);
        course.on_started(1, 102);
        course.on_prepared(1, 2 * SEC + 2);
        assert_eq!(course.on_tick(3 * SEC), []);
    }

    #[test]
    fn a_worker_that_comes_back_while_the_run_drains_begins_and_ends_its_spouts() {
        let mut course = healing(2);
        course.on_signal(SEC);
        course.on_exit(1, Exit::Signal(9), SEC);
        course.on_started(1, 102);
        let both = vec![Action::Send(1, ToWorker::Begin), Action::Send(1, ToWorker::StopSpouts)];
        assert_eq!(course.on_prepared(1, SEC), both);
    }

    #[test]
    fn a_run_whose_only_worker_waits_for_its_restart_can_be_ended() {
        let mut course = Course::new([100]).healing(9);
        course.on_prepared(0, 1);
        course.on_exit(0, Exit::Signal(9), 2);
        course.on_started(0, 101);
        course.on_exit(0, Exit::Signal(9), 3);
        assert!(course.deadline_ns().is_some());
        course.on_signal(SEC);
        course.on_signal(2 * SEC);
        course.on_tick(2 * SEC);
        assert_eq!(course.phase(), Phase::Over);
    }

    #[test]
    fn a_worker_that_leaves_before_its_report_is_a_failure_even_with_code_zero() {
        let mut course = two();
        course.on_exit(0, Exit::Code(0), 1);
        assert!(matches!(course.failure(), Some(RunError::Exited { worker: 0, pid: 100, code: 0 })));
    }

    #[test]
    fn the_first_failure_is_told_and_later_ones_change_nothing() {
        let mut course = running();
        let failed = |worker| RunError::Worker { worker, cause: "c".into() };
        assert_eq!(course.on_failure(failed(1), 1), to_both(ToWorker::Abort));
        assert_eq!(course.on_failure(failed(0), 2), []);
        assert!(matches!(course.failure(), Some(RunError::Worker { worker: 1, .. })));
    }

    #[test]
    fn a_death_is_told_rather_than_the_broken_link_that_another_worker_saw_first() {
        let broken = || RunError::Worker { worker: 0, cause: "link to worker 1 broke".into() };
        let mut course = running();
        course.on_failure(broken(), SEC);
        course.on_exit(1, Exit::Signal(9), SEC + 1);
        assert!(matches!(course.failure(), Some(RunError::Killed { worker: 1, signal: 9, .. })));
        // A worker that we killed, or that left as it was told, is no news.
        for reported in [true, false] {
            let mut course = running();
            course.on_failure(broken(), SEC);
            if reported {
                course.on_report(1);
            } else {
                course.on_tick(SEC + GRACE_NS);
            }
            course.on_exit(1, Exit::Signal(9), SEC + GRACE_NS + 1);
            assert!(matches!(course.failure(), Some(RunError::Worker { worker: 0, .. })));
        }
    }

    #[test]
    fn the_first_signal_drains_and_the_second_kills() {
        let mut course = running();
        assert_eq!(course.on_signal(SEC), to_both(ToWorker::StopSpouts));
        assert_eq!(course.phase(), Phase::Draining { until_ns: SEC + DRAIN_NS });
        assert_eq!(course.on_signal(SEC + 1), [], "the same request seen twice");
        assert_eq!(course.on_signal(2 * SEC), [Action::Kill(0), Action::Kill(1)]);
        course.on_exit(0, Exit::Signal(9), 2 * SEC);
        course.on_exit(1, Exit::Signal(9), 2 * SEC);
        assert_eq!(course.phase(), Phase::Over);
        assert!(course.interrupted() && course.failure().is_none());
    }

    #[test]
    fn a_drain_that_takes_too_long_is_cut() {
        let mut course = running();
        course.on_signal(SEC);
        course.on_finished(0, SEC);
        assert_eq!(course.deadline_ns(), Some(SEC + DRAIN_NS));
        assert_eq!(course.on_tick(SEC + DRAIN_NS - 1), []);
        assert!(!course.drain_cut());
        assert_eq!(course.on_tick(SEC + DRAIN_NS), to_both(ToWorker::Abort));
        assert!(course.drain_cut());
    }

    #[test]
    fn a_drain_that_ends_in_time_is_a_normal_end_but_interrupted() {
        let mut course = running();
        course.on_signal(SEC);
        leave(&mut course, 2 * SEC);
        assert_eq!(course.phase(), Phase::Over);
        assert!(course.interrupted() && !course.drain_cut() && course.failure().is_none());
    }

    #[test]
    fn a_signal_while_preparing_ends_the_run_without_a_failure() {
        let mut course = two();
        assert_eq!(course.on_signal(1), to_both(ToWorker::Abort));
        course.on_prepared(0, 2);
        course.on_prepared(1, 2);
        assert!(matches!(course.phase(), Phase::Aborting { .. }), "it does not start any more");
        assert!(course.interrupted() && course.failure().is_none());
    }

    #[test]
    fn a_worker_hit_by_ctrl_c_before_it_listens_is_an_interruption() {
        let mut course = two();
        assert_eq!(course.on_exit(0, Exit::Signal(2), 1), [Action::Send(1, ToWorker::Abort)]);
        assert!(course.interrupted() && course.failure().is_none());
    }

    #[test]
    fn nothing_is_sent_to_a_worker_that_has_exited() {
        let mut course = running();
        course.on_finished(0, SEC);
        course.on_finished(1, SEC);
        course.on_report(0);
        course.on_exit(0, Exit::Code(0), SEC);
        assert_eq!(course.on_signal(2 * SEC), [Action::Kill(1)]);
    }
}
