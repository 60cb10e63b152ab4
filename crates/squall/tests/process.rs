//! Whole runs: real processes, real signals, real files. The program is `support/program.rs`.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// The program's path. Cargo builds examples before tests only if asked for all targets, so this asks.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--message-format=json", "-p", "squall", "--example", "adder"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let out = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output().expect("cargo runs");
        let lines = out.stdout.lines().map(|line| line.expect("cargo writes text"));
        let messages = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let path = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).last();
        path.expect("the build names its executable")
    })
}

fn adder(line: &str) -> Command {
    let mut command = Command::new(program());
    command.args(line.split_whitespace()).stdin(Stdio::null()).env_remove("SQUALL_IO");
    command
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(line: &str) -> Ended {
    let out = adder(line).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    Ended { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

/// A run that has executed its first tuples, with what it says from then on.
struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Starts a run that logs when it gets to a number.
    fn start(line: &str) -> Running {
        let mut child = adder(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut running = Running { child, stderr };
        running.wait_for("a number worth telling");
        running
    }

    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).expect("it is open"), 0, "it ended before it said `{text}`");
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    fn workers(&self) -> Vec<Pid> {
        let pid = self.pid().as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("/proc is there");
        let pid = |text: &str| Pid::from_raw(text.parse().expect("a pid")).expect("not zero");
        children.split_whitespace().map(pid).collect()
    }

    fn end(mut self) -> (ExitStatus, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.child.stdout.take().expect("it is piped").read_to_string(&mut stdout).expect("it writes text");
        self.stderr.read_to_string(&mut stderr).expect("it writes text");
        (self.child.wait().expect("it ends"), stdout, stderr)
    }
}

const ENDLESS: &str = "run --workers 2 --trouble log --plain";

fn report(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("report.json")).expect("the report was written");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn a_run_over_two_workers_is_verified_and_reported() {
    for io in ["epoll", "auto"] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("report.json");
        let ended = run(&format!("run --workers 2 --limit 300000 --rows 30 --io {io} --report {}", path.display()));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.starts_with("sum: 44999850000\n"), "{}", ended.stdout);
        assert!(ended.stderr.starts_with("adder: 4 tasks on 2 reactors in 2 workers"), "{}", ended.stderr);
        let report = report(dir.path());
        assert_eq!(report["verified"], true);
        assert_eq!((&report["end"], &report["error"]), (&"finished".into(), &Value::Null));
        assert_eq!((&report["sum"], &report["rows"]), (&44_999_850_000_u64.into(), &60.into()));
        assert_eq!(report["components"]["numbers"]["emitted"], 300_000);
        assert_eq!(report["components"]["sum"]["executed"], 300_000);
        assert_eq!(report["counters"]["numbers"]["bytes"], 2_400_000);
        for number in ["rate", "cores", "startup_ms", "processing_ms", "elapsed_ms"] {
            assert!(report[number].as_f64().is_some_and(|n| n > 0.0), "{number}: {}", report[number]);
        }
        for process in ["0", "1", "parent"] {
            assert!(report["rss_bytes"][process].as_u64().is_some_and(|bytes| bytes > 0), "{process}");
        }
        if io == "epoll" {
            assert_eq!(report["io"], "epoll");
        }
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("a directory").collect();
        assert_eq!(names.len(), 1, "nothing but the report is left");
    }
}

#[test]
fn what_components_count_is_in_the_report_and_in_the_live_view() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    let ended = run(&format!("run --limit 1000 -q --report {}", path.display()));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = report(dir.path());
    // The sum over the two tasks: each has set its own to the last number it added.
    let largest = report["gauges"]["sum"]["largest"].as_i64().expect("a gauge");
    assert!((998..=1997).contains(&largest), "{largest}");
    assert_eq!(report["histograms_ns"]["sum"]["added"]["count"], 1000);
    assert!(ended.stdout.contains("\nsum.added ") && ended.stdout.contains("sum.largest "), "{}", ended.stdout);
}

