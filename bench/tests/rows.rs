//! Every scenario runs, both sides, and what it prints is what it says: the counts agree or the row fails. Nothing is
//! said about time.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

const TESTED: &str = "rtt-local rtt-ring rtt-shm rtt-uds rtt-tcp const-null const-id-null small-batches fanout-all idle \
                      lowrate oversubscribed wordcount filter const-null-acked const-id-null-acked rtt-acked wordcount-acked \
                      wordcount-50k-acked recovery-kill recovery-standby recovery-stop recovery-panic recovery-cut \
                      workloads";

/// The keys of a line and of its parts, all of them and no others. `machine` has more.
const SCHEMA: [(&str, &str); 5] = [
    ("", "scenario link size tuple acked wait rounds probe_ns unit squall floor ratio counters machine"),
    ("squall", "p50 p90 p99 p999 p9999 max rate"),
    ("floor", "p50 p90 p99 p999 p9999 max rate"),
    ("ratio", "p50 p99 rate"),
    (
        "counters",
        "copies_per_tuple serializations_per_tuple tuples_per_batch syscalls_per_tuple wakeups zc_sent zc_copied \
         credit_stalls cpu_cores_per_worker",
    ),
];

/// One at a time: rows need both cores.
static CORES: Mutex<()> = Mutex::new(());

fn bench(args: &[&str]) -> (Vec<u8>, String) {
    let _alone = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let out = Command::new(env!("CARGO_BIN_EXE_squall-bench")).args(args).output().expect("the program runs");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{args:?}: {told}");
    (out.stdout, told)
}

/// Runs rows very briefly, and not spinning so that tests share their cores, and gives the lines on stdout, whose keys it
/// has checked.
fn run(args: &[&str]) -> Vec<Value> {
    run_for("0.5", args)
}

fn run_for(secs: &str, args: &[&str]) -> Vec<Value> {
    let (out, _) = bench(&[&["run", "--secs", secs, "--wait", "hybrid", "--json"], args].concat());
    let lines = String::from_utf8(out).expect("JSON is UTF-8");
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("a line of JSON")).collect();
    for line in &lines {
        for (part, wanted) in SCHEMA {
            let object = if part.is_empty() { line } else { &line[part] };
            let keys = object.as_object().expect("an object").keys().map(String::as_str);
            assert_eq!(keys.collect::<BTreeSet<_>>(), wanted.split_whitespace().collect(), "{part:?} of {line}");
        }
        let acked = line["scenario"].as_str().is_some_and(|s| s.ends_with("-acked") || s.starts_with("recovery-"));
        assert_eq!((&line["rounds"], &line["acked"], &line["wait"]), (&5.into(), &acked.into(), &"hybrid".into()));
        // On a busy machine there may be too few samples for a percentile.
        let main = if line["unit"] == "ns" { "max" } else { "rate" };
        for side in ["squall", "floor"] {
            assert!(line[side][main].as_u64() > Some(0), "{side} has no {main}: {line}");
        }
    }
    lines
}

fn count(line: &Value, name: &str) -> Option<f64> {
    line["counters"][name].as_f64()
}

fn two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|n| n.get() > 1)
}

#[test]
fn every_scenario_of_the_list_has_a_test_here() {
    let (list, _) = bench(&["list"]);
    let list = String::from_utf8(list).expect("text");
    let names = list.lines().filter(|l| !l.starts_with(' ')).filter_map(|l| l.split_whitespace().next());
    assert_eq!(names.collect::<BTreeSet<_>>(), TESTED.split_whitespace().collect());
}

#[test]
fn a_round_trip_within_a_reactor_prints_one_line_per_size() {
    let lines = run(&["rtt-local"]);
    assert_eq!(lines.iter().map(|l| &l["size"]).collect::<Vec<_>>(), [64, 1024, 16384]);
    assert_eq!(count(&lines[0], "tuples_per_batch"), None, "nothing left the reactor: {}", lines[0]);
}

