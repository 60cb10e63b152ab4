//! The loop: sends what is due, takes in what returns, and never waits for either.
//!
//! It is one thread's work, so a tuple's send time and return time are readings of one clock by one reader. What is due goes out in one chunk; a
//! chunk that the link has no room for is kept, its tuples' times of sending are written again when it leaves, and what is due meanwhile waits
//! in the schedule: it keeps the time at which it was due, and is counted as due whether or not it is ever sent.
//!
//! Per tuple it allocates nothing; the sequence bits are taken in blocks, chunks and intervals are reused.

use std::sync::atomic::{AtomicBool, Ordering};

use squall_load::LinkError;
use squall_load::record::{self, FLAG_CORRUPT, Return};

use super::account::{Accounts, Counts, Seen};
use super::clock::Clock;
use super::latency::Recorder;
use crate::model::arrival::Schedule;
use crate::model::body::Body;

/// Tuples of a chunk, at most: about 2 µs of work, so that the time of sending is right.
const CHUNK_TUPLES: usize = 64;
/// And bytes.
const CHUNK_BYTES: usize = 16 * 1024;
/// Gaps of the loop that are recorded.
const GAP_NS: u64 = 2_000;
/// What came back whole is waited for so much longer, for duplicates, where no end is announced.
const GRACE_NS: u64 = 50_000_000;

/// A link as the loop sees it.
pub trait Link {
    /// Takes a chunk whole, or not at all.
    ///
    /// # Errors
    /// When the other side is gone.
    fn try_send(&mut self, chunk: &[u8]) -> Result<bool, LinkError>;

    /// Announces that nothing follows. `false`: not yet, ask again.
    ///
    /// # Errors
    /// When the other side is gone.
    fn end(&mut self) -> Result<bool, LinkError>;

    /// Gives at most one chunk of returns to `each`.
    ///
    /// # Errors
    /// When the other side is gone.
    fn poll(&mut self, each: &mut dyn FnMut(&Return<'_>)) -> Result<Polled, LinkError>;
}

/// What a look at the link found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Nothing.
    Nothing,
    /// A chunk.
    Some,
    /// The other side has nothing more, ever.
    Ended,
}

/// What decides when a tuple is due.
pub enum Pace {
    /// A schedule, whatever happens.
    Open(Schedule),
    /// As soon as fewer than so many are under way.
    Closed(u64),
    /// As soon as the link has room.
    Max,
}

/// How a run is laid out in time.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// Latencies of what is due before this offset do not count.
    pub warmup_ns: u64,
    /// Nothing is due from here on.
    pub end_ns: u64,
    /// At most so many tuples.
    pub count: u64,
    /// How long after the end what is under way, or could not leave, is waited for.
    pub drain_ns: u64,
    /// Length of an interval.
    pub interval_ns: u64,
    /// Hops of tuples are sampled whose number has none of these bits.
    pub hop_mask: u64,
}

/// Why a run ended.
#[derive(Debug)]
pub enum End {
    /// Everything came back, or the other side said that it was all.
    Complete,
    /// The drain was over.
    Deadline,
    /// Somebody asked for it.
    Interrupted,
    /// The link failed.
    Failed(LinkError),
}

/// What a run came to; its latencies went to the recorder's other end.
#[derive(Debug)]
pub struct Outcome {
    /// Tuples due, sent or not.
    pub due: u64,
    /// What became of those that were sent.
    pub counts: Counts,
    /// Time from the start to the last tuple sent.
    pub sending_ns: u64,
    /// Time from the start to the end.
    pub took_ns: u64,
    /// Time during which something was due and the link had no room.
    pub blocked_ns: u64,
    /// Most tuples under way at the end of an interval.
    pub outstanding_max: u64,
    /// Why it ended.
    pub end: End,
}

struct Chunk {
    bytes: Vec<u8>,
    dues: Vec<u64>,
    sent_ns: u64,
}

