//! Between two processes over a stream socket, io_uring at both ends, spinning.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use squall_metrics::Histogram;

use super::uring::{Conn, Event};
use crate::clock::{Meter, now_ns};
use crate::error::BenchError;
use crate::machine::pin;
use crate::measure::{Outcome, Settings};
use crate::payload::touch_bytes;
use crate::peer;
use crate::scenario::Row;

/// Bytes of a write, and of a read at most.
const WRITE_BYTES: usize = 64 * 1024;

/// What the other process does.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Role {
    /// Sends each message back.
    Echo,
    /// Reads messages to the end.
    Sink,
}

#[derive(Serialize, Deserialize)]
struct Job {
    role: Role,
    size: usize,
    core: usize,
    warmup_ns: u64,
}

/// What a sink has seen.
#[derive(Serialize, Deserialize)]
struct Seen {
    count: u64,
    rate: Option<f64>,
}

/// The other process: its socket is stdin.
pub(crate) fn peer_main(job: &str) -> Result<(), BenchError> {
    let job: Job = serde_json::from_str(job).map_err(|e| BenchError::Peer(e.to_string()))?;
    pin(job.core);
    let socket = peer::inherited_socket()?;
    match job.role {
        Role::Echo => echo(socket, job.size).map_err(BenchError::io("the floor's echo")),
        Role::Sink => {
            let seen = sink(socket, job.size, job.warmup_ns).map_err(BenchError::io("the floor's sink"))?;
            let line = serde_json::to_string(&seen).map_err(|e| BenchError::Peer(e.to_string()))?;
            writeln!(std::io::stdout(), "{line}").map_err(BenchError::io("telling the result"))
        }
    }
}

fn job(role: Role, row: &Row, settings: &Settings, core: usize) -> Job {
    Job { role, size: row.size, core, warmup_ns: settings.warmup.as_nanos() as u64 }
}

/// One message to and fro.
pub(crate) fn rtt(row: &Row, settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let (mine, theirs) = peer::socket_pair(row.link)?;
    let job = job(Role::Echo, row, settings, cores[1]);
    let mut child = peer::spawn("floor-peer", &job, theirs, Stdio::null())?;
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|s| {
        let client = s.spawn(|| {
            pin(cores[0]);
            ping(mine, row.size, settings, &stop)
        });
        std::thread::sleep(settings.warmup + settings.slice);
        stop.store(true, Ordering::Relaxed);
        client.join().map_err(|_| BenchError::Failed("the floor panicked, see above".to_owned()))
    })?
    .map_err(BenchError::io("the floor's round trips"))?;
    peer::wait(&mut child)?;
    Ok(outcome)
}

fn ping(socket: OwnedFd, size: usize, settings: &Settings, stop: &AtomicBool) -> std::io::Result<Outcome> {
    let mut conn = Conn::new(socket, size)?;
    let mut latency = Histogram::new();
    let mut message = vec![0x5a; size];
    let measure_from = now_ns() + settings.warmup.as_nanos() as u64;
    let mut n: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        message[..8].copy_from_slice(&n.to_le_bytes());
        conn.receive(0);
        let began = now_ns();
        conn.outgoing().copy_from_slice(&message);
        conn.send(0..size);
        let (mut sent, mut received) = (0, 0);
        while sent < size || received < size {
            conn.enter()?;
            while let Some(event) = conn.completed()? {
                match event {
                    Event::Received(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    Event::Received(bytes) => {
                        received += bytes;
                        if received < size {
                            conn.receive(received);
                        }
                    }
                    Event::Sent(bytes) => {
                        sent += bytes;
                        if sent < size {
                            conn.send(sent..size);
                        }
                    }
                }
            }
        }
        touch_bytes(conn.incoming());
        let ended = now_ns();
        if began >= measure_from {
            latency.record(ended - began);
        }
    }
    Ok(Outcome { latency: Some(latency), emitted: n, ..Outcome::default() })
}

