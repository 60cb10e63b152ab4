//! Daemons of a cluster and what their tests ask of them, for all test programs.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The example program's path. Cargo builds examples before tests only if asked for all targets, so this asks.
pub(crate) fn adder() -> &'static Path {
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

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Processes that a state folder notes, which are there with the start time that it notes.
pub(crate) fn noted_workers(state: &Path) -> Vec<Pid> {
    let files = fs::read_dir(state.join("supervisor")).into_iter().flatten().flatten();
    let slots = files.filter(|file| file.file_name().to_string_lossy().ends_with(".json"));
    let noted = slots.filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file.path()).ok()?).ok());
    noted.filter_map(|noted| live(&noted["process"])).collect()
}

pub(crate) fn live(process: &Value) -> Option<Pid> {
    let pid = process["pid"].as_i64()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let start: u64 = stat[stat.rfind(')')? + 2..].split(' ').nth(19)?.parse().ok()?;
    (Some(start) == process["start"].as_u64()).then(|| Pid::from_raw(pid as i32)).flatten()
}

/// Starts a daemon, and waits until it says that it is ready.
pub(crate) fn daemon(folder: &Path, line: &str, ready: &str) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_squall"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .env("SQUALL_STATE", folder.join("state"))
        .env_remove("SQUALL_IO")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut heard = String::new();
    while !heard.lines().any(|line| line.contains(ready)) {
        assert_ne!(said.read_line(&mut heard).expect("it is open"), 0, "squall {line} ended at its start: {heard}");
    }
    // Its pipe must not fill up; what it says is shown where a test fails.
    std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(|line| eprintln!("daemon: {line}")));
    child
}

pub(crate) fn squall(folder: &Path, line: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.args(line.split_whitespace()).current_dir(folder).env("SQUALL_STATE", folder.join("state"));
    let out = command.stdin(Stdio::null()).env_remove("SQUALL_IO").output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    Ended { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

pub(crate) fn executed(value: &Value, component: &str) -> u64 {
    let components = value["components"].as_array().expect("a list");
    let of = components.iter().find(|c| c["name"] == component).expect("a component");
    of["executed"].as_u64().expect("a number")
}

/// The process of each worker of the plan.
pub(crate) fn pids(value: &Value) -> Vec<i32> {
    let workers = value["worker_list"].as_array().expect("a list");
    workers.iter().map(|w| w["pid"].as_i64().expect("it has a process") as i32).collect()
}

pub(crate) fn all_run(value: &Value) -> bool {
    let workers = value["worker_list"].as_array().expect("a list");
    value["workers"].as_u64() == Some(workers.len() as u64) && workers.iter().all(|w| w["state"] == "running")
}
