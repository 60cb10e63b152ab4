//! Clusters of real processes for tests: daemons, commands, and what they leave behind.
//!
//! Everything is on the loopback and in a folder of its own; a cluster that a test leaves behind is ended with its workers, by their ids.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

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

/// A state folder, and the `squall dev` on it.
pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) dev: Child,
    pub(crate) options: String,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        Cluster::start_with("")
    }

    pub(crate) fn start_with(options: &str) -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let dev = dev(folder.path(), options);
        Cluster { folder, dev, options: options.to_owned() }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn squall(&self, line: &str) -> Ended {
        squall(self.folder.path(), line)
    }

    /// A command that has to succeed.
    pub(crate) fn done(&self, line: &str) -> String {
        let ended = self.squall(line);
        assert_eq!(ended.code, Some(0), "squall {line}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    pub(crate) fn describe(&self, name: &str) -> Value {
        serde_json::from_str(&self.done(&format!("describe {name} -o json"))).expect("it is JSON")
    }

    /// Waits until a description is as it should be.
    pub(crate) fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let value = self.describe(name);
            if is(&value) {
                return value;
            }
            assert!(since.elapsed() < PATIENCE, "it never came to this: {what}; it is {value:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the daemon as a crash would, and starts another one on its state.
    pub(crate) fn crash_and_start(&mut self) {
        self.dev.kill().expect("it runs");
        self.dev.wait().expect("it ends");
        self.dev = dev(self.folder.path(), &self.options);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // In order, so that it ends its workers; if it is gone or hangs, they are looked up and killed.
        let _ = kill_process(Pid::from_child(&self.dev), Signal::INT);
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) && !matches!(self.dev.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.dev.kill();
        let _ = self.dev.wait();
        for worker in noted_workers(&self.state()) {
            let _ = kill_process(worker, Signal::KILL);
        }
    }
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

pub(crate) fn dev(folder: &Path, options: &str) -> Child {
    daemon(folder, &format!("dev --conf-dir none {options}"), "submit with")
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

pub(crate) const WORD_COUNT: &str = "\
name: words
config:
  workers: 2
spouts:
  - id: lines
    className: lines
    config: { paths: \"${DIR}/input.txt\" }
bolts:
  - id: split
    className: split
    parallelism: 2
    config: { field: text }
  - id: count
    className: count
    parallelism: 2
    config: { by: word, emit: end }
  - id: out
    className: json-file
    config: { folder: \"${DIR}/out\" }
streams:
  - { from: lines, to: split, grouping: { type: SHUFFLE } }
  - { from: split, to: count, grouping: { type: FIELDS, args: [word] } }
  - { from: count, to: out, grouping: { type: GLOBAL } }
";

pub(crate) fn address(cluster: &Cluster) -> String {
    let text = fs::read_to_string(cluster.state().join("nimbus.json")).expect("it was written");
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    value["address"].as_str().expect("an address").to_owned()
}

/// One request as text: the status, and the body.
pub(crate) fn http(address: &str, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    http_with(address, method, path, token, "")
}

/// One request with a body.
pub(crate) fn http_with(address: &str, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{token}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers with text");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// What a nimbus answers to a supervisor that begins a link.
pub(crate) fn link(sessions: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(sessions).expect("it listens");
    let hello = format!("{{\"Link\":{{\"token\":\"{token}\",\"timeout_ms\":1000,\"node\":\"stranger\"}}}}\n");
    stream.write_all(hello.as_bytes()).expect("it takes it");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it answers with text");
    answer
}

/// A nimbus and a supervisor, each a process of its own.
pub(crate) struct Daemons {
    pub(crate) folder: TempDir,
    pub(crate) nimbus: Child,
    pub(crate) supervisor: Child,
}

impl Daemons {
    pub(crate) fn start() -> Daemons {
        let folder = tempfile::tempdir().expect("a folder");
        let nimbus = daemon(folder.path(), NIMBUS, "supervisors at");
        let supervisor = daemon(folder.path(), SUPERVISOR, "state in");
        Daemons { folder, nimbus, supervisor }
    }

    pub(crate) fn squall(&self, line: &str) -> Ended {
        squall(self.folder.path(), line)
    }

    /// Waits until a description can be had and is as it should be.
    pub(crate) fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let ended = self.squall(&format!("describe {name} -o json"));
            let value: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
            if ended.code == Some(0) && is(&value) {
                return value;
            }
            assert!(since.elapsed() < PATIENCE, "it never came to this: {what}; it is {value:#} {}", ended.stderr);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for daemon in [&mut self.supervisor, &mut self.nimbus] {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for worker in noted_workers(&self.folder.path().join("state")) {
            let _ = kill_process(worker, Signal::KILL);
        }
    }
}

pub(crate) const NIMBUS: &str = "nimbus --conf-dir none --bind 127.0.0.1:0 --sessions 127.0.0.1:0";
pub(crate) const SUPERVISOR: &str = "supervisor --conf-dir none --id one";