/// Runs a load. `stop` interrupts it: sending ends, what is under way is waited for as at the end.
pub fn drive<C: Clock, L: Link>(
    pace: &mut Pace,
    body: &mut dyn Body,
    course: &Course,
    clock: &mut C,
    link: &mut L,
    mut recorder: Recorder,
    stop: &AtomicBool,
) -> Outcome {
    let mut run = Run {
        course,
        accounts: Accounts::default(),
        chunk: Chunk {
            bytes: Vec::with_capacity(CHUNK_BYTES + record::RECORD_BYTES_MAX),
            dues: Vec::with_capacity(CHUNK_TUPLES),
            sent_ns: 0,
        },
        start_ns: clock.now(),
        next: None,
        sent: 0,
        last_sent_ns: 0,
        blocked_since: None,
        blocked_ns: 0,
        outstanding_max: 0,
        last_return_ns: 0,
    };
    let end = run.go(pace, body, clock, link, &mut recorder, stop);
    let took_ns = clock.now() - run.start_ns;
    // What is still in the schedule was due, unless somebody ended the load before.
    let mut due = run.sent;
    if let Pace::Open(schedule) = pace
        && !matches!(end, End::Interrupted)
    {
        due += run.chunk.dues.len() as u64 + u64::from(run.next.is_some());
        while schedule.next_ns().is_some() {
            due += 1;
        }
    }
    recorder.now.complete = run.accounts.complete();
    recorder.finish(took_ns);
    Outcome {
        due,
        counts: run.accounts.counts(),
        sending_ns: run.last_sent_ns.saturating_sub(run.start_ns),
        took_ns,
        blocked_ns: run.blocked_ns,
        outstanding_max: run.outstanding_max,
        end,
    }
}

struct Run<'c> {
    course: &'c Course,
    accounts: Accounts,
    /// What was made and has not left.
    chunk: Chunk,
    start_ns: u64,
    /// Offset of the next tuple of a schedule.
    next: Option<u64>,
    sent: u64,
    last_sent_ns: u64,
    blocked_since: Option<u64>,
    blocked_ns: u64,
    outstanding_max: u64,
    last_return_ns: u64,
}

