//! Between two processes over a stream socket, io_uring at both ends, spinning.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use squall_metrics::Histogram;

use super::process::{self, Job, Role, Seen};
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

/// The other process: its socket is stdin.
pub(super) fn serve(job: &Job) -> Result<Seen, BenchError> {
    let socket = peer::inherited()?;
    let served = match job.role {
        Role::Echo => echo(socket, job.size).map(|()| Seen { count: 0, rate: None }),
        Role::Relay => relay(socket, job.size),
        _ => sink(socket, job.size, job.warmup_ns),
    };
    served.map_err(BenchError::io("the floor's other process"))
}

/// One message to and fro.
pub(super) fn rtt(row: &Row, settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let (mine, theirs) = peer::socket_pair(row.link)?;
    let job = Job::new(Role::Echo, row, settings, cores[1]);
    let mut child = peer::spawn("floor-peer", &job, theirs, Stdio::null())?;
    let outcome = process::timed(settings, |stop| {
        pin(cores[0]);
        ping(mine, row.size, settings, stop)
    })?
    .map_err(BenchError::io("the floor's round trips"))?;
    peer::wait(&mut child)?;
    let emitted = outcome.emitted;
    process::checked(outcome, emitted)
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

/// Runs `work` on core 0 with one end of a socket, beside the other process on core 1 with the other.
fn beside<T: Send>(
    role: Role,
    row: &Row,
    settings: &Settings,
    cores: [usize; 2],
    work: impl FnOnce(OwnedFd, &AtomicBool) -> std::io::Result<T> + Send,
) -> Result<(T, Seen), BenchError> {
    let (mine, theirs) = peer::socket_pair(row.link)?;
    let job = Job::new(role, row, settings, cores[1]);
    let mut child = peer::spawn("floor-peer", &job, theirs, Stdio::piped())?;
    let answer = child.stdout.take().ok_or_else(|| BenchError::Peer("has no stdout".to_owned()))?;
    let done = process::timed(settings, |stop| {
        pin(cores[0]);
        work(mine, stop)
    })?;
    let done = done.map_err(BenchError::io("the floor's stream"))?;
    let mut line = String::new();
    BufReader::new(answer).read_line(&mut line).map_err(BenchError::io("the sink's answer"))?;
    peer::wait(&mut child)?;
    Ok((done, serde_json::from_str(&line).map_err(|e| BenchError::Peer(e.to_string()))?))
}

/// Messages one way, in writes of 64 KiB, or of as many as a row's batch holds.
pub(super) fn stream(row: &Row, settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let write_bytes = row.cap.map_or(WRITE_BYTES, |n| n * row.size);
    let source = |socket, stop: &AtomicBool| source(socket, row.size, write_bytes, stop);
    let (emitted, seen) = beside(Role::Sink, row, settings, cores, source)?;
    process::checked(Outcome { rate: seen.rate, emitted, ..Outcome::default() }, seen.count)
}

/// Messages to the other process and back, in writes of 64 KiB.
pub(super) fn there_and_back(row: &Row, settings: &Settings, cores: [usize; 2]) -> Result<Outcome, BenchError> {
    let warmup_ns = settings.warmup.as_nanos() as u64;
    let both = |socket, stop: &AtomicBool| source_and_sink(socket, row.size, warmup_ns, stop);
    let ((emitted, back), _) = beside(Role::Relay, row, settings, cores, both)?;
    process::checked(Outcome { rate: back.rate, emitted, ..Outcome::default() }, back.count)
}

/// Fills a write with messages and returns how many there are now.
fn fill(write: &mut [u8], message: &mut [u8], mut n: u64) -> u64 {
    for slot in write.chunks_exact_mut(message.len()) {
        n += 1;
        message[..8].copy_from_slice(&n.to_le_bytes());
        slot.copy_from_slice(message);
    }
    n
}

fn source(socket: OwnedFd, size: usize, write_bytes: usize, stop: &AtomicBool) -> std::io::Result<u64> {
    let mut conn = Conn::new(socket, write_bytes)?;
    let mut message = vec![0x5a; size];
    let mut n: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        n = fill(conn.outgoing(), &mut message, n);
        let mut sent = 0;
        conn.send(0..write_bytes);
        while sent < write_bytes {
            conn.enter()?;
            if let Some(Event::Sent(bytes)) = conn.completed()? {
                sent += bytes;
                if sent < write_bytes {
                    conn.send(sent..write_bytes);
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

/// Sends and receives at once, until everything is back.
fn source_and_sink(socket: OwnedFd, size: usize, warmup_ns: u64, stop: &AtomicBool) -> std::io::Result<(u64, Seen)> {
    let mut conn = Conn::new(socket, WRITE_BYTES)?;
    let mut message = vec![0x5a; size];
    let mut meter = Meter::new(warmup_ns);
    let (mut n, mut count, mut filled) = (0, 0, 0);
    n = fill(conn.outgoing(), &mut message, n);
    let mut sent = 0;
    conn.send(0..WRITE_BYTES);
    conn.receive(0);
    loop {
        conn.enter()?;
        while let Some(event) = conn.completed()? {
            match event {
                Event::Sent(bytes) => {
                    sent += bytes;
                    if sent < WRITE_BYTES {
                        conn.send(sent..WRITE_BYTES);
                    } else if stop.load(Ordering::Relaxed) {
                        conn.end()?;
                    } else {
                        n = fill(conn.outgoing(), &mut message, n);
                        sent = 0;
                        conn.send(0..WRITE_BYTES);
                    }
                }
                Event::Received(0) => return Ok((n, Seen { count, rate: meter.rate(count, now_ns()) })),
                Event::Received(bytes) => {
                    filled = take(&mut conn, size, filled + bytes, &mut count);
                    meter.batch(count);
                    conn.receive(filled);
                }
            }
        }
    }
}

/// Sends back what it receives, and the end too.
fn relay(socket: OwnedFd, size: usize) -> std::io::Result<Seen> {
    let mut conn = Conn::new(socket, WRITE_BYTES)?;
    let mut bytes_seen = 0;
    // Received and not copied out yet; to be sent, of which so much has been.
    let (mut waiting, mut sending, mut sent) = (None, 0, 0);
    conn.receive(0);
    loop {
        conn.enter()?;
        while let Some(event) = conn.completed()? {
            match event {
                Event::Received(bytes) => waiting = Some(bytes),
                Event::Sent(bytes) => {
                    sent += bytes;
                    if sent < sending {
                        conn.send(sent..sending);
                    }
                }
            }
        }
        if sent == sending
            && let Some(bytes) = waiting.take()
        {
            if bytes == 0 {
                conn.end()?;
                return Ok(Seen { count: bytes_seen / size as u64, rate: None });
            }
            bytes_seen += bytes as u64;
            let (incoming, outgoing) = conn.both();
            outgoing[..bytes].copy_from_slice(&incoming[..bytes]);
            (sending, sent) = (bytes, 0);
            conn.send(0..bytes);
            conn.receive(0);
        }
    }
}

/// Reads the whole messages among the `filled` received bytes and moves the rest to the front; gives the rest's length.
fn take(conn: &mut Conn, size: usize, filled: usize, count: &mut u64) -> usize {
    let whole = filled - filled % size;
    let incoming = conn.incoming();
    incoming[..whole].chunks_exact(size).for_each(touch_bytes);
    incoming.copy_within(whole..filled, 0);
    *count += (whole / size) as u64;
    filled - whole
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
        filled = take(&mut conn, size, filled + bytes, &mut count);
        meter.batch(count);
        conn.receive(filled);
    }
}