#[test]
fn a_round_trip_crosses_every_link() {
    if !two_cores() {
        return; // The row itself says that it needs two.
    }
    for link in ["ring", "shm", "uds", "tcp"] {
        let lines = run(&[&format!("rtt-{link}"), "--size", "64"]);
        assert_eq!(lines[0]["link"], link);
        assert_eq!(count(&lines[0], "tuples_per_batch"), Some(1.0), "one is in flight: {}", lines[0]);
    }
}

#[test]
fn constant_tuples_cross_every_link_one_way_and_there_and_back() {
    for scenario in ["const-null", "const-id-null"] {
        let lines = run(&[scenario, "--link", "local", "--size", "32"]);
        assert_eq!(count(&lines[0], "tuples_per_batch"), None, "nothing left the reactor: {}", lines[0]);
        if !two_cores() {
            continue;
        }
        for link in ["ring", "shm", "tcp"] {
            let lines = run(&[scenario, "--link", link, "--size", "128"]);
            assert!(count(&lines[0], "tuples_per_batch") >= Some(1.0), "{}", lines[0]);
            assert_eq!(count(&lines[0], "serializations_per_tuple"), Some(1.0), "{}", lines[0]);
        }
    }
}

#[test]
fn rows_of_values_cross_a_ring() {
    if two_cores() {
        let lines = run(&["const-null", "--tuple", "dynamic"]);
        assert_eq!((&lines[0]["link"], &lines[0]["size"]), (&"ring".into(), &32.into()));
    }
}

#[test]
fn small_batches_hold_no_more_than_their_cap() {
    if !two_cores() {
        return;
    }
    let lines = run(&["small-batches"]);
    let batches: Vec<f64> = lines.iter().filter_map(|l| count(l, "tuples_per_batch")).collect();
    assert_eq!(batches[0], 1.0);
    assert!(batches[1] > 1.0 && batches[1] <= 8.0, "{batches:?}");
}

#[test]
fn a_tuple_for_eight_tasks_of_a_reactor_is_serialized_once() {
    if two_cores() {
        let lines = run(&["fanout-all", "--size", "32"]);
        assert_eq!(count(&lines[0], "serializations_per_tuple"), Some(1.0), "{}", lines[0]);
    }
}

#[test]
fn another_process_wakes_an_idle_topology() {
    if !two_cores() {
        return;
    }
    for link in ["local", "shm", "tcp"] {
        let lines = run_for("2", &["idle", "--link", link]);
        assert!(count(&lines[0], "cpu_cores_per_worker").is_some(), "{}", lines[0]);
        // Woken: a reactor that nobody rings sleeps half a second, and so finds a stamp 400 ms after it was made.
        // (On a busy machine one may be late; where there are too few for a median, the latest has to do.)
        let squall = &lines[0]["squall"];
        assert!(squall["p50"].as_u64().or(squall["max"].as_u64()) < Some(300_000_000), "{}", lines[0]);
    }
}

#[test]
fn a_low_rate_has_latencies_from_emission_and_from_the_due_time() {
    let lines = run(&["lowrate"]);
    assert_eq!(lines.iter().map(|l| &l["scenario"]).collect::<Vec<_>>(), ["lowrate", "lowrate-due"]);
    let max = |line: &Value| line["squall"]["max"].as_u64();
    assert!(max(&lines[0]) <= max(&lines[1]), "nothing is emitted before it is due: {lines:?}");
}

#[test]
fn more_reactors_than_cores_have_a_rate_and_a_latency() {
    if two_cores() {
        let lines = run(&["oversubscribed"]);
        assert!(lines[0]["squall"]["max"].as_u64() > Some(0), "{}", lines[0]);
    }
}

