//! The thread of one reactor: take what arrived, turn the core, wake who waits for us, and sleep when there is nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use squall_metrics::Histogram;
use squall_ring::{CommandReceiver, SleepFlag};
use squall_topology::Plan;
use squall_tuple::ids::{ReactorIx, WorkerIx};

use crate::board::Pulse;
use crate::clock::{Clock, MonotonicClock};
use crate::fault::LinkError;
use crate::hello::PeerEnd;
use crate::logic::{Core, ReceiveError, SpoutGate};
use crate::shared::{WorkerEvent, WorkerShared};
use crate::stats::{LinkCounters, LinkStats};
use crate::wait::{Idle, Waiter};
use crate::wires::Wires;

/// What the control plane asks of a reactor.
pub(crate) enum Command {
    /// Spouts may run.
    Begin,
    /// Spouts are not called until `Begin`.
    PauseSpouts,
    /// Spouts end; the rest drains.
    StopSpouts,
    /// A worker is gone.
    Lose(WorkerIx),
    /// A worker that had done its part is gone.
    Leave(WorkerIx),
    /// It is there again.
    Rejoin(Box<Rejoin>),
    /// Report.
    Snapshot(Sender<ReactorSnapshot>),
    /// End the thread.
    Exit,
}

/// The links of a reactor to a worker that has begun another life.
pub(crate) struct Rejoin {
    pub(crate) worker: WorkerIx,
    pub(crate) epoch: u32,
    /// How often the links to it have been made anew, with this time.
    pub(crate) joins: u32,
    pub(crate) links: Vec<PeerEnd>,
}

/// What a reactor knows that is not in shared counters.
#[derive(Clone)]
pub(crate) struct ReactorSnapshot {
    pub(crate) reactor: ReactorIx,
    pub(crate) latency: Histogram,
    pub(crate) first_sink_ns: Option<u64>,
    pub(crate) back_pressure: Vec<(String, String)>,
    /// Sleeps, system calls and bytes of the reactor; the links' part comes with `by_link`.
    pub(crate) counters: LinkCounters,
    pub(crate) by_link: Vec<LinkStats>,
}

/// Longest sleep: a bound on the harm of a lost wake-up, far above anything that matters for idle cost.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// A turn of this length is too long: calls on batches end after 1 ms, as those of spouts do.
const LONG_TURN_NS: u64 = 8_000_000;

pub(crate) struct Reactor {
    pub(crate) plan: Arc<Plan>,
    pub(crate) core: Core,
    pub(crate) wires: Wires,
    pub(crate) commands: CommandReceiver<Command>,
    pub(crate) sleep: SleepFlag,
    pub(crate) waiter: Waiter,
    pub(crate) shared: Arc<WorkerShared>,
    /// Reactors of the worker that have not finished.
    pub(crate) unfinished: Arc<AtomicUsize>,
    pub(crate) sleeps: u64,
    pub(crate) pulse: Pulse,
    pub(crate) beats: u64,
    /// Workers to which a link has ended and of which nobody has said that they are gone: since when, and the error.
    pub(crate) suspects: Vec<(Instant, LinkError)>,
    /// How long they wait for the news of what caused it.
    pub(crate) patience: Duration,
    /// By worker: how often the links to it were made anew.
    pub(crate) joins: Vec<u32>,
}

/// What the loop does after the commands.
#[derive(PartialEq, Eq)]
enum Go {
    On,
    Exit,
}

impl Reactor {
    /// Runs until told to exit. A fault ends the work of this reactor, and is told; the thread stays for commands.
    pub(crate) fn run(mut self) {
        let Err(e) = self.work() else { return };
        self.shared.event_certain(WorkerEvent::Failed(e.to_string()));
        self.linger();
    }

