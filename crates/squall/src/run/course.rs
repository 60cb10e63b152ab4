//! The course of a run as the parent decides it: a value that takes what happened and the time, and answers what to do.
//!
//! Preparing → Running → Ending → Over is the good way: Ending begins with the last worker's report. A signal leads
//! through Draining (spouts stopped, ten seconds at most), a failure straight to Ending (everybody told to). Who is still
//! there when Ending's grace is over is killed. Over means that every worker process is gone: each phase has a deadline,
//! except Preparing and Running, which take as long as the topology does.
//!
//! Invariants: the first failure is the one that is told; no worker is told anything after it has exited.

use super::control::ToWorker;
use super::error::RunError;

/// How long a drain may take after the first signal.
pub(crate) const DRAIN_NS: u64 = 10_000_000_000;
/// How long workers may take to end once told to.
pub(crate) const GRACE_NS: u64 = 2_000_000_000;
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
    /// Everybody ends, and is killed if still there by then.
    Ending { until_ns: u64 },
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
}

#[derive(Debug, Clone, Default)]
struct Member {
    pid: u32,
    prepared: bool,
    reported: bool,
    exited: bool,
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
}

impl Course {
    /// A run of workers with these process ids, all just started.
    pub(crate) fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        let members = pids.into_iter().map(|pid| Member { pid, ..Member::default() }).collect();
        Course { phase: Phase::Preparing, members, failure: None, signalled_ns: None, begun_ns: None, drain_cut: false }
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

    /// Every worker has done its part and said so, or never will.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. } | Phase::Over)
    }

    /// Workers that are not prepared yet.
    pub(crate) fn unprepared(&self) -> Vec<u32> {
        self.indices(|m| !m.prepared)
    }

    /// When [`Course::on_tick`] has something to do, if time alone brings it about.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        match self.phase {
            Phase::Draining { until_ns } | Phase::Ending { until_ns } => Some(until_ns),
            _ => None,
        }
    }

    /// A worker is prepared; the last one starts the spouts.
    pub(crate) fn on_prepared(&mut self, worker: u32, now_ns: u64) -> Vec<Action> {
        self.members[worker as usize].prepared = true;
        if self.phase != Phase::Preparing || !self.members.iter().all(|m| m.prepared) {
            return Vec::new();
        }
        self.phase = Phase::Running;
        self.begun_ns = Some(now_ns);
        self.tell_all(&ToWorker::Begin)
    }

    /// A worker's part is over. It exits by itself: the last one's report starts the grace.
    pub(crate) fn on_report(&mut self, worker: u32, now_ns: u64) {
        self.members[worker as usize].reported = true;
        if self.members.iter().all(|m| m.reported) && !matches!(self.phase, Phase::Over) {
            self.phase = Phase::Ending { until_ns: now_ns + GRACE_NS };
        }
    }

    /// The run cannot go on.
    pub(crate) fn on_failure(&mut self, error: RunError, now_ns: u64) -> Vec<Action> {
        self.failure.get_or_insert(error);
        self.abort(now_ns)
    }

    /// A process is gone.
    pub(crate) fn on_exit(&mut self, worker: u32, exit: Exit, now_ns: u64) -> Vec<Action> {
        let member = &mut self.members[worker as usize];
        member.exited = true;
        let pid = member.pid;
        let expected = member.reported || matches!(self.phase, Phase::Ending { .. } | Phase::Over);
        let mut actions = Vec::new();
        if exit == Exit::Signal(signal_hook::consts::SIGINT) && !expected {
            // Ctrl-C reaches the whole group: this worker was not listening yet.
            self.signalled_ns.get_or_insert(now_ns);
            actions = self.abort(now_ns);
        } else if !expected {
            let error = match exit {
                Exit::Signal(signal) => RunError::Killed { worker, pid, signal },
                Exit::Code(code) => RunError::Exited { worker, pid, code },
            };
            actions = self.on_failure(error, now_ns);
        }
        if self.members.iter().all(|m| m.exited) {
            self.phase = Phase::Over;
        }
        actions
    }

    /// Ctrl-C or SIGTERM: the first drains, the second ends at once.
    pub(crate) fn on_signal(&mut self, now_ns: u64) -> Vec<Action> {
        if self.signalled_ns.is_some_and(|first| now_ns < first + SAME_SIGNAL_NS) {
            return Vec::new();
        }
        let first = self.signalled_ns.is_none();
        self.signalled_ns.get_or_insert(now_ns);
        match self.phase {
            Phase::Over => Vec::new(),
            Phase::Running if first => {
                self.phase = Phase::Draining { until_ns: now_ns + DRAIN_NS };
                self.tell_all(&ToWorker::StopSpouts)
            }
            Phase::Preparing if first => self.abort(now_ns),
            _ => {
                self.phase = Phase::Ending { until_ns: now_ns };
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
        match self.phase {
            Phase::Draining { until_ns } if now_ns >= until_ns => {
                self.drain_cut = true;
                self.abort(now_ns)
            }
            Phase::Ending { until_ns } if now_ns >= until_ns => {
                self.phase = Phase::Ending { until_ns: now_ns + GRACE_NS };
                self.kill_all()
            }
            _ => Vec::new(),
        }
    }

    fn abort(&mut self, now_ns: u64) -> Vec<Action> {
        if matches!(self.phase, Phase::Ending { .. } | Phase::Over) {
            return Vec::new();
        }
        self.phase = Phase::Ending { until_ns: now_ns + GRACE_NS };
        self.tell_all(&ToWorker::Abort)
    }

    fn tell_all(&self, message: &ToWorker) -> Vec<Action> {
        self.alive().into_iter().map(|worker| Action::Send(worker, message.clone())).collect()
    }

    fn kill_all(&self) -> Vec<Action> {
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

    #[test]
    fn a_run_is_settled_when_all_reported_and_over_when_all_exited() {
        let mut course = running();
        course.on_report(0, SEC);
        assert!(!course.is_settled());
        assert_eq!(course.on_exit(0, Exit::Code(0), 9), []);
        course.on_report(1, SEC);
        assert!(course.is_settled());
        // Who has reported and does not go is killed: the run never waits for ever.
        assert_eq!(course.phase(), Phase::Ending { until_ns: SEC + GRACE_NS });
        assert_eq!(course.on_tick(SEC + GRACE_NS), [Action::Kill(1)]);
        course.on_exit(1, Exit::Signal(9), 4 * SEC);
        assert_eq!(course.phase(), Phase::Over);
        assert!(course.failure().is_none() && !course.interrupted());
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
        course.on_report(0, SEC);
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
        for worker in [0, 1] {
            course.on_report(worker, SEC);
            course.on_exit(worker, Exit::Code(0), 2 * SEC);
        }
        assert_eq!(course.phase(), Phase::Over);
        assert!(course.interrupted() && !course.drain_cut() && course.failure().is_none());
    }

    #[test]
    fn a_signal_while_preparing_ends_the_run_without_a_failure() {
        let mut course = two();
        assert_eq!(course.on_signal(1), to_both(ToWorker::Abort));
        course.on_prepared(0, 2);
        course.on_prepared(1, 2);
        assert!(matches!(course.phase(), Phase::Ending { .. }), "it does not start any more");
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
        course.on_report(0, SEC);
        course.on_exit(0, Exit::Code(0), 3);
        assert_eq!(course.on_signal(SEC), [Action::Send(1, ToWorker::StopSpouts)]);
    }
}
