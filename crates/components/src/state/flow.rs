//! Bolts that change when rows go on: so many at a time, or so many a second.

use std::thread;
use std::time::{Duration, Instant};

use squall::{Anchor, Bolt, BoltError, Clock, Context, Counter, Finish, Input, Row, RowStreams, Value};

use crate::registry::{ConfigError, Declared, Given, Place};
use crate::rows::stream;

/// Puts rows together: emits one row with a list of maps, each a row with its fields by name, and their `count`.
///
/// A batch is full with so many rows, and goes on earlier when its first row has waited so long (without a time: when
/// nothing has come for a second and a spout waits for its rows), and at the end of the run. It is
/// anchored to all its rows: they are acknowledged when it is, and fail with it.
#[derive(Debug, Clone)]
pub struct Batch {
    count: usize,
    overlap: usize,
    within: Option<Duration>,
    name: Given<String>,
}

impl Batch {
    /// Of so many rows, at least 1.
    pub fn of(count: usize) -> Batch {
        Batch { count: count.max(1), overlap: 0, within: None, name: "rows".into() }
    }

    /// So many rows, less than a batch has, are the last of one batch and the first of the next: for what compares neighbours.
    /// They belong to the trees of the first. Default 0.
    pub fn overlap(self, rows: usize) -> Batch {
        Batch { overlap: rows, ..self }
    }

    /// Goes on when its first row has waited so long.
    pub fn within(self, time: Duration) -> Batch {
        Batch { within: Some(time), ..self }
    }

    /// The list's field. Default `rows`.
    pub fn name(self, name: impl Into<Given<String>>) -> Batch {
        Batch { name: name.into(), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When the list would be named `count`, and when batches would consist of what overlaps.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let fields = vec![self.name.value.clone(), "count".to_owned()];
        super::distinct_names(&fields, self.name.at)?;
        if self.overlap >= self.count {
            let what = format!("batches of {} rows cannot share {} with the next", self.count, self.overlap);
            return Err(vec![ConfigError::new(place.span(), what, "make `overlap` less than `rows`")]);
        }
        let input = place.fields().to_vec();
        let (count, overlap, within) = (self.count, self.overlap, self.within);
        // Ticks come a quarter of the time apart, so a batch waits at most a quarter longer.
        let tick = (within.unwrap_or(SILENCE) / 4).clamp(Duration::from_millis(1), Duration::from_secs(1));
        let make = move || Batching {
            fields: input.clone(),
            count,
            overlap,
            within,
            rows: Vec::new(),
            anchors: Vec::new(),
            began_ns: 0,
            clock: None,
        };
        Ok(place.bolt(vec![stream(fields)], Some(tick), make))
    }
}

/// Without a time, rows whose spout waits for them go on when none has come for so long: a source that ends when all it emitted
/// is acknowledged would wait for the batch, and the batch for its end.
const SILENCE: Duration = Duration::from_secs(1);

struct Batching {
    fields: Vec<String>,
    count: usize,
    overlap: usize,
    within: Option<Duration>,
    rows: Vec<Value>,
    /// Of the rows that no batch had before: the last of them.
    anchors: Vec<Anchor>,
    /// When the first row came; without a time, the last one.
    began_ns: u64,
    clock: Option<Clock>,
}

impl Batching {
    fn now_ns(&self) -> u64 {
        self.clock.as_ref().expect("prepared").now().as_nanos()
    }

    fn flush(&mut self, out: &mut RowStreams) {
        if self.anchors.is_empty() {
            return;
        }
        let count = Value::I64(self.rows.len() as i64);
        let next = self.rows[self.rows.len().saturating_sub(self.overlap)..].to_vec();
        let row = Row(vec![Value::List(std::mem::replace(&mut self.rows, next)), count]);
        let anchors: Vec<&Anchor> = self.anchors.iter().collect();
        out[0].anchored(&anchors, row);
        self.anchors.drain(..).for_each(Anchor::ack);
    }
}

impl Bolt for Batching {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.clock = Some(ctx.clock());
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        if self.anchors.is_empty() && self.within.is_some() || self.within.is_none() && input.root_count() > 0 {
            self.began_ns = self.now_ns();
        }
        let (row, anchor) = input.keep();
        self.rows.push(Value::map(self.fields.iter().cloned().zip(row.0)));
        self.anchors.push(anchor);
        if self.rows.len() >= self.count {
            self.flush(out);
        }
        Ok(())
    }

