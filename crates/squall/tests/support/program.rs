//! A topology that adds up numbers, and gets into trouble on request: what the process tests run.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use clap::{Args, ValueEnum};
use squall::prelude::*;
use squall::{App, Counter, Level, Outcome, Results, Verdict};

#[derive(Debug, Clone, Args)]
struct Options {
    /// Numbers below this are added up; without it the spout never ends
    #[arg(long)]
    limit: Option<u64>,
    /// What goes wrong when `--at` is executed; `log` is no trouble and happens at the first number
    #[arg(long, value_enum)]
    trouble: Option<Trouble>,
    #[arg(long, default_value_t = 1000)]
    at: u64,
    /// Time the bolt takes for each number
    #[arg(long, default_value_t = 0)]
    slow_us: u64,
    /// Result rows of 10 kB that each task pushes beside its sum
    #[arg(long, default_value_t = 0)]
    rows: u64,
    /// Compare with a wrong sum
    #[arg(long)]
    wrong: bool,
    /// The topology cannot be declared
    #[arg(long)]
    undeclared: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Trouble {
    Fail,
    Fatal,
    Panic,
    Exit,
    /// Never returns
    Stuck,
    Log,
}

#[derive(Tuple)]
struct Number {
    n: u64,
}

struct Numbers {
    next: u64,
    step: u64,
    end: u64,
    bytes: Option<Counter>,
}

impl Spout for Numbers {
    type Out = Stream<Number>;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.next = u64::from(ctx.task_index());
        self.step = u64::from(ctx.task_count());
        self.bytes = Some(ctx.counter("bytes"));
        Ok(())
    }

    fn next(&mut self, out: &mut Stream<Number>) -> Result<Next, SpoutError> {
        if self.next >= self.end {
            return Ok(Next::End);
        }
        out.emit(Number { n: self.next });
        self.next += self.step;
        if let Some(bytes) = &self.bytes {
            bytes.add(8);
        }
        Ok(Next::Emitted)
    }
}

struct Sum {
    options: Options,
    sum: u64,
    rows: Vec<(&'static str, Vec<u8>)>,
    finished: bool,
    results: Option<Results>,
    log: Option<squall::Logger>,
    largest: Option<squall::Gauge>,
    added: Option<squall::SharedHistogram>,
    logged: bool,
}

impl Bolt for Sum {
    type In = Number;
    type Out = ();

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.results = Some(ctx.results());
        self.log = Some(ctx.logger());
        self.largest = Some(ctx.gauge("largest"));
        self.added = Some(ctx.histogram("added"));
        ctx.log(Level::Debug, format_args!("ready to add"));
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Number>, _: &mut ()) -> Result<(), BoltError> {
        let n = input.n.to_native();
        self.sum += n;
        if let (Some(largest), Some(added)) = (&self.largest, &self.added) {
            largest.set(n as i64);
            added.record(n);
        }
        if self.options.slow_us > 0 {
            sleep(Duration::from_micros(self.options.slow_us));
        }
        if self.options.trouble == Some(Trouble::Log)
            && !std::mem::replace(&mut self.logged, true)
            && let Some(log) = &self.log
        {
            log.log(Level::Info, format_args!("a number worth telling"));
        }
        match self.options.trouble.filter(|_| n == self.options.at) {
            None | Some(Trouble::Log) => Ok(()),
            Some(Trouble::Fail) => Err(BoltError::fail("an unlucky number")),
            Some(Trouble::Fatal) => Err(BoltError::fatal("a very unlucky number")),
            Some(Trouble::Panic) => panic!("the unluckiest number"),
            Some(Trouble::Exit) => std::process::exit(3),
            Some(Trouble::Stuck) => loop {
                sleep(Duration::from_secs(3600));
            },
        }
    }

    fn finish(&mut self, _: &mut ()) -> Result<Finish, BoltError> {
        if !std::mem::replace(&mut self.finished, true) {
            self.rows = vec![("row", vec![7; 10_000]); self.options.rows as usize];
            self.rows.push(("sum", self.sum.to_le_bytes().to_vec()));
            self.rows.reverse();
        }
        let Some(results) = &self.results else { return Ok(Finish::Done) };
        while let Some((key, row)) = self.rows.pop() {
            if let Err((_, row)) = results.try_push(key, row) {
                self.rows.push((key, row));
                return Ok(Finish::More);
            }
        }
        Ok(Finish::Done)
    }
}

fn topology(t: &mut Topology, options: &Options) -> Result<(), Box<dyn Error>> {
    if options.undeclared {
        return Err("there are no numbers today; come back tomorrow".into());
    }
    // What ends an executor is to end the run here.
    t.configure(|c| c.executor_restarts = 0);
    let end = options.limit.unwrap_or(u64::MAX);
    let options = options.clone();
    let numbers = t.spout("numbers", move || Numbers { next: 0, step: 1, end, bytes: None }).tasks(2).executors(2);
    let sum = move || Sum {
        options: options.clone(),
        sum: 0,
        rows: Vec::new(),
        finished: false,
        results: None,
        log: None,
        largest: None,
        added: None,
        logged: false,
    };
    t.bolt("sum", sum).tasks(2).executors(2).on(numbers.streams().shuffle());
    Ok(())
}

fn check(options: &Options, outcome: &mut Outcome<'_>) -> Result<Verdict, Box<dyn Error>> {
    let (mut sum, mut rows) = (0_u64, 0_u64);
    for row in outcome.results() {
        match row.key.as_str() {
            "sum" => sum += u64::from_le_bytes(row.bytes.as_ref().try_into()?),
            _ => rows += 1,
        }
    }
    outcome.report.section("sum", sum);
    outcome.report.section("rows", rows);
    outcome.report.line(format!("sum: {sum}"));
    let Some(limit) = options.limit.filter(|_| outcome.completed()) else { return Ok(Verdict::Unverified) };
    let want = limit * (limit - 1) / 2 + u64::from(options.wrong);
    if sum == want && rows == 2 * options.rows {
        return Ok(Verdict::Verified);
    }
    Ok(Verdict::Mismatch(format!("the sum is {sum} and should be {want}")))
}

fn main() -> std::process::ExitCode {
    App::new("adder", topology)
        .about("Adds up numbers")
        .input_bytes(|options: &Options| options.limit.map(|limit| limit * 8))
        .input_counter("numbers", "bytes")
        .after_run(check)
        .main()
}
