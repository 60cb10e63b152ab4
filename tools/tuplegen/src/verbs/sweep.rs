//! `tuplegen sweep`: runs over the cross product of parameters, in shuffled order, each in a directory of its own; what is there already is not
//! run again with `--resume`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::json;
use squall_machine::Machine;

use super::args::{Job, LoadArgs};
use super::once::{Format, Progress, measure, stop_flag};
use super::{EXIT_INTERRUPTED, Failure, show};
use crate::model::rng::Rng;
use crate::model::units::parse_number;
use crate::report::run::{RunReport, write_dir};
use crate::report::schema::SWEEP_SCHEMA;
use crate::report::text;

/// Runs of a sweep at most.
const RUNS_MAX: usize = 10_000;

/// `tuplegen sweep`.
#[derive(Debug, Args)]
pub(super) struct SweepCommand {
    #[command(flatten)]
    load: LoadArgs,
    /// A parameter and its values: rate=10k..1M:x2, rate=1k..5k:+1k, size=64,256,1k, or builtin, arrival, closed, wait, seed; repeatable
    #[arg(long, value_name = "NAME=VALUES", required = true)]
    vary: Vec<String>,
    /// Runs of each combination
    #[arg(long, value_name = "N", default_value_t = 1)]
    trials: u32,
    /// Directory, with one for each run in it
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Leave out the runs that are there already
    #[arg(long)]
    resume: bool,
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The values of `--vary`.
pub(super) fn values(text: &str) -> Result<(String, Vec<String>), String> {
    let wrong = || format!("`{text}`: write NAME=A,B,C, NAME=FROM..TO:xFACTOR or NAME=FROM..TO:+STEP");
    let (name, list) = text.split_once('=').ok_or_else(wrong)?;
    let Some((range, step)) = list.split_once(':').filter(|(range, _)| range.contains("..")) else {
        let all: Vec<String> = list.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect();
        return if all.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), all)) };
    };
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (parse_number(from)?, parse_number(to)?);
    let next: Box<dyn Fn(f64) -> f64> = match (step.strip_prefix('x'), step.strip_prefix('+')) {
        (Some(factor), _) => {
            let factor = parse_number(factor)?;
            if factor <= 1.0 || from <= 0.0 {
                return Err(wrong());
            }
            Box::new(move |v| v * factor)
        }
        (_, Some(step)) => {
            let step = parse_number(step)?;
            if step <= 0.0 {
                return Err(wrong());
            }
            Box::new(move |v| v + step)
        }
        _ => return Err(wrong()),
    };
    let (mut all, mut v) = (Vec::new(), from);
    while v <= to * (1.0 + 1e-9) && all.len() <= RUNS_MAX {
        all.push(v.round().to_string());
        v = next(v);
    }
    Ok((name.to_owned(), all))
}

/// The load with one parameter set.
fn set(load: &mut LoadArgs, name: &str, value: &str) -> Result<(), String> {
    let told = |e: &dyn std::fmt::Display| format!("{name}={value}: {e}");
    match name {
        "rate" => load.rate = Some(value.to_owned()),
        "size" => load.size = Some(value.to_owned()),
        "builtin" => load.builtin = Some(value.to_owned()),
        "arrival" => load.arrival = Some(value.to_owned()),
        "keys" => load.keys = Some(value.to_owned()),
        "closed" => load.closed = Some(value.parse().map_err(|e| told(&e))?),
        "seed" => load.seed = value.parse().map_err(|e| told(&e))?,
        "wait" => load.wait = value.parse().map_err(|e| told(&e))?,
        "acks" => load.acks = value == "on" || value == "true",
        _ => {
            return Err(format!(
                "`{name}` cannot be varied: rate, size, builtin, arrival, keys, closed, seed, wait and acks can"
            ));
        }
    }
    Ok(())
}

/// One run to come.
struct Planned {
    name: String,
    job: Job,
}

