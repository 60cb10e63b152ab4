//! Runs as a table for a page: from JSON lines, each a run as `tuplegen report --format jsonl` prints it.

use std::fmt::Write as _;

use squall_metrics::format::{duration_ns_or_none, rate};

use super::run::RunReport;

const BEGIN: &str = "<!-- workloads: written by `make perf` -->";
const END: &str = "<!-- end of workloads -->";

/// A run in one line, without its plots: the schema holds for it all the same.
pub fn json_line(report: &RunReport) -> String {
    let mut short = report.clone();
    short.timeline.clear();
    for figures in [&mut short.intended, &mut short.actual, &mut short.late] {
        figures.spectrum.clear();
    }
    // A report is plain data.
    serde_json::to_string(&short).map(|line| line + "\n").unwrap_or_default()
}

/// The table of JSON lines.
///
/// # Errors
/// Which line is none.
pub fn markdown(lines: &str) -> Result<String, String> {
    let read =
        |(n, line): (usize, &str)| serde_json::from_str::<RunReport>(line).map_err(|e| format!("line {}: {e}", n + 1));
    let runs =
        lines.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(read).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = runs.first() else {
        return Err("there are no lines; give what `tuplegen report --format jsonl` printed".to_owned());
    };
    let word = |key: &str| first.machine.get(key).and_then(|v| v.as_str()).unwrap_or("unknown").to_owned();
    let cores = first.machine.get("cores").and_then(|v| v.as_array()).map_or(0, Vec::len);
    let mut text = format!("{}, {cores} cores, Linux {}, commit {}\n\n", word("cpu"), word("kernel"), word("commit"));
    text += "| workload | load | size | acks | complete | p50 | p99 | p99.9 | actual p99 | lateness p99 | cores | verdict, grade |\n";
    text += "|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for r in &runs {
        let job = &r.job;
        let load = match (job.loop_kind.as_str(), job.rate) {
            ("open", Some(r)) => format!("{} {}", job.arrival, rate(r)),
            ("open", None) => job.arrival.clone(),
            ("closed", _) => format!("closed, {}", job.closed.unwrap_or(0)),
            _ => "max".to_owned(),
        };
        // Of a load that is not paced a latency is the length of its queue.
        let paced = job.loop_kind == "open";
        let shown = |ns: Option<u64>| if paced { duration_ns_or_none(ns) } else { "–".to_owned() };
        let _ = writeln!(
            text,
            "| {} | {load} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} | {}, {} |",
            job.target,
            job.size,
            if job.acks { "on" } else { "off" },
            rate(r.complete_rate),
            shown(r.intended.p50),
            shown(r.intended.p99),
            shown(r.intended.p999),
            shown(r.actual.p99),
            shown(r.late.p99),
            r.cpu_cores,
            r.verdict.word.text(),
            r.verdict.grade
        );
    }
    Ok(text)
}

/// The page with the table between its marks; `None` where it has none.
pub fn into_page(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = into_page(&page, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(into_page(&once, "new\n"), Some(once.clone()));
        assert_eq!(into_page("no marks", "new\n"), None);
        assert!(markdown("").is_err() && markdown("{}").is_err());
    }
}
