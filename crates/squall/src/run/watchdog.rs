//! Tells workers that are stopped, or are not given the processor, from those that are busy; and names the call that does not return.
//!
//! Each thread of a worker that comes by a certain place again and again writes a beat there, into memory shared with the parent; the parent looks
//! at it twenty times a second. A worker none of whose threads has moved for a second is stopped. A reactor that has not moved for a second while
//! others of its worker have is in a call that does not return; its component is named, and its worker is to be killed when the component's
//! `execute_timeout` has passed. Side reactors may block for as long as they like.
//!
//! Stillness is summed over looks, each of which counts for no more than two intervals: while this process itself is stopped or starved, nothing
//! adds up, so a machine that is slow as a whole gets no worker killed.

use squall_engine::{Board, BoardLayout};

/// Between two looks.
pub(crate) const LOOK_EVERY_NS: u64 = 50_000_000;
/// Stillness that means something.
pub(crate) const STILL_NS: u64 = 1_000_000_000;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// No thread of the worker moves.
    Stopped { worker: u32 },
    /// A call of this component has not returned for [`STILL_NS`]. Told once per call.
    Slow { worker: u32, reactor: u32, component: u32 },
    /// A call of this component has not returned within its timeout.
    Overdue { worker: u32, reactor: u32, component: u32, timeout_ms: u64 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Stillness {
    beat: u64,
    still_ns: u64,
    named: bool,
}

impl Stillness {
    fn look(&mut self, beat: u64, passed_ns: u64) {
        if beat == self.beat {
            self.still_ns += passed_ns;
        } else {
            *self = Stillness { beat, ..Stillness::default() };
        }
    }
}

/// A reactor, and whether it is watched for slow calls.
type Watched = (u32, bool, Stillness);

/// See the module.
pub(crate) struct Watchdog {
    looked_ns: u64,
    /// By worker: its main thread, and its reactors.
    workers: Vec<(Stillness, Vec<Watched>)>,
    /// By component: `execute_timeout`, 0 for none.
    timeouts_ms: Vec<u64>,
}

impl Watchdog {
    /// Watches the workers of a plan.
    pub(crate) fn new(layout: &BoardLayout, workers: u32, timeouts_ms: Vec<u64>, now_ns: u64) -> Watchdog {
        let reactors = |worker| layout.reactors_of(worker).map(|(r, side)| (r, !side, Stillness::default())).collect();
        Watchdog {
            looked_ns: now_ns,
            workers: (0..workers).map(|worker| (Stillness::default(), reactors(worker))).collect(),
            timeouts_ms,
        }
    }

    /// When the next look is due.
    pub(crate) fn due_ns(&self) -> u64 {
        self.looked_ns + LOOK_EVERY_NS
    }

    /// Looks at the workers for which `watched` holds: those that are up.
    pub(crate) fn look(&mut self, board: &Board, watched: impl Fn(u32) -> bool, now_ns: u64) -> Vec<Finding> {
        let passed_ns = now_ns.saturating_sub(self.looked_ns).min(2 * LOOK_EVERY_NS);
        self.looked_ns = now_ns;
        let mut findings = Vec::new();
        for (worker, (main, reactors)) in (0..).zip(&mut self.workers) {
            if !watched(worker) {
                *main = Stillness::default();
                reactors.iter_mut().for_each(|(.., still)| *still = Stillness::default());
                continue;
            }
            main.look(board.main(worker).read().0, passed_ns);
            reactors.iter_mut().for_each(|(r, _, still)| still.look(board.reactor(*r).read().0, passed_ns));
            // Neither the main thread nor a reactor that sleeps stays still for so long.
            if main.still_ns >= STILL_NS && reactors.iter().all(|(.., still)| still.still_ns >= STILL_NS) {
                findings.push(Finding::Stopped { worker });
                continue;
            }
            for (reactor, _, still) in reactors.iter_mut().filter(|(_, watched, s)| *watched && s.still_ns >= STILL_NS)
            {
                let (reactor, Some(component)) = (*reactor, board.reactor(*reactor).read().1) else { continue };
                let timeout_ms = self.timeouts_ms.get(component as usize).copied().unwrap_or(0);
                if timeout_ms > 0 && still.still_ns >= (timeout_ms * 1_000_000).max(STILL_NS) {
                    findings.push(Finding::Overdue { worker, reactor, component, timeout_ms });
                } else if !std::mem::replace(&mut still.named, true) {
                    findings.push(Finding::Slow { worker, reactor, component });
                }
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Worker 0 with reactors 0 and 1 (a side reactor), worker 1 with reactor 2; component 5 on each.
    struct Rig {
        board: Board,
        dog: Watchdog,
        now_ns: u64,
        beat: u64,
    }

    impl Rig {
        fn new(timeout_ms: u64) -> Rig {
            let layout = BoardLayout::new(2, vec![(0, false), (0, true), (1, false)], Vec::new());
            let (board, _) = Board::create(layout.clone()).expect("memory");
            let mut timeouts = vec![0; 5];
            timeouts.push(timeout_ms);
            Rig { dog: Watchdog::new(&layout, 2, timeouts, 0), board, now_ns: 0, beat: 0 }
        }

        /// Looks for `ms`; `mains` and `reactors` beat meanwhile. What was found, once each.
        fn pass(&mut self, ms: u64, mains: &[u32], reactors: &[u32]) -> Vec<Finding> {
            let mut found = Vec::new();
            for _ in 0..ms / 50 {
                self.now_ns += 50 * MS;
                self.beat += 1;
                mains.iter().for_each(|w| self.board.main(*w).beat(self.beat));
                reactors.iter().for_each(|r| self.board.reactor(*r).beat(self.beat));
                let new = self.dog.look(&self.board, |_| true, self.now_ns);
                found.extend(new.into_iter().filter(|f| !found.contains(f)).collect::<Vec<_>>());
            }
            found
        }
    }

    #[test]
    fn a_worker_none_of_whose_threads_moves_is_stopped_after_a_second_and_not_before() {
        let mut rig = Rig::new(0);
        assert_eq!(rig.pass(300, &[0, 1], &[0, 1, 2]), []);
        assert_eq!(rig.pass(950, &[0], &[0]), []);
        assert_eq!(rig.pass(100, &[0], &[0]), [Finding::Stopped { worker: 1 }]);
    }

    #[test]
    fn a_worker_whose_main_thread_alone_is_still_is_not_stopped() {
        assert_eq!(Rig::new(0).pass(5000, &[1], &[1, 2]), []);
    }

    #[test]
    fn a_call_that_does_not_return_is_named_once_and_is_overdue_after_its_timeout() {
        let mut rig = Rig::new(3000);
        rig.board.reactor(0).calls(5);
        rig.board.reactor(1).calls(5);
        let slow = Finding::Slow { worker: 0, reactor: 0, component: 5 };
        assert_eq!(rig.pass(2900, &[0, 1], &[2]), [slow], "the side reactor may block");
        let overdue = Finding::Overdue { worker: 0, reactor: 0, component: 5, timeout_ms: 3000 };
        assert_eq!(rig.pass(200, &[0, 1], &[2]), [overdue]);
        let mut never = Rig::new(0);
        never.board.reactor(2).calls(5);
        assert_eq!(never.pass(60_000, &[0, 1], &[0]), [Finding::Slow { worker: 1, reactor: 2, component: 5 }]);
    }

    #[test]
    fn while_this_process_itself_does_not_run_no_stillness_adds_up() {
        let mut rig = Rig::new(0);
        rig.pass(100, &[0, 1], &[0, 1, 2]);
        for _ in 0..9 {
            // Ten seconds between two looks: the machine slept, or was too busy for us as well.
            rig.now_ns += 10_000 * MS;
            assert_eq!(rig.dog.look(&rig.board, |_| true, rig.now_ns), []);
        }
    }

    #[test]
    fn a_worker_that_is_not_up_is_not_looked_at() {
        let mut rig = Rig::new(0);
        for _ in 0..100 {
            rig.now_ns += 50 * MS;
            rig.board.main(0).beat(rig.now_ns);
            assert_eq!(rig.dog.look(&rig.board, |worker| worker == 0, rig.now_ns), []);
        }
    }
}
