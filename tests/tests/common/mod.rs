//! Starts the fixture and looks at how it ends.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No run of these tests takes longer, unless something hangs.
pub const HANG: Duration = Duration::from_secs(60);

/// The topology under test with these arguments to `run`.
pub fn fixture(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_fixture"));
    c.arg("run").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    c
}

/// What a run came to.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    pub fn all(&self) -> String {
        format!("exit {:?} after {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.took, self.stdout, self.stderr)
    }

    /// Fails the test unless every phrase is in what a user reads.
    pub fn says(&self, phrases: &[&str]) -> &Self {
        let text = format!("{}{}", self.stdout, self.stderr);
        for p in phrases {
            assert!(text.contains(p), "{p:?} is not in:\n{}", self.all());
        }
        self
    }

    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }
}

/// Runs to the end; a hang is a failure with the output so far.
pub fn run(c: &mut Command) -> Ended {
    wait(c.spawn().expect("the fixture was built"))
}

/// Waits for the end of a run.
pub fn wait(mut child: Child) -> Ended {
    let began = Instant::now();
    let id = child.id();
    let (done, rx) = std::sync::mpsc::channel();
    let out = child.stdout.take();
    let err = child.stderr.take();
    std::thread::spawn(move || {
        // Both pipes are read at once, or the child could wait for room in the other.
        let err = std::thread::spawn(move || read(err));
        let stdout = read(out);
        let stderr = err.join().expect("a reader does not panic");
        let status = child.wait().expect("our child");
        let _ = done.send(Output { status, stdout, stderr });
    });
    let Ok(output) = rx.recv_timeout(HANG) else {
        kill(id, rustix::process::Signal::KILL);
        panic!("the run did not end within {HANG:?}");
    };
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: began.elapsed(),
    }
}

fn read(from: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes).expect("a pipe can be read");
    }
    bytes
}

/// Signals a process that this test started.
pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("not zero");
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid, signal);
}

/// The workers of a run: children of `parent`, once there are `count`.
pub fn workers(parent: u32, count: usize) -> Vec<u32> {
    let until = Instant::now() + HANG;
    loop {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let list = std::fs::read_to_string(path).unwrap_or_default();
        let pids: Vec<u32> = list.split_whitespace().filter_map(|p| p.parse().ok()).collect();
        if pids.len() >= count {
            return pids;
        }
        assert!(Instant::now() < until, "the run has no {count} workers: {list:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Resident memory of a process in bytes; 0 once it is gone.
pub fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().strip_suffix("kB")).map_or(0, |k| k.trim().parse::<u64>().unwrap_or(0) * 1024)
}

/// User and system time of a process so far.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything but ends at the last bracket: fields 14 and 15 of proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