fn plan(command: &SweepCommand) -> Result<Vec<Planned>, Failure> {
    let axes: Vec<(String, Vec<String>)> =
        command.vary.iter().map(|v| values(v)).collect::<Result<_, _>>().map_err(Failure::Usage)?;
    let mut combinations: Vec<(Vec<String>, LoadArgs)> = vec![(Vec::new(), command.load.clone())];
    for (name, all) in &axes {
        let mut next = Vec::new();
        for (words, load) in &combinations {
            for value in all {
                let mut load = load.clone();
                set(&mut load, name, value).map_err(Failure::Usage)?;
                let word = format!("{name}-{}", value.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_"));
                next.push((words.iter().cloned().chain([word]).collect(), load));
            }
        }
        combinations = next;
        if combinations.len() * command.trials as usize > RUNS_MAX {
            return Err(Failure::Usage(format!("more than {RUNS_MAX} runs; vary less")));
        }
    }
    let mut planned = Vec::new();
    for (words, load) in combinations {
        let job = load.job()?;
        for trial in 1..=command.trials.max(1) {
            planned.push(Planned { name: format!("{}-trial-{trial}", words.join("-")), job: job.clone() });
        }
    }
    // Shuffled, so that a drift of the machine does not look like an effect of a parameter.
    let mut rng = Rng::new(command.load.seed, 77);
    for i in (1..planned.len()).rev() {
        planned.swap(i, rng.below(i as u64 + 1) as usize);
    }
    Ok(planned)
}

pub(super) fn sweep(command: &SweepCommand) -> Result<u8, Failure> {
    let planned = plan(command)?;
    let stop = stop_flag()?;
    std::fs::create_dir_all(&command.out)
        .map_err(|e| Failure::Error(format!("cannot make {}: {e}", command.out.display())))?;
    let (mut failed, total) = (0, planned.len());
    for (i, Planned { name, job }) in planned.iter().enumerate() {
        let dir = command.out.join(name);
        if command.resume && RunReport::read(&dir).is_ok() {
            continue;
        }
        eprintln!("{} of {total}: {name}", i + 1);
        let (report, totals) = measure(job, &stop, Progress::Quiet)?;
        // Relaxed: a flag that carries nothing.
        if stop.load(Ordering::Relaxed) {
            return Ok(EXIT_INTERRUPTED);
        }
        eprintln!("  {}", text::verdict(&report).lines().next().unwrap_or_default());
        failed += u64::from(report.verdict.exit_code != 0);
        write_dir(&dir, &report, &totals).map_err(Failure::Error)?;
    }
    let runs = read_all(&command.out).map_err(Failure::Error)?;
    let reports: Vec<&RunReport> = runs.iter().map(|(_, r)| r).collect();
    let csv = text::csv(&reports);
    let json = json!({
        "schema": SWEEP_SCHEMA, "varied": command.vary, "failed": failed,
        "runs": runs.iter().map(|(name, _)| name).collect::<Vec<_>>(), "machine": Machine::look(env!("CARGO_MANIFEST_DIR")),
    });
    for (name, text) in [("sweep.csv", &csv), ("sweep.json", &format!("{json:#}\n"))] {
        let path = command.out.join(name);
        std::fs::write(&path, text).map_err(|e| Failure::Error(format!("cannot write {}: {e}", path.display())))?;
    }
    match command.format {
        Format::Json => show(&format!("{json:#}\n"))?,
        Format::Csv => show(&csv)?,
        Format::Text => show(&table(&runs))?,
    }
    Ok(if failed == 0 { 0 } else { worst(&reports) })
}

/// The weightiest exit code in the order of judgement.
fn worst(runs: &[&RunReport]) -> u8 {
    [1, 5, 4, 3].into_iter().find(|code| runs.iter().any(|r| r.verdict.exit_code == *code)).unwrap_or(0)
}

/// The runs of a directory, by name.
pub(super) fn read_all(dir: &Path) -> Result<Vec<(String, RunReport)>, String> {
    let told = |e: std::io::Error| format!("cannot read {}: {e}", dir.display());
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if path.join("run.json").is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            runs.push((name, RunReport::read(&path)?));
        }
    }
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(runs)
}

/// ThroughputVsLatency's columns: rate, mean, 99 %, 99.9 %, cores, and the verdict.
fn table(runs: &[(String, RunReport)]) -> String {
    use squall_metrics::format::{duration_ns_or_none, rate};
    let mut text = format!(
        "{:<44}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}  verdict\n",
        "run", "rate", "mean", "99%ile", "99.9%ile", "max", "cores"
    );
    for (name, r) in runs {
        let i = &r.intended;
        let mean = duration_ns_or_none(i.mean.map(|m| m as u64));
        text += &format!(
            "{name:<44}{:>10}{mean:>10}{:>10}{:>10}{:>10}{:>8.2}  {}\n",
            rate(r.complete_rate),
            duration_ns_or_none(i.p99),
            duration_ns_or_none(i.p999),
            duration_ns_or_none(i.max),
            r.cpu_cores,
            r.verdict.word.text()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_lists_or_ranges() {
        let of = |text: &str| values(text).map(|(name, all)| format!("{name} {}", all.join(" ")));
        assert_eq!(of("rate=10k..100k:x2").unwrap(), "rate 10000 20000 40000 80000");
        assert_eq!(of("rate=1k..3k:+1k").unwrap(), "rate 1000 2000 3000");
        assert_eq!(of("size=64,256,1k").unwrap(), "size 64 256 1k");
        assert_eq!(of("arrival=burst:10,poisson").unwrap(), "arrival burst:10 poisson");
        for text in ["rate", "rate=", "rate=1..5:x1", "rate=1..5:2", "rate=0..5:x2"] {
            assert!(values(text).is_err(), "{text}");
        }
    }
}