#[test]
fn log_lines_have_component_and_task_and_a_filter() {
    let told = |flags: &str| {
        let ended = run(&format!("run --limit 1000 --trouble log -q {flags}"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let lines = |text: &str| ended.stderr.lines().filter(|line| line.contains(text)).count();
        (lines("debug sum[2] ready to add"), lines("info  sum[2] a number worth telling"))
    };
    assert_eq!(told(""), (0, 1));
    assert_eq!(told("--log debug"), (1, 1));
    assert_eq!(told("--log off,sum=debug"), (1, 1));
    assert_eq!(told("--log warn"), (0, 0));
    assert_eq!(told("--log debug,sum=error"), (0, 0));
    for (flags, says) in [
        ("--log loud", "`loud` is no level; write a level"),
        ("--log summ=debug", "error: --log: the topology has no component `summ`; did you mean `sum`?"),
    ] {
        let refused = run(&format!("run --limit 1 {flags}"));
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
}

#[test]
fn a_sample_of_what_passes_a_component_is_shown_and_bounded() {
    let sampled = |flags: &str| {
        let ended = run(&format!("run --limit 100000 -q {flags}"));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let of = |text: &str| ended.stderr.lines().filter(|line| line.contains(text)).count() as u64;
        (
            of(" sample sum[2] in from numbers: {n: ") + of(" sample sum[3] in from numbers: {n: "),
            of(" sample numbers["),
            ended,
        )
    };
    let (sums, numbers, _) = sampled("");
    assert_eq!((sums, numbers), (0, 0), "nothing without the flag");
    // Ten a second for each reactor: the first ten at least, and nowhere near all.
    let (sums, numbers, ended) = sampled("--sample sum");
    assert!((10..=1000).contains(&sums) && numbers == 0, "{}", ended.stderr);
    let (sums, numbers, ended) = sampled("--sample numbers --workers 2");
    assert!(sums == 0 && (10..=1000).contains(&numbers), "{}", ended.stderr);
    assert!(ended.stderr.contains(" sample numbers[0] out: {n: 0}\n"), "{}", ended.stderr);
    let refused = run("run --limit 1 --sample words");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("no component `words`; there are numbers, sum"), "{}", refused.stderr);
}

#[test]
fn a_run_on_one_core_ends() {
    let cores = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let list = cores.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("it is there");
    let first: String = list.trim().chars().take_while(char::is_ascii_digit).collect();
    let mut command = Command::new("taskset");
    command.args(["-c", &first]).arg(program()).args(["run", "--workers", "2", "--limit", "50000"]);
    let out = command.output().expect("taskset is installed");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stderr).contains("1 core usable"));
}

#[test]
fn trouble_in_a_component_ends_the_run_with_its_cause_and_code_one() {
    let cases = [
        ("fatal", "sum (task 2) ended with a fatal error: a very unlucky number"),
        ("panic", "panicked: the unluckiest number"),
        ("exit", "ended by itself with exit code 3"),
    ];
    for (trouble, words) in cases {
        let ended = run(&format!("run --workers 2 --limit 100000 --trouble {trouble} --restarts 0 -q"));
        assert_eq!(ended.code, Some(1), "{trouble}: {}", ended.stderr);
        let words = words.replace("(task 2) ", "");
        let said = ended.stderr.replace("(task 2) ", "").replace("(task 3) ", "");
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(&words), "{trouble}: {}", ended.stderr);
        assert!(ended.stdout.contains("adder on 2 workers: failed after"), "{trouble}: {}", ended.stdout);
    }
}

#[test]
fn a_failed_tuple_is_counted_said_and_makes_the_exit_code_one() {
    let ended = run("run --workers 2 --limit 100000 --trouble fail -q");
    assert_eq!(ended.code, Some(1));
    // Two spout tasks emit each number once between them.
    assert!(ended.stderr.contains("error: 1 tuples failed (1 in sum)"), "{}", ended.stderr);
}

#[test]
fn a_wrong_result_is_a_mismatch_and_exit_code_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    let ended = run(&format!("run --limit 10 --wrong -q --report {}", path.display()));
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr, "error: the results are wrong: the sum is 45 and should be 46\n");
    assert_eq!(report(dir.path())["verified"], false);
}

#[test]
fn a_topology_that_cannot_be_declared_is_an_error_in_its_own_words() {
    for command in ["run", "plan", "graph"] {
        let ended = run(&format!("{command} --undeclared"));
        assert_eq!(ended.code, Some(1));
        let want = "error: the topology cannot be built: there are no numbers today; come back tomorrow\n";
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str()), (want, ""));
    }
}

