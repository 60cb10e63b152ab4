//! Topologies in other processes: running ones, and ones that are started for the run.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use squall_load::{Address, ConnectError, EGRESS_ENV, INGEST_ENV, LinkOptions, Role, Schema, connect};

use super::wire::Wire;
use super::{Finished, Replay, Session};
use crate::measure::drive::Outcome;

/// How long a topology that was started for the run may take to end once its input has.
const END_MAX: Duration = Duration::from_secs(10);

/// A topology that runs by itself.
pub struct Remote {
    wire: Option<Wire>,
}

fn join(ingest: &Address, egress: &Address, schema: &Schema, patience: Duration) -> Result<Wire, ConnectError> {
    let options = LinkOptions { patience, ..LinkOptions::default() };
    // First the way back: nothing may return before somebody is there.
    let back = connect(egress, Role::Egress, schema, &options)?;
    let out = connect(ingest, Role::Ingest, schema, &options)?;
    let ends = "the roles say which end it is";
    Ok(Wire::new(out.tx.expect(ends), back.rx.expect(ends)))
}

impl Remote {
    /// Connects to its two components.
    ///
    /// # Errors
    /// When one of them cannot be reached.
    pub fn connect(ingest: &Address, egress: &Address, schema: &Schema) -> Result<Remote, ConnectError> {
        Ok(Remote { wire: Some(join(ingest, egress, schema, Duration::from_secs(3))?) })
    }
}

impl Session for Remote {
    fn wire(&mut self) -> Option<Wire> {
        self.wire.take()
    }

    fn look(&mut self) -> Option<String> {
        None
    }

    fn finish(self: Box<Self>, _: &Outcome, _: &Replay<'_>) -> Finished {
        Finished { io: "of the target".to_owned(), wait: "of the target".to_owned(), ..Finished::default() }
    }
}

/// A topology that was started for the run, and ends with it.
pub struct Started {
    child: Child,
    what: String,
    wire: Option<Wire>,
    /// Holds the sockets; removed with it.
    dir: PathBuf,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// A program of a topology, or a YAML file, which the `squall` binary runs.
    pub file: PathBuf,
    /// Arguments behind `run`.
    pub args: Vec<String>,
    /// Whether tuples go through shared memory.
    pub shm: bool,
}

/// The stock binary: beside this program, or wherever the path finds it.
fn stock_binary() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.join("squall")));
    beside.filter(|p| p.is_file()).unwrap_or_else(|| "squall".into())
}

impl Started {
    /// Starts the topology and connects to it.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not listen.
    pub fn start(start: &Start, schema: &Schema) -> Result<Started, String> {
        let dir = std::env::temp_dir().join(format!("tuplegen-{}-{}", std::process::id(), squall_machine::now_ns()));
        std::fs::create_dir(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
        let address = |name: &str| {
            let path = dir.join(name);
            if start.shm { Address::Shm(path) } else { Address::Unix(path) }
        };
        let (ingest, egress) = (address("in"), address("out"));
        let is_yaml = start.file.extension().is_some_and(|e| e == "yaml" || e == "yml");
        let mut command = if is_yaml { Command::new(stock_binary()) } else { Command::new(&start.file) };
        command.arg("run");
        if is_yaml {
            command.arg(&start.file);
        }
        command
            .args(&start.args)
            .arg("--quiet")
            .env(INGEST_ENV, ingest.to_string())
            .env(EGRESS_ENV, egress.to_string());
        // A Ctrl-C of the terminal is for the generator, which ends the topology by ending its input.
        command.process_group(0);
        // Its report is not this program's result.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let what = start.file.display().to_string();
        let child = command.spawn().map_err(|e| {
            let _ = std::fs::remove_dir_all(&dir);
            format!(
                "cannot start {:?}: {e}; build it first, and the squall binary beside tuplegen for YAML",
                command.get_program()
            )
        })?;
        let mut started = Started { child, what, wire: None, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match join(&ingest, &egress, schema, Duration::from_millis(200)) {
                Ok(wire) => {
                    started.wire = Some(wire);
                    return Ok(started);
                }
                Err(e @ ConnectError::Connect { .. }) => {
                    if let Some(ended) = started.look() {
                        return Err(ended);
                    }
                    if Instant::now() > deadline {
                        return Err(format!("{e}; a topology has an `ingest` spout and an `egress` sink"));
                    }
                }
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}

impl Session for Started {
    fn wire(&mut self) -> Option<Wire> {
        self.wire.take()
    }

    fn look(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) if !status.success() => {
                Some(format!("the topology {} ended with {status}; see its message above", self.what))
            }
            Ok(Some(_)) => Some(format!("the topology {} ended by itself before the load did", self.what)),
            _ => None,
        }
    }

    fn finish(mut self: Box<Self>, _: &Outcome, _: &Replay<'_>) -> Finished {
        let deadline = Instant::now() + END_MAX;
        let mut done =
            Finished { io: "of the target".to_owned(), wait: "of the target".to_owned(), ..Finished::default() };
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return done,
                Ok(Some(status)) => {
                    done.error = Some(format!("the topology {} ended with {status}; see its message above", self.what));
                    return done;
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => {
                    done.error =
                        Some(format!("the topology {} did not end within 10 s of its input and was killed", self.what));
                    return done;
                }
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself; its workers end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
