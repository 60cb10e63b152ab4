//! `tuplegen compare`: of two runs or sweeps what differs, or of two sets of arguments, run in turn.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::json;
use squall_machine::Machine;
use squall_metrics::format::{duration_ns, rate as shown_rate};

use super::args::load_of;
use super::once::{Format, Progress, measure, stop_flag};
use super::sweep::read_all;
use super::{EXIT_INTERRUPTED, Failure, show};
use crate::measure::compare::{Compared, Finding, PAIRS_MIN, compare as compared};
use crate::model::units::parse_share;
use crate::report::run::RunReport;
use crate::report::schema::COMPARE_SCHEMA;

/// `tuplegen compare`.
#[derive(Debug, Args)]
pub(super) struct CompareCommand {
    /// Directory of a run or of a sweep's trials: A, then B
    #[arg(num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["a", "b"])]
    dirs: Vec<PathBuf>,
    /// Arguments of A, as `run` takes them; trials of A and B are run in turn
    #[arg(long, value_name = "ARGS", requires = "b", allow_hyphen_values = true)]
    a: Option<String>,
    /// Arguments of B
    #[arg(long, value_name = "ARGS", requires = "a", allow_hyphen_values = true)]
    b: Option<String>,
    /// Trials of each
    #[arg(long, value_name = "N", default_value_t = 5)]
    trials: u32,
    /// Exit with 3 if a figure of B is detectably higher than A's by more than this: 'p99 +5%'; repeatable
    #[arg(long, value_name = "FIGURE +SHARE")]
    fail_if: Vec<String>,
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The trials of A and of B.
type Sides = (Vec<RunReport>, Vec<RunReport>);
type Figure = (&'static str, fn(&RunReport) -> Option<f64>);

const FIGURES: [Figure; 3] = [
    ("p50", |r| r.intended.p50.map(|v| v as f64)),
    ("p99", |r| r.intended.p99.map(|v| v as f64)),
    ("rate", |r| Some(r.complete_rate)),
];

/// A directory is a run's or holds those of a sweep.
fn reports(dir: &Path) -> Result<Vec<RunReport>, Failure> {
    if dir.join("run.json").is_file() || dir.is_file() {
        return Ok(vec![RunReport::read(dir).map_err(Failure::Error)?]);
    }
    let all: Vec<RunReport> = read_all(dir).map_err(Failure::Error)?.into_iter().map(|(_, r)| r).collect();
    if all.is_empty() {
        return Err(Failure::Error(format!("{} holds no run", dir.display())));
    }
    Ok(all)
}

/// Runs A and B in turn.
fn in_turn(command: &CompareCommand, a: &str, b: &str) -> Result<Option<Sides>, Failure> {
    let parse =
        |text: &str| load_of(text.split_whitespace()).map_err(|e| Failure::Usage(format!("`{text}`: {e}")))?.job();
    let jobs = [parse(a)?, parse(b)?];
    if (command.trials as usize) < PAIRS_MIN {
        return Err(Failure::Usage(format!("--trials is {}: fewer than {PAIRS_MIN} say nothing", command.trials)));
    }
    let stop = stop_flag()?;
    let mut all = [Vec::new(), Vec::new()];
    for trial in 1..=command.trials {
        for (side, job) in jobs.iter().enumerate() {
            let (report, _) = measure(job, &stop, Progress::Quiet)?;
            // Relaxed: a flag that carries nothing.
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let word = report.verdict.word.text();
            eprintln!(
                "trial {trial} of {}, {}: {word}, p50 {}",
                command.trials,
                ["A", "B"][side],
                duration_ns(report.intended.p50.unwrap_or(0))
            );
            all[side].push(report);
        }
    }
    let [a, b] = all;
    Ok(Some((a, b)))
}

/// What makes a comparison doubtful.
fn warnings(a: &[RunReport], b: &[RunReport]) -> Vec<String> {
    let mut told = Vec::new();
    let bad = a.iter().chain(b).filter(|r| matches!(r.verdict.exit_code, 1 | 5)).count();
    if bad > 0 {
        told.push(format!("{bad} runs are invalid or broke off: their figures say little"));
    }
    let differ = |what: &str, of: &dyn Fn(&RunReport) -> String| {
        let mut all: Vec<String> = a.iter().chain(b).map(of).collect();
        all.sort();
        all.dedup();
        (all.len() > 1).then(|| format!("the runs have different {what}: {}", all.join(", ")))
    };
    let machine =
        |key: &'static str| move |r: &RunReport| r.machine.get(key).map(ToString::to_string).unwrap_or_default();
    told.extend(differ("kernels", &machine("kernel")));
    told.extend(differ("CPUs", &machine("cpu")));
    told.extend(differ("grades", &|r: &RunReport| r.verdict.grade.to_string()));
    told
}

fn pairs(a: &[RunReport], b: &[RunReport]) -> Vec<(String, Vec<(f64, f64)>)> {
    let figure = |(name, of): &Figure| {
        let pairs: Vec<(f64, f64)> = a.iter().zip(b).filter_map(|(a, b)| Some((of(a)?, of(b)?))).collect();
        ((*name).to_owned(), pairs)
    };
    FIGURES.iter().map(figure).collect()
}

pub(super) fn compare(command: &CompareCommand) -> Result<u8, Failure> {
    let limits = command.fail_if.iter().map(|t| limit(t)).collect::<Result<Vec<_>, _>>().map_err(Failure::Usage)?;
    let (names, a, b) = match (&command.a, &command.b, &command.dirs[..]) {
        (Some(a), Some(b), _) => match in_turn(command, a, b)? {
            Some((ra, rb)) => ((a.clone(), b.clone()), ra, rb),
            None => return Ok(EXIT_INTERRUPTED),
        },
        (_, _, [a, b]) => ((a.display().to_string(), b.display().to_string()), reports(a)?, reports(b)?),
        _ => return Err(Failure::Usage("give two directories, or --a and --b".to_owned())),
    };
    let found = compared(&pairs(&a, &b));
    let differs = found.iter().any(|c| matches!(c.finding, Finding::Lower | Finding::Higher));
    let warnings = warnings(&a, &b);
    match command.format {
        Format::Json => {
            let json = json!({
                "schema": COMPARE_SCHEMA, "a": names.0, "b": names.1, "pairs": a.len().min(b.len()), "figures": found,
                "differs": differs, "warnings": warnings, "machine": Machine::look(env!("CARGO_MANIFEST_DIR")),
            });
            show(&format!("{json:#}\n"))?;
        }
        Format::Csv => {
            let line = |c: &Compared| {
                format!("{},{},{},{},{},{},{}\n", c.figure, c.a, c.b, c.change, c.low, c.high, c.finding.text())
            };
            show(&format!("figure,a,b,change,low,high,finding\n{}", found.iter().map(line).collect::<String>()))?;
        }
        Format::Text => show(&table(&names, &found, differs, &warnings, a.len().min(b.len())))?,
    }
    let failed = limits.iter().any(|(figure, share)| {
        found.iter().any(|c| c.figure == *figure && c.finding == Finding::Higher && c.change > *share)
    });
    Ok(if failed { 3 } else { 0 })
}

/// `p99 +5%`.
fn limit(text: &str) -> Result<(String, f64), String> {
    let wrong = || format!("`{text}`: write FIGURE +SHARE, as in 'p99 +5%'; figures are p50, p99 and rate");
    let (figure, share) = text.split_once('+').ok_or_else(wrong)?;
    let figure = figure.trim();
    if !FIGURES.iter().any(|(name, _)| *name == figure) {
        return Err(wrong());
    }
    Ok((figure.to_owned(), parse_share(share)?))
}

fn table(names: &(String, String), found: &[Compared], differs: bool, warnings: &[String], pairs: usize) -> String {
    let mut text = format!("A: {}\nB: {}\n{pairs} pairs of trials\n\n", names.0, names.1);
    text += &format!("{:<8}{:>12}{:>12}{:>10}{:>22}  \n", "", "A", "B", "change", "95 % over all figures");
    for c in found {
        let value = |v: f64| if c.figure == "rate" { shown_rate(v) } else { duration_ns(v as u64) };
        let percent = |v: f64| format!("{:+.1} %", v * 100.0);
        let interval = if c.finding == Finding::TooFew {
            "–".to_owned()
        } else {
            format!("{} to {}", percent(c.low), percent(c.high))
        };
        text += &format!(
            "{:<8}{:>12}{:>12}{:>10}{interval:>22}  {}\n",
            c.figure,
            value(c.a),
            value(c.b),
            percent(c.change),
            c.finding.text()
        );
    }
    text.push('\n');
    text += match (differs, found.iter().all(|c| c.finding == Finding::TooFew)) {
        (true, _) => "B differs from A\n",
        (false, true) => "too few trials to say: give sweeps with --trials 5, or --a and --b\n",
        (false, false) => "no detectable difference\n",
    };
    warnings.iter().for_each(|w| text += &format!("warning: {w}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_others_refused() {
        assert_eq!(limit("p99 +5%"), Ok(("p99".to_owned(), 0.05)));
        for text in ["p99", "p98 +5%", "p99 +x"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