    fn work(&mut self) -> Result<(), ReceiveError> {
        let clock = MonotonicClock;
        let mut finished = false;
        let mut flush_all = false;
        let mut now = clock.now_ns();
        loop {
            self.beats += 1;
            self.pulse.beat(self.beats);
            if self.obey(now)? == Go::Exit {
                return Ok(());
            }
            let start = now;
            let polled = self.wires.poll(&mut self.core, now);
            let mut progress = self.survive(polled, now)?;
            // What arrived was executed in place, which may have taken a while: the spouts' turn begins now.
            let began = if progress && self.core.has_spouts() { clock.now_ns() } else { now };
            let turn = self.core.turn(began, &mut self.wires.tx, flush_all)?;
            progress |= turn.progress;
            self.wires.publish();
            if !finished && self.core.finished() && self.wires.tx.all_sent() {
                finished = true;
                // AcqRel: whoever counts to zero has seen every reactor's last writes.
                if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.shared.event_certain(WorkerEvent::Finished);
                }
            }
            flush_all = !progress;
            if progress {
                self.waiter.busy(began);
                now = clock.now_ns();
                if now - start > LONG_TURN_NS {
                    self.core.watch(now);
                }
                continue;
            }
            now = match self.waiter.idle(began) {
                Idle::Spin => self.watch_links(&clock, turn.deadline_ns.is_some()),
                Idle::Yield => {
                    std::thread::yield_now();
                    clock.now_ns()
                }
                Idle::Sleep => {
                    let worked = self.sleep(&clock)?;
                    let now = clock.now_ns();
                    if worked {
                        self.waiter.busy(now);
                    }
                    now
                }
            };
        }
    }

    /// Spins on the links for a moment: a batch that arrives is seen after one load instead of a whole turn, and the time is known when it does: the
    /// clock is read before each look, which takes no longer than a pause. Shorter when a component has to be asked again soon.
    fn watch_links(&mut self, clock: &MonotonicClock, soon: bool) -> u64 {
        let mut now = clock.now_ns();
        for _ in 0..if soon { 2 } else { 16 } {
            if self.wires.pending() {
                break;
            }
            now = clock.now_ns();
        }
        now
    }

    /// Sleeps until there is something to do. Announces it first, then looks once more at everything that is published
    /// without a system call; whoever publishes after that look sees the announcement and rings (see `SleepFlag`). That
    /// look is a whole turn, so who wakes to find nothing on the links (a deadline, a spout to be asked again) takes it
    /// and sleeps on. Returns whether a turn did something.
    fn sleep(&mut self, clock: &MonotonicClock) -> Result<bool, ReceiveError> {
        loop {
            let now = clock.now_ns();
            self.wires.announce_sleep();
            self.sleep.prepare();
            // Only who waits for room asks to be woken when there is some: a wake-up costs the other side 6–9 µs.
            let starving = self.core.paused() || self.wires.tx.is_leaving();
            if starving {
                self.wires.tx.set_starving(true);
            }
            let turn = self.core.turn(now, &mut self.wires.tx, true)?;
            // A cohort that became paused in this very turn has not asked for its wake-up yet: take another turn.
            let unasked = (self.core.paused() || self.wires.tx.is_leaving()) && !starving;
            let awake = self.wires.tx.push_parts()
                || unasked
                || turn.progress
                || self.wires.pending()
                || self.commands.pending();
            let mut arrived = false;
            if awake {
                self.wires.publish();
            } else {
                let left = |at: u64| Duration::from_nanos(at.saturating_sub(now));
                let timeout = turn.deadline_ns.map_or(SLEEP_MAX, |at| left(at).min(SLEEP_MAX));
                self.sleeps += 1;
                self.pulse.rests();
                let waited = self.wires.wait(&mut self.core, Some(timeout), clock);
                arrived = self.survive(waited, now)?;
            }
            self.sleep.cancel();
            self.wires.cancel_sleep();
            if starving {
                self.wires.tx.set_starving(false);
            }
            if awake || arrived || self.wires.pending() || self.commands.pending() {
                return Ok(turn.progress || arrived);
            }
        }
    }

    /// The end of a link is no end of this reactor: whoever watches the workers says what is next. Only if nobody does is it the news.
    fn survive(&mut self, result: Result<bool, ReceiveError>, now_ns: u64) -> Result<bool, ReceiveError> {
        if let Err(ReceiveError::Link(error @ LinkError::PeerLost { .. })) = result {
            return self.suspect(error, now_ns).map(|()| true);
        }
        if !self.suspects.is_empty() {
            let overdue = |(since, _): &(Instant, LinkError)| since.elapsed() >= self.patience;
            if let Some(at) = self.suspects.iter().position(overdue) {
                return Err(self.suspects.swap_remove(at).1.into());
            }
        }
        result
    }

    #[cold]
    fn suspect(&mut self, error: LinkError, now_ns: u64) -> Result<(), ReceiveError> {
        let LinkError::PeerLost { peer, worker, ref cause } = error else { return Err(error.into()) };
        let joins = self.joins[worker as usize];
        self.shared.event_certain(WorkerEvent::LinkLost { worker, joins, cause: cause.clone() });
        self.suspects.push((Instant::now(), error));
        self.wires.cut(&mut self.core, peer, now_ns)
    }

    /// Cuts the links to a worker of which is known that it is gone.
    fn cut(&mut self, worker: WorkerIx, now_ns: u64) -> Result<(), ReceiveError> {
        let of = |e: &LinkError| matches!(e, LinkError::PeerLost { worker: w, .. } if *w == worker);
        self.suspects.retain(|(_, error)| !of(error));
        let plan = self.plan.clone();
        for reactor in &plan.workers[worker as usize].reactors {
            self.wires.cut(&mut self.core, *reactor, now_ns)?;
        }
        Ok(())
    }

    fn rejoin(&mut self, rejoin: Rejoin) -> Result<(), ReceiveError> {
        let Rejoin { worker, epoch, joins, links } = rejoin;
        for link in links {
            self.wires.join(link).map_err(LinkError::Driver)?;
        }
        self.joins[worker as usize] = joins;
        self.core.rejoin_worker(worker, epoch);
        Ok(())
    }

    fn obey(&mut self, now_ns: u64) -> Result<Go, ReceiveError> {
        while self.commands.pending()
            && let Some(command) = self.commands.pop()
        {
            match command {
                Command::Begin => self.core.set_gate(SpoutGate::Open),
                Command::PauseSpouts => self.core.set_gate(SpoutGate::Paused),
                Command::StopSpouts => self.core.set_gate(SpoutGate::Stopped),
                // The asker may have stopped waiting.
                Command::Snapshot(to) => drop(to.try_send(self.snapshot())),
                Command::Lose(worker) => {
                    self.cut(worker, now_ns)?;
                    self.core.lose_worker(worker);
                }
                Command::Leave(worker) => self.cut(worker, now_ns)?,
                Command::Rejoin(rejoin) => self.rejoin(*rejoin)?,
                Command::Exit => {
                    self.wires.closing = true;
                    return Ok(Go::Exit);
                }
            }
        }
        Ok(Go::On)
    }

    fn snapshot(&self) -> ReactorSnapshot {
        let io = self.wires.tx.driver.counters();
        let mut by_link = self.core.link_stats();
        for link in by_link.iter_mut().filter(|l| l.from == self.core.reactor()) {
            link.traffic.wakeups_sent = self.wires.tx.wakeups_sent[link.to as usize];
        }
        ReactorSnapshot {
            reactor: self.core.reactor(),
            latency: self.core.latency(),
            first_sink_ns: self.core.first_sink_ns(),
            back_pressure: self.core.back_pressure(&self.wires.tx),
            counters: LinkCounters {
                sleeps: self.sleeps,
                syscalls: io.syscalls,
                bytes_in: io.bytes_in,
                bytes_out: io.bytes_out,
                sends: io.sends,
                zc_sent: io.zc_sent,
                zc_copied: io.zc_copied,
                refused_batches: self.core.refused_batches(),
                ..LinkCounters::default()
            },
            by_link,
        }
    }

    /// After a fault: answers commands until the worker ends.
    fn linger(&mut self) {
        loop {
            match self.commands.pop() {
                Some(Command::Exit) => return,
                Some(Command::Snapshot(to)) => drop(to.try_send(self.snapshot())),
                Some(
                    Command::Begin
                    | Command::PauseSpouts
                    | Command::StopSpouts
                    | Command::Lose(_)
                    | Command::Leave(_)
                    | Command::Rejoin(_),
                ) => {}
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}
