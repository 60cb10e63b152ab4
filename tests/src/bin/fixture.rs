//! The topology under test: numbers → work → sum, with a fault of choice in `work`.

use std::time::Duration;

use squall::prelude::*;
use squall::{Replay, ReplayLimits};

#[derive(clap::Args, Clone)]
struct Options {
    /// Tuples that each of the two spout tasks emits
    #[arg(long, default_value_t = 100_000)]
    tuples: u64,
    /// What `work` does with the tuple numbered `--at`
    #[arg(long, value_enum, default_value_t = Fault::None)]
    fault: Fault,
    /// Number of the tuple
    #[arg(long, default_value_t = 5_000)]
    at: u64,
    /// Microseconds that `work` sleeps on each tuple
    #[arg(long, default_value_t = 0)]
    sleep_us: u64,
    /// Payload bytes of a tuple
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Once all is emitted, spouts do not end but wait: `park` for ever, `poll` to be asked again
    #[arg(long, value_enum)]
    then: Option<Then>,
    /// Milliseconds that an `execute` of `work` may take; 0: as long as it likes
    #[arg(long, default_value_t = 30_000)]
    execute_timeout_ms: u64,
    /// Numbers are emitted until they are acknowledged, and what `work` cannot process goes to its dead letters
    #[arg(long)]
    reliable: bool,
    /// Changes the topology in worker 1, as another build of the program would
    #[arg(long)]
    other_build: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Fault {
    None,
    Fail,
    Fatal,
    /// As `fatal`, on each tuple
    Always,
    Panic,
    Prepare,
    Burst,
    TooLarge,
    /// Never returns
    Hang,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Then {
    Park,
    Poll,
}

#[derive(Tuple)]
struct Number {
    n: u64,
    payload: String,
}

struct Numbers {
    next: u64,
    end: u64,
    payload: String,
    then: Option<Then>,
    reliable: bool,
    replay: Option<Replay<u64>>,
}

impl Spout for Numbers {
    type Out = Stream<Number>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.replay = self.reliable.then(|| Replay::new(ctx, ReplayLimits::default()));
        Ok(())
    }

    fn ack(&mut self, id: MessageId) -> Result<(), SpoutError> {
        if let Some(replay) = &mut self.replay {
            replay.ack(id);
            while replay.next_place().is_some() {}
        }
        Ok(())
    }

    fn fail(&mut self, id: MessageId, why: Failure<'_>) -> Result<(), SpoutError> {
        if let Some(replay) = &mut self.replay {
            replay.fail(id, &why);
        }
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Number>) -> Result<Next, SpoutError> {
        if let Some(replay) = &mut self.replay {
            if let Some((id, n)) = replay.take_due() {
                out.emit_with_id(id, NumberRef { n: *n, payload: &self.payload });
            } else if self.next < self.end && replay.has_room() {
                let id = replay.push(self.next, 0, ());
                out.emit_with_id(id, NumberRef { n: self.next, payload: &self.payload });
                self.next += 1;
            } else {
                return Ok(replay.rest(self.next == self.end));
            }
            return Ok(Next::Emitted);
        }
        if self.next == self.end {
            return Ok(match self.then {
                None => Next::End,
                Some(Then::Park) => Next::Parked,
                Some(Then::Poll) => Next::Idle,
            });
        }
        out.emit(NumberRef { n: self.next, payload: &self.payload });
        self.next += 1;
        Ok(Next::Emitted)
    }
}

struct Work(Options);

impl Bolt for Work {
    type In = Number;
    type Out = Stream<Number>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        if self.0.fault == Fault::Prepare && ctx.worker() == 1 {
            return Err(BoltError::fail("the model file is missing"));
        }
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Number>, out: &mut Stream<Number>) -> Result<(), BoltError> {
        if self.0.sleep_us > 0 {
            std::thread::sleep(Duration::from_micros(self.0.sleep_us));
        }
        if self.0.fault == Fault::Always {
            return Err(BoltError::fatal("the database said no"));
        }
        if input.n == self.0.at {
            match self.0.fault {
                Fault::None | Fault::Prepare | Fault::Always => {}
                Fault::Fail => return Err(BoltError::fail("a bad record")),
                Fault::Fatal => return Err(BoltError::fatal("the database said no")),
                Fault::Panic => panic!("index out of range in the author's code"),
                Fault::Burst => (0..10_000_000).for_each(|_| out.emit(input.view())),
                Fault::TooLarge => out.emit(Number { n: 0, payload: "z".repeat(17 << 20) }),
                Fault::Hang => loop {
                    std::thread::sleep(Duration::from_secs(1));
                },
            }
        }
        out.emit(input.view());
        Ok(())
    }
}

#[derive(Default)]
struct Sum(u64, Option<squall::Counter>);

impl Bolt for Sum {
    type In = Number;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.1 = Some(ctx.counter("sum"));
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Number>, (): &mut ()) -> Result<(), BoltError> {
        self.0 += input.n.to_native();
        Ok(())
    }

    fn finish(&mut self, (): &mut ()) -> Result<Finish, BoltError> {
        if let Some(counter) = &self.1 {
            counter.add(std::mem::take(&mut self.0));
        }
        Ok(Finish::Done)
    }
}

fn topology(t: &mut Topology, options: &Options) {
    t.configure(|c| c.workers = 2);
    let (end, payload, then, reliable) = (options.tuples, "p".repeat(options.bytes), options.then, options.reliable);
    let numbers = t
        .spout("numbers", move || Numbers { next: 0, end, payload: payload.clone(), then, reliable, replay: None })
        .tasks(2)
        .reliable(reliable)
        .streams();
    let options = options.clone();
    let other_build = options.other_build && std::env::args().nth(1).as_deref() == Some("worker");
    let timeout = Duration::from_millis(options.execute_timeout_ms);
    let work =
        t.bolt("work", move || Work(options.clone())).execute_timeout(timeout).tasks(if other_build { 3 } else { 2 });
    let work = work.on(numbers.shuffle());
    if reliable {
        t.bolt("letters", squall::components::Null::<squall::DeadLetter>::default).on(work.dead_letters().shuffle());
    }
    let worked = work.streams();
    t.bolt("sum", Sum::default).tasks(2).on(worked.fields([Number::N]));
}

squall::main!(topology, Options);
