//! `tuplegen knee`: the highest rate that meets the SLOs, and what limits it.

use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::json;
use squall_machine::Machine;
use squall_metrics::format::{duration_ns_or_none, rate as shown_rate};

use super::args::{LoadArgs, Rate};
use super::once::{Format, Progress, measure, stop_flag, trial};
use super::{EXIT_ERROR, EXIT_INTERRUPTED, Failure, show};
use crate::measure::knee::Search;
use crate::model::arrival::Arrival;
use crate::model::units::{parse_number, parse_share};
use crate::report::schema::KNEE_SCHEMA;

/// `tuplegen knee`; `--duration` is the length of each trial (2s).
#[derive(Debug, Args)]
pub(super) struct KneeCommand {
    #[command(flatten)]
    load: LoadArgs,
    /// Lowest rate to try
    #[arg(long, value_name = "RATE", default_value = "1k", value_parser = parse_number)]
    lo: f64,
    /// Highest rate to try
    #[arg(long, value_name = "RATE", default_value = "20M", value_parser = parse_number)]
    hi: f64,
    /// How close the highest that holds and the lowest that does not shall come
    #[arg(long, value_name = "SHARE", default_value = "3%", value_parser = parse_share)]
    tolerance: f64,
    /// Trials in which a rate must fail before it counts as failing
    #[arg(long, value_name = "N", default_value_t = 2)]
    confirm: u32,
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn knee(command: &KneeCommand) -> Result<u8, Failure> {
    let mut load = command.load.clone();
    load.duration = load.duration.or(Some(2_000_000_000));
    load.drain = load.drain.min(1_000_000_000);
    if load.slo.is_empty() {
        return Err(Failure::Usage("there is nothing to hold: give --slo, as in --slo 'p99<1ms'".to_owned()));
    }
    let job = load.job()?;
    if !matches!(job.rate, Rate::PerSecond(_)) || matches!(job.arrival, Arrival::Trace(_)) {
        return Err(Failure::Usage(
            "the search sets the rate: leave --closed, --rate max and arrivals with rates out".to_owned(),
        ));
    }
    let mut search = Search::new(command.lo, command.hi, command.tolerance, command.confirm).map_err(Failure::Usage)?;
    let stop = stop_flag()?;
    let mut trials = Vec::new();
    while let Some(rate) = search.next_rate() {
        let (report, _) = measure(&job.at_rate(rate), &stop, Progress::Quiet)?;
        // Relaxed: a flag that carries nothing.
        if stop.load(Ordering::Relaxed) {
            return Ok(EXIT_INTERRUPTED);
        }
        if report.verdict.exit_code == EXIT_ERROR {
            return Err(Failure::Error(format!("at {}: {}", shown_rate(rate), report.verdict.reasons.join("; "))));
        }
        let limiter = trial(&report).limiter();
        if !command.quiet {
            let how = limiter.as_ref().map_or_else(|| "holds".to_owned(), |l| format!("{}: {}", l.name(), l.why()));
            eprintln!("{:>10}  p99 {:>8}  {how}", shown_rate(rate), duration_ns_or_none(report.intended.p99));
        }
        trials.push(json!({
            "rate": rate, "exit_code": report.verdict.exit_code, "limiter": limiter,
            "p50_ns": report.intended.p50, "p99_ns": report.intended.p99,
        }));
        search.came_out(limiter);
    }
    let knee = search.knee();
    let result = json!({
        "schema": KNEE_SCHEMA,
        "target": job.target_text(),
        "slos": job.args.slo.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "rate": knee.rate,
        "at_least": knee.at_least,
        "failing_rate": knee.failing.as_ref().map(|f| f.0),
        "limiter": knee.failing.as_ref().map(|f| &f.1),
        "trials": trials,
        "machine": Machine::look(env!("CARGO_MANIFEST_DIR")),
    });
    match command.format {
        Format::Json => show(&format!("{result:#}\n"))?,
        Format::Csv => {
            let lines =
                trials.iter().map(|t| format!("{},{},{},{}\n", t["rate"], t["exit_code"], t["p50_ns"], t["p99_ns"]));
            show(&format!("rate,exit_code,p50_ns,p99_ns\n{}", lines.collect::<String>()))?;
        }
        Format::Text => {
            let found = match (knee.rate, knee.at_least) {
                (Some(r), false) => format!("knee at {}", shown_rate(r)),
                (Some(r), true) => format!("at least {}", shown_rate(r)),
                (None, _) => format!("not even {} holds", shown_rate(command.lo)),
            };
            let limit = match &knee.failing {
                Some((rate, l)) => format!("; {} fails, limited by {}: {}", shown_rate(*rate), l.name(), l.why()),
                None => "; nothing tried fails: raise --hi".to_owned(),
            };
            show(&format!("{found}{limit}\n"))?;
        }
    }
    Ok(if knee.rate.is_some() { 0 } else { 3 })
}