#[test]
fn a_command_line_that_is_not_understood_exits_with_two() {
    assert_eq!(run("run --limit much").code, Some(2));
    let out = adder("run --limit 1").env("SQUALL_IO", "tcp").output().expect("it starts");
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("SQUALL_IO in the environment: `tcp`"));
    assert_eq!(run("worker").code, Some(2));
}

#[test]
fn plan_and_graph_print_and_run_nothing() {
    let plan = run("plan --workers 3 -o json");
    assert_eq!(plan.code, Some(0));
    let plan: Value = serde_json::from_str(&plan.stdout).expect("it is JSON");
    assert_eq!((&plan["topology"], plan["workers"].as_array().map(Vec::len)), (&"adder".into(), Some(3)));
    assert!(run("plan --name other").stdout.starts_with("Topology other"));
    assert!(run("graph").stdout.starts_with("digraph"));
    assert!(run("graph -o mermaid").stdout.contains("numbers"));
}

#[test]
fn an_unwritable_report_path_fails_before_anything_runs() {
    let ended = run("run --limit 10 --report /no/such/directory/report.json");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("error: the report cannot be written to /no/such/directory/report.json"));
    assert!(!ended.stderr.contains("adder:") && ended.stdout.is_empty(), "{}{}", ended.stderr, ended.stdout);
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let ended = run("run --limit 10 -q --report /dev/full");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error: the report cannot be written to /dev/full: No space left"));
    assert!(ended.stderr.contains("free some space"));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it opens");
    let out = adder("run --limit 10 -q").stdout(full).output().expect("it starts");
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("standard output: No space left"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let out = adder("run --limit 10 -q").stdout(writer).output().expect("it starts");
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn ctrl_c_drains_reports_and_exits_with_130() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    let running = Running::start(&format!("{ENDLESS} --report {}", path.display()));
    running.signal(Signal::INT);
    let (status, stdout, stderr) = running.end();
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("stopping: the spouts end"), "{stderr}");
    assert!(stdout.contains("adder on 2 workers: interrupted after"), "{stdout}");
    let report = report(dir.path());
    assert_eq!((&report["end"], &report["verified"]), (&"interrupted".into(), &Value::Null));
    let counts = &report["components"];
    assert_eq!(counts["numbers"]["emitted"], counts["sum"]["executed"], "everything emitted was executed");
}

#[test]
fn a_second_ctrl_c_ends_a_run_that_does_not_drain() {
    let mut running = Running::start("run --workers 2 --slow-us 1000000 --trouble log --plain");
    running.signal(Signal::INT);
    running.wait_for("stopping");
    // Two requests within 100 ms are one: `timeout` signals process and group.
    std::thread::sleep(Duration::from_millis(150));
    let again = Instant::now();
    running.signal(Signal::INT);
    let (status, _, stderr) = running.end();
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(again.elapsed() < Duration::from_secs(8), "it did not wait for the drain");
}

#[test]
fn without_restarts_a_killed_worker_ends_the_run_and_is_named() {
    let running = Running::start(&format!("{ENDLESS} --restarts 0"));
    let victim = running.workers()[1];
    kill_process(victim, Signal::KILL).expect("it runs");
    let (status, _, stderr) = running.end();
    assert_eq!(status.code(), Some(1));
    let pid = victim.as_raw_nonzero();
    assert!(stderr.contains(&format!("error: worker 1 (pid {pid}) was killed by SIGKILL: ")), "{stderr}");
}

#[test]
fn workers_die_with_a_killed_parent() {
    let running = Running::start(ENDLESS);
    let workers = running.workers();
    assert_eq!(workers.len(), 2);
    running.signal(Signal::KILL);
    // The pipes end when the last process that holds them is gone.
    let (status, _, _) = running.end();
    assert_eq!(status.code(), None);
    let began = Instant::now();
    for pid in workers {
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        // A dying process closes its pipes before it is dead: `FDSize: 0`, but still running.
        let dead = |status: &str| status.is_empty() || status.contains("State:\tZ");
        loop {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            if test_kill_process(pid).is_err() || dead(&status) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{status}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_slow_bolt_is_named_as_what_holds_the_spout_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    let ended = run(&format!("run --workers 1 --limit 60000 --slow-us 10 -q --report {}", path.display()));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let waits = report(dir.path())["back_pressure"].clone();
    assert_eq!((&waits[0]["waiting"], &waits[0]["on"]), (&"numbers".into(), &"sum".into()), "{waits}");
}