impl Run<'_> {
    fn go<C: Clock, L: Link>(
        &mut self,
        pace: &mut Pace,
        body: &mut dyn Body,
        clock: &mut C,
        link: &mut L,
        recorder: &mut Recorder,
        stop: &AtomicBool,
    ) -> End {
        if let Pace::Open(schedule) = pace {
            self.next = schedule.next_ns();
        }
        let (mut sending, mut announced, mut interrupted) = (true, false, false);
        let mut deadline = u64::MAX;
        let mut tick_ns = self.start_ns + self.course.interval_ns;
        let mut before_ns = self.start_ns;
        loop {
            let now = clock.now();
            if now - before_ns > GAP_NS {
                recorder.now.gaps.saturating_record(now - before_ns);
            }
            before_ns = now;
            let polled = match self.receive(link, now, recorder) {
                Ok(polled) => polled,
                // It went when it had given everything back.
                Err(LinkError::Gone) if !sending && self.accounts.all_complete() => Polled::Ended,
                Err(e) => return End::Failed(e),
            };
            let mut busy = polled == Polled::Some;
            if sending {
                match self.send(pace, body, now, link, recorder) {
                    Ok(did) => busy |= did,
                    Err(e) => return End::Failed(e),
                }
                // Relaxed: a flag that carries nothing.
                interrupted = stop.load(Ordering::Relaxed);
                let over = self.over(pace, now);
                // A load of a count has no end to drain after: there, a link that takes nothing for as long ends it.
                let stuck = self.blocked_since.is_some_and(|since| now - since > self.course.drain_ns);
                if deadline == u64::MAX && stuck && self.course.end_ns == u64::MAX {
                    deadline = now;
                }
                if deadline == u64::MAX && (over || now - self.start_ns >= self.course.end_ns) {
                    deadline = now + self.course.drain_ns;
                }
                if interrupted || (over && self.chunk.dues.is_empty()) || now >= deadline {
                    sending = false;
                    deadline = deadline.min(now + self.course.drain_ns);
                    self.unblock(now);
                }
            } else if !announced {
                match link.end() {
                    Ok(done) => announced = done,
                    // If that matters, something is missing, and the deadline comes.
                    Err(_) => announced = true,
                }
            }
            if now >= tick_ns {
                self.tick(now, recorder);
                tick_ns = now - (now - self.start_ns) % self.course.interval_ns + self.course.interval_ns;
            }
            if !sending {
                let quiet = self.accounts.all_complete() && now > self.last_return_ns.max(self.last_sent_ns) + GRACE_NS;
                if polled == Polled::Ended || quiet {
                    return if interrupted { End::Interrupted } else { End::Complete };
                }
                if now >= deadline {
                    return if interrupted { End::Interrupted } else { End::Deadline };
                }
            } else if polled == Polled::Ended {
                return End::Failed(LinkError::Gone);
            }
            if !busy {
                // What is due and has no room waits for the link, not for its time.
                let next = self.next.filter(|_| self.chunk.dues.is_empty());
                let next = next.map_or(u64::MAX, |offset| self.start_ns + offset);
                clock.idle(next.min(tick_ns).min(deadline), self.accounts.outstanding() > 0);
            }
        }
    }

    /// Whether nothing will be due any more.
    #[inline]
    fn over(&self, pace: &Pace, now: u64) -> bool {
        match pace {
            Pace::Open(_) => self.next.is_none(),
            _ => {
                let made = self.sent + self.chunk.dues.len() as u64;
                now - self.start_ns >= self.course.end_ns || made >= self.course.count
            }
        }
    }

    /// Sends what is due. `false`: nothing was, or nothing could be.
    #[inline]
    fn send<L: Link>(
        &mut self,
        pace: &mut Pace,
        body: &mut dyn Body,
        now: u64,
        link: &mut L,
        recorder: &mut Recorder,
    ) -> Result<bool, LinkError> {
        if self.chunk.dues.is_empty() {
            self.fill(pace, body, now);
            if self.chunk.dues.is_empty() {
                return Ok(false);
            }
        } else {
            // It could not leave before: it leaves now, or not.
            record::restamp(&mut self.chunk.bytes, now);
            self.chunk.sent_ns = now;
        }
        // What returns before this thread looks again was sent, too.
        let made = self.sent + self.chunk.dues.len() as u64;
        self.accounts.sent(made);
        if !link.try_send(&self.chunk.bytes)? {
            self.accounts.sent(self.sent);
            self.blocked_since.get_or_insert(now);
            return Ok(false);
        }
        self.unblock(now);
        // Tuples of one burst, and all of a load that is not paced, are equally late: recorded together.
        for burst in self.chunk.dues.chunk_by(|a, b| a == b) {
            if burst[0] - self.start_ns >= self.course.warmup_ns {
                let late = (self.chunk.sent_ns - burst[0]).max(1);
                recorder.now.late.saturating_record_n(late, burst.len() as u64);
            }
        }
        recorder.now.sent += self.chunk.dues.len() as u64;
        self.sent = made;
        self.last_sent_ns = now;
        self.chunk.bytes.clear();
        self.chunk.dues.clear();
        Ok(true)
    }

    fn unblock(&mut self, now: u64) {
        if let Some(since) = self.blocked_since.take() {
            self.blocked_ns += now - since;
        }
    }

    /// Puts what is due into the chunk.
    #[inline]
    fn fill(&mut self, pace: &mut Pace, body: &mut dyn Body, now: u64) {
        let offset_now = now - self.start_ns;
        self.chunk.sent_ns = now;
        let room = match pace {
            Pace::Open(_) => CHUNK_TUPLES,
            _ if offset_now >= self.course.end_ns => 0,
            Pace::Closed(n) => (n.saturating_sub(self.accounts.outstanding()) as usize).min(CHUNK_TUPLES),
            Pace::Max => CHUNK_TUPLES,
        };
        let left = usize::try_from(self.course.count - self.sent.min(self.course.count)).unwrap_or(usize::MAX);
        for _ in 0..room.min(left) {
            let offset = match pace {
                Pace::Open(schedule) => match self.next {
                    Some(offset) if offset <= offset_now => {
                        self.next = schedule.next_ns();
                        offset
                    }
                    _ => break,
                },
                _ => offset_now,
            };
            let due = self.start_ns + offset;
            let seq = self.sent + self.chunk.dues.len() as u64;
            record::push(&mut self.chunk.bytes, seq, due, now, |to| body.write(seq, offset, to));
            self.chunk.dues.push(due);
            if self.chunk.bytes.len() >= CHUNK_BYTES {
                break;
            }
        }
    }

    #[inline]
    fn receive<L: Link>(&mut self, link: &mut L, now: u64, recorder: &mut Recorder) -> Result<Polled, LinkError> {
        let (accounts, course) = (&mut self.accounts, self.course);
        let from_ns = self.start_ns + course.warmup_ns;
        let interval = &mut *recorder.now;
        let polled = link.poll(&mut |r: &Return<'_>| {
            let intact = r.flags & FLAG_CORRUPT == 0 && r.record.intact();
            let seen = accounts.returned(r.record.seq, r.part, r.parts, intact);
            if seen != Seen::First || r.record.due_ns < from_ns {
                return;
            }
            interval.intended.saturating_record(now.saturating_sub(r.record.due_ns).max(1));
            interval.actual.saturating_record(now.saturating_sub(r.record.sent_ns).max(1));
            if r.record.seq & course.hop_mask == 0 && r.ingest_ns > 0 {
                let [inward, topology, outward] = &mut interval.hops;
                inward.saturating_record(r.ingest_ns.saturating_sub(r.record.sent_ns).max(1));
                topology.saturating_record(r.egress_ns.saturating_sub(r.ingest_ns).max(1));
                outward.saturating_record(now.saturating_sub(r.egress_ns).max(1));
            }
        })?;
        if polled == Polled::Some {
            self.last_return_ns = now;
        }
        Ok(polled)
    }

    #[cold]
    fn tick(&mut self, now: u64, recorder: &mut Recorder) {
        self.outstanding_max = self.outstanding_max.max(self.accounts.outstanding());
        recorder.now.complete = self.accounts.complete();
        recorder.turn(now - self.start_ns);
    }
}

