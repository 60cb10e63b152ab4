//! What goes wrong ends with words and a code, never with a hang (issue: "each ends with an error that says what happened
//! and what to do").
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::{fixture, kill, run, wait, workers};
use rustix::process::Signal;

#[test]
fn a_healthy_run_counts_every_tuple_and_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("r.json");
    let end = run(&mut fixture(&["--tuples", "20000", "--report", report.to_str().unwrap()]));
    end.exits(0);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    for component in ["numbers", "work"] {
        assert_eq!(json["components"][component]["emitted"], 40_000, "{json:#}");
    }
    assert_eq!(json["components"]["sum"]["executed"], 40_000, "{json:#}");
    assert_eq!(json["latency_ns"]["count"], 40_000, "{json:#}");
    assert!(json["startup_ms"].as_f64().is_some(), "{json:#}");
}

#[test]
fn the_report_says_what_the_links_between_workers_use() {
    for (shm, uses, text) in
        [("auto", (true, false), "through shared memory ("), ("off", (false, true), "0 through shared memory, ")]
    {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("r.json");
        let end = run(&mut fixture(&["--tuples", "20000", "--shm", shm, "--report", report.to_str().unwrap()]));
        end.exits(0).says(&[text]);
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        let used = |kind: &str| json["worker_links"][kind].as_u64().unwrap() > 0;
        assert_eq!((used("shm"), used("sockets")), uses, "{json:#}");
        assert_eq!(json["components"]["sum"]["executed"], 40_000, "{json:#}");
    }
}

#[test]
fn a_failed_tuple_is_reported_and_the_run_exits_1() {
    let end = run(&mut fixture(&["--tuples", "10000", "--fault", "fail"]));
    end.exits(1).says(&["a bad record", "work", "failed"]);
}

#[test]
fn a_fatal_error_restarts_its_executor_and_the_tuple_that_nobody_emits_again_makes_the_exit_code_1() {
    let end = run(&mut fixture(&["--fault", "fatal"]));
    end.exits(1).says(&["work", "the database said no", "fatal", "its state is lost", "2 tuples failed (2 in work)"]);
    end.says(&["restarted     work 2 times", "finished in"]);
}

#[test]
fn a_panic_restarts_its_executor_and_names_component_and_message() {
    let end = run(&mut fixture(&["--fault", "panic"]));
    end.exits(1).says(&["work", "panicked", "index out of range in the author's code", "a bug in work"]);
    end.says(&["restarted     work 2 times", "finished in"]);
}

#[test]
fn a_backtrace_follows_where_it_is_asked_for() {
    for (asked, words, not) in [
        ("1", "backtrace of thread 'reactor", "RUST_BACKTRACE=1` environment"),
        ("0", "RUST_BACKTRACE=1` environment", "backtrace of thread"),
    ] {
        let end = run(fixture(&["--fault", "panic"]).env("RUST_BACKTRACE", asked));
        end.exits(1).says(&["index out of range in the author's code", words]);
        assert!(!end.stderr.contains(not), "{}", end.all());
    }
}

#[test]
fn what_panics_comes_again_until_it_is_a_dead_letter_and_the_run_ends_well() {
    let end = run(&mut fixture(&["--fault", "panic", "--reliable", "--tuples", "20000"]));
    // Each of two spout tasks emits the number, and either of two tasks may get it each time: three times at one of them.
    end.exits(0).says(&["of numbers: 40,000 acked", "0 pending", "emitted again", "dead letters  2 of work"]);
}

#[test]
fn an_executor_that_always_fails_ends_the_run_with_its_cause() {
    let end = run(&mut fixture(&["--fault", "always", "--tuples", "20000"]));
    end.exits(1).says(&["work", "the database said no", "restarted 20 times in a row"]);
}

#[test]
fn a_component_that_cannot_be_prepared_ends_the_run_before_the_first_tuple() {
    let end = run(&mut fixture(&["--fault", "prepare"]));
    end.exits(1).says(&["work", "could not be prepared", "the model file is missing"]);
}

#[test]
fn an_execute_that_emits_without_bound_is_stopped_at_its_burst_memory() {
    let end = run(&mut fixture(&["--fault", "burst"]));
    end.exits(1).says(&["work", "burst memory", "Finish::More"]);
}

#[test]
fn a_tuple_above_the_limit_names_the_limit_and_the_setting() {
    let end = run(&mut fixture(&["--fault", "too-large"]));
    end.exits(1).says(&["work", "above the limit of 16777216 bytes", "max_tuple_bytes"]);
}

#[test]
fn without_restarts_a_killed_worker_ends_the_run_and_is_named() {
    for shm in ["auto", "copy", "off"] {
        // Different instants of a run in full traffic.
        for delay_ms in [300, 307] {
            let child = fixture(&["--tuples", "100000000", "--shm", shm, "--restarts", "0"]).spawn().unwrap();
            let pids = workers(child.id(), 2);
            std::thread::sleep(Duration::from_millis(delay_ms));
            kill(pids[1], Signal::KILL);
            let end = wait(child);
            end.exits(1).says(&["worker 1", "SIGKILL"]);
            assert!(!end.all().contains("malformed"), "a torn batch: {}", end.all());
            assert!(end.took < Duration::from_secs(10), "{}", end.all());
            assert_gone(&pids);
        }
    }
}