fn echo(socket: OwnedFd, size: usize) -> std::io::Result<()> {
    let mut conn = Conn::new(socket, size)?;
    loop {
        let mut received = 0;
        conn.receive(0);
        while received < size {
            conn.enter()?;
            match conn.completed()? {
                Some(Event::Received(0)) if received == 0 => return Ok(()),
                Some(Event::Received(0)) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Some(Event::Received(bytes)) => {
                    received += bytes;
                    if received < size {
                        conn.receive(received);
                    }
                }
                _ => {}
            }
        }
        let (incoming, outgoing) = conn.both();
        outgoing.copy_from_slice(incoming);
        let mut sent = 0;
        conn.send(0..size);
        while sent < size {
            conn.enter()?;
            if let Some(Event::Sent(bytes)) = conn.completed()? {
                sent += bytes;
                if sent < size {
                    conn.send(sent..size);
                }
            }
        }
    }
}

/// Messages one way, in writes of 64 KiB.
pub(crate) fn stream(row: &Row, settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let (mine, theirs) = peer::socket_pair(row.link)?;
    let job = job(Role::Sink, row, settings, cores[1]);
    let mut child = peer::spawn("floor-peer", &job, theirs, Stdio::piped())?;
    let answer = child.stdout.take().ok_or_else(|| BenchError::Peer("has no stdout".to_owned()))?;
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|s| {
        let source = s.spawn(|| {
            pin(cores[0]);
            source(mine, row.size, &stop)
        });
        std::thread::sleep(settings.warmup + settings.slice);
        stop.store(true, Ordering::Relaxed);
        source.join().map_err(|_| BenchError::Failed("the floor panicked, see above".to_owned()))
    })?
    .map_err(BenchError::io("the floor's stream"))?;
    let mut line = String::new();
    BufReader::new(answer).read_line(&mut line).map_err(BenchError::io("the sink's answer"))?;
    peer::wait(&mut child)?;
    let seen: Seen = serde_json::from_str(&line).map_err(|e| BenchError::Peer(e.to_string()))?;
    if seen.count != sent {
        return Err(BenchError::Counts { emitted: sent, executed: seen.count });
    }
    let rate = Some(seen.rate.ok_or(BenchError::TooShort)?);
    Ok(Outcome { rate, emitted: sent, ..Outcome::default() })
}

fn source(socket: OwnedFd, size: usize, stop: &AtomicBool) -> std::io::Result<u64> {
    let mut conn = Conn::new(socket, WRITE_BYTES)?;
    let mut message = vec![0x5a; size];
    let mut n: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        for slot in conn.outgoing().chunks_exact_mut(size) {
            n += 1;
            message[..8].copy_from_slice(&n.to_le_bytes());
            slot.copy_from_slice(&message);
        }
        let mut sent = 0;
        conn.send(0..WRITE_BYTES);
        while sent < WRITE_BYTES {
            conn.enter()?;
            if let Some(Event::Sent(bytes)) = conn.completed()? {
                sent += bytes;
                if sent < WRITE_BYTES {
                    conn.send(sent..WRITE_BYTES);
                }
            }
        }
    }
    conn.end()?;
    // The sink ends when it has read everything.
    conn.receive(0);
    loop {
        conn.enter()?;
        if let Some(Event::Received(_)) = conn.completed()? {
            return Ok(n);
        }
    }
}

fn sink(socket: OwnedFd, size: usize, warmup_ns: u64) -> std::io::Result<Seen> {
    let mut conn = Conn::new(socket, WRITE_BYTES)?;
    let mut meter = Meter::new(warmup_ns);
    let (mut count, mut filled) = (0, 0);
    conn.receive(0);
    loop {
        conn.enter()?;
        let Some(Event::Received(bytes)) = conn.completed()? else { continue };
        if bytes == 0 {
            return Ok(Seen { count, rate: meter.rate(count, now_ns()) });
        }
        filled += bytes;
        let whole = filled - filled % size;
        let incoming = conn.incoming();
        incoming[..whole].chunks_exact(size).for_each(touch_bytes);
        incoming.copy_within(whole..filled, 0);
        count += (whole / size) as u64;
        filled -= whole;
        meter.batch(count);
        conn.receive(filled);
    }
}