    fn tick(&mut self, out: &mut RowStreams) -> Result<(), BoltError> {
        let waited = Duration::from_nanos(self.now_ns().saturating_sub(self.began_ns));
        let due = match self.within {
            Some(within) => waited >= within,
            None => waited >= SILENCE && self.anchors.iter().any(|a| a.root_count() > 0),
        };
        if due {
            self.flush(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut RowStreams) -> Result<Finish, BoltError> {
        self.flush(out);
        Ok(Finish::Done)
    }
}

/// What becomes of rows beyond a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beyond {
    /// They wait, and the source with them: the bolt takes no more until they may go on. Runs on a side thread.
    #[default]
    Wait,
    /// They are dropped and counted as `over_rate`.
    Drop,
}

/// Passes rows on, unchanged, at a rate: so many a second of each task, and some more after a pause.
#[derive(Debug, Clone)]
pub struct RateLimit {
    rate: f64,
    burst: f64,
    beyond: Beyond,
}

impl RateLimit {
    /// So many rows a second, above 0; after a pause as many as come in a tenth of a second, at least 1, go on at once.
    pub fn new(rows_per_second: f64) -> RateLimit {
        assert!(rows_per_second > 0.0, "a rate is above 0");
        RateLimit { rate: rows_per_second, burst: (rows_per_second / 10.0).max(1.0), beyond: Beyond::Wait }
    }

    /// Rows that go on at once after a pause, at least 1.
    pub fn burst(self, rows: f64) -> RateLimit {
        RateLimit { burst: rows.max(1.0), ..self }
    }

    /// What becomes of rows beyond the rate. Default: they wait.
    pub fn beyond(self, beyond: Beyond) -> RateLimit {
        RateLimit { beyond, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// None today.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let streams = vec![stream(place.fields())];
        let make = move || Limiting {
            bucket: Bucket { rate: self.rate, burst: self.burst, tokens: self.burst, at_ns: None },
            beyond: self.beyond,
            kit: None,
        };
        let side = self.beyond == Beyond::Wait;
        Ok(place.bolt_with(streams, None, make, |decl| if side { decl.side_thread() } else { decl }))
    }
}

/// A token bucket.
struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at_ns: Option<u64>,
}

impl Bucket {
    /// Takes a token at `now_ns`, or says how long until there is one.
    fn take(&mut self, now_ns: u64) -> Result<(), Duration> {
        let since = now_ns.saturating_sub(self.at_ns.unwrap_or(now_ns));
        self.at_ns = Some(now_ns);
        self.tokens = (self.tokens + since as f64 * 1e-9 * self.rate).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }
}

struct Limiting {
    bucket: Bucket,
    beyond: Beyond,
    kit: Option<(Clock, Counter, Instant)>,
}

impl Bolt for Limiting {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.kit = Some((ctx.clock(), ctx.counter("over_rate"), Instant::now()));
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let (clock, over_rate, began) = self.kit.as_ref().expect("prepared");
        match self.beyond {
            Beyond::Drop => {
                if self.bucket.take(clock.now().as_nanos()).is_err() {
                    over_rate.inc();
                    return Ok(());
                }
            }
            // A thread sleeps in real time, whatever the topology's clock.
            Beyond::Wait => {
                while let Err(wait) = self.bucket.take(began.elapsed().as_nanos() as u64) {
                    thread::sleep(wait);
                }
            }
        }
        out[0].emit(input.view());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate_and_never_more() {
        let mut bucket = Bucket { rate: 10.0, burst: 3.0, tokens: 3.0, at_ns: None };
        let mut taken = 0;
        for ms in (0..10_000).step_by(7) {
            taken += u32::from(bucket.take(ms * 1_000_000).is_ok());
        }
        assert!((102..=103).contains(&taken), "{taken} in ten seconds");
        let wait = (0..5).find_map(|_| bucket.take(10_000_000_000).err()).unwrap();
        assert!(wait <= Duration::from_millis(100));
        assert!(bucket.take(10_000_000_000 + wait.as_nanos() as u64 + 1).is_ok());
    }
}