/// Starts a run of two spout tasks (one on each worker), lets `hurt` do something to it twice, and lets it end. Returns what it wrote, and its report.
fn hurt_twice(args: &[&str], hurt: impl Fn(&[u32])) -> (common::Ended, serde_json::Value) {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("r.json");
    // Slow enough to be still at it when it is hurt: some five seconds.
    let mut all = vec!["--tuples", "25000", "--sleep-us", "150", "--report", report.to_str().unwrap()];
    all.extend(args);
    let child = fixture(&all).spawn().unwrap();
    for _ in 0..2 {
        let pids = workers(child.id(), 2);
        std::thread::sleep(Duration::from_millis(400));
        hurt(&pids);
        let until = std::time::Instant::now() + common::HANG;
        while workers(child.id(), 2) == pids {
            assert!(std::time::Instant::now() < until, "the worker is not replaced");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let end = wait(child);
    let json = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    (end, json)
}

#[test]
fn a_killed_worker_is_replaced_and_the_run_goes_on() {
    for (shm, more) in [("auto", &["--standby"][..]), ("copy", &[]), ("off", &[]), ("off", &["--sockets", "tcp"])] {
        let mut args = vec!["--shm", shm];
        args.extend(more);
        // The other one each time: the children of a run are listed by age.
        let (end, json) = hurt_twice(&args, |pids| kill(pids[0], Signal::KILL));
        end.exits(0).says(&["worker 0", "worker 1", "SIGKILL", "it is started again"]);
        let emitted = json["components"]["numbers"]["emitted"].as_u64().unwrap();
        // A task that is not reliable begins again in its next life; what it had emitted in the one before is still counted.
        assert!(emitted > 50_000, "{json:#}");
        // What was under way is lost, since nothing is tracked here, and the report says how much at most.
        let executed = json["components"]["sum"]["executed"].as_u64().unwrap();
        assert!((25_000..=emitted).contains(&executed), "{json:#}");
    }
}

#[test]
fn a_stopped_worker_is_replaced() {
    let (end, _) = hurt_twice(&[], |pids| kill(pids[0], Signal::STOP));
    end.exits(0).says(&["no thread of it has moved for a second", "it is started again"]);
}

#[test]
fn a_call_that_does_not_return_is_named_and_its_worker_given_up_at_last() {
    let args = ["--fault", "hang", "--at", "10", "--execute-timeout-ms", "1500", "--restarts", "1"];
    let end = run(&mut fixture(&args));
    let slow = "a call of work on reactor";
    end.exits(1).says(&[slow, "has not returned for a second", "has not returned for 1.5 s", "after 1 restarts"]);
}

#[test]
fn a_killed_parent_takes_its_workers_with_it() {
    let child = fixture(&["--tuples", "100000000"]).spawn().unwrap();
    let pids = workers(child.id(), 2);
    kill(child.id(), Signal::KILL);
    drop(wait(child));
    assert_gone(&pids);
}

#[test]
fn workers_of_another_build_are_refused_with_the_first_difference() {
    let end = run(&mut fixture(&["--other-build"]));
    end.exits(1).says(&["plan", "differ"]);
}

#[test]
fn an_interrupt_drains_reports_and_exits_130() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("r.json");
    let child = fixture(&["--tuples", "1000000000", "--report", report.to_str().unwrap()]).spawn().unwrap();
    workers(child.id(), 2);
    std::thread::sleep(Duration::from_millis(700));
    kill(child.id(), Signal::INT);
    wait(child).exits(130);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let emitted = json["components"]["numbers"]["emitted"].as_u64().unwrap();
    assert!(emitted > 0);
    assert_eq!(json["components"]["sum"]["executed"], emitted, "drained: {json:#}");
}

#[test]
fn an_interrupt_of_a_run_that_cannot_drain_says_what_was_left() {
    let child = fixture(&["--tuples", "1000000", "--fault", "hang", "--at", "10"]).spawn().unwrap();
    workers(child.id(), 2);
    std::thread::sleep(Duration::from_millis(700));
    kill(child.id(), Signal::INT);
    let end = wait(child);
    end.exits(130).says(&["left"]);
    assert!(end.took < Duration::from_secs(20), "{}", end.all());
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_run() {
    let end = run(&mut fixture(&["--report", "/nonexistent/dir/r.json"]));
    end.exits(1).says(&["/nonexistent/dir/r.json"]);
    assert!(end.took < Duration::from_secs(5), "{}", end.all());
}

#[test]
fn a_full_disk_under_the_report_fails_the_run() {
    let end = run(&mut fixture(&["--tuples", "1000", "--report", "/dev/full"]));
    end.exits(1).says(&["/dev/full", "No space left"]);
}

#[test]
fn wrong_flags_exit_2_and_name_the_flag() {
    run(&mut fixture(&["--io", "sockets"])).exits(2).says(&["sockets"]);
    run(&mut fixture(&["--tuples", "many"])).exits(2).says(&["many"]);
}

#[test]
fn a_closed_standard_output_is_no_panic() {
    let mut child = fixture(&["--tuples", "1000"]).spawn().unwrap();
    drop(child.stdout.take());
    let end = wait(child);
    assert!(!end.stderr.contains("panicked"), "{}", end.all());
}

fn assert_gone(pids: &[u32]) {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    let alive = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie is gone as far as anyone can tell; it waits for its reaper.
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while pids.iter().any(alive) {
        assert!(std::time::Instant::now() < until, "workers {pids:?} outlive the run");
        std::thread::sleep(Duration::from_millis(10));
    }
}