#[cfg(test)]
mod tests {
    use squall_machine::{Machine, Stolen};

    use super::super::sim::{Load, Sink, run};
    use super::super::totals::{Totals, quantile};
    use super::super::verdict::{Allowed, Facts, Verdict, Word, judge};
    use super::*;

    const MS: u64 = 1_000_000;

    fn verdict(load: &Load, out: &Outcome, totals: &Totals) -> Verdict {
        let machine = Machine::look(env!("CARGO_MANIFEST_DIR"));
        let error = match &out.end {
            End::Failed(e) => Some(e.to_string()),
            _ => None,
        };
        judge(&Facts {
            error,
            due: out.due,
            counts: out.counts,
            open_loop: load.closed.is_none(),
            totals,
            stolen: Stolen::default(),
            slos: &[],
            allowed: Allowed::default(),
            wrong: None,
            length_ns: (load.secs * 1e9) as u64,
            machine: &machine,
            threads: 1,
            fallbacks: &[],
            hiccups: &[],
            noise_gate_ns: u64::MAX,
            strict: false,
        })
    }

    #[test]
    fn a_sink_that_stalls_half_a_second_shows_in_the_intended_p99_and_not_in_the_actual_p50() {
        // The link holds what comes meanwhile; then with so little room that the generator is held up, too.
        for room in [100_000, 100] {
            let load = Load { rate: 10_000.0, secs: 10.0, ..Load::default() };
            let (out, totals) = run(&load, Sink { stall: (3_000 * MS, 3_500 * MS), room, ..Sink::default() });
            let (p50, p99) = (quantile(&totals.actual, 0.5).unwrap(), quantile(&totals.intended, 0.99).unwrap());
            assert!(p99 >= 100 * MS, "room {room}: intended p99 {p99}");
            assert!(p50 < 20_000, "room {room}: actual p50 {p50}");
            assert_eq!((out.due, out.counts.complete, out.counts.lost), (100_000, 100_000, 0));
            let hidden = quantile(&totals.actual, 0.99).unwrap();
            if room == 100 {
                assert!(hidden < p99 / 5, "what the actual time hides: {hidden} of {p99}");
            }
        }
    }

    #[test]
    fn a_plain_run_passes_and_has_every_sample() {
        let load = Load::default();
        let (out, totals) = run(&load, Sink::default());
        assert!(matches!(out.end, End::Complete), "{:?}", out.end);
        assert_eq!((totals.intended.len(), totals.late.len(), out.counts.returned), (50_000, 50_000, 50_000));
        let v = verdict(&load, &out, &totals);
        assert_eq!((v.word, v.exit_code), (Word::Pass, 0), "{:?}", v.reasons);
        assert!(totals.hops[1].len() == 50_000 / 8, "every eighth is sampled");
    }

