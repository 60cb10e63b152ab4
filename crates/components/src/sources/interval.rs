//! A row at each interval: what starts polling, or a heartbeat.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use squall::{Clock, Context, Next, RowRef, RowStreams, Spout, SpoutError, Time, ValueRef};

use crate::registry::{ConfigError, Declared, Described, Kind, OptionSpec, OptionType, Place};
use crate::rows::stream;

/// Emits rows `n` (from 0) and `time` (milliseconds since 1970) at a period, the first one at once.
///
/// The period is held on average: a row that is late does not put off the next. Periods that passed while nothing could be
/// emitted are passed over.
#[derive(Debug, Clone)]
pub struct Interval {
    period: Duration,
    count: Option<u64>,
}

impl Interval {
    /// At this period, of at least a microsecond, without an end.
    pub fn every(period: Duration) -> Interval {
        Interval { period: period.max(Duration::from_micros(1)), count: None }
    }

    /// So many rows, then the end.
    pub fn count(self, count: u64) -> Interval {
        Interval { count: Some(count), ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// When more than one task is asked for.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        place.one_task("each would tick by itself").map_err(|e| vec![e])?;
        let make = move || Ticking { interval: self.clone(), clock: None, due: None, n: 0 };
        Ok(place.spout(vec![stream(["n", "time"])], make))
    }
}

struct Ticking {
    interval: Interval,
    clock: Option<Clock>,
    due: Option<Time>,
    n: u64,
}

impl Spout for Ticking {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.clock = Some(ctx.clock());
        Ok(())
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        if self.interval.count.is_some_and(|count| self.n >= count) {
            return Ok(Next::End);
        }
        let now = self.clock.as_ref().expect("prepared").now();
        let due = self.due.unwrap_or(now);
        if now < due {
            return Ok(Next::WakeAt(due));
        }
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as i64);
        out[0].emit(RowRef(&[ValueRef::I64(self.n as i64), ValueRef::I64(unix_ms)]));
        self.n += 1;
        let missed = now.since(due).as_nanos() / self.interval.period.as_nanos();
        self.due = Some(due + self.interval.period * (u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1));
        Ok(Next::Emitted)
    }
}

pub(super) fn described() -> Described {
    Described {
        name: "interval",
        aliases: &[],
        kind: Kind::Spout,
        summary: "Emits a row at each interval.",
        options: vec![
            OptionSpec::required("every", OptionType::duration(), "The interval."),
            OptionSpec::optional("count", OptionType::at_least(0), "Rows until the end. Left out: without an end."),
        ],
        outputs: "`default`: `n` (integer, from 0), `time` (milliseconds since 1970).",
        example: "id: clock\nclassName: interval\nconfig:\n  every: 1s\n  count: 10\n",
        example_fields: &[],
        factory: Box::new(|options, place| {
            let interval = Interval::every(options.duration("every").value);
            match options.maybe_integer("count") {
                Some(count) => interval.count(count.value as u64).declare(place),
                None => interval.declare(place),
            }
        }),
    }
}
