//! What a fault costs a plain program: a process killed and another one in its place, a panic caught, a socket made anew.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, resume_unwind};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use squall_metrics::Histogram;

use crate::error::BenchError;
use crate::measure::Outcome;
use crate::scenario::Fault;

/// Faults of a round: they take a millisecond.
const FAULTS: usize = 20;
/// What the child says when it is up.
const UP: &[u8] = b"up";

/// One round.
pub(super) fn run(fault: Fault) -> Result<Outcome, BenchError> {
    let mut latency = Histogram::new();
    for _ in 0..FAULTS {
        latency.record(match fault {
            Fault::Kill | Fault::Standby | Fault::Stop => replaced()?,
            Fault::Panic => caught(),
            Fault::Cut => reconnected()?,
        });
    }
    Ok(Outcome { latency: Some(latency), emitted: FAULTS as u64, ..Outcome::default() })
}

/// From `kill -9` until another process says that it is up.
fn replaced() -> Result<u64, BenchError> {
    let mut first = start()?;
    let began = Instant::now();
    end(&mut first)?;
    let mut second = start()?;
    let took = began.elapsed();
    end(&mut second)?;
    Ok(took.as_nanos() as u64)
}

/// A process that has said that it is up, and waits.
fn start() -> Result<Child, BenchError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("doze").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(BenchError::io("starting a process"))?;
    let mut up = [0; UP.len()];
    let said = child.stdout.as_mut().expect("it is piped").read_exact(&mut up);
    said.map_err(BenchError::io("waiting for a process"))?;
    Ok(child)
}

fn end(child: &mut Child) -> Result<(), BenchError> {
    child.kill().and_then(|()| child.wait()).map(drop).map_err(BenchError::io("ending a process"))
}

/// The other process: says that it is up and waits for its end.
pub(crate) fn doze_main() -> Result<(), BenchError> {
    let mut out = std::io::stdout();
    out.write_all(UP).and_then(|()| out.flush()).map_err(BenchError::io("telling that it is up"))?;
    let waited = std::io::stdin().read(&mut [0]);
    waited.map(drop).map_err(BenchError::io("waiting for the end"))
}

/// Without the message, which is written to a terminal or a file.
fn caught() -> u64 {
    let began = Instant::now();
    let caught = catch_unwind(|| resume_unwind(Box::new(())));
    debug_assert!(caught.is_err());
    began.elapsed().as_nanos() as u64
}

/// Until a byte has come over another socket.
fn reconnected() -> Result<u64, BenchError> {
    let io = BenchError::io("making sockets anew");
    let again = || -> std::io::Result<u64> {
        let (first, _peer) = UnixStream::pair()?;
        let began = Instant::now();
        first.shutdown(std::net::Shutdown::Both)?;
        let (mut here, mut there) = UnixStream::pair()?;
        here.write_all(&[1])?;
        there.read_exact(&mut [0])?;
        Ok(began.elapsed().as_nanos() as u64)
    };
    again().map_err(io)
}
