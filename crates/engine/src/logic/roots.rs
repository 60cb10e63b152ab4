//! Both ends of acking on a reactor: what its cohorts say of roots leaves for the ledgers, and what comes for the ledgers
//! here goes on to the spouts (D4–D6).
//!
//! Acks have a place of their own on a link: no credit holds them back, and a link that is full delays them only, since
//! whatever lies on it is taken by the other end in any case. They fold on while they wait.

use squall_io::planted::{Bug, is};
use squall_tuple::ids::TaskId;
use squall_tuple::{AckKind, AckRecord, BatchKind, OpenBatch, RootId};

use super::{BACKLOG_BEFORE_BATCHING, Core, Life, Turn, earliest};
use crate::acks::Fold;
use crate::fault::Fault;
use crate::ledger::{FailReason, Outcome, worker_bit};
use crate::net::{Net, Offered};

/// "No room" is said again this often per message timeout, while it lasts.
const REPORTS_PER_TIMEOUT: u64 = 8;

impl Core {
    /// Fails the roots of a spout whose time is up, and tells its tasks what became of theirs.
    pub(super) fn settle_roots(&mut self, at: usize, now_ns: u64, turn: &mut Turn) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        let Some(ledger) = slot.outbox.ledger() else { return Ok(()) };
        let (has_ended, deadline_ns) = {
            let mut ledger = ledger.borrow_mut();
            ledger.expire(if is(Bug::WallClock) { wall_clock_ns() } else { now_ns });
            (ledger.has_ended(), ledger.deadline_ns())
        };
        slot.publish_roots();
        self.acks.set_live();
        if let Some(deadline_ns) = deadline_ns {
            earliest(&mut turn.deadline_ns, deadline_ns);
        }
        if has_ended {
            turn.progress = true;
            self.tell_spout(at)?;
        }
        Ok(())
    }

    fn tell_spout(&mut self, at: usize) -> Result<(), Fault> {
        let mut ended = std::mem::take(&mut self.ended);
        let slot = &mut self.slots[at];
        let outbox = slot.outbox.clone();
        let ledger = outbox.ledger().expect("only spouts have roots");
        ledger.borrow_mut().take_ended(&mut ended);
        outbox.count_roots(&ended, |reason| reason.text(&self.plan));
        for root in &ended {
            if let Outcome::Failed(reason) = root.outcome {
                slot.stats.bump_failed(reason.kind(), 1);
            }
        }
        let mut from = 0;
        let mut end = Ok(());
        while from < ended.len() && end.is_ok() {
            let mut told = 0;
            let came = self.slots[at].guarded(|c| c.settle(&ended[from..], &mut told));
            // The others are still to be told.
            from += told.max(1);
            end = self.survive(at, came).map(drop);
        }
        ended.clear();
        self.ended = ended;
        end
    }

    /// The tasks of an executor of a spout are gone with what they knew of their roots: these fail, and nobody is told.
    pub(super) fn lose_roots(&mut self, at: usize, tasks: &[TaskId]) -> Result<(), Fault> {
        let Some(ledger) = self.slots[at].outbox.ledger() else { return Ok(()) };
        ledger.borrow_mut().lose_tasks(tasks);
        self.tell_spout(at)
    }

    /// Records for the ledgers here: of an ack batch, or of the cohorts here.
    pub(super) fn fold_here(&self, records: impl Iterator<Item = AckRecord>, now_ns: u64) {
        let mut records = records.peekable();
        while let Some(record) = records.next() {
            if record.kind == AckKind::NoRoom {
                let ledgers = self.slots.iter().filter_map(|s| s.outbox.ledger());
                ledgers.for_each(|l| l.borrow_mut().fold(&record, now_ns));
                continue;
            }
            // Roots of no spout here, which only a corrupt peer sends, are nobody's.
            let task = RootId::from_u64(record.root).task();
            let at = self.ledger_of.get(task as usize).copied().flatten();
            let Some(ledger) = at.and_then(|at| self.slots[at as usize].outbox.ledger()) else { continue };
            let mut ledger = ledger.borrow_mut();
            ledger.fold(&record, now_ns);
            // Those that follow are for the same ledger, as a rule.
            while let Some(record) = records.next_if(|r| r.kind != AckKind::NoRoom && ledger.is_for(r.root)) {
                ledger.fold(&record, now_ns);
            }
        }
    }

    /// Sends what the cohorts here said of roots, as far as the links take it; what is said to ledgers here is heard at
    /// once.
    pub(super) fn send_acks(&mut self, now_ns: u64, net: &mut dyn Net, flush_all: bool, turn: &mut Turn) {
        let no_room = self.no_room();
        let acks = self.acks.clone();
        if !acks.is_waiting() && no_room == 0 {
            return;
        }
        acks.each(|fold| {
            let hears = no_room != 0 && self.hears_of(fold);
            let report = hears && now_ns >= fold.report_at_ns;
            if hears && !report {
                earliest(&mut turn.deadline_ns, fold.report_at_ns);
            }
            if fold.records().is_empty() && !report {
                return;
            }
            if fold.to == self.me {
                self.fold_here(fold.records().iter().copied(), now_ns);
                fold.sent(fold.records().len());
                if report {
                    self.fold_here(std::iter::once(no_room_record(no_room)), now_ns);
                    self.reported(fold, now_ns, turn);
                }
                turn.progress = true;
            } else if flush_all || report || fold.has_waited() || !net.has_backlog(fold.to, BACKLOG_BEFORE_BATCHING) {
                self.send_fold(fold, report.then_some(no_room), now_ns, net, turn);
            }
        });
    }

    fn send_fold(&mut self, fold: &mut Fold, no_room: Option<u32>, now_ns: u64, net: &mut dyn Net, turn: &mut Turn) {
        let mut no_room = no_room.map(no_room_record);
        let mut sent = 0;
        while sent < fold.records().len() || no_room.is_some() {
            let mut buf = self.pool.take_exactly(fold.batch_bytes);
            buf.open(&OpenBatch {
                kind: BatchKind::Ack,
                stream: 0,
                schema_id: 0,
                dynamic: false,
                source_reactor: self.me,
                epoch: self.epoch,
            });
            if let Some(record) = &no_room {
                buf.push_ack(record).expect("an empty batch holds an ack");
            }
            let count = buf.push_acks(&fold.records()[sent..]);
            buf.seal(self.tx_seq[fold.to as usize], now_ns, false);
            match net.offer(fold.to, buf) {
                Offered::Copied(buf) => self.pool.give(buf),
                Offered::Taken => {}
                Offered::Refused(buf) => {
                    self.pool.give(buf);
                    break;
                }
            }
            self.tx_seq[fold.to as usize] += 1;
            self.books.acks_left(fold.to, count as u64);
            sent += count;
            turn.progress = true;
            if no_room.take().is_some() {
                self.reported(fold, now_ns, turn);
            }
        }
        // At once, not batch by batch: what stays is indexed anew.
        fold.sent(sent);
    }

    fn reported(&self, fold: &mut Fold, now_ns: u64, turn: &mut Turn) {
        let timeout_ns = self.plan.spec.config.message_timeout_ms * 1_000_000;
        fold.report_at_ns = now_ns + timeout_ns / REPORTS_PER_TIMEOUT;
        earliest(&mut turn.deadline_ns, fold.report_at_ns);
    }

    /// Whether roots of the spouts there can be held up here.
    fn hears_of(&self, fold: &Fold) -> bool {
        fold.to == self.me || self.plan.link_between(self.me, fold.to).is_some()
    }

    /// Workers on which something is held up, as far as is seen from here: those behind links that refused a batch, and our
    /// own while executors here have not come to what has arrived for them.
    fn no_room(&self) -> u32 {
        let worker = |reactor: u32| worker_bit(self.plan.reactors[reactor as usize].worker);
        self.slots.iter().filter(|s| s.life != Life::Finished).fold(0, |mask, slot| {
            let behind = if slot.inbox.queue.is_empty() { 0 } else { worker(self.me) };
            mask | behind | slot.stalled.map_or(0, |(to, _)| worker(to))
        })
    }

    /// Whether nothing is to be said of roots any more, here and by those here.
    pub(super) fn roots_settled(&self) -> bool {
        !self.acks.is_waiting() && self.slots.iter().filter_map(|s| s.outbox.ledger()).all(|l| l.borrow().is_empty())
    }

    /// A tuple that is dropped fails its roots.
    pub(super) fn fail_roots(&mut self, roots: impl Iterator<Item = u64>, component: u32) {
        let detail = FailReason::Dropped(component).detail();
        roots.for_each(|root| self.acks.add(&AckRecord { root, xor: 0, kind: AckKind::Fail, detail }));
    }
}

/// For a bug that can be planted: what a clock on the wall says.
fn wall_clock_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn no_room_record(workers: u32) -> AckRecord {
    AckRecord { root: 0, xor: workers.into(), kind: AckKind::NoRoom, detail: 0 }
}