    #[test]
    fn faults_of_known_number_are_counted_exactly() {
        let sink = Sink { drop: 1000, double: 700, swap: 900, damage: 1100, ..Sink::default() };
        let (out, totals) = run(&Load::default(), sink);
        let each =
            |every: u64| (0..50_000_u64).filter(|n| n % every == every - 1).collect::<std::collections::BTreeSet<_>>();
        let (lost, doubled, late, damaged) = (each(1000), each(700), each(900), each(1100));
        let back = |n: &u64| !lost.contains(n);
        let intact = |n: &u64| back(n) && !damaged.contains(n);
        assert_eq!(out.counts.lost, lost.len() as u64);
        assert_eq!(out.counts.duplicates, doubled.iter().filter(|n| intact(n)).count() as u64);
        let corrupt = damaged.iter().filter(|n| back(n)).map(|n| 1 + u64::from(doubled.contains(n))).sum::<u64>();
        assert_eq!(out.counts.corrupt, corrupt);
        // The last one has nothing behind it that could overtake it.
        assert_eq!(out.counts.reordered, late.iter().filter(|n| intact(n)).count() as u64);
        let v = verdict(&Load::default(), &out, &totals);
        assert_eq!((v.word, v.exit_code), (Word::Fail, 4), "{:?}", v.reasons);
    }

    #[test]
    fn at_twice_its_ceiling_a_run_is_invalid_and_never_passes() {
        for (secs, drain_secs, room) in [(5.0, 1.0, 1000), (1.0, 3.0, 1000), (2.0, 30.0, 10_000_000), (3.0, 0.0, 100)] {
            let load = Load { rate: 100_000.0, secs, drain_secs, ..Load::default() };
            let (out, totals) = run(&load, Sink { service_ns: 20_000, room, ..Sink::default() });
            let v = verdict(&load, &out, &totals);
            assert_eq!(out.due, (secs * 100_000.0) as u64);
            if room < 10_000_000 {
                assert_eq!((v.word, v.exit_code), (Word::Invalid, 5), "{secs} s, drain {drain_secs}: {:?}", v.reasons);
            } else {
                // A link without a bound takes everything: then the latency tells, and an SLO would fail.
                assert!(quantile(&totals.intended, 0.5).unwrap() > 100 * MS);
            }
        }
    }

    #[test]
    fn a_target_that_dies_is_an_error_that_says_so_and_the_part_is_kept() {
        let load = Load::default();
        let (out, totals) = run(&load, Sink { dies_ns: 2_000 * MS, ..Sink::default() });
        assert!(matches!(out.end, End::Failed(LinkError::Gone)));
        assert!(totals.intended.len() > 15_000 && out.due == 50_000);
        let v = verdict(&load, &out, &totals);
        assert_eq!((v.word, v.exit_code), (Word::Error, 1));
        assert!(v.reasons[0].contains("closed the link"), "{:?}", v.reasons);
    }

    #[test]
    fn a_closed_loop_keeps_so_many_under_way() {
        let load = Load { closed: Some(10), secs: 1.0, ..Load::default() };
        let (out, totals) = run(&load, Sink { service_ns: 10_000, ..Sink::default() });
        assert!(out.outstanding_max <= 10 && out.counts.lost == 0);
        // Ten in a line of 10 µs each: a hundred thousand a second, and 100 µs.
        assert!((95_000..101_000).contains(&out.counts.sent), "{}", out.counts.sent);
        let p50 = quantile(&totals.actual, 0.5).unwrap();
        assert!((90_000..110_000).contains(&p50), "{p50}");
    }

    #[test]
    fn a_lost_tuple_is_waited_for_until_the_drain_is_over_and_no_longer() {
        let load = Load { secs: 1.0, drain_secs: 2.0, ..Load::default() };
        let (out, _) = run(&load, Sink { drop: 5000, ..Sink::default() });
        assert_eq!(out.counts.lost, 2);
        assert!(out.took_ns < 3_100 * MS, "{}", out.took_ns);
    }
}
