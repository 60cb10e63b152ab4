//! Every scenario runs, both sides, and what it prints is what it says: the counts agree or the row fails. Nothing is
//! said about time.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Runs rows very briefly, parked so that the test shares its cores, and gives the lines on stdout.
fn run(args: &[&str]) -> Vec<Value> {
    let out = Command::new(env!("CARGO_BIN_EXE_squall-bench"))
        .args(["run", "--secs", "0.5", "--wait", "hybrid", "--json"])
        .args(args)
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {told}");
    let lines = String::from_utf8(out.stdout).expect("JSON is UTF-8");
    lines.lines().map(|l| serde_json::from_str(l).expect("a line of JSON")).collect()
}

fn two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|n| n.get() > 1)
}

fn keys(line: &Value) -> BTreeSet<&str> {
    line.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_round_trip_within_a_reactor_prints_one_line_per_size() {
    let lines = run(&["rtt-local"]);
    assert_eq!(lines.iter().map(|l| &l["size"]).collect::<Vec<_>>(), [64, 1024, 16384]);
    for line in &lines {
        assert!(line["squall"]["p50"].as_u64() > Some(0) && line["floor"]["p50"].as_u64() > Some(0), "{line}");
        assert_eq!((&line["unit"], &line["acked"]), (&Value::from("ns"), &Value::from(false)));
    }
    let wanted = "acked counters floor link machine ratio rounds scenario size squall tuple unit wait";
    let wanted: BTreeSet<&str> = wanted.split(' ').collect();
    assert!(keys(&lines[0]).is_superset(&wanted), "{}", lines[0]);
}

#[test]
fn a_stream_within_a_reactor_has_a_rate_on_both_sides() {
    let lines = run(&["const-null", "--link", "local", "--size", "32"]);
    assert!(lines[0]["ratio"]["rate"].as_f64() > Some(0.0), "{}", lines[0]);
    assert!(lines[0]["counters"].get("tuples_per_batch").is_none(), "nothing left the reactor: {}", lines[0]);
}

#[test]
fn tuples_cross_rings_and_processes_and_all_arrive() {
    if !two_cores() {
        return; // The row itself says that it needs two.
    }
    for (scenario, link) in [("rtt-ring", "ring"), ("rtt-tcp", "tcp"), ("rtt-uds", "uds")] {
        assert_eq!(run(&[scenario, "--size", "64"])[0]["link"], link);
    }
    for link in ["ring", "tcp"] {
        let lines = run(&["const-null", "--link", link, "--size", "32"]);
        assert!(lines[0]["counters"]["tuples_per_batch"].as_f64() >= Some(1.0), "{}", lines[0]);
    }
}

#[test]
fn both_sides_count_the_same_words() {
    if two_cores() {
        let lines = run(&["wordcount", "--text", "300000"]);
        assert_eq!(lines[0]["unit"], "words/s");
    }
}

#[test]
fn an_unknown_scenario_is_named() {
    let out = Command::new(env!("CARGO_BIN_EXE_squall-bench")).args(["run", "const-nul"]).output().expect("it runs");
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("\"const-nul\""));
}