#[test]
fn both_sides_count_the_same_words() {
    if two_cores() {
        // Typed tuples, and rows in a topology in YAML: each compared with the floor's totals.
        let lines = run(&["wordcount", "--text", "300000"]);
        let rows: Vec<_> = lines.iter().map(|line| (line["unit"].as_str(), line["tuple"].as_str())).collect();
        assert_eq!(rows, [(Some("words/s"), Some("typed")), (Some("words/s"), Some("dynamic"))]);
    }
}

#[test]
fn a_filter_in_yaml_runs_lowered_on_one_reactor() {
    let lines = run(&["filter"]);
    assert_eq!((&lines[0]["link"], &lines[0]["tuple"]), (&"local".into(), &"dynamic".into()));
    assert_eq!(count(&lines[0], "tuples_per_batch"), None, "nothing left the reactor: {}", lines[0]);
}

#[test]
fn every_tuple_with_a_message_id_is_acknowledged_over_every_link() {
    let links: &[&str] = if two_cores() { &["local", "ring", "shm", "tcp"] } else { &["local"] };
    for scenario in ["const-null-acked", "const-id-null-acked", "rtt-acked"] {
        for link in links {
            run(&[scenario, "--link", link]); // Fails unless all are.
        }
    }
    if two_cores() {
        run(&["wordcount-acked", "--text", "300000"]);
        run(&["wordcount-50k-acked"]);
    }
}

#[test]
fn what_a_fault_costs_is_measured_and_nothing_is_lost() {
    if two_cores() {
        let lines = run(&["recovery"]); // Fails if something is lost.
        assert_eq!(lines.len(), 5, "{lines:?}");
    }
}

#[test]
fn lines_become_a_table_and_only_they_go_to_stdout() {
    let (out, told) = bench(&["run", "rtt-local", "--size", "64", "--secs", "0.2"]);
    assert!(out.is_empty() && told.contains("rtt-local"), "without --json stdout is empty: {told}");
    let lines: String = run(&["rtt-local", "--size", "64"]).iter().map(|l| format!("{l}\n")).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lines");
    std::fs::write(&file, lines).expect("written");
    let mut table = Command::new(env!("CARGO_BIN_EXE_squall-bench"));
    let out = table.arg("table").stdin(std::fs::File::open(&file).expect("it is there")).output().expect("it runs");
    assert!(String::from_utf8_lossy(&out.stdout).contains("| rtt-local | local | 64 |"), "{out:?}");
}

#[test]
fn who_stops_reading_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let list = Command::new(env!("CARGO_BIN_EXE_squall-bench")).arg("list").stdout(writer).output().expect("it starts");
    assert_eq!((list.status.code(), String::from_utf8_lossy(&list.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn an_unknown_scenario_is_named() {
    let out = Command::new(env!("CARGO_BIN_EXE_squall-bench")).args(["run", "const-nul"]).output().expect("it runs");
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("\"const-nul\""));
}

/// They are tuplegen's own, whose tests say what they answer; here, that they run from here, and that their lines are reports that repeat.
#[test]
fn the_fields_workloads_run_and_say_what_repeats_them() {
    let (out, told) = bench(&["workloads", "echo", "genload", "--secs", "0.3"]);
    let lines = String::from_utf8(out).expect("JSON is UTF-8");
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("a line of JSON")).collect();
    assert_eq!(lines.len(), 11, "nine rows of Aeron's matrix, two of a capture: {told}");
    for line in &lines {
        assert_eq!(squall_tuplegen::report::schema::validate(line), Vec::<String>::new());
        let command = line["machine"]["command"].as_str().unwrap_or_default();
        assert!(command.starts_with("tuplegen run --") && command.ends_with("-d 300ms"), "{command}");
        assert!(line["counts"]["complete"].as_u64() > Some(0), "{line}");
        assert!(line["machine"]["commit"].is_string() && line["verdict"]["word"] != "ERROR", "{line}");
    }
    let (listed, _) = bench(&["list"]);
    assert!(String::from_utf8_lossy(&listed).contains("tuplegen run --builtin throughput-vs-latency -R 85k --acks"));
}
