//! Round trips of 64 bytes between two pinned threads that both spin on `poll`: what a driver costs beside the kernel. `bare` is the floor: `write`
//! and non-blocking `recv`, no driver; `one each` is io_uring with a receive operation per arrival.
//!
//! `cargo run --release -p squall-io --example pingpong [seconds per case]` (0.3 by default, so about 2.5 s in all). Compare ratios within one run
//! only: on shared machines the figures of one minute are not those of the next.

use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{RecvFlags, recv};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use squall_io::{Closed, Driver, EventSink, IoChoice, IoCounters, IoOptions, RecvWindow, StreamId, open, probe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

const MESSAGE_BYTES: usize = 64;

#[derive(Default)]
struct End {
    closed: bool,
    spare: Option<Box<[u8]>>,
}

impl EventSink<Box<[u8]>> for End {
    fn on_readable(&mut self, _: StreamId) {}
    fn on_sent(&mut self, _: StreamId, buf: Box<[u8]>) {
        self.spare = Some(buf);
    }
    fn on_closed(&mut self, _: StreamId, _: Closed) {
        self.closed = true;
    }
}

fn pin(nth: usize) {
    let allowed = sched_getaffinity(None).expect("the CPUs of this process");
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[nth % cpus.len()]);
    sched_setaffinity(None, &one).expect("an allowed CPU");
}

type Started = (Box<dyn Driver<Box<[u8]>>>, StreamId, RecvWindow);

fn start((choice, options): Variant, fd: OwnedFd) -> Started {
    let (mut driver, _) = open(choice, &options).expect("the driver");
    let (id, window) = driver.add_stream(fd, 64 << 10).expect("a stream");
    (driver, id, window)
}

/// Sends back each message until the peer closes.
fn echo(variant: Variant, fd: OwnedFd) {
    pin(1);
    let (mut driver, id, mut window) = start(variant, fd);
    let mut end = End::default();
    while !end.closed {
        driver.poll(&mut end).expect("the driver works");
        if window.unread().len() >= MESSAGE_BYTES {
            window.consume(MESSAGE_BYTES);
            let buf = end.spare.take().unwrap_or_else(|| vec![0; MESSAGE_BYTES].into());
            driver.send(id, buf);
        }
    }
}

fn ping(variant: Variant, fd: OwnedFd, span: Duration) -> (Vec<Duration>, IoCounters) {
    pin(0);
    let (mut driver, id, mut window) = start(variant, fd);
    let (mut end, mut trips) = (End::default(), Vec::with_capacity(1 << 20));
    let begin = Instant::now();
    while begin.elapsed() < span && trips.len() < trips.capacity() {
        let sent_at = Instant::now();
        let buf = end.spare.take().unwrap_or_else(|| vec![0; MESSAGE_BYTES].into());
        driver.send(id, buf);
        while window.unread().len() < MESSAGE_BYTES && !end.closed {
            driver.poll(&mut end).expect("the driver works");
        }
        window.consume(window.unread().len());
        trips.push(sent_at.elapsed());
    }
    (trips, driver.counters())
}

fn bare_receive(fd: &OwnedFd) -> bool {
    let (mut message, mut got) = ([0; MESSAGE_BYTES], 0);
    while got < MESSAGE_BYTES {
        match recv(fd, &mut message[got..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return false,
            Ok((_, n)) => got += n,
            Err(e) => assert_eq!(e, Errno::AGAIN),
        }
    }
    true
}

fn bare_echo(fd: OwnedFd) {
    pin(1);
    while bare_receive(&fd) {
        rustix::io::write(&fd, &[0; MESSAGE_BYTES]).expect("room for one message");
    }
}

fn bare_ping(fd: OwnedFd, span: Duration) -> Vec<Duration> {
    pin(0);
    let (begin, mut trips) = (Instant::now(), Vec::with_capacity(1 << 20));
    while begin.elapsed() < span && trips.len() < trips.capacity() {
        let sent_at = Instant::now();
        rustix::io::write(&fd, &[0; MESSAGE_BYTES]).expect("room for one message");
        bare_receive(&fd);
        trips.push(sent_at.elapsed());
    }
    trips
}

fn pair(socket: &str) -> (OwnedFd, OwnedFd) {
    if socket == "unix" {
        let (a, b) = UnixStream::pair().expect("a socket pair");
        return (a.into(), b.into());
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let a = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (a, b) = (OwnedFd::from(a), OwnedFd::from(listener.accept().expect("accept").0));
    // As the drivers do.
    for fd in [&a, &b] {
        set_tcp_nodelay(fd, true).expect("the option");
    }
    (a, b)
}

type Variant = (IoChoice, IoOptions);

/// One case: its name, and the driver; without one for the floor.
type Case = (&'static str, Option<Variant>);

fn with_driver(
    variant: Variant,
    ours: OwnedFd,
    theirs: OwnedFd,
    span: Duration,
) -> (Vec<Duration>, Option<IoCounters>) {
    let echoing = thread::spawn(move || echo(variant, theirs));
    let (trips, counters) = thread::spawn(move || ping(variant, ours, span)).join().expect("ping");
    echoing.join().expect("echo");
    (trips, Some(counters))
}

fn without_driver(ours: OwnedFd, theirs: OwnedFd, span: Duration) -> (Vec<Duration>, Option<IoCounters>) {
    let echoing = thread::spawn(move || bare_echo(theirs));
    let trips = thread::spawn(move || bare_ping(ours, span)).join().expect("ping");
    echoing.join().expect("echo");
    (trips, None)
}

fn main() {
    let seconds = std::env::args().nth(1).map_or(0.3, |arg| arg.parse().expect("seconds"));
    let span = Duration::from_secs_f64(seconds);
    let options = IoOptions::default();
    let mut cases: Vec<Case> = vec![("bare", None), ("epoll", Some((IoChoice::Epoll, options)))];
    match probe().cause {
        Some(cause) => println!("io_uring is left out: {cause}"),
        None => cases.extend([
            ("io_uring", Some((IoChoice::IoUring, options))),
            ("one each", Some((IoChoice::IoUring, IoOptions { incremental_receive: false, ..options }))),
        ]),
    }
    for socket in ["unix", "tcp"] {
        for (name, variant) in &cases {
            let (ours, theirs) = pair(socket);
            let (mut trips, counters) = match *variant {
                Some(variant) => with_driver(variant, ours, theirs, span),
                None => without_driver(ours, theirs, span),
            };
            trips.sort_unstable();
            let at = |share: f64| trips[((trips.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1000.0;
            let calls = counters.map_or(String::new(), |c| {
                format!(", {:.1} system calls each", c.syscalls as f64 / trips.len() as f64)
            });
            println!(
                "{socket:4} {name:8} {MESSAGE_BYTES} B round trip: p50 {:6.2} µs, p99 {:7.2} µs, {} trips{calls}",
                at(0.50),
                at(0.99),
                trips.len(),
            );
        }
    }
}
