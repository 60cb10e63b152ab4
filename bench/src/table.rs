//! JSON lines as a markdown table, and that table put into a page between two marks.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use squall_metrics::format;

use crate::error::BenchError;

const BEGIN: &str = "<!-- results: written by `make bench-page` -->";
const END: &str = "<!-- end of results -->";
const HEAD: &str = "\
| scenario | link | size | Squall | floor | ratio | p99: Squall / floor (ratio) | tuples a batch | copies | serializations | syscalls | cores | probe ns |\n\
|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

/// The machine and the table.
pub(crate) fn markdown(lines: &str) -> Result<String, BenchError> {
    let rows: Vec<Value> = lines
        .lines()
        .filter(|l| !l.trim().is_empty())
        .map(|l| serde_json::from_str(l).map_err(|e| BenchError::Lines(e.to_string())))
        .collect::<Result<_, _>>()?;
    let Some(first) = rows.first() else { return Err(BenchError::Lines("there is none".to_owned())) };
    let m = &first["machine"];
    let mut text = format!(
        "{}, {} cores, Linux {}, commit {}, load {}: `{}`\n\n{HEAD}",
        word(&m["cpu"]),
        m["cores"],
        word(&m["kernel"]),
        word(&m["commit"]),
        load(&rows),
        command(word(&m["command"]))
    );
    for row in &rows {
        text.push_str(&line(row));
    }
    let void = rows.iter().filter_map(|r| Some((r, r["machine"]["void"].as_str()?)));
    for (row, why) in void {
        let _ = write!(text, "\nVoid: {} {} {}: {why}.\n", word(&row["scenario"]), word(&row["link"]), row["size"]);
    }
    Ok(text)
}

/// Writes the table into the page, in place of what stands between the marks.
pub(crate) fn into_page(table: &str, page: &Path) -> Result<(), BenchError> {
    let text = std::fs::read_to_string(page).map_err(BenchError::io("reading the page"))?;
    let replaced = spliced(&text, table).ok_or_else(|| BenchError::Marks(page.display().to_string()))?;
    std::fs::write(page, replaced).map_err(BenchError::io("writing the page"))
}

fn spliced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn word(v: &Value) -> &str {
    v.as_str().unwrap_or("?")
}

/// Lowest and highest load before or after a row: beyond about one, others were at work.
fn load(rows: &[Value]) -> String {
    let loads = rows.iter().filter_map(|r| r["machine"]["load"].as_array()).flatten().filter_map(Value::as_f64);
    let (low, high) = loads.fold((f64::MAX, 0.0), |(low, high), x| (x.min(low), x.max(high)));
    if low > high { "unknown".to_owned() } else { format!("{low:.1}–{high:.1}") }
}

/// The program by its name, wherever it lay.
fn command(line: &str) -> String {
    let (program, args) = line.split_once(' ').unwrap_or((line, ""));
    let name = Path::new(program).file_name().map_or(program.into(), |n| n.to_string_lossy());
    format!("{name} {args}").trim_end().to_owned()
}

fn line(r: &Value) -> String {
    let latency = r["unit"] == "ns";
    let main = if latency { "p50" } else { "rate" };
    let figure = |side: &str, name: &str| -> String {
        match r[side][name].as_f64() {
            None => "–".to_owned(),
            Some(x) if name == "rate" => format!("{:.2} M/s", x / 1e6),
            Some(ns) => format::duration_ns(ns as u64),
        }
    };
    let number = |v: &Value, digits: usize| v.as_f64().map_or("–".to_owned(), |x| format!("{x:.digits$}"));
    let p99 = match r["squall"]["p99"].as_f64() {
        None => "–".to_owned(),
        Some(_) => {
            format!("{} / {} ({})", figure("squall", "p99"), figure("floor", "p99"), number(&r["ratio"]["p99"], 2))
        }
    };
    let size = match (r["size"].as_u64(), word(&r["tuple"])) {
        (Some(0), _) | (None, _) => "–".to_owned(),
        (Some(n), "dynamic") => format!("{n}, dynamic"),
        (Some(n), _) => n.to_string(),
    };
    let probe = match (&r["probe_ns"][0], &r["probe_ns"][1]) {
        (Value::Null, _) => "–".to_owned(),
        (before, after) => format!("{before}, {after}"),
    };
    let void = if r["machine"]["void"].is_null() { "" } else { " (void)" };
    let c = &r["counters"];
    format!(
        "| {}{void} | {} | {size} | {} | {} | {} | {p99} | {} | {} | {} | {} | {} | {probe} |\n",
        word(&r["scenario"]),
        word(&r["link"]),
        figure("squall", main),
        figure("floor", main),
        number(&r["ratio"][main], 2),
        number(&c["tuples_per_batch"], 1),
        number(&c["copies_per_tuple"], 2),
        number(&c["serializations_per_tuple"], 2),
        number(&c["syscalls_per_tuple"], 4),
        number(&c["cpu_cores_per_worker"], 3),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rate_and_a_latency_are_rows_of_one_table() {
        let side = |p50: Value, rate: Value| json!({ "p50": p50, "p99": p50, "rate": rate });
        let row = |unit: &str, p50: Value, rate: Value, void: Value| {
            json!({
                "scenario": "s", "link": "ring", "size": 32, "tuple": "typed", "unit": unit, "probe_ns": [60, 61],
                "squall": side(p50.clone(), rate.clone()), "floor": side(p50, rate),
                "ratio": { "p50": 1.0, "p99": 1.0, "rate": 1.0 },
                "counters": { "tuples_per_batch": null, "syscalls_per_tuple": 0.5, "cpu_cores_per_worker": 1.0 },
                "machine": { "cpu": "C", "cores": 2, "kernel": "6", "commit": "abc", "command": "/x/squall-bench run", "load": [0.5, 1.25], "void": void },
            })
            .to_string()
        };
        let lines = [
            row("ns", json!(250), Value::Null, Value::Null),
            row("tuples/s", Value::Null, json!(40_000_000), json!("slow floor")),
        ];
        let table = markdown(&lines.join("\n")).unwrap();
        assert!(table.starts_with("C, 2 cores, Linux 6, commit abc, load 0.5–1.2: `squall-bench run`\n"), "{table}");
        let row =
            "| s | ring | 32 | 250 ns | 250 ns | 1.00 | 250 ns / 250 ns (1.00) | – | – | – | 0.5000 | 1.000 | 60, 61 |";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("| s (void) | ring | 32 | 40.00 M/s |"), "{table}");
        assert!(table.contains("\nVoid: s ring 32: slow floor.\n"), "{table}");
    }

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = spliced(&page, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(spliced(&once, "new\n").unwrap(), once);
        assert_eq!(spliced("no marks", "new\n"), None);
    }
}
